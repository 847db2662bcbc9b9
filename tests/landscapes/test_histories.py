"""What histories of directions explain, against plain conditioning in all coordinates."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hdjax.landscapes import histories
from hdjax.landscapes.frame import block_covariance, jet_at
from hdjax.landscapes.kernels import Amplitude, Matern52, SpinGlass

KERNEL = Amplitude([1, 0.3]) * Matern52(1.0, 1.2) + SpinGlass([0, 0.3, 0.2])
N = 4


@pytest.fixture(scope="module")
def run():
    """At points x_k in the span of e_0, ..., e_k: all covariances, and the observations."""
    points = jnp.tril(jax.random.normal(jax.random.key(0), (N, N))) / 2
    covariances, observations = problem(points)
    return np.asarray(covariances), observations


@jax.jit
def problem(points):
    """The covariances [i, k, a, b], with component 1 + j the derivative along e_j."""
    pairs = jax.vmap(lambda x: jax.vmap(lambda y: block_covariance(KERNEL, x, y))(points))(points)
    jets = jax.vmap(lambda x: jax.vmap(lambda y: jet_at(KERNEL, y, x))(points))(points)
    third = jax.vmap(jax.vmap(lambda jet: jet.derivative))(jets)
    fields = jnp.linalg.inv(jnp.linalg.cholesky(third))

    def observation(k, x, jets):
        earlier = jnp.arange(N) < k
        own = jnp.where(earlier[:, None], fields, 0.0)
        return histories.observation(own, jets, points, x, earlier)

    return pairs, jax.vmap(observation)(jnp.arange(N), points, jets)


def history(covariances, j, k):
    """The covariances of D_{e_j} f(x_0), ..., D_{e_j} f(x_{j-1}) with an observation at x_k."""
    return covariances[:j, k, 1 + j]


def own(covariances, j):
    return covariances[:j, :j, 1 + j, 1 + j]


def at(observations, k):
    return jax.tree.map(lambda leaf: leaf[k], observations)


def test_histories_explain_what_conditioning_on_them_does(run):
    covariances, observations = run
    last = at(observations, N - 1)
    for step in range(N):
        expected = np.zeros((N + 1, N + 1))
        for j in range(1, step + 1):
            first, second = history(covariances, j, step), history(covariances, j, N - 1)
            expected += first.T @ np.linalg.solve(own(covariances, j), second)
        found = np.asarray(histories.explained(at(observations, step), last))[0]
        # Step k observes the value and the derivatives along e_0, ..., e_k.
        np.testing.assert_allclose(found[: step + 2], expected[: step + 2], atol=1e-13)
        assert (np.abs(expected).max() > 1e-3) == (step > 0)


def test_the_mean_given_the_histories(run):
    """A history whitens to (0, ..., 0, zeta)."""
    covariances, observations = run
    zeta = np.array([0.8, 1.1, 0.9, 0.0])
    expected = np.zeros(N + 1)
    for j in range(1, N):
        factor = np.linalg.cholesky(own(covariances, j))
        seen = factor[:, -1] * zeta[j - 1]
        expected += history(covariances, j, N - 1).T @ np.linalg.solve(own(covariances, j), seen)
    found = histories.mean(at(observations, N - 1), jnp.asarray(zeta))
    np.testing.assert_allclose(found, expected, atol=1e-13)
    assert np.abs(expected).min() > 1e-3
