"""Haar starts without any array of size d, and starts in R^d of a given overlap.

For W Haar on the Stiefel manifold St(d, q) and any W* in St(d, r) with d >= q + r (Bartlett, 1933),

    M = W^T W* = (Z^T Z + B B^T)^{-1/2} Z^T,   Y = M^T (I - M M^T)^{-1} M = R^T R,   R = B^{-1} Z^T

exactly, with Z (r, q) standard normal and B (q, q) lower triangular, B_ii^2 ~ chi^2_{d-r-i}
(i = 0, ..., q-1), B_ij ~ N(0, 1) below the diagonal.  With one key, Z is the same at every d, so
that fitted exponents of d have no Monte Carlo noise.  Every system of the family draws its starts
here.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from hdjax import precise, random
from hdjax.checks import checked, is_concrete
from hdjax.multiindex.small import inverse_root
from hdjax.random import Stream
from hdjax.registry import Dimension, Size, Values

__all__ = [
    "haar_odds",
    "haar_overlap",
    "lift",
    "overlap",
]

# A larger |W^T W - I| cannot be rounding.
_TOLERANCE = 1e-5


@checked
def haar_overlap(
    key: Key[Array, ""], dimension: Dimension, directions: Size, variables: Size
) -> Float[Array, "q r"]:
    """Draw the overlap M = W^T W* (q, r) of a Haar start.

    Args:
        key: the key of the draw.
        dimension: d, any number from q + r on; below q + r a concrete integer (a traced d below q +
            r gives NaN).
        directions: q, the number of student columns.
        variables: r, the number of target columns.

    Raises:
        ValueError: a concrete d is below q or r, or below q + r and not an integer.

    Example:
        >>> d = jnp.asarray(1e4)
        >>> haar_overlap(jax.random.key(0), d, directions=2, variables=3).shape
        (2, 3)
    """
    dimension = jnp.asarray(dimension, jnp.result_type(dimension, float))
    if is_concrete(dimension) and float(dimension) < directions + variables:
        d = float(dimension)
        if d < max(directions, variables) or d != int(d):
            raise ValueError(
                f"dimension: {d:g}; allowed: an integer from {max(directions, variables)} on, or a "
                f"number from q + r = {directions + variables} on"
            )
        return small_overlap(key, int(d), directions, variables).astype(dimension.dtype)
    z, b = _bartlett(key, dimension, directions, variables)
    gram = precise.dot(z.T, z) + precise.dot(b, b.T)
    return precise.dot(inverse_root(gram), z.T)


@checked
def haar_odds(
    key: Key[Array, ""], dimension: Dimension, directions: Size, variables: Size
) -> Float[Array, "q r"]:
    """Draw the odds factor R (q, r) of a Haar start, without cancellation at any d.

    R^T R = Y = G (I - G)^{-1}, and with one key the start is that of `haar_overlap`.

    Args:
        key: the key of the draw.
        dimension: d, any number from q + r on.
        directions: q, the number of student columns.
        variables: r, the number of target columns.

    Raises:
        ValueError: a concrete d is below q + r, where Y is infinite.
    """
    dimension = jnp.asarray(dimension, jnp.result_type(dimension, float))
    if is_concrete(dimension) and float(dimension) < directions + variables:
        raise ValueError(
            f"dimension: {float(dimension):g}; allowed: at least q + r = {directions + variables} "
            "(below it some angles are zero, and their odds infinite)"
        )
    z, b = _bartlett(key, dimension, directions, variables)
    return jax.scipy.linalg.solve_triangular(b, z.T, lower=True)


def small_overlap(
    key: Key[Array, ""], d: int, directions: Size, variables: Size
) -> Float[Array, "q r"]:
    """Draw the overlap M of a Haar start with d < q + r, where some angles are exactly zero."""
    w = _orthonormal(jax.random.normal(random.stream(key, Stream.START), (d, directions)))
    return w[:variables].T


@checked
def lift(
    key: Key[Array, ""], matrix: Float[Array, "q r"], target: Float[Array, "d r"]
) -> Float[Array, "d q"]:
    """Draw orthonormal W with W^T W* = M, uniformly: W* M^T + N (I - M M^T)^{1/2}.

    N is Haar in the orthogonal complement of W*.

    Args:
        key: the key of the draw.
        matrix: the overlap M (q, r).
        target: W* (d, r), orthonormal.
    """
    d, r = target.shape
    q = matrix.shape[0]
    normals = jax.random.normal(random.stream(key, Stream.COMPLEMENT), (d, q), target.dtype)
    parallel = precise.dot(target, matrix.T)
    if d - r < q:
        # The complement has d - r < q dimensions, so that I - M M^T has rank d - r at most.
        gap = jnp.eye(q, dtype=matrix.dtype) - precise.dot(matrix, matrix.T)
        values, vectors = jnp.linalg.eigh(gap)
        top = vectors[:, q - (d - r) :] * jnp.sqrt(jnp.maximum(values[q - (d - r) :], 0))[None, :]
        frame = _complement(normals[:, : d - r], target)
        return parallel + precise.dot(frame, top.T)
    gap = jnp.eye(q, dtype=matrix.dtype) - precise.dot(matrix, matrix.T)
    values, vectors = jnp.linalg.eigh(gap)
    root = jnp.dot(vectors * jnp.sqrt(jnp.maximum(values, 0))[None, :], vectors.T)
    return parallel + precise.dot(_complement(normals, target), root)


@checked
def overlap(student: Values, target: Values) -> Float[Array, "q r"]:
    """The overlap M = W^T W* of orthonormal columns W (d, q) and W* (d, r).

    Args:
        student: W (d, q).
        target: W* (d, r).

    Raises:
        ValueError: the numbers of rows differ, or columns are not orthonormal.

    Example:
        >>> overlap(np.eye(5)[:, :2], np.eye(5)[:, 1:3]).tolist()
        [[0.0, 0.0], [1.0, 0.0]]
    """
    w, w_star = (check_frame(n, x) for n, x in (("student", student), ("target", target)))
    if w.shape[0] != w_star.shape[0]:
        raise ValueError(f"target: {w_star.shape[0]} rows; allowed: {w.shape[0]}, as the student")
    return precise.dot(w.T, w_star)


def check_frame(name: str, columns: Any) -> Float[Array, "d q"]:
    """The columns as an array, after the check that they are orthonormal.

    Raises:
        ValueError: the columns are no (d, q) matrix, or |W^T W - I| is beyond rounding.
    """
    w = jnp.asarray(columns, jnp.result_type(float))
    if w.ndim == 1:
        w = w[:, None]
    if w.ndim != 2 or w.shape[1] > w.shape[0]:
        raise ValueError(f"{name}: shape {w.shape}; allowed: (d, columns) with d >= columns")
    if is_concrete(w):
        gram = np.asarray(precise.dot(w.T, w))
        gap = np.abs(gram - np.eye(w.shape[1])).max()
        if not gap < _TOLERANCE:
            raise ValueError(
                f"{name}: |W^T W - I| = {gap:.3g}; allowed: orthonormal columns (jnp.linalg.qr)"
            )
    return w


def _bartlett(
    key: Key[Array, ""], dimension: Float[Array, ""], q: int, r: int
) -> tuple[Float[Array, "r q"], Float[Array, "q q"]]:
    """Draw Z (r, q) and the lower triangular B (q, q) of the module's formula."""
    dtype = dimension.dtype
    z = jax.random.normal(random.stream(key, Stream.START), (r, q), dtype)
    freedom = dimension - r - jnp.arange(q, dtype=dtype)
    # Below d = q + r the formula does not hold.
    freedom = jnp.where(freedom > 0, freedom, jnp.nan)
    diagonal = jnp.sqrt(jax.random.chisquare(random.stream(key, Stream.CHI), freedom, dtype=dtype))
    lower = jax.random.normal(random.stream(key, Stream.LOWER), (q, q), dtype)
    return z, jnp.tril(lower, -1) + jnp.diag(diagonal)


def _orthonormal(columns: Float[Array, "d q"]) -> Float[Array, "d q"]:
    """The Haar columns that standard normal columns give: QR with a positive diagonal."""
    frame, triangle = jnp.linalg.qr(columns)
    signs = jnp.where(jnp.diagonal(triangle) < 0, -1, 1).astype(columns.dtype)
    return frame * signs[None, :]


def _complement(normals: Float[Array, "d q"], target: Float[Array, "d r"]) -> Float[Array, "d q"]:
    """The Haar columns in the complement of `target` that standard normal columns give."""
    inside = precise.dot(target.T, normals)
    return _orthonormal(normals - precise.dot(target, inside))
