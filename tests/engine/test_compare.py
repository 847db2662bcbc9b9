"""Comparisons of streaming systems: what a result holds, and arguments that are refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hdjax as hd
from tests.engine.problems import OPTIONS, TIMES, compare, isotropic, least_squares


@pytest.mark.slow
def test_comparison_holds_everything(key):
    result = compare(
        least_squares(),
        TIMES,
        key=key,
        runs=12,
        paths={"half": hd.paths.hitting_time("risk", 0.7), "end": hd.paths.value_at("risk", 2.0)},
        probes={"norm": lambda simulator, state, key: jnp.linalg.norm(state.moving)},
    )
    assert result.runs["risk"].dims == ("run", "time")
    assert result.runs["overlaps"].shape == (12, 5, 2, 2)
    np.testing.assert_allclose(result.runs["time"], TIMES)
    runs = result.runs["risk"].values
    np.testing.assert_allclose(result.mean["risk"], runs.mean(0), rtol=1e-12)
    np.testing.assert_allclose(result.std["risk"], runs.std(0, ddof=1), rtol=1e-10)
    np.testing.assert_allclose(result.quantile["risk"].sel(quantile=0.5), np.median(runs, axis=0))
    gap = np.abs(runs - result.limit["risk"].values).max(axis=1)
    np.testing.assert_allclose(result.sup_error["risk"], gap, rtol=1e-12)
    np.testing.assert_allclose(result.paths["end"], runs[:, -1])
    assert np.isfinite(result.paths_limit["half"])
    assert result.probes["norm"].shape == (12, 5)
    assert set(result.codes["alive"].values) == {12}
    assert np.isnan(result.codes["since"]).all()
    assert "12 runs" in repr(result)


@pytest.mark.slow
def test_limit_is_evaluated_where_runs_are_recorded(key):
    # d = 7: t = 0.5 is step 3, that is t = 3/7.
    options = {"runs": 2, "statistics": ["risk"], "fluctuations": False}
    result = compare(least_squares(d=7), [0.0, 0.5], key=key, **options)
    np.testing.assert_array_equal(result.times, [0, 0.5])
    np.testing.assert_allclose(result.runs["recorded_time"], [0, 3 / 7])
    at = hd.limit(least_squares(d=7), [0.0, 3 / 7], statistics=["risk"]).limit["risk"]
    np.testing.assert_allclose(result.limit["risk"], at, rtol=1e-6)


@pytest.mark.slow
def test_statistics_of_the_user_on_both_sides(key):
    def curvature(system, summary):
        return summary.moment(jnp.square)[0, 1]

    names = {"risk": None, "curvature": curvature}
    options = {"runs": 8, "statistics": names, "fluctuations": False}
    result = compare(least_squares(d=400), TIMES, key=key, **options)
    assert result.statistics == ["risk", "curvature"]
    assert float(result.sup_error["curvature"].median()) < 0.3
    spread = float(result.std["curvature"][-1])
    gap = abs(float(result.mean["curvature"][-1] - result.limit["curvature"][-1]))
    assert gap < 5 * spread


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ts": [0.0, -1.0]}, "ts:"),
        ({"ts": [1.0, 0.5]}, "ts:"),
        ({"ts": []}, "ts:"),
        ({"ts": [0.0, np.nan]}, "ts:"),
        ({"runs": 0}, "runs:"),
        ({"keep": "all"}, "keep:"),
        ({"chunk": 0}, "chunk:"),
        ({"statistics": ["rsik"]}, "statistics: 'rsik'"),
        ({"start": "real"}, "start:"),
    ],
)
def test_wrong_arguments(key, change, message):
    arguments = {"ts": TIMES, "key": key, "runs": 2} | change
    with pytest.raises(ValueError, match=message):
        compare(least_squares(), **arguments)


def test_wrong_key():
    with pytest.raises(TypeError, match="key:"):
        compare(least_squares(), TIMES, key=jax.random.PRNGKey(0), runs=2)


@pytest.mark.parametrize(
    ("statistics", "message"),
    [
        (["risk", "risk"], "statistics: 'risk' is given twice; allowed: different names"),
        (["risk", "time"], "statistics: 'time'; allowed: other names than those of the coord"),
    ],
)
def test_statistics_that_a_result_cannot_hold_are_refused(statistics, message):
    pairs = [(name, lambda system, summary: summary.overlaps[0, 0]) for name in statistics]
    with pytest.raises(ValueError, match=message):
        hd.simulate(isotropic(), statistics=pairs, **OPTIONS)
