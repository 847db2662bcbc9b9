"""The averaging operator A_M, the energy E and its gradient S.

The best link for given directions is the conditional expectation of the target,

    (A_M f*)(y) = E[f*(W*^T x) | W^T x = y],    C_k -> M^{(x) k} C_k,    M = W^T W*,

so that the profiled loss is L = |f*|^2 - E(G) with G = M^T M and

    E(G) = sum_k |M^{(x) k} C_k|^2,
    S(G) = dE/dG = sum_k k T_k T_k^T,   T_k = (I (x) M^{(x) k-1}) C_k  as an r x q^{k-1} matrix

(arXiv 2310.19793, section 3).  Everything is contracted degree by degree from M, without singular
values or square roots: their derivatives blow up at random starts and at G = I, while S so made
is positive semidefinite and keeps its small parts.  Any N with N^T N = G may stand for M.
"""

import dataclasses
import math
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from hdjax.multiindex.links import Link
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


def average(link: Link, matrix: Float[Array, "q r"]) -> Tensors:
    """Tensors of A_M f*, the best link for directions with overlap M.

    Example:
        >>> link = hd.multiindex.from_coefficients({(1,): 1.0})
        >>> average(link, jnp.array([[0.5]]))[1].tolist()
        [0.5]
    """
    _check_overlap(link, matrix)
    return transform(link.tensors, matrix)


def energy(link: Link, matrix: Float[Array, "q r"]) -> Float[Array, ""]:
    """E(M^T M) without the mean, which is learnt at once: 0 at M = 0, |f*|^2 - mean^2 at most."""
    return squared_norm(average(link, matrix)[1:])


def energy_gradient(link: Link, matrix: Float[Array, "q r"]) -> Float[Array, "r r"]:
    """S(G) = dE/dG, positive semidefinite by construction.

    Example:
        >>> link = hd.multiindex.from_coefficients({(2,): 1.0})
        >>> energy_gradient(link, jnp.array([[0.5]])).tolist()
        [[0.5]]
    """
    _check_overlap(link, matrix)
    r = link.variables
    result = jnp.zeros((r, r), matrix.dtype)
    for k, partial in _partials(link.tensors, matrix):
        result = result + k * outer(partial, partial)
    return result


def profiled_loss(
    link: Link, matrix: Float[Array, "q r"], gap: Float[Array, "r r"]
) -> Float[Array, ""]:
    """|f*|^2 - E(G) as a sum of non-negative terms, with the residual of truncation.

    L = sum_k sum_{j<k} <C_k, (G^{(x) j} (x) K (x) I) C_k>: nothing cancels near the optimum.

    Args:
        link: f*.
        matrix: M (q, r).
        gap: K = I - M^T M, as accurate as it is known.

    Raises:
        ValueError: an M of another shape than (q, r), a gap of another than (r, r).
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
    """P(M) = E[F F*] = sum_k <F_k, M^{(x) k} C_k> for a student link F."""
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
    """T = dP/dM = sum_k k F_(k) T_k^T, for unfoldings F_(k) (q, q^{k-1}).

    For F = A_M f* it is M S.
    """
    _check_overlap(link, matrix)
    _check_student(readout, matrix)
    result = jnp.zeros_like(matrix)
    for k, partial in _partials(link.tensors, matrix):
        own = readout[k] if k < len(readout) else None
        if own is not None:
            result = result + k * outer(rows(own), partial)
    return result


def planted_loss(
    link: Link,
    readout: Tensors,
    matrix: Float[Array, "q r"],
    gap: Float[Array, "r r"] | None = None,
) -> Float[Array, ""]:
    """E (F - F*)^2 = |F - A_M f*|^2 + (|f*|^2 - E(G)) for a student link F.

    Both parts are sums of non-negative terms, unlike |F|^2 + |f*|^2 - 2 P(M).

    Args:
        link: f*.
        readout: tensors of F.
        matrix: M (q, r).
        gap: K = I - M^T M, as accurate as it is known; None: from M.

    Raises:
        ValueError: an M of another shape than (q, r), a student link of other variables.
    """
    _check_overlap(link, matrix)
    _check_student(readout, matrix)
    if gap is None:
        gap = jnp.eye(link.variables, dtype=matrix.dtype) - product(matrix.T, matrix)
    own = nonnegative(squared_norm(difference(readout, average(link, matrix))))
    return own + profiled_loss(link, matrix, gap)


def gradient_covariance(readout: Tensors, directions: int) -> Float[Array, "q q"]:
    """E[grad F grad F^T] = sum_k k F_(k) F_(k)^T, which bounds the step of descent."""
    result = jnp.zeros((directions, directions), jnp.result_type(float))
    for k, tensor in enumerate(readout):
        if k and tensor is not None:
            result = result + k * outer(rows(tensor), rows(tensor))
    return result


@dataclasses.dataclass(frozen=True)
class conditioning:
    """log10 of lambda_min(M)^{-k}: what inverting A_M on degree k would amplify against the mean.

    A statistic, of order d^{k/2} at a random start: never invert A_M; forward evaluation is stable
    all the same.

    Args:
        degrees: the k.

    Example:
        >>> statistic = conditioning((1, 2, 4))
    """

    degrees: tuple[int, ...] = (1, 2, 4)

    def __call__(self, system: Any, summary: Any) -> Float[Array, " degrees"]:
        smallest = jnp.linalg.svd(summary.matrix, compute_uv=False).min()
        return -jnp.log(smallest) / math.log(10) * jnp.asarray(self.degrees, smallest.dtype)


def _check_overlap(link: Link, matrix: Float[Array, "q r"]) -> None:
    """Raise ValueError unless M has a column for each of the link's variables."""
    if matrix.ndim != 2 or matrix.shape[1] != link.variables:
        raise ValueError(
            f"matrix: shape {matrix.shape}; allowed: (q, {link.variables}), M = W^T W*"
        )


def _check_student(readout: Tensors, matrix: Float[Array, "q r"]) -> None:
    """Raise ValueError unless a student link has a variable for each row of M."""
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
    """Pairs (k, T_k), unrolled over the degrees that are there."""
    there = [(k, tensor) for k, tensor in enumerate(tensors) if k and tensor is not None]
    return [(k, rows(tensor, matrix)) for k, tensor in there]
