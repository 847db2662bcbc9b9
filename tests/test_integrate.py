"""The one integrator: its tolerances, its codes, and what a limit carries of them."""

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hdjax as hd
from hdjax.codes import Code
from hdjax.limits import Limit, code_of

TS = jnp.array([0.0, 0.5, 1.0, 2.0])


def decay(t, y, args):
    return -y


def path(rate, start, ts=TS, integrator=None, **options):
    own = hd.Integrator() if integrator is None else integrator
    start = jnp.asarray(start, float)
    return own(rate, start, ts, lambda y: y, **{"rtol": 1e-6, **options})


def test_what_is_set_comes_before_the_equation_s_choice():
    exact = np.exp(-np.asarray(TS))
    loose, fine = (
        np.abs(path(decay, 1.0, integrator=own).values - exact).max()
        for own in (hd.Integrator(rtol=1e-3), hd.Integrator(diffrax.Dopri8(), rtol=1e-11))
    )
    own = np.abs(path(decay, 1.0).values - exact).max()
    assert fine < 1e-8 < own < 1e-5 < loose < 1e-2


def test_equal_steps_have_the_order_of_the_solver():
    errors = [
        float(abs(path(decay, 1.0, integrator=hd.Integrator(steps=n)).values[-1] - np.exp(-2.0)))
        for n in (8, 16)
    ]
    assert 4.5 < np.log2(errors[0] / errors[1]) < 6.5


@pytest.mark.parametrize("solver", [diffrax.Tsit5(), diffrax.Dopri8(), diffrax.Kvaerno5()])
def test_records_are_as_accurate_as_the_steps(solver):
    """The logistic equation at 41 times: cubic interpolation errs by 20 tolerances."""
    ts, rtol = jnp.linspace(0, 10, 41), 1e-10
    integrator = hd.Integrator(solver, rtol=rtol, atol=1e-13)
    found = path(lambda t, y, _: y * (1 - y), 0.1, ts, integrator).values
    np.testing.assert_allclose(found, 1 / (1 + 9 * np.exp(-np.asarray(ts))), rtol=3 * rtol)


def test_an_absolute_tolerance_is_in_units_of_the_state():
    small = path(decay, 1e-9, rtol=1e-4, size=1e-9).values / 1e-9
    np.testing.assert_allclose(small, path(decay, 1.0, rtol=1e-4).values, rtol=1e-10)
    coarse = path(decay, 1e-9, rtol=1e-4).values / 1e-9
    assert np.abs(coarse - small).max() > 1e-4


@pytest.mark.parametrize(
    ("found", "code", "reached"),
    [
        (lambda: path(decay, 1.0), Code.FINE, 4),
        # 1/(0.9 - t) is beyond 10^6 before t = 1.
        (lambda: path(lambda t, y, _: y**2, 1 / 0.9, alive=lambda y: y < 1e6), Code.DIVERGED, 2),
        (
            lambda: path(decay, 1.0, integrator=hd.Integrator(rtol=1e-12, max_steps=3)),
            Code.STEPS_EXHAUSTED,
            1,
        ),
        # A rate that has no value from t = .7 on.
        (
            lambda: path(lambda t, y, _: jnp.where(t > 0.7, jnp.nan, -y), 1.0),
            Code.STEP_TOO_SMALL,
            2,
        ),
    ],
    ids=["fine", "diverged", "steps exhausted", "step too small"],
)
def test_codes_say_how_a_solution_ended(found, code, reached):
    limit = found()
    assert int(limit.code) == code
    assert limit.reached.tolist() == [i < reached for i in range(4)]
    assert np.isfinite(limit.values[:reached]).all()
    assert np.isnan(limit.values[reached:]).all()


def test_a_bad_lane_does_not_touch_its_neighbours():
    def lane(start):
        return path(lambda t, y, _: y**2, start, alive=lambda y: y < 1e6)

    starts = jnp.array([0.1, 1 / 0.9, 0.2])
    together = jax.vmap(lane)(starts)
    assert together.code.tolist() == [Code.FINE, Code.DIVERGED, Code.FINE]
    exact = np.asarray(starts)[:, None] / (1 - np.asarray(starts)[:, None] * np.asarray(TS))
    np.testing.assert_allclose(together.values[::2], exact[::2], rtol=1e-4)


def test_results_of_diffrax_have_codes():
    known = {
        Code.FINE: diffrax.RESULTS.successful,
        Code.DIVERGED: diffrax.RESULTS.event_occurred,
        Code.STEPS_EXHAUSTED: diffrax.RESULTS.max_steps_reached,
        Code.STEP_TOO_SMALL: diffrax.RESULTS.dt_min_reached,
        Code.NO_ROOT: diffrax.RESULTS.nonlinear_divergence,
    }
    for code, result in known.items():
        assert int(code_of(result)) == code
    assert all(code.advice and code.words for code in Code)


def test_a_limit_in_closed_form_gets_everywhere():
    limit = Limit.whole({"a": jnp.exp(-TS)}, TS)
    assert int(limit.code) == Code.FINE
    assert limit.reached.all()
    assert float(limit.at(0)["a"]) == 1.0


@pytest.mark.parametrize(
    "options", [{"rtol": 0.0}, {"atol": -1.0}, {"steps": 0}, {"max_steps": 0}], ids=str
)
def test_numbers_that_are_not_positive_are_refused(options):
    with pytest.raises(ValueError, match=f"{next(iter(options))}: .*; allowed"):
        hd.Integrator(**options)
