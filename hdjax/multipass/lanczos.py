"""Lanczos' iteration of A^T A from several vectors, and the eigenpairs of its matrices.

After as many steps as there are distinct eigenvalues, the iteration breaks down: nothing is left of
a new vector but rounding.  The coefficients before that step are the exact rule, and without care
those after it are noise.

Source: G. H. Golub, G. Meurant, "Matrices, Moments and Quadrature with Applications", Princeton
2010.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from hdjax import precise


@partial(jax.jit, static_argnames="points")
def lanczos(
    matrix: Float[Array, "n d"], starts: Float[Array, "v d"], points: int
) -> tuple[Float[Array, "v k d"], Float[Array, "v k"], Float[Array, "v k-1"]]:
    """Orthonormal bases from all starts, with the diagonals and off-diagonals of their matrices.

    Each new vector is orthogonalised twice against all before it.  Where nothing is left of it but
    rounding, the off-diagonal is 0 and so are all later vectors.
    """
    count, d = starts.shape
    unit = jnp.linalg.norm(starts, axis=1, keepdims=True)
    first = starts / jnp.where(unit == 0, 1, unit)
    basis = jnp.zeros((count, points, d), starts.dtype).at[:, 0].set(first)

    def step(basis: Array, k: Array) -> tuple[Array, tuple[Array, Array]]:
        image = precise.dot(precise.dot(basis[:, k], matrix.T), matrix)
        diagonal = jnp.sum(image * basis[:, k], axis=1)
        size = jnp.linalg.norm(image, axis=1, keepdims=True)
        for _ in range(2):
            inside = precise.einsum("vkd,vd->vk", basis, image)
            image = image - precise.einsum("vkd,vk->vd", basis, inside)
        left = jnp.linalg.norm(image, axis=1, keepdims=True)
        broken = left <= 100 * jnp.finfo(left.dtype).eps * size
        image = jnp.where(broken, 0, image / jnp.where(broken, 1, left))
        basis = jax.lax.dynamic_update_index_in_dim(basis, image, k + 1, 1)
        return basis, (diagonal, jnp.where(broken, 0, left)[:, 0])

    basis, (diagonals, off_diagonals) = jax.lax.scan(step, basis, jnp.arange(points - 1))
    image = precise.dot(basis[:, -1], matrix.T)
    last = jnp.sum(image**2, axis=1)
    return basis, jnp.concatenate([diagonals.T, last[:, None]], axis=1), off_diagonals.T


def jacobi_eigenpairs(
    diagonal: Float[np.ndarray, " k"], off_diagonal: Float[np.ndarray, " k-1"]
) -> tuple[np.ndarray, np.ndarray]:
    """The eigenvalues and eigenvectors of Lanczos' matrix up to the step at which it breaks down.

    Args:
        diagonal: (k,) the diagonal.
        off_diagonal: (k - 1,) the entries beside it, 0 from a breakdown on.

    Example:
        >>> jacobi_eigenpairs(np.array([2.0, 0.0]), np.array([0.0]))[0].tolist()
        [2.0]
    """
    length = int(np.cumprod(off_diagonal > 0).sum()) + 1
    off = off_diagonal[: length - 1]
    return np.linalg.eigh(np.diag(diagonal[:length]) + np.diag(off, 1) + np.diag(off, -1))
