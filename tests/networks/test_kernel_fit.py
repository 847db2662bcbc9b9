"""Kernels found again from their own curves, and as the theory of a training."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import hdjax as hd
from hdjax import networks, random
from hdjax.landscapes import GradientSpan
from hdjax.landscapes.algorithms import GradientDescent, HeavyBall
from hdjax.landscapes.kernels import Matern32, SpinGlass, SquaredExponential
from hdjax.random import Stream
from tests.networks.problems import X, Y, network


def curves(system, steps):
    return system.limit(
        np.arange(steps + 1.0), save=lambda order: (order.value, order.gradient_norm)
    ).values


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kernel", "algorithm"),
    [
        (SquaredExponential(2.0, 1.5), GradientDescent(0.5)),
        (Matern32(0.3, 4.0), HeavyBall(0.2, 0.5)),
    ],
)
def test_a_kernel_is_found_from_its_own_curves(kernel, algorithm):
    true = GradientSpan(kernel, algorithm, jnp.inf, mean=1.3)
    fit = networks.fit_kernel(type(kernel)(), algorithm, *curves(true, 8))
    assert fit.converged
    found = [*jax.tree.leaves(fit.theory.kernel), fit.theory.mean.coefficients[0]]
    np.testing.assert_allclose(found, [*jax.tree.leaves(kernel), 1.3], rtol=1e-6)
    assert max(fit.cost_error, fit.gradient_error) < 1e-8


@pytest.mark.slow
def test_a_fitted_kernel_is_the_limit_of_a_training(fitted):
    result = hd.limit(fitted, [0, 1, 2])
    # By hand: the observed curves, their fit, and the limit of the other algorithm.  No run of an
    # experiment with the same key is among those that were observed.
    key = random.stream(jax.random.key(5), Stream.FIT)
    seen = hd.simulate(fitted.theory.training, range(7), key=key, runs=3)
    fit = networks.fit_kernel(
        Matern32(), GradientDescent(0.05), seen.mean["cost"], seen.mean["gradient_norm"]
    )
    own = GradientSpan(
        fit.theory.kernel, HeavyBall(0.02, 0.5), jnp.inf, mean=fit.theory.mean, radius=3.0
    )
    orders = own.limit(np.arange(3.0)).values
    np.testing.assert_allclose(result.limit["cost"], orders.value, rtol=1e-6)
    np.testing.assert_allclose(result.limit["batch_cost"], orders.value, rtol=1e-6)
    gradients = jnp.diagonal(orders.gradients[:, :3])
    np.testing.assert_allclose(result.limit["gradient_norm"], gradients, rtol=1e-6)
    moved = [float(p[k] - 2 * p[0] + 9) for k, p in enumerate(orders.points)]
    np.testing.assert_allclose(result.limit["distance"], moved, atol=1e-7)


GOOD = np.array([2.0, 1.5, 1.2]), np.array([1.0, 0.8, 0.7])


@pytest.mark.parametrize(
    ("kernel", "cost", "norm", "error", "message"),
    [
        (
            SpinGlass([0.0, 1.0]),
            *GOOD,
            TypeError,
            r"kernel: SpinGlass\(coefficients=f64\[2\]\); allowed: an instance of Stationary",
        ),
        (Matern32(), GOOD[0][:2], GOOD[1][:2], ValueError, "from 3 on"),
        (Matern32(), GOOD[0], GOOD[1][:2], ValueError, "shapes"),
        (Matern32(), GOOD[0], np.zeros(3), ValueError, "positive squared norms"),
        (Matern32(), np.ones(3), GOOD[1], ValueError, "a cost that moves"),
    ],
)
def test_wrong_curves(kernel, cost, norm, error, message):
    with pytest.raises(error, match=message):
        networks.fit_kernel(kernel, GradientDescent(0.1), cost, norm)


@pytest.mark.parametrize(
    ("batch", "steps", "message"), [(8, 6, "on batches of 8"), (None, 1, "at least 2")]
)
def test_wrong_observations(batch, steps, message):
    training = networks.Training(network, networks.cross_entropy, X, Y, optax.sgd(0.1), batch=batch)
    algorithm = GradientDescent(0.1)
    with pytest.raises(ValueError, match=message):
        networks.Fitted(
            Matern32(), training, algorithm, algorithm, steps=steps, runs=1, key=jax.random.key(0)
        )
