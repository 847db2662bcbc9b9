"""Rates against plain formulas in R^d, in other bases, and against searches."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hdjax.landscapes import GradientSpan
from hdjax.landscapes.algorithms import ConjugateGradient, GradientDescent
from hdjax.landscapes.frame import conditional_law
from hdjax.landscapes.kernels import (
    Matern32,
    Matern52,
    RationalQuadratic,
    SpinGlass,
    SquaredExponential,
)
from hdjax.landscapes.rates import (
    Clipped,
    Normalised,
    Polyak,
    RandomFunctionDescent,
    Steps,
    divide,
    root,
)
from tests.landscapes.plain import assert_formula, assert_rest, descended, f, g, norm

# name: (algorithm, points by its formula)
PLAIN = {
    "steps": (GradientDescent(Steps([0.3, 0.2])), descended(lambda k, x: [0.3, 0.2][min(k, 1)])),
    "normalised": (GradientDescent(Normalised(0.2)), descended(lambda k, x: 0.2 / norm(g(x[-1])))),
    "clipped": (
        GradientDescent(Clipped(0.3, 0.7)),
        descended(lambda k, x: 0.3 * min(1, 0.7 / norm(g(x[-1])))),
    ),
    "Polyak": (
        GradientDescent(Polyak(-0.1, 0.5)),
        descended(lambda k, x: 0.5 * (f(x[-1]) + 0.1) / norm(g(x[-1])) ** 2),
    ),
}


@pytest.mark.parametrize("name", PLAIN)
def test_algorithms_are_their_formulas_in_any_basis(name):
    assert_formula(*PLAIN[name])


@pytest.mark.parametrize("name", sorted(PLAIN))
def test_nothing_moves_without_a_gradient(name):
    """Rates that divide by |g| included."""
    assert_rest(PLAIN[name][0])


def test_quotients_and_roots_of_nothing():
    """They are 0, and so are their derivatives, which plain ones do not have."""
    zero, two = jnp.zeros(()), jnp.asarray(2.0)
    assert divide(two, zero) == 0
    assert divide(two, two) == 1
    np.testing.assert_array_equal(jax.grad(divide, (0, 1))(two, zero), [0, 0])
    np.testing.assert_allclose(jax.grad(divide, (0, 1))(two, two), [0.5, -0.5])
    assert root(zero) == root(-two) == 0
    np.testing.assert_allclose(root(two) ** 2, 2)
    assert jax.grad(root)(zero) == 0


@pytest.mark.parametrize(
    "kernel",
    [
        SquaredExponential(1.3, 0.8), RationalQuadratic(1.3, 0.8, 1.7), Matern32(1.3, 0.8),
        Matern52(1.3, 0.8),
    ],
)  # fmt: skip
def test_descent_goes_to_the_lowest_expected_value_along_its_direction(kernel):
    """Along a conjugate direction, which is not the gradient's; by a search on a grid."""
    rate = RandomFunctionDescent(kernel, 0.2)
    algorithm = ConjugateGradient(rate, "FR")
    x, value, gradient = jnp.array([0.3, -0.2]), jnp.asarray(-0.4), jnp.array([0.9, 0.5])
    state = (jnp.array([0.5, 0.9]), jnp.array([-0.5, -0.6]))
    ahead, (_, p) = algorithm.step(state, jnp.asarray(1), x, value, gradient, jnp.vdot)
    assert abs(jnp.vdot(p, gradient)) < 0.99 * norm(p) * norm(gradient)

    @eqx.filter_jit
    def expected(kernel, lengths):
        def at(length):
            y = x + length * p / jnp.linalg.norm(p)
            seen = x[None], value[None], gradient[None]
            return conditional_law(kernel, lambda r: 0.2 + 0.0 * r, *seen, y).mean[0]

        return jax.vmap(at)(lengths)

    lengths = jnp.linspace(0.0, 2.0, 20_001)
    best = lengths[jnp.argmin(expected(kernel, lengths))]
    np.testing.assert_allclose(norm(ahead - x), best, atol=1e-4)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Steps([]), ValueError, "values: none"),
        (
            lambda: Steps([0.1, np.nan]),
            ValueError,
            r"values: \[0\.1, nan\]; allowed: an array of finite real numbers",
        ),
        (lambda: Normalised(0.0), ValueError, r"length: 0\.0; allowed: a finite number, above 0"),
        (
            lambda: Clipped(0.1, -1.0),
            ValueError,
            r"threshold: -1\.0; allowed: a finite number, above 0",
        ),
        (lambda: Clipped(0.0, 1.0), ValueError, r"rate: 0\.0; allowed: a finite number, above 0"),
        (lambda: Polyak(np.nan), ValueError, "lowest: nan; allowed: a finite number"),
        (lambda: Polyak(0.0, 0.0), ValueError, r"factor: 0\.0; allowed: a finite number, above 0"),
        (lambda: RandomFunctionDescent(SquaredExponential(), np.inf), ValueError, "mean: inf"),
        (lambda: RandomFunctionDescent(SpinGlass([0, 1])), TypeError, "allowed: a stationary"),
    ],
)
def test_wrong_arguments(make, error, message):
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize(
    ("rate", "options", "message"),
    [
        (RandomFunctionDescent(SquaredExponential(1.0, 2.0)), {}, "kernel: .* up to its variance"),
        (RandomFunctionDescent(Matern52()), {}, "kernel: Matern52"),
        (RandomFunctionDescent(SquaredExponential(), 0.5), {}, "mean: 0.5"),
        (RandomFunctionDescent(SquaredExponential()), {"mean": -1.0}, "landscape, -1"),
    ],
)
def test_random_function_descent_knows_the_landscape(rate, options, message):
    for algorithm in (GradientDescent(rate), ConjugateGradient(rate, "FR")):
        with pytest.raises(ValueError, match=message):
            GradientSpan(SquaredExponential(), algorithm, 100, **options)
    own = GradientDescent(RandomFunctionDescent(SquaredExponential()))
    GradientSpan(SquaredExponential(2.0), own, 100)
    # Of a trend no number is the mean.
    GradientSpan(SquaredExponential(), own, 100, mean=[0.0, 0.5])
