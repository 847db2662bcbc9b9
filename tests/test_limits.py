"""Limits: values at the times that were reached, and how an integration ended."""

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hdjax.codes import Code
from hdjax.limits import Limit, code_of, masked

TS = jnp.array([0.0, 0.5, 1.0, 2.0])


def solution(field, event=None, **options):
    """Of dy/dt = field(y) from 1, at TS."""
    return diffrax.diffeqsolve(
        diffrax.ODETerm(lambda t, y, args: jax.tree.map(field, y)),
        diffrax.Tsit5(),
        0.0,
        2.0,
        None,
        {"y": jnp.ones(2)},
        saveat=diffrax.SaveAt(ts=TS),
        stepsize_controller=diffrax.PIDController(rtol=1e-8, atol=1e-10),
        throw=False,
        event=event,
        **options,
    )


def test_an_integration_that_is_finished_is_fine():
    found = Limit.of(solution(lambda y: -y))
    np.testing.assert_allclose(found.values["y"][:, 0], np.exp(-TS), rtol=1e-7)
    assert found.reached.all()
    assert found.code == Code.FINE
    np.testing.assert_array_equal(found.at(-1)["y"], found.values["y"][-1])
    np.testing.assert_array_equal(found.at(slice(1, 3))["y"], found.values["y"][1:3])


def test_an_integration_that_takes_too_many_steps_ends_where_it_was():
    """A rotation of 400 turns: 64 steps are enough for some of the times."""
    found = Limit.of(solution(lambda y: jnp.cos(300 * y), max_steps=64))
    assert found.code == Code.STEPS_EXHAUSTED
    reached = np.asarray(found.reached)
    assert reached[0]
    assert not reached[-1]
    np.testing.assert_array_equal(np.isnan(found.values["y"]).all(1), ~reached)


def test_an_event_is_a_divergence():
    """Dy/dt = y^2 from 1 has a pole at t = 1; the integration ends where y is 4, at t = 3/4."""
    event = diffrax.Event(lambda t, y, args, **kwargs: y["y"][0] > 4)
    found = Limit.of(solution(lambda y: y**2, event))
    assert found.code == Code.DIVERGED
    np.testing.assert_array_equal(found.reached, [True, True, False, False])
    np.testing.assert_allclose(found.values["y"][:2, 0], [1, 2], rtol=1e-6)


def test_a_closed_form_reaches_every_time():
    found = Limit.whole({"y": jnp.exp(TS)}, TS)
    assert found.reached.all()
    assert found.code == Code.FINE
    np.testing.assert_array_equal(found.values["y"], jnp.exp(TS))


@pytest.mark.parametrize(
    ("result", "code"),
    [
        (diffrax.RESULTS.successful, Code.FINE),
        (diffrax.RESULTS.event_occurred, Code.DIVERGED),
        (diffrax.RESULTS.max_steps_reached, Code.STEPS_EXHAUSTED),
        (diffrax.RESULTS.dt_min_reached, Code.STEP_TOO_SMALL),
        (diffrax.RESULTS.nonlinear_divergence, Code.NO_ROOT),
        (diffrax.RESULTS.singular, Code.NO_ROOT),
    ],
)
def test_results_of_the_solver_have_codes(result, code):
    assert code_of(result) == code
    assert jax.jit(code_of)(result) == code


def test_times_that_were_not_reached_are_blank():
    values = {"a": jnp.ones((3, 2, 2)), "b": jnp.arange(3.0)}
    found = masked(values, jnp.array([True, False, True]))
    np.testing.assert_array_equal(found["b"], [0, np.nan, 2])
    np.testing.assert_array_equal(np.isnan(found["a"]).all((1, 2)), [False, True, False])
