"""The hinge loss with the sign of a teacher as label: f = max(0, 1 - y x), y = sign(x*) or flipped.

`Hinge` computes the moments that the limit needs in closed form (derived here).  With Q, M, P the
entries of B, S = sqrt(QP - M^2), sigma = sqrt(Q), phi and Phi the normal density and distribution
function and T Owen's function,

    H = (2/sigma phi(1/sigma) Phi(M/(S sigma)), -sqrt(2/(pi P)) Phi(sqrt(P)/S)),
    C = P(y x < 1) = Phi(1/sigma) - 2 T(1/sigma, M/S),
    R = C + 2 sigma phi(1/sigma) Phi(M/(S sigma)) - 2 M/sqrt(2 pi P) Phi(sqrt(P)/S).

A flipped label -sign(x*) is the label of the teacher -x*.  With flips the moments are therefore
mixtures of those at M and at -M (with H_2 negated).
"""

import math
from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jax.scipy.special import ndtr
from jaxtyping import Array, Float, PyTree

from hdjax import gaussian
from hdjax.gaussian import Rule
from hdjax.registry import Probability, register
from hdjax.streaming.losses.base import (
    ClosedFormLoss,
    Noise,
    Number,
    check_columns,
    flips,
    probability,
    scalar_moments,
)
from hdjax.streaming.projections import Moments, Projections

# An argument of Phi that counts as infinite; the normal density is zero there in any precision.
_INFINITE = 100


@register("streaming.loss", "hinge")
class Hinge(ClosedFormLoss):
    """The hinge loss f = max(0, 1 - y x), y = sign(x*), for one student and one teacher column.

    The teacher column must not be zero.

    Args:
        flip: probability with which a label is -sign(x*) instead; None: no label is flipped.

    Raises:
        ValueError: a probability outside [0, 1].

    Example:
        >>> loss = Hinge(flip=0.1)
    """

    flip: Number | None
    rule: Rule | None = eqx.field(static=True, default=None)

    def __init__(self, flip: Probability | None = None):
        self.flip, self.rule = probability("flip", flip), None

    @property
    def smooth(self) -> bool:
        return False

    @property
    def noise(self) -> Noise:
        return flips(self.flip)

    def check(self, students: int, teachers: int, theta: PyTree) -> None:
        check_columns("Hinge", students, teachers, (1, 1))

    def __call__(
        self,
        x: Float[Array, " m"],
        teacher: Float[Array, " s"],
        component: Any,
        noise: Float[Array, " k"],
        theta: PyTree,
    ) -> Float[Array, ""]:
        label = teacher[0] if self.flip is None else noise[0] * teacher[0]
        return jnp.maximum(1 - jnp.where(label > 0, x[0], -x[0]), 0)

    def closed_form(self, law: Projections, theta: PyTree) -> Moments:
        risk, student, teacher, noise = self._moments(law, 1)
        if self.flip is not None:
            flipped = self._moments(law, -1)
            pairs = zip((risk, student, teacher, noise), flipped, strict=True)
            risk, student, teacher, noise = (a + self.flip * (b - a) for a, b in pairs)
        return scalar_moments(law, risk, student, teacher, noise)

    def _moments(self, law: Projections, sign: int) -> tuple[Array, Array, Array, Array]:
        """R, H_1, H_2 and C for labels with the sign of `sign` x*."""
        gram = law.gram
        student, overlap, teacher = gram[0, 0], sign * gram[0, 1], gram[1, 1]
        sigma, norm = gaussian.safe_sqrt(student), gaussian.safe_sqrt(teacher)
        spread = gaussian.safe_sqrt(law.determinant)
        inverse = 1 / jnp.maximum(sigma, 1 / _INFINITE)
        slope = _ratio(overlap, spread)
        below = ndtr(_ratio(norm, spread))
        tail = jnp.exp(-(inverse**2) / 2) / math.sqrt(2 * math.pi) * ndtr(slope * inverse)

        h_student = 2 * inverse * tail
        h_teacher = -math.sqrt(2 / math.pi) / norm * below
        active = ndtr(inverse) - 2 * gaussian.owens_t(inverse, slope)
        risk = active + 2 * sigma * tail + overlap * h_teacher
        return risk, h_student, sign * h_teacher, active


def _ratio(a: Float[Array, ""], b: Float[Array, ""]) -> Float[Array, ""]:
    """The quotient a / b for b >= 0, limited to the range [-`_INFINITE`, `_INFINITE`]."""
    far = jnp.abs(a) >= _INFINITE * b
    return jnp.where(far, _INFINITE * jnp.sign(a), a / jnp.where(far, 1, b))
