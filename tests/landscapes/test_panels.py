"""The inverse Cholesky factor in panels, against dense linear algebra."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hdjax.landscapes import panels

N = 5
# Step k has k + 2 components.
PLACES = [(k, c) for k in range(N) for c in range(k + 2)]


@pytest.fixture(scope="module")
def covariance():
    rng = np.random.default_rng(0)
    wide = rng.standard_normal((len(PLACES), 2 * len(PLACES)))
    return wide @ wide.T / len(PLACES)


def test_panels_cover_all_steps():
    for n in (1, 11, 12, 13, 40):
        steps = [k for first, end in panels.bounds(n) for k in range(first, end)]
        assert steps == list(range(n))
    assert len(panels.bounds(11)) == 1


@pytest.mark.parametrize("short", [5, 6])
def test_steps_are_whitened_as_by_the_dense_factor(covariance, monkeypatch, short):
    """In several panels, and in a single one."""
    monkeypatch.setattr(panels, "_SHORT", short)
    spread = np.zeros((N, N + 1, N, N + 1))
    for (k, c), row in zip(PLACES, covariance, strict=True):
        for (m, b), entry in zip(PLACES, row, strict=True):
            spread[k, c, m, b] = entry
    spread = jnp.asarray(spread)
    drawn = np.random.default_rng(1).standard_normal(len(PLACES))
    innovations = np.zeros((N, N + 1))
    innovations[tuple(np.transpose(PLACES))] = drawn

    @jax.jit
    def step(factor, k):
        def past(first, end):
            known = (jnp.arange(first, end) < k)[:, None, None]
            return jnp.where(known, spread[first:end, : end + 1, k], 0.0)

        earlier = (jnp.arange(N) < k)[:, None]
        seen = jnp.where(earlier, innovations, 0.0)
        whitened, mean, square = panels.whiten(factor, seen, k, past)
        active = jnp.arange(N + 1) < k + 2
        both = active[:, None] & active[None]
        rest = jnp.where(both, spread[k, :, k] - square, jnp.eye(N + 1))
        inverse = jnp.where(both, jnp.linalg.inv(jnp.linalg.cholesky(rest)), 0.0)
        return panels.with_rows(factor, k, inverse, whitened), mean, square

    dense = np.linalg.cholesky(covariance)
    factor = panels.empty(N, float)
    for k in range(N):
        factor, mean, square = step(factor, jnp.asarray(k))
        own = [i for i, place in enumerate(PLACES) if place[0] == k]
        left = dense[own, : own[0]]
        np.testing.assert_allclose(mean[: k + 2], left @ drawn[: own[0]], atol=1e-12)
        np.testing.assert_allclose(square[: k + 2, : k + 2], left @ left.T, atol=1e-12)
    found = panels.own_factors(factor, N)[tuple(np.transpose(PLACES))]
    np.testing.assert_allclose(found, 1 / np.diag(dense), rtol=1e-11)
