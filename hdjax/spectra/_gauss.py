"""Gauss rules of measures, from Lanczos' algorithm and the eigenvalues of a Jacobi matrix.

`Spectrum.compress` and the Marchenko-Pastur law use them. The Jacobi matrix contains the
coefficients of the three-term recurrence of the orthogonal polynomials of a measure. Its
eigenvalues are the nodes of the Gauss rule, and the squares of the first components of its
eigenvectors are the weights (G. H. Golub, J. H. Welsch, "Calculation of Gauss quadrature rules",
Math. Comp. 23, 1969). Lanczos' algorithm with full reorthogonalisation computes the Jacobi matrix:
it acts on the diagonal matrix of the eigenvalues and starts from the square roots of the weights.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from hdjax import precise


def lanczos(
    eigenvalues: Float[Array, " g"], weights: Float[Array, " g"], points: int
) -> tuple[Float[Array, " p"], Float[Array, " p-1"]]:
    """The Jacobi matrix (diagonal, off-diagonal) of the measure of eigenvalues and weights.

    With fewer distinct eigenvalues than points the iteration breaks down, where a general Lanczos
    routine divides by zero. Here the further vectors are zero and become nodes of weight zero.
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

        # The recurrence is followed by one orthogonalisation against all vectors, which removes the
        # effect of rounding, and by another if the first removed much (Kahan: twice is enough).
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
    """The nodes and weights of the Gauss rule of the probability measure with a Jacobi matrix.

    The Jacobi matrix is given by its diagonal and its off-diagonal.
    """
    jacobi = jnp.diag(diagonal) + jnp.diag(off_diagonal, 1) + jnp.diag(off_diagonal, -1)
    nodes, vectors = jnp.linalg.eigh(jacobi)
    return nodes, vectors[0] ** 2
