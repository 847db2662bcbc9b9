"""The resolvent S(t, z) = W^T (z - K)^{-1} W, a statistic on both sides.

S(t, z) = sum_i V_i / (z - lambda_i) holds every block at once: contour integrals of q(z) S give
W^T q(K) W for any function q (arXiv 2308.08977).
"""

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex, Float

from hdjax import precise
from hdjax.registry import Size, register


def contour(low: float, high: float, nodes: int = 64) -> Complex[np.ndarray, " nodes"]:
    """Nodes on an ellipse round [low, high]: horizontal semi-axis 1.25 times the half-width.

    With the weights `contour_weights`, sums over the nodes are (1/2 pi i) times the contour
    integral, by the trapezoid rule (geometric convergence).

    Example:
        >>> z = contour(0.0, 2.0)
    """
    centre, half = (low + high) / 2, 1.25 * max((high - low) / 2, 0.1 * max(abs(high), 1e-3))
    angle = 2 * np.pi * (np.arange(nodes) + 0.5) / nodes
    return centre + half * (np.cos(angle) + 1j * np.sin(angle))


def contour_weights(low: float, high: float, nodes: int = 64) -> Complex[np.ndarray, " nodes"]:
    """Dz / (2 pi i) at the nodes of `contour`."""
    z = contour(low, high, nodes)
    return (z - (low + high) / 2) / nodes


def _resolvent(low: float = 0.0, *, high: float, nodes: Size = 16) -> "resolvent":
    """S(t, z) at `nodes` points of an ellipse round [low, high], which holds the spectrum.

    Args:
        low: at most the lowest eigenvalue.
        high: at least the highest eigenvalue.
        nodes: how many points.
    """
    return resolvent(tuple(complex(z) for z in contour(low, high, nodes)))


@register("streaming.statistic", "resolvent", _resolvent)
@dataclasses.dataclass(frozen=True)
class resolvent:
    """The statistic S(t, z) at given points z off the spectrum.

    Its value has shape (points, q, q, 2), real and imaginary parts last, for natural columns
    W = [X | X* | means].

    Args:
        points: complex numbers; hashable, so that it is compiled once.

    Example:
        >>> statistic = resolvent(tuple(contour(0.0, 2.0, nodes=16)))
    """

    points: tuple[complex, ...]

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
