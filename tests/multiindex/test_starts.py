"""Haar starts have the moments of their law, at any dimension."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hdjax import multiindex
from hdjax.multiindex import GradientFlow, starts
from tests.multiindex.problems import A, gram


@pytest.mark.slow
def test_haar_law_by_moments():
    """E tr G = qr/d and E det G = prod (q - i)/(d - i) within four standard errors, at d = 7."""
    q, r, n = 3, 2, 20_000
    keys = jax.random.split(jax.random.key(0), n)
    d = jnp.asarray(7.0)
    m = jax.jit(jax.vmap(lambda key: multiindex.starts.haar_overlap(key, d, q, r)))(keys)
    g = gram(np.asarray(m))
    for values, mean in (
        (np.trace(g, axis1=1, axis2=2), q * r / 7),
        (np.linalg.det(g), q / 7 * (q - 1) / 6),
        (np.asarray(m)[:, 0, 1], 0.0),
        (np.asarray(m)[:, 0, 1] ** 2, 1 / 7),
        (np.asarray(m)[:, 2, 0] ** 4, 3 / (7 * 9)),
    ):
        assert abs(values.mean() - mean) < 4 * values.std() / np.sqrt(n)
    # The odds factor of the same draw has the same G.
    factor = jax.vmap(lambda key: multiindex.starts.haar_odds(key, d, q, r))(keys[:5])
    y = gram(np.asarray(factor))
    np.testing.assert_allclose(y @ np.linalg.inv(np.eye(2) + y), g[:5], atol=1e-12)


def test_small_dimensions_and_common_random_numbers():
    tight = GradientFlow(A, 3)  # d < q + r: one angle is exactly zero
    m = tight.problem.sample(jax.random.key(1))
    assert np.linalg.svd(m)[1].max() == pytest.approx(1, abs=1e-12)
    w = multiindex.starts.lift(jax.random.key(2), m, jnp.eye(3, 2))
    np.testing.assert_allclose(w.T @ w, np.eye(2), atol=1e-7)
    np.testing.assert_allclose(w.T @ jnp.eye(3, 2), m, atol=1e-12)
    key = jax.random.key(4)
    small, large = (
        multiindex.starts.haar_overlap(key, jnp.asarray(d), 2, 2) * d**0.5 for d in (1e6, 1e12)
    )
    np.testing.assert_allclose(small, large, rtol=5e-3)


@pytest.mark.parametrize(("d", "q", "r"), [(4, 3, 3), (5, 2, 4), (4, 3, 2), (7, 3, 3)])
def test_haar_overlaps_at_any_dimension(d, q, r):
    """E tr G = q r/d; below q + r, at least q + r - d angles are zero."""
    keys = jax.random.split(jax.random.key(0), 4000)
    m = jax.vmap(lambda key: starts.haar_overlap(key, jnp.asarray(float(d)), q, r))(keys)
    squares = np.sum(np.asarray(m) ** 2, axis=(1, 2))
    error = squares.std() / len(squares) ** 0.5
    assert abs(squares.mean() - q * r / d) < 4 * error + 1e-12
    ones = np.linalg.svd(m, compute_uv=False) > 1 - 1e-9
    assert np.all(ones.sum(axis=1) == max(q + r - d, 0))
    # What cannot be known when a program is traced is no number.
    traced = jax.jit(lambda d: starts.haar_overlap(keys[0], d, 3, 3))(4.0)
    assert np.isnan(traced).all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: starts.overlap(np.ones((4, 1)), np.eye(4)[:, :1]), "student"),
        (lambda: starts.overlap(np.eye(4)[:, :1], np.eye(5)[:, :1]), "target"),
        (lambda: starts.haar_overlap(jax.random.key(0), 4.5, 3, 3), r"dimension: 4\.5"),
        (
            lambda: starts.haar_overlap(jax.random.key(0), 2, 3, 3),
            "dimension: 2; .* from 3 on",
        ),
        (lambda: starts.haar_odds(jax.random.key(0), 4, 3, 3), "at least q . r = 6"),
    ],
)
def test_wrong_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()
