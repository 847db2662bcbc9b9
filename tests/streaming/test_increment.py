"""The random increment of a step: its covariance by brute force, and its three forms."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import hdjax as hd
from hdjax.streaming import GramSampler, GramStart, OnePassSGD, losses
from hdjax.streaming.increment import increment, second_order
from hdjax.streaming.optimisers import Dana
from tests.streaming.models import GRAM, HALF, two_covariances

D = 2000
GIVEN = np.stack([np.cos(np.arange(D)), np.sin(np.arange(D) + 1.0)], axis=1) / np.sqrt(D / 2)


def two_groups(loss, rate, block, d=100, **options):
    spectrum = hd.spectra.explicit([0.5, 2.0], [6 * d // 10, 4 * d // 10])
    start = GramStart(jnp.asarray(block), students=block.shape[-1] // 2)
    return OnePassSGD(loss, spectrum, rate, start, **options)


def one_column(loss, **options):
    return two_groups(loss, 1.1, HALF * np.array([[0.9, 0.3], [0.3, 0.7]]), D, **options)


MODELS = {
    "least squares": lambda: one_column(losses.LeastSquares(sigma=0.3)),
    "logistic": lambda: one_column(losses.Logistic("sampled")),
    "two columns, batch": lambda: two_groups(
        losses.LeastSquares(sigma=0.5, columns=2), 0.6, HALF * (GRAM), D,
        batch_size=2,
    ),
    "heavy ball": lambda: one_column(
        losses.Logistic("sampled"), optimiser=Dana(2.0, 0.7), ridge=0.3
    ),
    "mixture": lambda: two_covariances(D, GIVEN[:, :1] * 0.8, GIVEN),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_increment_covariance_is_that_of_one_step(name):
    """Sigma against brute force, and its own draws: within 5 standard errors of 20 000."""
    model, runs = MODELS[name](), 20_000
    simulator = model.simulator(GramSampler("float64"))

    def flat(summary):
        return ravel_pytree(summary.state)[0]

    @jax.jit
    def step(key):
        start = simulator.init(key)
        moved = simulator.advance(start, jnp.asarray(0), jnp.asarray(1), key)
        return D * (flat(simulator.summary(moved)) - flat(simulator.summary(start)))

    keys = jax.random.split(jax.random.key(3), runs)
    start = model.start()
    found = eqx.filter_jit(increment)(model.field(), jnp.zeros(()), start.state)
    sigma = np.asarray(eqx.filter_jit(found.covariance)())
    z = jax.random.normal(jax.random.key(4), (runs, found.normals))
    for draws in (jax.vmap(step)(keys), jax.jit(jax.vmap(found.sample))(z)):
        draws = np.asarray(draws)
        draws = draws - draws.mean(0)
        products = draws[:, :, None] * draws[:, None, :]
        error = products.std(0) / np.sqrt(runs)
        # One step at d = 2000 has corrections of relative order 1/d.
        slack = 3 / D * np.sqrt(np.outer(np.diag(sigma), np.diag(sigma)))
        assert np.all(np.abs(products.mean(0) - sigma) <= 5 * error + slack + 1e-12)
    assert np.linalg.eigvalsh(sigma).min() > -1e-10


def test_forms_of_the_covariance_agree():
    """A draw is linear in its normals z: Sigma = A^T A; along a direction v it is v^T Sigma v."""
    model = MODELS["mixture"]()
    start = model.start()

    @eqx.filter_jit
    def forms(field, state, blocks, side):
        found = increment(field, jnp.zeros(()), state)
        draws = jax.vmap(found.sample)(jnp.eye(found.normals))
        return draws, found.covariance(), found.variance_along(blocks, side)

    rng = np.random.default_rng(0)
    blocks, side = rng.normal(size=start.blocks.shape), rng.normal(size=2)
    # Directions in the space of symmetric blocks.
    blocks = blocks + blocks.swapaxes(1, 2)
    draws, sigma, along = forms(model.field(), start.state, jnp.asarray(blocks), jnp.asarray(side))
    np.testing.assert_allclose(draws.T @ draws, sigma, atol=1e-9)
    v = np.concatenate([blocks.ravel(), side])
    np.testing.assert_allclose(along, v @ np.asarray(sigma) @ v, rtol=1e-9)
    # Theta is a part of the state whose noise is not zero.
    assert np.asarray(sigma)[-1, -1] > 1e-3


@pytest.mark.parametrize("batch", [1, 3])
def test_second_order_of_least_squares(batch):
    """The terms of order 1/d^2 in the exact recursion of y_i = E |P_i (X - X*)|^2, by hand.

    With g = gamma/d and e^2 the mean squared error a step takes y_i to (1 - g lam)^2 y_i +
    g^2/b (lam d_i e^2 + lam^2 y_i); of these terms those in g and in d_i are in the limit.
    """
    d, gamma, sigma = 100, 0.8, 0.5
    lam, y = np.array([0.5, 2.0]), np.array([0.7, 0.3])
    blocks = np.zeros((2, 2, 2))
    blocks[:, 0, 0] = y
    model = two_groups(losses.LeastSquares(sigma=sigma), gamma, blocks, d, batch_size=batch)
    state = model.start().state
    found = eqx.filter_jit(second_order)(model.field(), jnp.zeros(()), state)
    expected = gamma**2 * (lam**2 * y + lam**2 * y / batch)
    np.testing.assert_allclose(found[:, 0, 0], expected, rtol=1e-9)
    np.testing.assert_allclose(found[:, 1], 0, atol=1e-12)
