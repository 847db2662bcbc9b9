"""Robust regression: Huber's loss, the absolute error and the log-cosh loss.

Huber's loss f = h_delta(u) and the absolute error f = |u| are functions of the residual
u = x - x* - noise.  For the part of the label noise with law N(0, sigma_c^2), the residual has the
law N(0, s_c^2) with s_c^2 = D + sigma_c^2 and D the variance of x - x*.  With
kappa_c = delta / s_c, H = (h, -h) and the moments are in closed form (derived here):

    Huber:     h = sum_c p_c erf(kappa_c / sqrt 2),
               C = sum_c p_c (T_c + delta^2 erfc(kappa_c / sqrt 2)),  T_c = E[u^2; |u| < delta],
    absolute:  h = sqrt(2/pi) sum_c p_c / s_c,  C = 1,  R = sqrt(2/pi) sum_c p_c s_c.

Without label noise the h of the absolute error grows like 1/s near recovery: at a constant learning
rate the limit stops at a floor of the risk, as SGD does.

`LogCosh` is convex and has a bounded f''; h = E f''(u) and C = E f'(u)^2 are one-dimensional
integrals.
"""

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import erf, erfc
from jaxtyping import Array, Float, PyTree

from hdjax import gaussian
from hdjax.checks import is_concrete
from hdjax.gaussian import Rule
from hdjax.registry import NonNegative, OneOrMoreNonNegative, Positive, Positives, register
from hdjax.streaming.losses.base import (
    ClosedFormLoss,
    GaussianMixtureNoise,
    Noise,
    NoNoise,
    Number,
    check_columns,
    leaf,
    scalar_moments,
)
from hdjax.streaming.projections import Moments, Projections

# From this number of standard deviations on erf is 1 and exp is 0 in any precision.
_SATURATED = 100


@register("streaming.loss", "huber")
class Huber(ClosedFormLoss):
    """Huber's loss of the residual u = x - x* - noise.

    f = u^2 / 2 for |u| < delta, and f = delta |u| - delta^2 / 2 for larger |u|.

    Args:
        delta: the residual from which on the loss is linear, positive.
        sigma: standard deviation of the label noise, or (c,) those of the parts of a mixture.
        probabilities: (c,) probabilities of the parts.

    Raises:
        ValueError: a delta that is not positive, and the errors of `GaussianMixtureNoise`.

    Example:
        >>> loss = Huber(delta=0.7, sigma=[0.3, 3.0], probabilities=[0.8, 0.2])
    """

    delta: Number
    noise: GaussianMixtureNoise
    rule: Rule | None = eqx.field(static=True, default=None)

    def __init__(
        self,
        delta: Positive = 1.0,
        sigma: OneOrMoreNonNegative = (0.0,),
        probabilities: Positives = (1.0,),
    ):
        self.delta = leaf(delta)
        self.noise = GaussianMixtureNoise(sigma, probabilities)
        self.rule = None

    @property
    def smooth(self) -> bool:
        return False

    def check(self, students: int, teachers: int, theta: PyTree) -> None:
        check_columns("Huber", students, teachers, (1, 1))

    def __call__(
        self,
        x: Float[Array, " m"],
        teacher: Float[Array, " s"],
        component: Any,
        noise: Float[Array, " k"],
        theta: PyTree,
    ) -> Float[Array, ""]:
        size = jnp.abs(x[0] - teacher[0] - noise[0])
        return jnp.where(size < self.delta, size**2 / 2, self.delta * (size - self.delta / 2))

    def closed_form(self, law: Projections, theta: PyTree) -> Moments:
        p, s, delta = self.noise.probabilities, _residual(law, self.noise), self.delta
        kappa = delta / jnp.maximum(s, delta / _SATURATED)
        density = math.sqrt(2 / math.pi) * jnp.exp(-(kappa**2) / 2)
        inside, outside = erf(kappa / math.sqrt(2)), erfc(kappa / math.sqrt(2))
        squares = s**2 * (inside - kappa * density)
        h = jnp.dot(p, inside)
        risk = jnp.dot(p, squares / 2 + delta * s * density - delta**2 / 2 * outside)
        noise = jnp.dot(p, squares + delta**2 * outside)
        return scalar_moments(law, risk, h, -h, noise)


@register("streaming.loss", "absolute_error")
class AbsoluteError(ClosedFormLoss):
    """The absolute error f = |x - x* - noise|, or L1 loss.

    Args:
        sigma: standard deviation of the label noise, or (c,) those of the parts of a mixture.
        probabilities: (c,) probabilities of the parts.

    Raises:
        ValueError: the errors of `GaussianMixtureNoise`.

    Example:
        >>> loss = AbsoluteError(sigma=0.5)
    """

    noise: GaussianMixtureNoise
    rule: Rule | None = eqx.field(static=True, default=None)

    def __init__(self, sigma: OneOrMoreNonNegative = (0.0,), probabilities: Positives = (1.0,)):
        self.noise = GaussianMixtureNoise(sigma, probabilities)
        self.rule = None

    @property
    def smooth(self) -> bool:
        return False

    def check(self, students: int, teachers: int, theta: PyTree) -> None:
        check_columns("AbsoluteError", students, teachers, (1, 1))

    def __call__(
        self,
        x: Float[Array, " m"],
        teacher: Float[Array, " s"],
        component: Any,
        noise: Float[Array, " k"],
        theta: PyTree,
    ) -> Float[Array, ""]:
        return jnp.abs(x[0] - teacher[0] - noise[0])

    def closed_form(self, law: Projections, theta: PyTree) -> Moments:
        p, s = self.noise.probabilities, math.sqrt(2 / math.pi) * _residual(law, self.noise)
        # At s = 0 the infinite h multiplies columns that are zero: its term is set to 0.
        positive = s > 0
        h = 2 / math.pi * jnp.dot(p, jnp.where(positive, 1 / jnp.where(positive, s, 1), 0))
        return scalar_moments(law, jnp.dot(p, s), h, -h, jnp.ones_like(h))


@register("streaming.loss", "log_cosh")
class LogCosh(ClosedFormLoss):
    """The loss f = convexity/2 u^2 + (smoothness - convexity) log cosh u of u = x - x*.

    The second derivative f'' decreases from `smoothness` at u = 0 to `convexity` as |u| grows, so f
    is strongly convex if `convexity` is positive.

    Args:
        convexity: lower bound of f'', at least 0.
        smoothness: upper bound of f'', positive and at least `convexity`.

    Raises:
        ValueError: 0 <= convexity <= smoothness or smoothness > 0 does not hold.

    Example:
        >>> loss = LogCosh(convexity=1.0, smoothness=2.0)
    """

    convexity: Number
    smoothness: Number
    rule: Rule | None = eqx.field(static=True, default=None)

    def __init__(self, convexity: NonNegative = 0.0, smoothness: Positive = 1.0):
        if is_concrete(convexity, smoothness) and np.any(convexity > smoothness):
            raise ValueError(
                f"convexity, smoothness: {convexity}, {smoothness}; allowed: convexity at most "
                "smoothness"
            )
        self.convexity, self.smoothness = leaf(convexity), leaf(smoothness)
        self.rule = None

    @property
    def smooth(self) -> bool:
        return True

    @property
    def noise(self) -> Noise:
        return NoNoise()

    def check(self, students: int, teachers: int, theta: PyTree) -> None:
        check_columns("LogCosh", students, teachers, (1, 1))

    def __call__(
        self,
        x: Float[Array, " m"],
        teacher: Float[Array, " s"],
        component: Any,
        noise: Float[Array, " k"],
        theta: PyTree,
    ) -> Float[Array, ""]:
        return self._value(x[0] - teacher[0])

    def closed_form(self, law: Projections, theta: PyTree) -> Moments:
        s = gaussian.safe_sqrt(law.error_gram[0, 0])

        def integrand(z: Float[Array, " v"]) -> tuple[Array, Array, Array]:
            u = s * z[0]
            slope = jax.grad(self._value)
            return self._value(u), jax.grad(slope)(u), slope(u) ** 2

        risk, h, noise = gaussian.expectation(integrand, 1, self.rule, s.dtype)
        return scalar_moments(law, risk, h, -h, noise)

    def _value(self, u: Float[Array, ""]) -> Float[Array, ""]:
        # This form of log cosh u does not overflow.
        log_cosh = jnp.logaddexp(u, -u) - math.log(2)
        return self.convexity / 2 * u**2 + (self.smoothness - self.convexity) * log_cosh


def _residual(law: Projections, noise: GaussianMixtureNoise) -> Float[Array, " c"]:
    """The standard deviations s_c (c,) of the residual, one for each part of the noise."""
    return gaussian.safe_sqrt(law.error_gram[0, 0] + noise.sigma**2)
