"""Order parameters: the summary of a run after step k that simulation and limit share.

They are f(x_k) and the inner products of x_k and g_k = grad f(x_k) with all points and gradients up
to step k.  Every statistic of the family is a function of them.  Source: arXiv 2410.09973,
Definition 2.1 (the information on which the prefactors of an algorithm may depend).
"""

import dataclasses
from typing import Annotated, Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from hdjax import precise
from hdjax.checks import checked
from hdjax.registry import Count, OneOf, register


class OrderParameters(eqx.Module):
    """The value f(x_k) and the inner products of x_k and g_k with x_l and g_l, l = 0, 1, ..., k.

    Inner products with l > k are 0.  All numbers are O(1).

    Attributes:
        step: k.
        value: f(x_k).
        points: (n,) <x_k, x_l>.
        gradients: (n,) <g_k, g_l>.
        point_gradients: (n,) <x_k, g_l>.
        gradient_points: (n,) <g_k, x_l>.
    """

    step: Int[Array, ""]
    value: Float[Array, ""]
    points: Float[Array, " n"]
    gradients: Float[Array, " n"]
    point_gradients: Float[Array, " n"]
    gradient_points: Float[Array, " n"]

    @property
    def norm(self) -> Float[Array, ""]:
        """The squared norm |x_k|^2 of the point."""
        return self.points[self.step]

    @property
    def gradient_norm(self) -> Float[Array, ""]:
        """The squared norm |g_k|^2 of the gradient."""
        return self.gradients[self.step]


def from_vectors(
    k: Int[Array, ""],
    value: Float[Array, ""],
    points: Float[Array, "n d"],
    gradients: Float[Array, "n d"],
) -> OrderParameters:
    """The order parameters at step k, from vectors in an orthonormal basis.

    Args:
        k: the step.
        value: f(x_k).
        points: x_0, x_1, ...; rows beyond k are 0.
        gradients: g_0, g_1, ...; rows beyond k are 0.
    """
    x, g = points[k], gradients[k]
    products = [
        precise.dot(rows, vector)
        for rows, vector in ((points, x), (gradients, g), (gradients, x), (points, g))
    ]
    return OrderParameters(k, value, *products)


@register("landscapes.statistic", "overlap")
@checked
@dataclasses.dataclass(frozen=True)
class OverlapWithStep:
    """A statistic: the overlap of x_k with the point of an earlier step, or of the gradients.

    The overlap is <x_k, x_step> or <g_k, g_step>, and 0 for k < step.

    Args:
        step: the earlier step.
        of: which vectors: "points" or "gradients".

    Raises:
        ValueError: a negative step, or other vectors.

    Example:
        >>> statistics = {"value": None, "memory": OverlapWithStep(1, "gradients")}
    """

    step: Count
    of: Annotated[str, OneOf("points", "gradients")] = "points"

    def __post_init__(self) -> None:
        if not isinstance(self.step, int | np.integer) or self.step < 0:
            raise ValueError(f"step: {self.step!r}; allowed: an integer of at least 0")
        if self.of not in ("points", "gradients"):
            raise ValueError(f"of: {self.of!r}; allowed: 'points', 'gradients'")

    def __call__(self, system: Any, summary: OrderParameters) -> Float[Array, ""]:
        rows = summary.points if self.of == "points" else summary.gradients
        # A run of fewer observations has not come to the step.
        return rows[self.step] if self.step < rows.shape[0] else jnp.zeros_like(summary.value)
