"""The expansion round the limit: its flattened state, its derivatives, the covariance at t = 0."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hdjax as hd
from hdjax.streaming import GaussianStart, OnePassSGD, losses


@pytest.mark.slow
def test_start_covariance_is_that_of_the_law():
    model = OnePassSGD(
        losses.LeastSquares(),
        hd.spectra.explicit([0.5, 2.0], [60, 40]),
        0.5,
        GaussianStart(scale=1.2, overlap=0.4),
        np.sin(np.arange(100.0)) / np.sqrt(50),
    )
    simulator = model.simulator()
    blocks = jax.jit(jax.vmap(lambda k: simulator.summary(simulator.init(k)).blocks))(
        jax.random.split(jax.random.key(0), 20_000)
    )
    flat = np.asarray(blocks).reshape(20_000, -1)
    flat = flat - flat.mean(0)
    products = 100 * flat[:, :, None] * flat[:, None, :]
    error = products.std(0) / np.sqrt(len(flat))
    law = np.asarray(model.expansion().law)
    expected = np.zeros((2, 4, 2, 4))
    expected[[0, 1], :, [0, 1]] = law.reshape(2, 4, 4)
    expected = expected.reshape(8, 8)
    assert np.all(np.abs(products.mean(0) - expected) <= 5 * error + 1e-6)


@pytest.fixture(scope="module")
def small():
    """An expansion on two groups, with side parameters: a state of 2 x 3 + 1 numbers."""
    return OnePassSGD(
        losses.ErfCommittee([1.0]),
        hd.spectra.explicit([0.5, 2.0], [60, 40]),
        0.6,
        GaussianStart(1.2, overlap=0.4),
        GaussianStart(),
        theta=jnp.array([0.8]),
    ).expansion()


def test_a_flattened_state_holds_the_upper_triangles_divided_by_the_weights(small):
    flat = small.start
    blocks, side = small.origin
    assert flat.shape == (small.size,) == (7,)
    expected = [blocks[0, 0, 0], blocks[0, 0, 1], blocks[0, 1, 1]]
    np.testing.assert_allclose(flat[:3], np.array(expected) / 0.6, rtol=1e-12)
    np.testing.assert_allclose(flat[-1], 0.8, rtol=1e-12)
    again, own = small.unpack(flat)
    np.testing.assert_allclose(again, blocks, rtol=1e-12)
    np.testing.assert_allclose(own.theta, side.theta)


def test_the_drift_is_the_derivative_of_the_force_and_the_noise_a_quadratic_form(small):
    t, flat, h = jnp.zeros(()), small.start, 1e-6
    jacobian, sigma = eqx.filter_jit(lambda e: e.linear(t, flat))(small)
    force = jax.jit(jax.vmap(lambda y: small.force(t, y)))
    origin, steps = np.asarray(flat), h * np.eye(7)
    differences = (force(origin + steps) - force(origin - steps)) / (2 * h)
    np.testing.assert_allclose(jacobian, differences.T, atol=1e-7)
    gradients = np.random.default_rng(0).normal(size=(3, 7))
    found = eqx.filter_jit(lambda e: e.noise(t, flat, jnp.asarray(gradients)))(small)
    np.testing.assert_allclose(
        found, np.einsum("ki,ij,kj->k", gradients, np.asarray(sigma), gradients), rtol=1e-9
    )


def test_the_variance_at_the_start_is_the_form_of_its_matrix(small):
    gradients = np.random.default_rng(1).normal(size=(3, 7))
    found = small.start_variance(jnp.asarray(gradients))
    matrix = np.asarray(small.start_covariance)
    np.testing.assert_allclose(
        found, np.einsum("ki,ij,kj->k", gradients, matrix, gradients), rtol=1e-9
    )
    # |X*|^2 on a group of weight w is w (1 + sqrt(2/(d w)) N), and its entry is divided by w.
    np.testing.assert_allclose(matrix[2, 2], 2 / 0.6, rtol=1e-9)


def test_gram_blocks_that_are_given_have_no_variance():
    start = hd.streaming.GramStart(np.eye(2)[None])
    model = OnePassSGD(losses.LeastSquares(), hd.spectra.identity(50), 0.1, start)
    np.testing.assert_array_equal(model.expansion().start_covariance, 0)
