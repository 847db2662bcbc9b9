"""Measures of alignment and their baselines."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hdjax import curvature


def test_principal_angles_of_planes():
    """Planes at angles 0.3 and 1.2, in other bases and with a dependent third column."""
    rng = np.random.default_rng(0)
    basis = np.linalg.qr(rng.standard_normal((20, 4)))[0]
    angles = np.array([0.3, 1.2])
    tilted = basis[:, :2] * np.cos(angles) + basis[:, 2:] * np.sin(angles)
    first = jnp.asarray(basis[:, :2] @ rng.standard_normal((2, 3)))
    second = jnp.asarray(tilted @ rng.standard_normal((2, 2)))
    cosines = curvature.alignment.principal_cosines(first, second)
    np.testing.assert_allclose(cosines, np.cos(angles), atol=1e-12)
    np.testing.assert_allclose(
        curvature.alignment.principal_sines(first, second), np.sin(angles), atol=1e-12
    )
    assert float(curvature.alignment.overlap(first[:, :2], second)) == pytest.approx(
        (np.cos(angles) ** 2).mean()
    )
    vector = jnp.asarray(tilted[:, 0])
    assert float(curvature.alignment.share(vector, first)) == pytest.approx(np.cos(0.3))
    assert float(curvature.alignment.share(0 * vector, first)) == 0


def test_small_angles_need_sines():
    basis = np.eye(30)[:, :2]
    tilted = basis + 1e-9 * np.eye(30)[:, 2:4]
    sines = curvature.alignment.principal_sines(jnp.asarray(basis), jnp.asarray(tilted))
    np.testing.assert_allclose(sines, 1e-9, rtol=1e-5)


def test_random_spaces_have_the_baseline():
    d, rank, draws = 60, 6, 400
    space = jax.random.normal(jax.random.key(0), (draws, d, rank))
    shares = jax.vmap(lambda s: curvature.alignment.share(jnp.eye(d)[0], s))(space) ** 2
    error = float(shares.std()) / draws**0.5
    assert abs(float(shares.mean()) - curvature.alignment.random_overlap(rank, d)) < 4 * error
    with pytest.raises(ValueError, match="rank: 61"):
        curvature.alignment.random_overlap(61, 60)


def test_shares_from_the_gram_matrix_alone():
    """Of dependent means too."""
    rng = np.random.default_rng(1)
    x, means = rng.standard_normal((15, 2)), rng.standard_normal((15, 3))
    means = np.concatenate([means, -means[:, :1]], axis=1)
    both = np.concatenate([x, means], axis=1)
    shares = curvature.alignment.share_in_means(jnp.asarray(both.T @ both), 2)
    direct = [curvature.alignment.share(jnp.asarray(column), jnp.asarray(means)) for column in x.T]
    np.testing.assert_allclose(shares, direct, atol=1e-10)


def test_the_span_of_columns_of_any_length():
    """Means of lengths 1 and 1e-8, and a third that depends on them."""
    rng = np.random.default_rng(0)
    frame = np.linalg.qr(rng.standard_normal((20, 2)))[0]
    means = frame @ np.array([[1.0, 1e-8, 0.3], [0.0, 2e-8, 0.2]])
    basis = curvature.alignment.orthonormal(jnp.asarray(means))
    np.testing.assert_allclose(basis @ basis.T, frame @ frame.T, atol=1e-12)
    x = rng.standard_normal((20, 3))
    both = np.hstack([x, means])
    expected = np.linalg.norm(frame.T @ x, axis=0) / np.linalg.norm(x, axis=0)
    share = curvature.alignment.share_in_means(jnp.asarray(both.T @ both), students=3)
    np.testing.assert_allclose(share, expected, rtol=1e-9)
