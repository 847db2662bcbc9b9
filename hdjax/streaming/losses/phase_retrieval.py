"""Phase retrieval, smooth and Lipschitz: X* is to be found from |<a, X*>|, up to its sign.

There is one student column and one teacher column.  With Q, M, P the entries of B,
S = sqrt(QP - M^2), D the variance of x - x* and phi = atan2(S, M), the moments are:

    smooth, f = (x^2 - x*^2)^2:      H = (12 Q - 4 P, -8 M),
                                     R = 3 Q^2 - 2 Q P - 4 M^2 + 3 P^2,
    Lipschitz, f = (|x| - |x*|)^2:   H = (2 - 4 S/(pi Q), -4 (pi/2 - phi)/pi),
                                     R = D - 4/pi (S - M phi),  C = 4 R.

R and C are computed from x - x*, so that nothing cancels near recovery.  In both limits M = 0 is
invariant: from a start with zero overlap the limit never finds the signal.

Source: the slides "Hitting the High-D(imensional) Notes", slide "Problem: Find x" for the smooth
loss (paper: arXiv 2308.08977); the moments are derived here.
"""

import math
from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from hdjax import gaussian
from hdjax.gaussian import Rule
from hdjax.registry import Positive, register
from hdjax.streaming.losses.base import (
    ClosedFormLoss,
    Noise,
    NoNoise,
    Number,
    check_columns,
    leaf,
    scalar_moments,
)
from hdjax.streaming.projections import Moments, Projections


@register("streaming.loss", "phase_retrieval")
class PhaseRetrieval(ClosedFormLoss):
    """The loss of smooth phase retrieval, f = scale (x^2 - x*^2)^2.

    Args:
        scale: positive factor of the loss.

    Raises:
        ValueError: a scale that is not positive.

    Example:
        >>> loss = PhaseRetrieval(scale=0.25)
    """

    scale: Number
    rule: Rule | None = eqx.field(static=True, default=None)

    def __init__(self, scale: Positive = 1.0):
        self.scale = leaf(scale)
        self.rule = None

    @property
    def smooth(self) -> bool:
        return True

    @property
    def noise(self) -> Noise:
        return NoNoise()

    def check(self, students: int, teachers: int, theta: PyTree) -> None:
        check_columns("PhaseRetrieval", students, teachers, (1, 1))

    def __call__(
        self,
        x: Float[Array, " m"],
        teacher: Float[Array, " s"],
        component: Any,
        noise: Float[Array, " k"],
        theta: PyTree,
    ) -> Float[Array, ""]:
        return self.scale * (x[0] ** 2 - teacher[0] ** 2) ** 2

    def closed_form(self, law: Projections, theta: PyTree) -> Moments:
        gram, error = law.gram, law.error_gram
        student, overlap, teacher = gram[0, 0], gram[0, 1], gram[1, 1]
        # The error is x^2 - x*^2 = e y with e = x - x* and y = x + x* = e + 2 x*.
        e_e, e_t = error[0, 0], error[0, 1]
        e_y, y_y = e_e + 2 * e_t, e_e + 4 * e_t + 4 * teacher
        x_e, x_y = e_e + e_t, student + overlap
        risk = e_e * y_y + 2 * e_y**2
        # `sixth` is E[x^2 e^2 y^2], by Isserlis' theorem.
        sixth = (
            student * e_e * y_y
            + 2 * (student * e_y**2 + e_e * x_y**2 + y_y * x_e**2)
            + 8 * x_e * e_y * x_y
        )
        h_student, h_teacher = 12 * student - 4 * teacher, -8 * overlap
        c = self.scale
        return scalar_moments(law, c * risk, c * h_student, c * h_teacher, 16 * c**2 * sixth)


@register("streaming.loss", "lipschitz_phase_retrieval")
class LipschitzPhaseRetrieval(ClosedFormLoss):
    """The loss of Lipschitz phase retrieval, f = scale (|x| - |x*|)^2.

    Args:
        scale: positive factor of the loss.

    Raises:
        ValueError: a scale that is not positive.

    Example:
        >>> loss = LipschitzPhaseRetrieval()
    """

    scale: Number
    rule: Rule | None = eqx.field(static=True, default=None)

    def __init__(self, scale: Positive = 1.0):
        self.scale = leaf(scale)
        self.rule = None

    @property
    def smooth(self) -> bool:
        return False

    @property
    def noise(self) -> Noise:
        return NoNoise()

    def check(self, students: int, teachers: int, theta: PyTree) -> None:
        check_columns("LipschitzPhaseRetrieval", students, teachers, (1, 1))

    def __call__(
        self,
        x: Float[Array, " m"],
        teacher: Float[Array, " s"],
        component: Any,
        noise: Float[Array, " k"],
        theta: PyTree,
    ) -> Float[Array, ""]:
        return self.scale * (jnp.abs(x[0]) - jnp.abs(teacher[0])) ** 2

    def closed_form(self, law: Projections, theta: PyTree) -> Moments:
        gram, error = law.gram, law.error_gram
        student, overlap = gram[0, 0], gram[0, 1]
        root = gaussian.safe_sqrt(law.determinant)
        # At B = 0 the angle is undefined but multiplies zero; atan2(0, 1) has a finite gradient.
        empty = (root == 0) & (overlap == 0)
        angle = jnp.arctan2(jnp.where(empty, 0, root), jnp.where(empty, 1, overlap))
        risk = jnp.maximum(error[0, 0] - 4 / math.pi * (root - overlap * angle), 0)
        # H_1 grows like Q^{-1/2} as Q -> 0 and multiplies a block of order Q: it is set to 0 at 0.
        positive = student > 0
        h_student = jnp.where(positive, 2 - 4 / math.pi * root / jnp.where(positive, student, 1), 0)
        h_teacher = -4 / math.pi * (math.pi / 2 - angle)
        c = self.scale
        return scalar_moments(law, c * risk, c * h_student, c * h_teacher, 4 * c**2 * risk)
