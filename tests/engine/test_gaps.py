"""A statistic that is not finite is a gap of its own; a run, a limit and a solver end elsewhere."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hdjax as hd
from hdjax import store
from hdjax.codes import Code
from tests.engine.problems import from_zero

TIMES = [0.0, 1.0, 2.0]


def cosine(system, summary):
    q = summary.overlaps
    return q[0, 1] / jnp.sqrt(q[0, 0] * q[1, 1])


def pair(system, summary):
    """A vector of which one entry is a gap."""
    return jnp.stack([summary.overlaps[0, 0], cosine(system, summary)])


def rarely(system, summary):
    """Not finite in some of the runs."""
    return jnp.where(summary.overlaps[0, 0] > 0.35, jnp.inf, 1.0)


STATISTICS = {"cosine": cosine, "risk": None, "pair": pair, "rarely": rarely}


@pytest.fixture(scope="module")
def results():
    options = {"key": jax.random.key(0), "runs": 8}
    both = hd.compare(
        from_zero(),
        TIMES,
        statistics=STATISTICS,
        paths={
            "half": hd.paths.hitting_time("cosine", 0.7),
            "bad": hd.paths.first_bad_time("cosine"),
            "start": hd.paths.value_at("cosine", 0.0),
            "end": hd.paths.value_at("cosine", 2.0),
        },
        **options,
    )
    return both, hd.compare(from_zero(), TIMES, statistics=["risk"], **options)


@pytest.mark.slow
def test_other_statistics_are_untouched(results):
    both, alone = results
    for group in ("runs", "mean", "std", "quantile", "sup_error", "limit"):
        one, other = (getattr(result, group)["risk"] for result in results)
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(both.predicted_std["risk"], alone.predicted_std["risk"], rtol=1e-5)
    assert (both.codes["alive"] == 8).all()
    assert (both.count["risk"] == 8).all()
    # A statistic that is 0/0 at the start, and nothing worse.
    assert (both.codes["code"] == Code.NOT_FINITE).all()
    assert (both.codes["since"] == 0).all()
    assert both.codes["limit_code"] == Code.NOT_FINITE
    assert both.codes["limit_since"] == 0
    assert (alone.codes["code"] == Code.FINE).all()
    assert np.isnan(alone.codes["since"]).all()
    assert alone.codes["limit_code"] == Code.FINE


@pytest.mark.slow
def test_a_gap_is_one_record_of_one_entry(results):
    both, _ = results
    np.testing.assert_array_equal(
        np.isnan(both.runs["cosine"].values).all(axis=0), [True, False, False]
    )
    assert both.count["cosine"].values.tolist() == [0, 8, 8]
    assert both.count["pair"].values.tolist() == [[8, 0], [8, 8], [8, 8]]
    np.testing.assert_allclose(both.mean["pair"].values[:, 1], both.mean["cosine"], rtol=1e-6)
    finite = np.abs(both.runs["cosine"].values - both.limit["cosine"].values)[:, 1:].max(axis=1)
    np.testing.assert_allclose(both.sup_error["cosine"], finite, rtol=1e-6)
    assert (both.sup_error_count["cosine"] == 2).all()
    z = both.zscore("cosine").values
    np.testing.assert_array_equal(np.isnan(z).all(axis=0), [True, False, False])


@pytest.mark.slow
def test_moments_are_over_the_finite_runs(results):
    values = results[0].runs["rarely"].values
    count = results[0].count["rarely"].values
    np.testing.assert_array_equal(np.isfinite(values).sum(axis=0), count)
    assert (count[1:] > 0).any()
    assert (count < 8).any()
    assert set(results[0].mean["rarely"].values[count > 0]) == {1.0}
    assert np.isnan(results[0].mean["rarely"].values[count == 0]).all()


@pytest.mark.slow
def test_paths_step_over_gaps(results):
    both, _ = results
    values = both.runs["cosine"].values
    np.testing.assert_array_equal(both.paths["bad"], 0.0)
    assert np.isnan(both.paths["start"]).all()
    np.testing.assert_allclose(both.paths["end"], values[:, 2])
    # From the first record that has a value: linear between t = 1 and 2, or never.
    first, last = values[:, 1], values[:, 2]
    crosses = (first < 0.7) != (last < 0.7)
    inside = np.where(crosses, 1 + (0.7 - first) / (last - first), np.inf)
    np.testing.assert_allclose(both.paths["half"], inside)


@pytest.mark.slow
def test_text_figure_and_files_say_so(results, tmp_path):
    both, _ = results
    text = " ".join(repr(both).split())
    assert "cosine is not finite at 1 of 3 times (left out there), the first t = 0" in text
    assert "diverged" not in text
    for name in STATISTICS:
        both.plot(name).figure.savefig(tmp_path / f"{name}.png")
    loaded = hd.load(both.save(tmp_path))
    np.testing.assert_array_equal(loaded.count["cosine"], both.count["cosine"])
    summary = store.summary(both.tree)
    assert summary["statistics"]["cosine"]["mean"][0] is None
    assert summary["recorded_times"] == TIMES


def test_a_limit_with_a_gap_is_no_failure_and_names_it():
    with pytest.warns(UserWarning, match="'cosine' is not finite at 1 of 2 times .* t = 0"):
        result = hd.limit(from_zero(), [0.0, 1.0], statistics={"risk": None, "cosine": cosine})
    np.testing.assert_array_equal(np.isnan(result.limit["cosine"]), [True, False])
    assert np.isfinite(result.limit["risk"]).all()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        hd.limit(from_zero(), [0.0, 1.0], statistics=["risk"])


def test_a_limit_that_diverges_and_a_solver_that_gives_up_are_told_apart():
    with pytest.raises(FloatingPointError, match="not finite from t = 4 on: it diverges"):
        hd.limit(from_zero(8.0), [0.0, 0.01, 4.0], statistics=["risk"])
    lazy = from_zero(0.5, integrator=hd.Integrator(max_steps=5))
    with pytest.raises(FloatingPointError, match="from t = 2 on: its solver took max_steps"):
        hd.limit(lazy, [0.0, 0.01, 2.0], statistics=["risk"])


@pytest.mark.slow
def test_true_divergence_still_ends_a_run():
    """Beyond the range of float32, in families whose runs are bounded by nothing else."""
    matrix = np.random.default_rng(0).standard_normal((30, 5))
    system = hd.multipass.MultiPassSGD(hd.multipass.Problem(matrix, np.ones(30)), 50.0)
    result = hd.simulate(system, [0.0, 1.0, 50.0], key=jax.random.key(0), runs=2)
    assert (result.codes["since"] <= 50).all()
    assert result.codes["alive"].values[-1] == 0
    landscape = hd.landscapes.GradientSpan(
        hd.landscapes.kernels.SquaredExponential(),
        hd.landscapes.algorithms.GradientDescent(1e6),
        50,
    )
    result = hd.simulate(landscape, [0, 1, 2], key=jax.random.key(0), runs=2)
    assert (result.codes["since"] == 1).all()
