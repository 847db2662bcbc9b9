"""The resolvent S(t, z) = W^T (z - K)^{-1} W as a statistic of simulations and of the limit.

S(t, z) = sum_i V_i / (z - lambda_i) determines all Gram blocks: for any q that is analytic inside a
contour round the spectrum,

    W^T q(K) W = 1/(2 pi i) contour integral of q(z) S(t, z) dz.

Source: the slides "Hitting the High-D(imensional) Notes", slide "Dynamics of Covariance Matrix"
(paper: arXiv 2308.08977).
"""

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex, Float

from hdjax import precise
from hdjax.checks import checked
from hdjax.registry import Size, register

__all__ = [
    "Resolvent",
    "contour",
    "contour_weights",
]


@checked
def contour(low: float, high: float, nodes: Size = 64) -> Complex[np.ndarray, " nodes"]:
    """Nodes of a contour round [low, high]: a circle of 1.25 times the half-width of the interval.

    With the weights `contour_weights` sums over the nodes are (1/2 pi i) times the contour
    integral, by the trapezoid rule, which converges geometrically in the number of nodes.

    Args:
        low: lower end of the interval, at most the smallest eigenvalue.
        high: upper end of the interval, at least the largest eigenvalue.
        nodes: number of nodes.

    Example:
        >>> z = contour(0.0, 2.0)
    """
    centre, half = (low + high) / 2, 1.25 * max((high - low) / 2, 0.1 * max(abs(high), 1e-3))
    angle = 2 * np.pi * (np.arange(nodes) + 0.5) / nodes
    return centre + half * (np.cos(angle) + 1j * np.sin(angle))


@checked
def contour_weights(low: float, high: float, nodes: Size = 64) -> Complex[np.ndarray, " nodes"]:
    """The weights dz / (2 pi i) of the nodes that `contour` returns for the same arguments."""
    z = contour(low, high, nodes)
    return (z - (low + high) / 2) / nodes


def _resolvent(low: float = 0.0, *, high: float, nodes: Size = 16) -> "Resolvent":
    """The resolvent S(t, z) at points z of a circle round an interval that contains the spectrum.

    Args:
        low: lower end of the interval, at most the smallest eigenvalue.
        high: upper end of the interval, at least the largest eigenvalue.
        nodes: number of points.
    """
    return Resolvent(tuple(complex(z) for z in contour(low, high, nodes)))


@register("streaming.statistic", "resolvent", _resolvent)
@checked
@dataclasses.dataclass(frozen=True)
class Resolvent:
    """The statistic S(t, z) at given points z outside the spectrum.

    Its value (points, q, q, 2) has the real and imaginary parts of W^T (z - K)^{-1} W on the last
    axis, for W = [X | X* | means].

    Args:
        points: complex numbers, in an array or a list; none is an eigenvalue of K.

    Raises:
        ValueError: no points, or points that are no finite numbers.

    Example:
        >>> statistic = Resolvent(contour(0.0, 2.0, nodes=16))
    """

    # A tuple is hashable, so that the statistic is compiled once.
    points: Any

    def __post_init__(self) -> None:
        try:
            points = np.asarray(self.points, complex).ravel()
        except (TypeError, ValueError):
            points = np.array([np.nan])
        if not points.size or not np.isfinite(points).all():
            raise ValueError(f"points: {self.points!r}; allowed: one or more finite numbers")
        object.__setattr__(self, "points", tuple(points.tolist()))

    def __call__(self, system: Any, summary: Any) -> Float[Array, "points q q 2"]:
        dtype = summary.blocks.dtype
        z = np.asarray(self.points)
        gap_re = jnp.asarray(np.real(z), dtype)[:, None] - summary.eigenvalues[0][None]
        gap_im = jnp.asarray(np.imag(z), dtype)[:, None]
        size = gap_re**2 + gap_im**2
        blocks = summary.natural
        parts = [
            precise.einsum("zg,gab->zab", weight, blocks)
            for weight in (gap_re / size, -gap_im / size)
        ]
        return jnp.stack(parts, axis=-1)
