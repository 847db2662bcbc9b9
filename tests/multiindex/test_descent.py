"""Descent on the Stiefel manifold follows its recursion, step by step."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hdjax as hd
from hdjax import multiindex
from hdjax.multiindex import StiefelDescent, links
from hdjax.multiindex.descent import Adaptive
from hdjax.multiindex.flows import Planted, Profiled
from hdjax.multiindex.links import from_coefficients
from tests.multiindex.problems import A, B, M


def test_reference_descent_and_the_odds_recursion():
    matrix = StiefelDescent(A, 40, 0.05, start=M).limit(jnp.array([0.0, 20.0])).values.matrix[-1]
    g = np.asarray(matrix.T @ matrix)
    expected = [[0.476648011, -0.024345702], [-0.024345702, 0.098702260]]
    np.testing.assert_allclose(g, expected, atol=1e-9)
    # Y_+ = Phi Y Phi with Phi = I + 2 eta (I - 2 eta S G)^{-1} S.
    g0, s, eta = np.asarray(M.T @ M), np.asarray(multiindex.averaging.energy_gradient(A, M)), 0.05
    y0 = g0 @ np.linalg.inv(np.eye(2) - g0)
    phi = np.eye(2) + 2 * eta * np.linalg.solve(np.eye(2) - 2 * eta * s @ g0, s)
    one = StiefelDescent(A, 40, eta, start=M).limit(jnp.array([1.0])).values.matrix[0]
    g1 = np.asarray(one.T @ one)
    np.testing.assert_allclose(g1 @ np.linalg.inv(np.eye(2) - g1), phi @ y0 @ phi, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("student", "retraction"), [(Profiled(), "polar"), (Planted(), "exponential")]
)
def test_descent_in_r_d_is_the_recursion(student, retraction):
    system = StiefelDescent(A, 40, 0.05, student, retraction=retraction)
    result = hd.compare(
        system,
        [0, 7, 60],
        key=jax.random.key(1),
        runs=2,
        start="realised",
        statistics=["overlaps"],
        progress=False,
    )
    assert float(result.sup_error["overlaps"].max()) < 1e-12
    assert float(abs(result.runs["overlaps"][:, -1] - result.runs["overlaps"][:, 0]).max()) > 0.1


def test_one_adaptive_step_of_the_population_finds_a_single_index():
    """2 eta S g = 1 sends W to W* at once, whatever the overlap."""
    system = StiefelDescent(links.hermite_polynomial(3), 10**4, Adaptive(0.5), start=[[0.01]])
    assert float(system.limit(jnp.array([1.0])).values.matrix[0, 0, 0]) == pytest.approx(
        1, abs=1e-6
    )


def test_geodesics_have_the_length_of_the_step():
    """At r = 1 the angle to W* falls by the norm of the step, 2 eta m S (1 - m^2)^{1/2}."""
    m, eta = 0.4, 0.07
    system = StiefelDescent(B, 40, eta, start=[[m]], retraction="exponential")
    after = float(system.limit(jnp.array([1.0])).values.matrix[0, 0, 0])
    s = float(multiindex.averaging.energy_gradient(B, jnp.array([[m]]))[0, 0])
    length = 2 * eta * m * s * np.sqrt(1 - m**2)
    assert np.arccos(m) - np.arccos(after) == pytest.approx(length, abs=1e-12)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: StiefelDescent(A, 10, 0.0), "step"),
        (lambda: StiefelDescent(A, 10, 0.1, retraction="qr"), "retraction"),
        (lambda: Adaptive(-1.0), "factor"),
    ],
)
def test_wrong_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_wrong_types():
    for make, message in (
        (lambda: StiefelDescent(A, 10, 0.1, multiindex.flows.Joint(1.0)), "student"),
        (lambda: StiefelDescent(A, 10, 0.1).simulator("direct"), "method"),
    ):
        with pytest.raises(TypeError, match=message):
            make()


def test_a_time_between_steps_is_the_step_before():
    """The limit alone and beside runs, at t = 1.4 and 1.6."""
    system = StiefelDescent(from_coefficients({(2,): 1.0}), 100, 0.1, start=[[0.3]])
    alone = hd.limit(system, [0.0, 1.4, 1.6]).limit["cosines"].values
    beside = hd.compare(system, [0.0, 1.6], key=jax.random.key(0), runs=1).limit["cosines"].values
    np.testing.assert_array_equal(alone[1], alone[2])
    np.testing.assert_array_equal(beside[1], alone[1])
