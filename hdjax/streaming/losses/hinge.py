"""The hinge loss with a teacher's sign as label: f = max(0, 1 - y x), y = sign(x*).

arXiv 2308.08977; with Q, M, P the entries of B, S = sqrt(QP - M^2), sigma = sqrt(Q), rho the
correlation, phi and Phi the normal density and distribution function and T Owen's function,

    H = (2/sigma phi(1/sigma) Phi(M/(S sigma)), -sqrt(2/(pi P)) Phi(sqrt(P)/S)),
    C = P(y x < 1) = Phi(1/sigma) - 2 T(1/sigma, M/S),
    R = C + 2 sigma phi(1/sigma) Phi(M/(S sigma)) - 2 M/sqrt(2 pi P) Phi(sqrt(P)/S).
"""

import math
from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jax.scipy.special import ndtr
from jaxtyping import Array, Float, PyTree

from hdjax import gaussian
from hdjax.gaussian import Rule
from hdjax.streaming.losses.base import (
    ClosedFormLoss,
    Noise,
    NoNoise,
    check_columns,
    scalar_moments,
)
from hdjax.streaming.projections import Moments, Projections

# What Phi takes for infinity; its density is zero there in any precision.
_INFINITE = 100


class Hinge(ClosedFormLoss):
    """f = max(0, 1 - sign(x*) x), for one student and one teacher of norm other than zero.

    Example:
        >>> loss = Hinge()
    """

    rule: Rule | None = eqx.field(static=True, default=None)

    @property
    def smooth(self) -> bool:
        return False

    @property
    def noise(self) -> Noise:
        return NoNoise()

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
        return jnp.maximum(1 - jnp.where(teacher[0] > 0, x[0], -x[0]), 0)

    def closed_form(self, law: Projections, theta: PyTree) -> Moments:
        gram = law.gram
        student, overlap, teacher = gram[0, 0], gram[0, 1], gram[1, 1]
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
        return scalar_moments(law, risk, h_student, h_teacher, active)


def _ratio(a: Float[Array, ""], b: Float[Array, ""]) -> Float[Array, ""]:
    """A / b for b >= 0, with what is beyond any normal's reach cut off."""
    far = jnp.abs(a) >= _INFINITE * b
    return jnp.where(far, _INFINITE * jnp.sign(a), a / jnp.where(far, 1, b))
