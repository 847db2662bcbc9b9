"""Lanczos' iteration, where it breaks down because there are few different eigenvalues."""

import jax
import jax.numpy as jnp
import numpy as np

from hdjax.multipass.lanczos import jacobi_eigenpairs, lanczos


def test_a_breakdown_leaves_the_exact_rule():
    """The weights of the eigenvalues 1, 4 and 9 in the start, after 3 of 12 steps."""
    roots = np.repeat([1.0, 2.0, 3.0], 10)
    start = np.asarray(jax.random.normal(jax.random.key(0), (2, 30)))
    basis, diagonals, off_diagonals = lanczos(jnp.diag(jnp.asarray(roots)), jnp.asarray(start), 12)
    for own, first, diagonal, off in zip(start, basis, diagonals, off_diagonals, strict=True):
        nodes, vectors = jacobi_eigenpairs(np.asarray(diagonal), np.asarray(off))
        np.testing.assert_allclose(nodes, [1.0, 4.0, 9.0], rtol=1e-12)
        weights = [np.sum(own[roots == root] ** 2) for root in (1.0, 2.0, 3.0)]
        np.testing.assert_allclose(np.sum(own**2) * vectors[0] ** 2, weights, rtol=1e-12)
        np.testing.assert_allclose(first[:3] @ first[:3].T, np.eye(3), atol=1e-14)
        assert not np.any(first[3:])
