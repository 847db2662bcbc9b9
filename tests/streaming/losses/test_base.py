"""Label noise and losses given by functions: their laws, their branches, what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import ndtr

from hdjax.streaming import losses
from hdjax.streaming.losses import DiscreteNoise, FunctionLoss, GaussianNoise, UniformNoise
from tests.streaming.models import isotropic


def test_gaussian_mixture_noise_draws():
    noise = losses.GaussianMixtureNoise([0.3, 3.0], [0.8, 0.2])
    z = jax.random.normal(jax.random.key(0), (100_000, 2))
    draws = np.asarray(jax.vmap(noise)(z))[:, 0]
    variance = 0.8 * 0.09 + 0.2 * 9
    fourth = 3 * (0.8 * 0.3**4 + 0.2 * 81)
    assert abs((draws**2).mean() - variance) < 4 * np.sqrt((fourth - variance**2) / 1e5)
    inside = (np.abs(draws) < 1).mean()
    erf = jax.scipy.special.erf
    share = 0.8 * erf(1 / (0.3 * np.sqrt(2))) + 0.2 * erf(1 / (3 * np.sqrt(2)))
    assert abs(inside - share) < 4 * np.sqrt(share * (1 - share) / 1e5)


def test_discrete_noise():
    noise = DiscreteNoise([[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]], [0.5, 0.0, 0.5])
    draws = jax.vmap(noise)(jax.random.normal(jax.random.key(0), (10_000, 1)))
    assert set(np.unique(np.asarray(draws)).tolist()) == {0.0, 1.0, 4.0, 5.0}
    assert abs(float((draws[:, 0] == 0).mean()) - 0.5) < 4 * 0.005
    branches = [(float(p), part(jnp.zeros(part.dim)).tolist()) for p, part in noise.branches()]
    assert branches == [(0.5, [0.0, 1.0]), (0.0, [2.0, 3.0]), (0.5, [4.0, 5.0])]


def test_noise_of_one_part_is_a_function_of_its_normals():
    z = jnp.array([-0.4, 1.3])
    np.testing.assert_allclose(GaussianNoise(0.6, 2)(z), [-0.24, 0.78], rtol=1e-12)
    np.testing.assert_allclose(UniformNoise()(z[:1]), ndtr([-0.4]), rtol=1e-12)
    ((probability, part),) = UniformNoise().branches()
    assert (probability, part) == (1.0, UniformNoise())


def test_gradients_of_a_function_are_its_own():
    """f = theta x_0 x_1 + x*_0 x_0^2, differentiated by hand."""

    def function(x, teacher, component, noise, theta):
        return theta * x[0] * x[1] + teacher[0] * x[0] ** 2

    loss, nothing = FunctionLoss(function), jnp.zeros(0)
    x, teacher, theta = jnp.array([0.5, -2.0]), jnp.array([3.0]), jnp.asarray(0.7)
    gradient, slope = loss.gradient(x, teacher, jnp.asarray(0), nothing, theta)
    np.testing.assert_allclose(gradient, [0.7 * -2 + 6 * 0.5, 0.7 * 0.5], rtol=1e-12)
    np.testing.assert_allclose(slope, -1.0, rtol=1e-12)


def quantile(x, teacher, component, noise, theta):
    error = x[0] - teacher[0] - noise[0]
    return jnp.maximum(0.7 * error, -0.3 * error)


@pytest.mark.parametrize(
    ("make", "kind", "message"),
    [
        (
            lambda: isotropic(lambda x, y: x[0]),
            TypeError,
            r"function: .*\(x, y\); allowed: f\(",
        ),
        (
            lambda: isotropic(lambda x, *_: x),
            ValueError,
            r"returns shapes \[\(1,\)\]; allowed: f\(",
        ),
        (lambda: isotropic(lambda x, y, c, n, t: y[1] - x[0]), ValueError, r"IndexError .* axis 0"),
        (
            lambda: isotropic(lambda x, y, c, n, t: x[0] > 0),
            ValueError,
            "returns bool; allowed: f",
        ),
        (lambda: isotropic(quantile), ValueError, r"IndexError .* noise \(0,\) of NoNoise"),
        (lambda: DiscreteNoise([1.0], [0.5, 0.5]), ValueError, "values, probabilities: shapes"),
        (lambda: DiscreteNoise([1.0, 2.0], [0.5, 0.4]), ValueError, "sum 0.9"),
        (lambda: DiscreteNoise([1.0, np.inf], [0.5, 0.5]), ValueError, "values: "),
        (lambda: losses.GaussianMixtureNoise([1.0, 2.0], [0.5, 0.4]), ValueError, "sum 0.9"),
    ],
)
def test_refusals(make, kind, message):
    with pytest.raises(kind, match=message):
        make()
