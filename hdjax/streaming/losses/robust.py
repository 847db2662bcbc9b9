"""Robust regression under Gaussian-mixture label noise: Huber's loss and the absolute error.

f = h_delta(u) or |u| at the residual u = x - x* - noise, which is N(0, s_c^2) given that the noise
is N(0, sigma_c^2): s_c^2 = D + sigma_c^2 with D the variance of x - x*.  arXiv 2308.08977; with
kappa = delta / s_c,

Huber:     H = (h, -h), h = sum_c p_c erf(kappa / sqrt 2),
           C = sum_c p_c (T_c + delta^2 erfc(kappa / sqrt 2)), T_c = E[u^2; |u| < delta];
absolute:  h = sqrt(2/pi) sum_c p_c / s_c, C = 1, R = sqrt(2/pi) sum_c p_c s_c.

Without noise the absolute error's h grows like 1/s near recovery: with a fixed learning rate the
limit settles at a floor, as SGD does.

`LogCosh` is between the two squares whose curvatures it has at 0 and far away; its H = (h, -h) and
C are one-dimensional integrals, h = E f''(u), C = E f'(u)^2.
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
    check_positive,
    leaf,
    scalar_moments,
)
from hdjax.streaming.projections import Moments, Projections

# Beyond a hundred standard deviations erf is 1 and exp is 0 in any precision.
_SATURATED = 100


@register("streaming.loss", "huber")
class Huber(ClosedFormLoss):
    """f = u^2 / 2 for |u| < delta and delta |u| - delta^2 / 2 beyond, at u = x - x* - noise.

    Args:
        delta: where the loss turns linear.
        sigma: standard deviation of the label noise, or those of a mixture's parts.
        probabilities: those of the parts.

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
        check_positive("delta", delta, strict=True)
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
    """f = |x - x* - noise|, the L1 loss.

    Args:
        sigma: standard deviation of the label noise, or those of a mixture's parts.
        probabilities: those of the parts.

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
        # At s = 0 the infinite h multiplies columns that are zero: drop it there.
        positive = s > 0
        h = 2 / math.pi * jnp.dot(p, jnp.where(positive, 1 / jnp.where(positive, s, 1), 0))
        return scalar_moments(law, jnp.dot(p, s), h, -h, jnp.ones_like(h))


@register("streaming.loss", "log_cosh")
class LogCosh(ClosedFormLoss):
    """f = convexity/2 u^2 + (smoothness - convexity) log cosh u at u = x - x*.

    Strongly convex and smooth: f'' falls from `smoothness` at 0 to `convexity` far away.

    Args:
        convexity: at least 0.
        smoothness: at least `convexity`.

    Raises:
        ValueError: 0 <= convexity <= smoothness, smoothness > 0 does not hold.

    Example:
        >>> loss = LogCosh(convexity=1.0, smoothness=2.0)
    """

    convexity: Number
    smoothness: Number
    rule: Rule | None = eqx.field(static=True, default=None)

    def __init__(self, convexity: NonNegative = 0.0, smoothness: Positive = 1.0):
        check_positive("convexity", convexity, strict=False)
        check_positive("smoothness", smoothness, strict=True)
        if is_concrete(convexity, smoothness) and np.any(convexity > smoothness):
            raise ValueError(
                f"convexity, smoothness: {convexity}, {smoothness}; allowed: the first at most "
                "the second"
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
        # log cosh u without overflow.
        log_cosh = jnp.logaddexp(u, -u) - math.log(2)
        return self.convexity / 2 * u**2 + (self.smoothness - self.convexity) * log_cosh


def _residual(law: Projections, noise: GaussianMixtureNoise) -> Float[Array, " c"]:
    """The standard deviations s_c of the residual."""
    return gaussian.safe_sqrt(law.error_gram[0, 0] + noise.sigma**2)
