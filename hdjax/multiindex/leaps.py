"""Leap exponents: how hard each direction of a link is to find, one after the other.

With the learnt subspace E (r, e) and its complement N, in the frame [E | N] and for s = 1, 2, ...

    Q_s = sum_{k >= s} binom(k, s) A_{k,s} A_{k,s}^T,
    A_{k,s} = C_k with its first s indices in N and the others in E, as an (r - e) x n matrix;

the leap is the smallest s with Q_s != 0, its directions are N range(Q_s).  The profiled flow finds
them at a time of order d^{s-1} (log d for s = 1), and Q_s has S(P_E + eps P_N) = sum_s s eps^{s-1}
Q_s on the complement.  Source: arXiv 2310.19793; the definition does not depend on coordinates.
"""

import dataclasses
import math

import jax
import numpy as np
from jaxtyping import Float

from hdjax.multiindex.links import Link


@dataclasses.dataclass(frozen=True)
class Leap:
    """One stage of learning.

    Attributes:
        exponent: s; the stage ends at a time of order d^{s-1}, or log d for s = 1.
        directions: (r, n) orthonormal, what is found in it.
        strengths: (n,) eigenvalues of Q_s on them, decreasing.
    """

    exponent: int
    directions: Float[np.ndarray, "r n"]
    strengths: Float[np.ndarray, " n"]


def leaps(link: Link, threshold: float = 1e-8) -> list[Leap]:
    """The stages in which the directions of a link are learnt; irrelevant ones are in none.

    Args:
        link: f*, concrete.
        threshold: eigenvalues of Q_s up to this times |f*|^2 count as zero.

    Raises:
        ValueError: a threshold that is not positive.

    Example:
        >>> link = hd.multiindex.from_coefficients({(1, 0): 0.8, (0, 2): 0.6})
        >>> [leap.exponent for leap in leaps(link)]
        [1, 2]
    """
    if not threshold > 0:
        raise ValueError(f"threshold: {threshold}; allowed: positive")
    # A concrete link is looked at inside jit too.
    with jax.ensure_compile_time_eval():
        return _stages(link, threshold * float(link.norm2))


def _stages(link: Link, small: float) -> list[Leap]:
    frame, learnt, found = np.eye(link.variables), 0, []
    dense = [None if t is None else np.asarray(t, np.float64) for t in link.dense().tensors]
    while learnt < link.variables:
        tensors = [None if t is None else _in_frame(t, frame) for t in dense]
        for s in range(1, link.degree + 1):
            values, vectors = np.linalg.eigh(_strength(tensors, s, learnt, link.variables))
            n = int((values > small).sum())
            if n:
                # Largest first.
                vectors, values = vectors[:, ::-1], values[::-1]
                found.append(Leap(s, frame[:, learnt:] @ vectors[:, :n], values[:n]))
                frame = np.concatenate([frame[:, :learnt], frame[:, learnt:] @ vectors], axis=1)
                learnt += n
                break
        else:
            break
    return found


def exponents(link: Link, threshold: float = 1e-8) -> list[int]:
    """The exponent s - 1 of d for each direction in the order of learning; -1 for irrelevant ones.

    Example:
        >>> exponents(hd.multiindex.from_coefficients({(1, 0): 0.8, (0, 2): 0.6}))
        [0, 1]
    """
    stages = [leap.exponent - 1 for leap in leaps(link, threshold) for _ in leap.strengths]
    return stages + [-1] * (link.variables - len(stages))


def learnable(link: Link) -> int:
    """How many directions are relevant to a link.

    Example:
        >>> learnable(hd.multiindex.from_coefficients({(1, 0): 0.8, (2, 0): 0.6}))
        1
    """
    return sum(len(leap.strengths) for leap in leaps(link))


def _in_frame(tensor: Float[np.ndarray, "..."], frame: Float[np.ndarray, "r r"]) -> np.ndarray:
    """The tensor in the coordinates of the frame's columns."""
    for _ in range(tensor.ndim):
        tensor = np.tensordot(tensor, frame, axes=(0, 0))
    return tensor


def _strength(tensors: list, s: int, learnt: int, variables: int) -> Float[np.ndarray, "n n"]:
    """Q_s for the frame in which the tensors are written."""
    n = variables - learnt
    total = np.zeros((n, n))
    for k in range(s, len(tensors)):
        if tensors[k] is None:
            continue
        index = (slice(learnt, None),) * s + (slice(None, learnt),) * (k - s)
        rows = tensors[k][index].reshape(n, -1)
        total += math.comb(k, s) * rows @ rows.T
    return total
