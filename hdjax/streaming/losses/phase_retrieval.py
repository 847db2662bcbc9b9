"""Phase retrieval: find X* from |<a, X*>|, smooth and Lipschitz (one student, one teacher).

arXiv 2308.08977.  With Q, M, P the entries of B, S = sqrt(QP - M^2) and the error x - x*
of variance D:

smooth f = (x^2 - x*^2)^2:   H = (12 Q - 4 P, -8 M);
Lipschitz f = (|x| - |x*|)^2: R = D - 4/pi (S - M phi) with phi = atan2(S, M),
    H = (2 - 4 S/(pi Q), -4 (pi/2 - phi)/pi), C = 4 R.

Risk and noise are written in x - x*, where nothing cancels near recovery.  At M = 0 both limits
stay at M = 0 for ever: a symmetric start never finds the signal in the limit.
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
    check_positive,
    leaf,
    scalar_moments,
)
from hdjax.streaming.projections import Moments, Projections


@register("streaming.loss", "phase_retrieval")
class PhaseRetrieval(ClosedFormLoss):
    """Smooth phase retrieval, f = scale (x^2 - x*^2)^2.

    Args:
        scale: the factor of the loss, positive.

    Example:
        >>> loss = PhaseRetrieval(scale=0.25)
    """

    scale: Number
    rule: Rule | None = eqx.field(static=True, default=None)

    def __init__(self, scale: Positive = 1.0):
        check_positive("scale", scale, strict=True)
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
        # x^2 - x*^2 = e y with e = x - x* and y = x + x* = e + 2 x*.
        e_e, e_t = error[0, 0], error[0, 1]
        e_y, y_y = e_e + 2 * e_t, e_e + 4 * e_t + 4 * teacher
        x_e, x_y = e_e + e_t, student + overlap
        risk = e_e * y_y + 2 * e_y**2
        # E[x^2 e^2 y^2] by Isserlis' theorem.
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
    """Lipschitz phase retrieval, f = scale (|x| - |x*|)^2.

    Args:
        scale: the factor of the loss, positive.

    Example:
        >>> loss = LipschitzPhaseRetrieval()
    """

    scale: Number
    rule: Rule | None = eqx.field(static=True, default=None)

    def __init__(self, scale: Positive = 1.0):
        check_positive("scale", scale, strict=True)
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
        # At B = 0 the angle is free and multiplies zero; (1, 0) keeps its gradient finite.
        empty = (root == 0) & (overlap == 0)
        angle = jnp.arctan2(jnp.where(empty, 0, root), jnp.where(empty, 1, overlap))
        risk = jnp.maximum(error[0, 0] - 4 / math.pi * (root - overlap * angle), 0)
        # H_1 grows like Q^{-1/2} at Q -> 0, where it multiplies a block of order Q: drop it at 0.
        positive = student > 0
        h_student = jnp.where(positive, 2 - 4 / math.pi * root / jnp.where(positive, student, 1), 0)
        h_teacher = -4 / math.pi * (math.pi / 2 - angle)
        c = self.scale
        return scalar_moments(law, c * risk, c * h_student, c * h_teacher, 4 * c**2 * risk)
