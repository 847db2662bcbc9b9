"""Exponential steps: their matrices against SciPy, their order, the step-doubling solver."""

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import quad_vec
from scipy.linalg import expm

from hdjax.streaming.stiff import (
    StepDoubling,
    doublings,
    exponential_step,
    own_rate,
    propagators,
    unused,
)

LOCAL = np.array([[[-1.0, 0.4], [0.1, -0.3]], [[-2000.0, 30.0], [0.0, -50.0]]])


@pytest.mark.parametrize("h", [1e-3, 0.5, 40.0])
def test_propagators_are_integrals_of_matrix_exponentials(h):
    found = propagators(jnp.asarray(LOCAL), jnp.asarray(h))
    for group, matrix in enumerate(LOCAL):
        np.testing.assert_allclose(found.flow[group], expm(h * matrix), atol=1e-8)
        # The integral of e^{sD} is (e^{hD} - 1) D^{-1}, and that of s e^{sD} follows by parts.
        inverse, flow = np.linalg.inv(matrix), expm(h * matrix)
        once = (flow - np.eye(2)) @ inverse
        np.testing.assert_allclose(found.constant[group], once, rtol=1e-7, atol=1e-12)
        twice = (h * flow - once) @ inverse
        np.testing.assert_allclose(found.linear[group], once - twice / h, rtol=1e-6, atol=1e-10)


def test_matrices_act_on_pairs_and_leave_the_rest():
    z, matrices = np.arange(5.0), jnp.asarray(LOCAL)
    expected = np.concatenate([LOCAL[0] @ z[:2], LOCAL[1] @ z[2:4], [0]])
    np.testing.assert_allclose(own_rate(matrices, jnp.asarray(z)), expected, rtol=1e-12)
    parts = propagators(matrices, jnp.asarray(0.5))
    moved = parts.apply(matrices, jnp.asarray(z), 3.0)
    np.testing.assert_allclose(moved, expected + np.array([0, 0, 0, 0, 3.0 * 4.0]), rtol=1e-12)


def test_a_step_is_exact_for_sources_that_are_linear_in_time():
    h, first = 0.8, np.array([1.0, -2.0, 0.5, 3.0, 0.7])
    ends = np.array([[1.0, 2.0, 300.0, -4.0, 0.5], [0.0, -1.0, 900.0, 5.0, 1.5]])
    found = exponential_step(
        propagators(jnp.asarray(LOCAL), jnp.asarray(h)),
        jnp.asarray(first),
        lambda end, z: jnp.where(end, ends[1], ends[0]),
    )
    whole = np.zeros((5, 5))
    whole[:2, :2], whole[2:4, 2:4] = LOCAL

    def pushed(s):
        return expm((h - s) * whole) @ (ends[0] + (ends[1] - ends[0]) * s / h)

    exact = expm(h * whole) @ first + quad_vec(pushed, 0, h, epsrel=1e-11, epsabs=1e-11)[0]
    np.testing.assert_allclose(found, exact, rtol=1e-7)


@pytest.mark.parametrize(
    ("size", "short", "power", "count"),
    [(1.0, 8, 1.0, 8), (1024.0, 8, 1.0, 18), (1024.0, 7, 0.5, 12), (0.0, 8, 1.0, 0)],
)
def test_the_number_of_doublings(size, short, power, count):
    """2^count times the short time is the step: h |D| / 2^count is at most 2^-short."""
    assert int(doublings(jnp.asarray(size), short, power)) == count


def test_step_doubling_extrapolates_a_rule_of_order_two():
    """dz/dt = -t z by the midpoint rule: of order three, with the error of the halves."""

    def advance(t, z, h):
        return z * (1 - h * (t + h / 2) * (1 - h / 2 * t))

    @jax.jit
    def end(steps):
        solution = diffrax.diffeqsolve(
            diffrax.ODETerm(unused),
            StepDoubling(advance),
            0.0,
            2.0,
            2.0 / steps,
            jnp.ones(2),
        )
        return solution.ys[0, 1]

    exact = np.exp(-2.0)
    errors = [abs(float(end(jnp.asarray(steps))) - exact) for steps in (8.0, 16.0)]
    assert errors[1] < 1e-3 * exact
    assert 6 < errors[0] / errors[1] < 11
    state = jnp.asarray(0.3)
    arguments = (None, jnp.asarray(0.1), jnp.asarray(0.5), state, None, None, False)
    found, error, *_ = StepDoubling(advance).step(*arguments)
    half = advance(0.3, advance(0.1, state, 0.2), 0.2)
    np.testing.assert_allclose(error, (half - advance(0.1, state, 0.4)) / 3, rtol=1e-9)
    np.testing.assert_allclose(found, half + error, rtol=1e-12)
