"""What simulation and limit both know of a run after step k: its order parameters."""

import dataclasses
from typing import Annotated, Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from hdjax import precise
from hdjax.registry import Count, OneOf, register


class OrderParameters(eqx.Module):
    """f(x_k) and the inner products of x_k and g_k with all earlier points and gradients.

    Attributes:
        step: k.
        value: f(x_k).
        points: <x_k, x_l> for l = 0, 1, ...; 0 for l > k.
        gradients: <g_k, g_l>.
        point_gradients: <x_k, g_l>.
        gradient_points: <g_k, x_l>.
    """

    step: Int[Array, ""]
    value: Float[Array, ""]
    points: Float[Array, " n"]
    gradients: Float[Array, " n"]
    point_gradients: Float[Array, " n"]
    gradient_points: Float[Array, " n"]

    @property
    def norm(self) -> Float[Array, ""]:
        """|x_k|^2."""
        return self.points[self.step]

    @property
    def gradient_norm(self) -> Float[Array, ""]:
        """|g_k|^2."""
        return self.gradients[self.step]


def from_vectors(
    k: Int[Array, ""],
    value: Float[Array, ""],
    points: Float[Array, "n d"],
    gradients: Float[Array, "n d"],
) -> OrderParameters:
    """Order parameters of vectors in an orthonormal basis; rows beyond k are 0."""
    x, g = points[k], gradients[k]
    products = [
        precise.dot(rows, vector)
        for rows, vector in ((points, x), (gradients, g), (gradients, x), (points, g))
    ]
    return OrderParameters(k, value, *products)


@register("landscapes.statistic", "overlap")
@dataclasses.dataclass(frozen=True)
class Overlap:
    """A statistic: the inner product of x_k with x_step, or of g_k with g_step; 0 for k < step.

    Args:
        step: the earlier step.
        of: "points" or "gradients".

    Raises:
        ValueError: a negative step, another word.

    Example:
        >>> statistics = {"value": None, "memory": Overlap(1, "gradients")}
    """

    step: Count
    of: Annotated[str, OneOf("points", "gradients")] = "points"

    def __post_init__(self) -> None:
        if self.step < 0:
            raise ValueError(f"step: {self.step}; allowed: at least 0")
        if self.of not in ("points", "gradients"):
            raise ValueError(f"of: {self.of!r}; allowed: 'points', 'gradients'")

    def __call__(self, system: Any, summary: OrderParameters) -> Float[Array, ""]:
        rows = summary.points if self.of == "points" else summary.gradients
        # A record shorter than that has not come to the step.
        return rows[self.step] if self.step < rows.shape[0] else jnp.zeros_like(summary.value)
