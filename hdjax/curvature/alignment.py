"""Measures of alignment: of two subspaces, of a vector and a subspace, and of random ones.

A share or an overlap says nothing without its baseline, so report every measure with the dimensions
of both spaces.  Outliers may be degenerate or cross along training: compare eigenspaces, and not
single eigenvectors.  `blocks.py` and `hdjax.networks` use these measures for runs and for theory.
Source: "Spectral alignment of SGD" (arXiv 2310.03010; alignment is defined in section 2).
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from hdjax import gaussian, precise
from hdjax.checks import checked

__all__ = [
    "orthonormal",
    "overlap",
    "principal_cosines",
    "principal_sines",
    "random_overlap",
    "share",
    "share_in_means",
]


@checked
def orthonormal(columns: Float[Array, "d k"], cut: float = 1e-6) -> Float[Array, "d k"]:
    """An orthonormal basis of the columns' span, with zero columns where they are dependent.

    Args:
        columns: (d, k) columns, whose lengths do not matter.
        cut: singular values of the normalised columns below `cut` times the largest count as zero.

    Example:
        >>> basis = orthonormal(jnp.array([[1.0, -1.0], [0.0, 0.0]]))
        >>> round(float(jnp.abs(basis).sum()), 6)
        1.0
    """
    lengths = jnp.linalg.norm(columns, axis=0, keepdims=True)
    directions = columns / jnp.where(lengths > 0, lengths, 1)
    left, values, _ = jnp.linalg.svd(directions, full_matrices=False)
    return jnp.where(values > cut * values[:1], left, 0)


@checked
def principal_cosines(
    first: Float[Array, "d k"], second: Float[Array, "d l"]
) -> Float[Array, " r"]:
    """Cosines of the principal angles between two spans, descending, r = min(k, l).

    They are the singular values of Q_1^T Q_2, with orthonormal bases Q_i; zeros follow where a span
    has fewer dimensions than columns.

    Args:
        first: (d, k) columns of one span.
        second: (d, l) columns of the other span.

    Example:
        >>> principal_cosines(jnp.eye(3)[:, :2], jnp.eye(3)[:, 1:]).round(6).tolist()
        [1.0, 0.0]
    """
    inner = precise.dot(orthonormal(first).T, orthonormal(second))
    return jnp.linalg.svd(inner, compute_uv=False)


@checked
def principal_sines(first: Float[Array, "d k"], second: Float[Array, "d l"]) -> Float[Array, " l"]:
    """Sines of the principal angles of `second` with `first`, ascending, exact for small angles.

    They are the singular values of (I - Q_1 Q_1^T) Q_2.  A cosine does not resolve angles below
    1e-4.

    Args:
        first: (d, k) columns of one span.
        second: (d, l) columns of the other span.

    Example:
        >>> tilted = jnp.array([[1.0], [1e-5]])
        >>> f"{float(principal_sines(jnp.eye(2)[:, :1], tilted)[0]):.1e}"
        '1.0e-05'
    """
    one, two = orthonormal(first), orthonormal(second)
    return jnp.linalg.svd(two - precise.dot(one, precise.dot(one.T, two)), compute_uv=False)[::-1]


@checked
def share(vector: Float[Array, " d"], space: Float[Array, "d k"]) -> Float[Array, ""]:
    """The share |P v|/|v| of a vector in a span, with P the projection on the span.

    Args:
        vector: v (d,).
        space: (d, k) columns of the span.

    Example:
        >>> round(float(share(jnp.ones(2), jnp.eye(2)[:, :1])), 4)
        0.7071
    """
    basis = orthonormal(space)
    inside = precise.dot(basis.T, vector)
    size = gaussian.safe_sqrt((vector**2).sum())
    return gaussian.safe_sqrt((inside**2).sum()) / jnp.where(size > 0, size, 1)


@checked
def overlap(first: Float[Array, "d k"], second: Float[Array, "d l"]) -> Float[Array, ""]:
    """The overlap |Q_1^T Q_2|^2/min(k, l) of two spans, which is 1 if one contains the other.

    Args:
        first: (d, k) columns of one span.
        second: (d, l) columns of the other span.

    Example:
        >>> float(overlap(jnp.eye(4)[:, :2], jnp.eye(4)[:, 1:3]))
        0.5
    """
    smaller = min(first.shape[1], second.shape[1])
    return (precise.dot(orthonormal(first).T, orthonormal(second)) ** 2).sum() / smaller


def random_overlap(rank: int, dimension: int) -> float:
    """The mean of |P v|^2/|v|^2 for a random space of `rank` dimensions: the baseline rank/d.

    Args:
        rank: dimensions of the space.
        dimension: d.

    Raises:
        ValueError: the rank is outside 1 to d.

    Example:
        >>> random_overlap(4, 100)
        0.04
    """
    if not 1 <= rank <= dimension:
        raise ValueError(f"rank: {rank}; allowed: 1 to {dimension}")
    return rank / dimension


@checked
def share_in_means(overlaps: Float[Array, "k k"], students: int) -> Float[Array, " m"]:
    """The share (S_c G^+ S_c/Q_cc)^(1/2) of every column X_c in the means' span.

    Args:
        overlaps: (m + c, m + c) Gram matrix of [X | means], with blocks Q, S and G.
        students: m.

    Example:
        >>> share_in_means(jnp.array([[4.0, 1.0], [1.0, 1.0]]), students=1).tolist()
        [0.5]
    """
    m = students
    lengths = gaussian.safe_sqrt(jnp.diagonal(overlaps)[m:])[None]
    lengths = jnp.where(lengths > 0, lengths, 1)
    # The means are normalised, so that their lengths do not matter to the cut.
    inner, gram = overlaps[:m, m:] / lengths, overlaps[m:, m:] / (lengths.T * lengths)
    values, vectors = jnp.linalg.eigh(gram)
    keep = values > 8 * gram.shape[0] * jnp.finfo(gram.dtype).eps * values[-1]
    seen = precise.dot(inner, vectors) ** 2 / jnp.where(keep, values, 1)[None]
    inside = jnp.where(keep[None], seen, 0).sum(1)
    return gaussian.safe_sqrt(inside / jnp.diagonal(overlaps)[:m])
