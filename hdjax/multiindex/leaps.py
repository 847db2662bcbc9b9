"""Leap exponents: how long the profiled flow takes to find each direction of a link, in order.

With E (r, e) the learnt subspace and N its complement, in the frame [E | N] and for s = 1, 2, ...

    Q_s = sum_{k >= s} binom(k, s) A_{k,s} A_{k,s}^T,
    A_{k,s} = C_k with its first s indices in N and the others in E, as an (r - e) x n matrix.

The leap is the smallest s with Q_s != 0, and its directions are N range(Q_s).  The profiled flow
finds them at a time of order d^{s-1} (log d for s = 1).  On the complement, the energy's gradient
is S(P_E + eps P_N) = sum_s s eps^{s-1} Q_s.  The leaps do not depend on the coordinates of z.
`SaddleToSaddle` compares its escape times with these exponents.

Source: arXiv 2310.19793, whose largest leap s* gives the time O(d^{s*-1}); its definition of a leap
may differ from this one in detail.
"""

import dataclasses
import math

import jax
import numpy as np
from jaxtyping import Float

from hdjax.checks import checked
from hdjax.multiindex.links.link import Link
from hdjax.registry import PositiveFloat

__all__ = [
    "Leap",
    "exponents",
    "leaps",
]


@dataclasses.dataclass(frozen=True)
class Leap:
    """One stage of learning: the directions that one saddle keeps the flow waiting for.

    Attributes:
        exponent: the leap s; the stage ends at a time of order d^{s-1}, or log d for s = 1.
        directions: (r, n) orthonormal directions that the stage finds.
        strengths: (n,) eigenvalues of Q_s on the directions, decreasing.
    """

    exponent: int
    directions: Float[np.ndarray, "r n"]
    strengths: Float[np.ndarray, " n"]


@checked
def leaps(link: Link, threshold: PositiveFloat = 1e-8) -> list[Leap]:
    """The stages in which the profiled flow learns the directions of a link, in order.

    A direction that f* does not depend on is in no stage.

    Args:
        link: f*, with concrete numbers.
        threshold: eigenvalues of Q_s up to this times |f*|^2 count as zero.

    Raises:
        ValueError: the threshold is not positive.

    Example:
        >>> link = hd.multiindex.links.from_coefficients({(1, 0): 0.8, (0, 2): 0.6})
        >>> [leap.exponent for leap in leaps(link)]
        [1, 2]
    """
    # The link is concrete: its leaps are known while a program is traced.
    with jax.ensure_compile_time_eval():
        return _stages(link, threshold * float(link.norm2))


def _stages(link: Link, small: float) -> list[Leap]:
    """The leaps, where eigenvalues of Q_s up to `small` count as zero."""
    frame, learnt, found = np.eye(link.variables), 0, []
    dense = [None if t is None else np.asarray(t, np.float64) for t in link.dense().tensors]
    while learnt < link.variables:
        tensors = [None if t is None else _in_frame(t, frame) for t in dense]
        for s in range(1, link.degree + 1):
            values, vectors = np.linalg.eigh(_strength(tensors, s, learnt, link.variables))
            n = int((values > small).sum())
            if n:
                # The largest eigenvalue comes first.
                vectors, values = vectors[:, ::-1], values[::-1]
                found.append(Leap(s, frame[:, learnt:] @ vectors[:, :n], values[:n]))
                frame = np.concatenate([frame[:, :learnt], frame[:, learnt:] @ vectors], axis=1)
                learnt += n
                break
        else:
            break
    return found


@checked
def exponents(link: Link, threshold: PositiveFloat = 1e-8) -> list[int]:
    """The exponent s - 1 of d in the learning time of each direction, in order; -1 if irrelevant.

    Args:
        link: f*, with concrete numbers.
        threshold: as for `leaps`.

    Raises:
        ValueError: the threshold is not positive.

    Example:
        >>> exponents(hd.multiindex.links.from_coefficients({(1, 0): 0.8, (0, 2): 0.6}))
        [0, 1]
    """
    stages = [leap.exponent - 1 for leap in leaps(link, threshold) for _ in leap.strengths]
    return stages + [-1] * (link.variables - len(stages))


def learnable(link: Link) -> int:
    """The number of directions that a link depends on.

    Example:
        >>> learnable(hd.multiindex.links.from_coefficients({(1, 0): 0.8, (2, 0): 0.6}))
        1
    """
    return sum(len(leap.strengths) for leap in leaps(link))


def _in_frame(tensor: Float[np.ndarray, "..."], frame: Float[np.ndarray, "r r"]) -> np.ndarray:
    """The tensor in the coordinates of the frame's columns."""
    for _ in range(tensor.ndim):
        tensor = np.tensordot(tensor, frame, axes=(0, 0))
    return tensor


def _strength(tensors: list, s: int, learnt: int, variables: int) -> Float[np.ndarray, "n n"]:
    """The matrix Q_s, from tensors in the frame [learnt | complement]."""
    n = variables - learnt
    total = np.zeros((n, n))
    for k in range(s, len(tensors)):
        if tensors[k] is None:
            continue
        index = (slice(learnt, None),) * s + (slice(None, learnt),) * (k - s)
        rows = tensors[k][index].reshape(n, -1)
        total += math.comb(k, s) * rows @ rows.T
    return total
