"""The averaging operator A_M, the energy E and its gradient S: what every population flow needs.

The best link for given directions is the conditional expectation of the target,

    (A_M f*)(y) = E[f*(W*^T x) | W^T x = y],    C_k -> M^{(x) k} C_k,    M = W^T W*,

so that the profiled loss is L = |f*|^2 - E(G) with G = M^T M and

    E(G) = sum_k |M^{(x) k} C_k|^2,
    S(G) = dE/dG = sum_k k T_k T_k^T,   T_k = (I (x) M^{(x) k-1}) C_k  as an r x q^{k-1} matrix.

Every degree is contracted from M, without singular values or square roots, whose derivatives blow
up at random starts and at G = I.  So computed, S is positive semidefinite and keeps its small
parts.  Any N with N^T N = G may stand for M.  Source: arXiv 2310.19793 (the averaging operator
A_M).
"""

import dataclasses
import math
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from hdjax.checks import checked, is_concrete
from hdjax.multiindex.links.link import Link
from hdjax.multiindex.small import product
from hdjax.multiindex.tensors import (
    PowerSum,
    Rows,
    Tensors,
    difference,
    missed,
    nonnegative,
    outer,
    pairing,
    rows,
    squared_norm,
    transform,
)

__all__ = [
    "average",
    "conditioning",
    "energy",
    "energy_gradient",
    "planted_loss",
    "profiled_loss",
]


@checked
def average(link: Link, matrix: Float[Array, "q r"]) -> Tensors:
    """Hermite tensors of A_M f*, the best link for directions of overlap M.

    Args:
        link: f*, the link of the target.
        matrix: the overlap M (q, r).

    Raises:
        ValueError: M has another number of columns than the link has variables.

    Example:
        >>> link = hd.multiindex.links.from_coefficients({(1,): 1.0})
        >>> average(link, jnp.array([[0.5]]))[1].tolist()
        [0.5]
    """
    _check_overlap(link, matrix)
    return transform(link.tensors, matrix)


@checked
def energy(link: Link, matrix: Float[Array, "q r"]) -> Float[Array, ""]:
    """The energy E(M^T M) without the mean of f*, which is learnt at once.

    It is 0 at M = 0, and at most |f*|^2 - mean^2.

    Args:
        link: f*, the link of the target.
        matrix: the overlap M (q, r).

    Raises:
        ValueError: M has another number of columns than the link has variables.

    Example:
        >>> link = hd.multiindex.links.from_coefficients({(2,): 1.0})
        >>> float(energy(link, jnp.array([[0.5]])))
        0.0625
    """
    return squared_norm(average(link, matrix)[1:])


@checked
def energy_gradient(link: Link, matrix: Float[Array, "q r"]) -> Float[Array, "r r"]:
    """The gradient S(G) = dE/dG at G = M^T M, positive semidefinite by construction.

    Args:
        link: f*, the link of the target.
        matrix: the overlap M (q, r).

    Raises:
        ValueError: M has another number of columns than the link has variables.

    Example:
        >>> link = hd.multiindex.links.from_coefficients({(2,): 1.0})
        >>> energy_gradient(link, jnp.array([[0.5]])).tolist()
        [[0.5]]
    """
    _check_overlap(link, matrix)
    r = link.variables
    result = jnp.zeros((r, r), matrix.dtype)
    for k, partial in _partials(link.tensors, matrix):
        result = result + k * outer(partial, partial)
    return result


@checked
def profiled_loss(
    link: Link, matrix: Float[Array, "q r"], gap: Float[Array, "r r"]
) -> Float[Array, ""]:
    """The loss |f*|^2 - E(G) of the best link, as a sum of non-negative terms.

    L = residual of truncation + sum_k sum_{j<k} <C_k, (G^{(x) j} (x) K (x) I) C_k>: nothing cancels
    near the optimum.

    Args:
        link: f*, the link of the target.
        matrix: the overlap M (q, r).
        gap: K = I - M^T M, as accurate as it is known.

    Raises:
        ValueError: M has another shape than (q, r), or the gap another than (r, r).

    Example:
        >>> link = hd.multiindex.links.from_coefficients({(2,): 1.0})
        >>> float(profiled_loss(link, jnp.array([[0.5]]), jnp.array([[0.75]])))
        0.9375
    """
    _check_overlap(link, matrix)
    r = link.variables
    if gap.shape != (r, r):
        raise ValueError(f"gap: shape {gap.shape}; allowed: {(r, r)}, K = I - M^T M")
    loss = link.residual
    for tensor in link.tensors[1:]:
        if tensor is not None:
            loss = loss + missed(tensor, matrix, gap)
    return loss


def correlation(link: Link, readout: Tensors, matrix: Float[Array, "q r"]) -> Float[Array, ""]:
    """The correlation P(M) = E[F F*] = sum_k <F_k, M^{(x) k} C_k> of a student link F with F*."""
    _check_overlap(link, matrix)
    _check_student(readout, matrix)
    value = jnp.zeros((), matrix.dtype)
    for own, averaged in zip(readout, average(link, matrix), strict=False):
        if own is not None and averaged is not None:
            value = value + pairing(own, averaged)
    return value


def correlation_gradient(
    link: Link, readout: Tensors, matrix: Float[Array, "q r"]
) -> Float[Array, "q r"]:
    """The gradient T = dP/dM = sum_k k F_(k) T_k^T, with unfoldings F_(k) (q, q^{k-1}).

    For F = A_M f*, T is M S.
    """
    _check_overlap(link, matrix)
    _check_student(readout, matrix)
    result = jnp.zeros_like(matrix)
    for k, partial in _partials(link.tensors, matrix):
        own = readout[k] if k < len(readout) else None
        if own is not None:
            result = result + k * outer(rows(own), partial)
    return result


@checked
def planted_loss(
    link: Link,
    readout: Link | Tensors,
    matrix: Float[Array, "q r"],
    gap: Float[Array, "r r"] | None = None,
) -> Float[Array, ""]:
    """The loss E (F - F*)^2 = |F - A_M f*|^2 + (|f*|^2 - E(G)) of a student link F.

    Both parts are sums of non-negative terms, unlike |F|^2 + |f*|^2 - 2 P(M).

    Args:
        link: f*, the link of the target.
        readout: F, a polynomial link in q variables or its Hermite tensors.
        matrix: the overlap M (q, r).
        gap: K = I - M^T M, as accurate as it is known; None: computed from M.

    Raises:
        ValueError: M has another shape than (q, r), F has another number of variables than q, or
            F is a link that does not end at its degree.

    Example:
        >>> link = hd.multiindex.links.from_coefficients({(1,): 1.0})
        >>> float(planted_loss(link, link, jnp.array([[0.5]])))
        1.0
    """
    tensors = _polynomial(readout) if isinstance(readout, Link) else readout
    _check_overlap(link, matrix)
    _check_student(tensors, matrix)
    if gap is None:
        gap = jnp.eye(link.variables, dtype=matrix.dtype) - product(matrix.T, matrix)
    own = nonnegative(squared_norm(difference(tensors, average(link, matrix))))
    return own + profiled_loss(link, matrix, gap)


def gradient_covariance(readout: Tensors, directions: int) -> Float[Array, "q q"]:
    """The matrix E[grad F grad F^T] = sum_k k F_(k) F_(k)^T, which bounds the step of descent."""
    result = jnp.zeros((directions, directions), jnp.result_type(float))
    for k, tensor in enumerate(readout):
        if k and tensor is not None:
            result = result + k * outer(rows(tensor), rows(tensor))
    return result


@dataclasses.dataclass(frozen=True)
class conditioning:
    """The statistic log10 of lambda_min(M)^{-k}: the amplification of errors by inverting A_M.

    At a random start lambda_min(M)^{-k} is of order d^{k/2}, the condition of degree k against the
    mean: A_M must never be inverted.  Evaluating A_M itself is stable.

    Args:
        degrees: the degrees k.

    Example:
        >>> statistic = conditioning((1, 2, 4))
    """

    degrees: tuple[int, ...] = (1, 2, 4)

    def __call__(self, system: Any, summary: Any) -> Float[Array, " degrees"]:
        smallest = jnp.linalg.svd(summary.matrix, compute_uv=False).min()
        return -jnp.log(smallest) / math.log(10) * jnp.asarray(self.degrees, smallest.dtype)


def _check_overlap(link: Link, matrix: Float[Array, "q r"]) -> None:
    """Raise ValueError unless the overlap M has one column for each variable of the link."""
    if matrix.ndim != 2 or matrix.shape[1] != link.variables:
        raise ValueError(
            f"matrix: shape {matrix.shape}; allowed: (q, {link.variables}), M = W^T W*"
        )


def _polynomial(readout: Link) -> Tensors:
    """The tensors of a student link; ValueError if it has energy beyond its degree."""
    residual, rounding = readout.residual, 100 * jnp.finfo(readout.residual.dtype).eps
    if is_concrete(residual) and float(residual) > rounding * float(readout.norm2):
        raise ValueError(
            f"readout: a link with energy {float(residual):.3g} beyond its degree; allowed: a "
            "polynomial, or the tensors of a student that ends at that degree (`readout.tensors`)"
        )
    return readout.tensors


def _check_student(readout: Tensors, matrix: Float[Array, "q r"]) -> None:
    """Raise ValueError unless a student link has one variable for each row of M."""
    q = matrix.shape[0]
    for k, tensor in enumerate(readout):
        if tensor is None:
            continue
        sizes = tensor.vectors.shape[:1] if isinstance(tensor, PowerSum) else tensor.shape
        if set(sizes) - {q}:
            raise ValueError(
                f"readout: degree {k} of shape {sizes}; allowed: {q} variables, the rows of M"
            )


def _partials(
    tensors: Tensors, matrix: Float[Array, "q r"]
) -> list[tuple[int, Float[Array, "r n"] | Rows]]:
    """Pairs (k, T_k) for the degrees k >= 1 that the link has, unrolled at trace time."""
    there = [(k, tensor) for k, tensor in enumerate(tensors) if k and tensor is not None]
    return [(k, rows(tensor, matrix)) for k, tensor in there]
