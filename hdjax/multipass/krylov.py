"""Modes of a large problem with test risks, by products with A and A^T alone.

Lanczos' iteration of H = A^T A from a vector v gives Ritz values theta_i and vectors u_i with

    f(H) v ~ |v| sum_i S_1i f(theta_i) u_i.

From v = A^T b it gives the mean path, and with the rows of the test samples its risk.  From vectors
z of random signs, with E z z^T = 1, it gives the noise: tr f(H) is the mean of z^T f(H) z, and
tr T f(H) that of (T z)^T f(H) z, for the matrix T of the test risk.  Each node of the second kind
has the multiplicity m_i = |z|^2 S_1i^2 and a diagonal t_i of T with m_i t_i = |z| S_1i u_i^T T z.

The iterations of all columns of labels and of all probes run side by side, so that the matrix is
read once for each step.  Source: G. H. Golub, G. Meurant, "Matrices, Moments and Quadrature with
Applications", Princeton 2010.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from hdjax import precise
from hdjax.checks import checked
from hdjax.multipass.lanczos import jacobi_eigenpairs, lanczos
from hdjax.multipass.modes import Modes, as_float
from hdjax.multipass.quadratics import QuadraticForm
from hdjax.registry import Size

__all__ = ["SketchedRisk", "krylov_modes"]


class SketchedRisk(QuadraticForm):
    """Half the mean squared error on test samples, as a function of the nodes of `krylov_modes`.

    Attributes:
        rows: (N, p) the test samples in coordinates of the nodes of the mean path; 0 for others.
        labels: (N,) their labels.
        noise: (p,) the diagonal t_i at the nodes of the noise; 0 for others.
    """

    rows: Float[Array, "n p"]
    labels: Float[Array, " n"]
    noise: Float[Array, " p"]

    @property
    def size(self) -> int:
        return self.rows.shape[1]

    def __call__(self, x: Float[Array, " d"]) -> Float[Array, ""]:
        return jnp.mean((precise.dot(self.rows, x) - self.labels) ** 2) / 2

    def diagonal(self) -> Float[Array, " d"]:
        return self.noise

    def trace(self, covariance: Float[Array, "d d"]) -> Float[Array, ""]:
        return jnp.sum(self.noise * jnp.diag(covariance))

    def restrict(self, basis: Float[Array, "d p"], origin: Float[Array, " d"]) -> QuadraticForm:
        raise ValueError("basis: given; allowed with a risk on nodes of a rule: none")


@checked
def krylov_modes(
    matrix: Float[Array, "n d"],
    labels: Float[Array, "n m"],
    test: Float[Array, "N d"],
    test_labels: Float[Array, "N m"],
    *,
    points: Size,
    key: Key[Array, ""],
    probes: Size = 2,
) -> list[Modes]:
    """The modes of a large problem for each column of labels, with the statistic "test".

    Args:
        matrix: A.
        labels: the columns of labels.
        test: the test samples.
        test_labels: their labels.
        points: the number of steps of Lanczos' iteration.
        key: key of the random signs.
        probes: the number of vectors of random signs.

    Example:
        >>> rows = jax.random.normal(jax.random.key(0), (50, 20)) / 20**0.5
        >>> (modes,) = krylov_modes(
        ...     rows, rows[:, :1], rows, rows[:, :1], points=10, key=jax.random.key(1)
        ... )
        >>> float(modes.samples)
        50.0
    """
    (n, d), columns = matrix.shape, labels.shape[1]
    points = min(points, d, n)
    signs = jax.random.rademacher(key, (probes, d), matrix.dtype)
    starts = jnp.concatenate([precise.dot(labels.T, matrix), signs])
    basis, diagonals, off_diagonals = lanczos(matrix, starts, points)
    images = precise.dot(precise.dot(signs, test.T), test) / test.shape[0]
    rules = [
        _ritz(*parts)
        for parts in zip(
            starts, basis, np.asarray(diagonals), np.asarray(off_diagonals), strict=True
        )
    ]
    values, counts, noise = [], [], []
    for (theta, first, vectors), image in zip(rules[columns:], images, strict=True):
        along = np.asarray(precise.dot(image, vectors))
        values.append(theta)
        counts.append(first**2 / probes)
        noise.append(np.divide(along, first, out=np.zeros_like(along), where=first != 0))
    # The trace of H is known: the counts are scaled to it, which removes most of their error.
    trace = sum(theta @ count for theta, count in zip(values, counts, strict=True))
    counts = [count * float(jnp.sum(matrix**2)) / trace for count in counts]
    found = []
    for c, (theta, first, vectors) in enumerate(rules[:columns]):
        rows = precise.dot(test, vectors)
        own = first / np.sqrt(theta)
        empty = np.zeros(sum(map(len, values)))
        form = SketchedRisk(
            jnp.concatenate([rows, jnp.zeros((rows.shape[0], len(empty)), rows.dtype)], axis=1),
            test_labels[:, c],
            as_float(np.concatenate([np.zeros_like(theta), *noise])),
        )
        eigenvalues = np.concatenate([theta, *values])
        floor = (float(jnp.sum(labels[:, c] ** 2)) - own @ own) / 2
        found.append(
            Modes(
                as_float(eigenvalues),
                as_float(np.concatenate([np.zeros_like(theta), *counts])),
                as_float(np.zeros_like(eigenvalues)),
                as_float(np.concatenate([own, empty])),
                as_float(max(floor, 0.0)),
                as_float(n),
                {"test": form},
            )
        )
    return found


def _ritz(
    start: Float[Array, " d"],
    basis: Float[Array, "k d"],
    diagonal: np.ndarray,
    off_diagonal: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, Float[Array, "d r"]]:
    """Positive Ritz values, |v| S_1i, and Ritz vectors, from the steps before a breakdown."""
    theta, s = jacobi_eigenpairs(diagonal, off_diagonal)
    kept = theta > np.finfo(theta.dtype).eps * len(theta) * theta.max()
    size = float(jnp.linalg.norm(start))
    vectors = precise.dot(jnp.asarray(s[:, kept]).T, basis[: len(theta)]).T
    return theta[kept], size * s[0, kept], vectors
