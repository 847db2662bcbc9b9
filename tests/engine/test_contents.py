"""Contents of results: their groups, codes and notes, from arrays that were collected."""

import jax
import numpy as np
import pytest

import hdjax as hd
from hdjax.codes import Code
from hdjax.engine.collected import Collected
from hdjax.engine.contents import Records, contents
from hdjax.engine.ensemble import Curves, Ensemble
from hdjax.engine.moments import Moments, Streamed
from tests.engine.problems import from_zero, isotropic


@pytest.mark.slow
def test_missing_error_bars_are_told():
    """In 24 steps the limit gets to t = 30, and its spread does not."""
    options = {"key": jax.random.key(0), "runs": 2, "statistics": ["risk"]}

    def result(steps):
        integrator = hd.Integrator(rtol=1e-3, atol=1e-6, max_steps=steps)
        return hd.compare(from_zero(integrator=integrator), [0.0, 0.01, 30.0], **options)

    few, enough = result(24), result(4096)
    assert np.isfinite(few.limit["risk"]).all()
    assert np.isnan(few.predicted_std["risk"][-1])
    assert "no predicted spread of risk at 1 of 3 times, first at t = 30: the theory" in " ".join(
        str(few).split()
    )
    assert np.isfinite(enough.predicted_std["risk"]).all()
    assert "no predicted spread" not in str(enough)


def collected(runs, limit, ends):
    """What `drive` would have collected of runs (run, time) and a limit (time), at one point."""
    finite = np.isfinite(runs)
    count = finite.sum(0)
    mean = np.where(finite, runs, 0).sum(0) / np.maximum(count, 1)
    squares = (np.where(finite, runs - mean, 0) ** 2).sum(0)
    codes = np.where(np.isnan(ends), Code.FINE, Code.DIVERGED).astype(np.int32)
    alive = finite.cumprod(1).astype(bool)
    of_runs = Curves({"risk": runs}, {}, alive, codes, ends)
    of_limit = Curves(
        {"risk": limit}, {}, np.isfinite(limit), np.array(Code.FINE, np.int32), np.array(np.nan)
    )
    error = np.nanmax(np.abs(runs - limit), axis=1)
    kept = jax.tree.map(
        lambda x: np.asarray(x)[None], Ensemble(of_runs, of_limit, {"risk": error}, None, None, {})
    )
    whole = alive.sum(0).astype(float)
    streamed = jax.tree.map(
        lambda x: np.asarray(x)[None],
        Streamed(
            {"risk": Moments(count.astype(float), mean, squares)},
            {"risk": Moments(*np.array([[3.0], [error.mean()], [3 * error.var()]]))},
            Moments(whole, np.ones_like(whole), np.zeros_like(whole)),
        ),
    )
    seconds = {"compile": 0.0, "simulate": 0.0, "limit": 0.0}
    memory = {"simulate": 1, "limit": 2}
    return Collected(kept, streamed, 1, len(runs), False, seconds, memory)


def test_groups_are_over_what_is_finite():
    """Three runs, the second of which ends at the second record, and the third at the third."""
    ts = np.array([0.0, 0.3, 0.6])
    runs = np.array([[1.0, 2.0, 4.0], [3.0, np.nan, np.nan], [8.0, 5.0, np.nan]])
    limit = np.array([1.5, np.nan, 3.0])
    ends = np.array([np.nan, 0.3, 0.6], np.float32)
    system = isotropic()
    plan = hd.make_plan(system, ts, statistics=["risk"])
    found = contents(
        system,
        plan,
        Records(np.arange(3), ts, ts),
        collected(runs, limit, ends),
        kind="compare",
        key=jax.random.key(3),
        keep="summary",
    )
    groups = found.groups
    np.testing.assert_array_equal(groups["count"]["risk"], [3, 2, 1])
    np.testing.assert_allclose(groups["mean"]["risk"], [4, 3.5, 4])
    # A single run has no spread.
    np.testing.assert_allclose(groups["std"]["risk"], [13**0.5, 4.5**0.5, np.nan])
    np.testing.assert_allclose(groups["quantile"]["risk"][2], [3, 3.5, 4])
    # Records at which both have a value.
    np.testing.assert_array_equal(groups["sup_error_count"]["risk"], [2, 1, 1])
    np.testing.assert_allclose(groups["sup_error"]["risk"], [1, 1.5, 6.5])
    np.testing.assert_allclose(groups["sup_error_mean"]["risk"], 3)
    # Nominal times in 64 bits, though codes are computed in 32.
    np.testing.assert_array_equal(groups["codes"]["since"], [np.nan, 0.3, 0.6])
    np.testing.assert_array_equal(groups["codes"]["alive"], [3, 2, 1])
    assert groups["codes"]["limit_code"] == Code.FINE
    assert "predicted_std" not in groups
    assert found.attributes["seed"] == [0, 3]
    assert found.attributes["runs"] == 3
    assert found.attributes["note"] == system.about(plan.horizon).get("limit", "")
