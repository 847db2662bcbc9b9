"""What simulation and limit both know of a run after step k: its order parameters."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


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
        jnp.dot(rows, vector, precision="highest")
        for rows, vector in ((points, x), (gradients, g), (gradients, x), (points, g))
    ]
    return OrderParameters(k, value, *products)
