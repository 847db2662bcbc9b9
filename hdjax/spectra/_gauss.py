"""Gauss rules of measures: Lanczos' algorithm, and the nodes of a Jacobi matrix.

The matrix of the recurrence of a measure's orthogonal polynomials has the nodes as eigenvalues, and
the weights as squares of the first components of its eigenvectors (G. H. Golub, J. H. Welsch,
"Calculation of Gauss quadrature rules", Math. Comp. 23, 1969). Lanczos' algorithm for a diagonal
matrix, started from the roots of the weights, finds it; only with full reorthogonalisation.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from hdjax import precise


def lanczos(
    eigenvalues: Float[Array, " g"], weights: Float[Array, " g"], points: int
) -> tuple[Float[Array, " p"], Float[Array, " p-1"]]:
    """The Jacobi matrix (diagonal, off-diagonal) of the measure, from the start sqrt(w).

    With fewer distinct eigenvalues than points the iteration breaks down: here into vectors of
    zeros, which become nodes of weight zero, where a general Lanczos routine divides by zero.
    """
    eps = jnp.finfo(eigenvalues.dtype).eps

    def step(k: Any, carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        vectors, diagonal, off_diagonal = carry
        image = eigenvalues * vectors[k]
        before = _square(image)
        centre = precise.dot(vectors[k], image)
        diagonal = diagonal.at[k].set(centre)

        def orthogonalise(image: Array) -> Array:
            overlaps = precise.dot(vectors, image)
            return image - precise.dot(overlaps, vectors)

        # The recurrence, one pass over all vectors for what rounding has left of them, and another
        # where that pass took away much (Kahan's criterion: twice is enough).
        short = image - centre * vectors[k] - off_diagonal[k - 1] * vectors[k - 1]
        image = orthogonalise(short)
        again = _square(image) < 0.5 * _square(short)
        image = jax.lax.cond(again, orthogonalise, lambda image: image, image)
        square = _square(image)
        broken = square <= (8 * eps) ** 2 * before
        norm = jnp.sqrt(jnp.where(broken, 1, square))
        vectors = vectors.at[k + 1].set(jnp.where(broken, 0, image / norm))
        return vectors, diagonal, off_diagonal.at[k].set(jnp.where(broken, 0, norm))

    start = jnp.zeros((points + 1, eigenvalues.shape[0]), eigenvalues.dtype)
    start = start.at[0].set(jnp.sqrt(weights / weights.sum()))
    zeros = jnp.zeros(points, eigenvalues.dtype)
    _, diagonal, off_diagonal = jax.lax.fori_loop(0, points, step, (start, zeros, zeros))
    return diagonal, off_diagonal[:-1]


def _square(vector: Float[Array, " g"]) -> Float[Array, ""]:
    return precise.dot(vector, vector)


def golub_welsch(
    diagonal: Float[Array, " p"], off_diagonal: Float[Array, " p-1"]
) -> tuple[Float[Array, " p"], Float[Array, " p"]]:
    """Nodes and weights of the Gauss rule of a probability measure with this Jacobi matrix."""
    jacobi = jnp.diag(diagonal) + jnp.diag(off_diagonal, 1) + jnp.diag(off_diagonal, -1)
    nodes, vectors = jnp.linalg.eigh(jacobi)
    return nodes, vectors[0] ** 2
