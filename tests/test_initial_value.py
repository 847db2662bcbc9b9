"""The loop that records a solution, against `diffrax.diffeqsolve`."""

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hdjax as hd
from hdjax.codes import Code

TS = jnp.array([0.0, 0.3, 0.3, 2.0])


def rotation(speed, integrator, **options):
    """A damped rotation, whose speed is differentiated."""

    def rate(t, y, args):
        return speed * jnp.stack([-y[1] - 0.1 * y[0], y[0] * jnp.cos(t)])

    start = jnp.array([1.0, 0.0])
    return integrator(
        rate, start, TS, lambda y: {"y": speed * y, "first": y[0]}, rtol=1e-6, **options
    )


@pytest.mark.parametrize(
    ("solver", "steps", "stops"),
    [(None, None, None), (None, 40, None), (None, None, TS), (diffrax.Dopri8(), None, None)],
    ids=["tolerances", "equal steps", "stops", "another solver"],
)
def test_values_are_those_of_diffrax(solver, steps, stops):
    speed = jnp.asarray(2.0)
    own, diffraxs = (
        rotation(speed, hd.Integrator(solver, steps=steps, adjoint=adjoint), stops=stops)
        for adjoint in (None, diffrax.ForwardMode())
    )
    for name, value in own.values.items():
        np.testing.assert_allclose(value, diffraxs.values[name], rtol=1e-12, atol=1e-14)
    assert own.reached.all()
    assert int(own.code) == Code.FINE


@pytest.mark.slow
def test_derivatives_are_those_of_diffrax():
    def derivative(mode, adjoint=None, **options):
        integrator = hd.Integrator(steps=8, adjoint=adjoint)

        def last(speed):
            return rotation(speed, integrator, **options).values["y"][-1].sum()

        return jax.vmap(mode(last))(jnp.array([1.0, 2.0]))

    diffraxs = derivative(jax.jacfwd, diffrax.ForwardMode())
    for own in (derivative(jax.grad), derivative(jax.jacfwd, reverse=False)):
        np.testing.assert_allclose(own, diffraxs, rtol=1e-12)


@pytest.mark.parametrize("solver", [None, diffrax.Kvaerno5()], ids=["explicit", "implicit"])
def test_a_path_of_no_length_is_its_start(solver):
    start = jnp.array([1.0, 2.0])
    found = hd.Integrator(solver)(
        lambda t, y, args: -y, start, jnp.zeros(1), lambda y: y, rtol=1e-6
    )
    np.testing.assert_array_equal(found.values, start[None])
    assert int(found.code) == Code.FINE


def test_a_start_that_is_no_result_is_not_integrated():
    found = hd.Integrator()(lambda t, y, args: -y, jnp.array([jnp.nan]), TS, lambda y: y, rtol=1e-6)
    assert int(found.code) == Code.DIVERGED
    assert not found.reached.any()
