"""Optimisation through the limit, at values that an independent code found."""

import jax.numpy as jnp
import numpy as np
import pytest

from hdjax.landscapes.algorithms import GradientDescent, LowerTriangular
from hdjax.landscapes.kernels import SquaredExponential as SE
from hdjax.landscapes.meta import algorithm_family, optimise
from hdjax.landscapes.rates import Steps
from tests.landscapes.plain import STEPS, assert_formula, descended


@pytest.mark.slow
def test_best_schedule(problem):
    found = optimise(
        lambda steps: problem(SE(), GradientDescent(Steps(steps))), jnp.full(6, 0.7), 6, 40
    )
    np.testing.assert_allclose(found.value, -1.388865, atol=1e-6)
    expected = [0.7065, 0.5843, 0.6149, 0.7108, 0.9343, 1.6079]
    np.testing.assert_allclose(found.parameters, expected, atol=1e-4)
    assert found.gradient_norm < 1e-6


@pytest.mark.slow
def test_best_matrix(problem):
    start = jnp.tril(jnp.full((2, 2), 0.7))
    found = optimise(lambda matrix: problem(SE(), LowerTriangular(matrix)), start, 2, 40)
    np.testing.assert_allclose(found.value, -0.936195, atol=1e-6)


def test_families_of_algorithms():
    """With the same step size they are one algorithm."""
    for name, rates in (
        ("constant", 0.3),
        ("schedule", np.full(STEPS, 0.3)),
        ("heavy_ball", [0.3, 0.0]),
        ("lower_triangular", 0.3 * np.tri(STEPS)),
    ):
        make, start = algorithm_family(name, STEPS)
        assert start.shape == np.shape(rates)
        assert_formula(make(jnp.asarray(rates)), descended(lambda k, x: 0.3))
    with pytest.raises(ValueError, match="name: 'adam'; allowed: constant, schedule, heavy_ball"):
        algorithm_family("adam", steps=3)


def test_wrong_arguments():
    with pytest.raises(ValueError, match="steps, iterations: 0, 200"):
        optimise(lambda steps: steps, 1.0, steps=0)
