"""The pure core: records, realised starts, the end of runs, and derivatives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hdjax as hd
from hdjax.codes import Code
from hdjax.engine.ensemble import ensemble
from tests.engine.problems import TIMES, compare, from_zero, least_squares


@pytest.mark.slow
def test_records_do_not_change_the_run(key):
    few = hd.simulate(least_squares(), [2.0], key=key, runs=3)
    many = hd.simulate(least_squares(), np.linspace(0, 2, 30), key=key, runs=3)
    np.testing.assert_allclose(few.runs["risk"][:, -1], many.runs["risk"][:, -1], rtol=2e-5)


@pytest.mark.slow
def test_realised_starts_have_their_own_limits(key):
    system = least_squares(d=200)
    law, own = (
        compare(system, TIMES, key=key, runs=16, start=start, fluctuations=False)
        for start in ("law", "realised")
    )
    assert own.limit["risk"].dims == ("run", "time")
    np.testing.assert_allclose(own.limit["risk"][:, 0], own.runs["risk"][:, 0], rtol=1e-5)
    assert own.sup_error["risk"].median() < 0.8 * law.sup_error["risk"].median()


@pytest.mark.slow
def test_divergence_is_marked_and_left_out(key):
    """gamma far above 2/kappa: the run diverges, says when, and its curve is blank after."""
    ts, statistics = np.linspace(0, 4, 17), ["risk"]
    options = {"runs": 4, "statistics": statistics, "fluctuations": False}
    result = compare(least_squares(rate=8.0), ts, key=key, **options)
    at = result.codes["since"].values
    assert np.isfinite(at).all()
    assert np.all((at > 0) & (at < 4))
    assert (result.codes["code"] == Code.DIVERGED).all()
    assert result.codes["limit_code"] == Code.DIVERGED
    assert np.isfinite(result.codes["limit_since"])
    risk = result.runs["risk"].values
    times = result.times
    for run in range(4):
        np.testing.assert_array_equal(np.isnan(risk[run]), times >= at[run])
    assert result.codes["alive"][-1] == 0
    assert np.isnan(result.mean["risk"][-1])
    assert "diverged" in repr(result)
    with pytest.raises(FloatingPointError, match="not finite from t"):
        hd.limit(least_squares(rate=8.0), ts, statistics=statistics)


@pytest.mark.slow
def test_array_level_is_pure(key):
    """ensemble under the caller's own jit and vmap, and grad through its limit."""
    plan = hd.make_plan(least_squares(), TIMES, statistics=["risk"])

    def run(rate):
        return ensemble(least_squares(rate), plan, key, jnp.arange(3))

    one = jax.jit(run)(0.5)
    stacked = jax.jit(jax.vmap(run))(jnp.array([0.5, 0.7]))
    np.testing.assert_allclose(stacked.runs["risk"][0], one.runs["risk"], rtol=2e-5)
    mapped = jax.jit(
        lambda rate: ensemble(least_squares(rate), plan, key, jnp.arange(3), batch_size=2)
    )(0.5)
    np.testing.assert_allclose(mapped.runs["risk"], one.runs["risk"], rtol=2e-5)
    with pytest.raises(KeyError, match="'loss'; allowed: 'risk'"):
        one.runs["loss"]
    only_limit = hd.make_plan(least_squares(), TIMES, statistics=["risk"], runs=False)

    @jax.jit
    def final(rate):
        out = ensemble(least_squares(rate), only_limit, key, jnp.arange(1))
        return out.limit["risk"][-1]

    slope = jax.grad(final)(0.7)
    step = 1e-4
    finite = (final(0.7 + step) - final(0.7 - step)) / (2 * step)
    np.testing.assert_allclose(slope, finite, rtol=1e-4)


@pytest.mark.slow
def test_forward_mode_through_a_simulation(key):
    method = hd.streaming.Direct(dtype="float64")
    plan = hd.make_plan(least_squares(), [1.0], statistics=["risk"], start=None, method=method)

    @jax.jit
    def risk(rate):
        return ensemble(least_squares(rate), plan, key, jnp.arange(2)).runs["risk"][:, -1]

    slope = jax.jacfwd(risk)(0.5)
    finite = (risk(0.5 + 1e-5) - risk(0.5 - 1e-5)) / 2e-5
    np.testing.assert_allclose(slope, finite, rtol=1e-5)


@pytest.mark.parametrize("value", [None, {"a": 1.0}, np.zeros(0)])
def test_what_is_no_number_is_refused_before_the_run(value):
    options = {"key": jax.random.key(0), "runs": 2, "progress": False}
    with pytest.raises(TypeError, match=r"statistics: 'v' returns .*; allowed: a number or an"):
        hd.simulate(from_zero(), [0.0, 1.0, 2.0], statistics={"v": lambda s, m: value}, **options)
    with pytest.raises(TypeError, match=r"probes: 'v' returns .*; allowed: a number or an"):
        hd.simulate(from_zero(), [0.0, 1.0, 2.0], probes={"v": lambda s, x, k: value}, **options)


@pytest.mark.slow
def test_a_complex_statistic_has_no_predicted_spread_and_takes_none_away():
    def turned(system, summary):
        risk = system.statistics(summary)["risk"]
        return jax.lax.complex(risk, 2 * risk)

    statistics = {"risk": None, "turned": turned}
    options = {"key": jax.random.key(0), "runs": 2, "progress": False}
    with jax.numpy_dtype_promotion("standard"):
        result = hd.compare(from_zero(), [0.0, 1.0, 2.0], statistics=statistics, **options)
    assert np.isfinite(result.predicted_std["risk"]).all()
    assert "turned" not in result.predicted_std
    np.testing.assert_allclose(result.runs["turned"].imag, 2 * result.runs["risk"])
