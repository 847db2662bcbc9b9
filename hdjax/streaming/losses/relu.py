"""One ReLU unit: f = (x_+ - x*_+ - noise)^2 / 2 with noise N(0, sigma^2).

`ReLUUnit` computes the moments in closed form (derived here).  With Q, M, P the entries of B,
S = sqrt(QP - M^2), D the variance of x - x* and the angle theta = atan2(S, M),

    H = (1/2 - S/(2 pi Q), -(pi - theta)/(2 pi)),
    R = (D/2 + (theta M - S)/pi + sigma^2)/2,
    C = D/2 + (theta (M - P/2) - S + M S/(2Q))/pi + sigma^2/2.

At Q = 0 these are limits as Q -> 0, whereas the gradient of a unit at X = 0 is zero: a simulation
must not start at X = 0.
"""

import math
from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from hdjax import gaussian
from hdjax.gaussian import Rule
from hdjax.registry import NonNegative, register
from hdjax.streaming.losses.base import (
    ClosedFormLoss,
    GaussianNoise,
    Noise,
    Number,
    check_columns,
    leaf,
    scalar_moments,
)
from hdjax.streaming.projections import Moments, Projections


@register("streaming.loss", "relu_unit")
class ReLUUnit(ClosedFormLoss):
    """The loss of one ReLU unit, f = (max(x, 0) - max(x*, 0) - noise)^2 / 2.

    Args:
        sigma: standard deviation of the label noise (0: no noise).

    Raises:
        ValueError: a negative sigma.

    Example:
        >>> loss = ReLUUnit(sigma=0.3)
    """

    sigma: Number
    rule: Rule | None = eqx.field(static=True, default=None)

    def __init__(self, sigma: NonNegative = 0.0):
        self.sigma = leaf(sigma)
        self.rule = None

    @property
    def smooth(self) -> bool:
        return False

    @property
    def noise(self) -> Noise:
        return GaussianNoise(self.sigma)

    def check(self, students: int, teachers: int, theta: PyTree) -> None:
        check_columns("ReLUUnit", students, teachers, (1, 1))

    def __call__(
        self,
        x: Float[Array, " m"],
        teacher: Float[Array, " s"],
        component: Any,
        noise: Float[Array, " k"],
        theta: PyTree,
    ) -> Float[Array, ""]:
        output, target = jnp.where(x[0] > 0, x[0], 0), jnp.maximum(teacher[0], 0)
        return (output - target - noise[0]) ** 2 / 2

    def closed_form(self, law: Projections, theta: PyTree) -> Moments:
        gram, error = law.gram, law.error_gram[0, 0]
        student, overlap, teacher = gram[0, 0], gram[0, 1], gram[1, 1]
        spread = gaussian.safe_sqrt(law.determinant)
        # At B = 0 the angle is undefined but multiplies zero; atan2(0, 1) has a finite gradient.
        empty = (spread == 0) & (overlap == 0)
        angle = jnp.arctan2(jnp.where(empty, 0, spread), jnp.where(empty, 1, overlap))
        # S/Q grows like Q^{-1/2} as Q -> 0 and multiplies a block of order Q: it is set to 0 at 0.
        positive = student > 0
        quotient = jnp.where(positive, spread / jnp.where(positive, student, 1), 0)
        variance = self.sigma**2
        risk = (error / 2 + (angle * overlap - spread) / math.pi + variance) / 2
        bend = angle * (overlap - teacher / 2) - spread + overlap * quotient / 2
        return scalar_moments(
            law,
            risk,
            0.5 - quotient / (2 * math.pi),
            -(math.pi - angle) / (2 * math.pi),
            error / 2 + bend / math.pi + variance / 2,
        )
