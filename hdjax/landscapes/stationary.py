"""Stationary kernels: kappa = C(h), h = |x - y|^2/2, with C completely monotone.

C(h) = C(0) E exp(-lambda h) for some law of lambda (Schoenberg, 1938), so that C is valid in every
dimension, with random frequencies lambda^(1/2) N(0, I).  Beside C, C' and C'' each kernel knows the
step that is best on average (arXiv 2305.01377).
"""

import abc
import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from hdjax.landscapes._arguments import numbers
from hdjax.landscapes.kernels import Jet, Kernel, Scalar
from hdjax.registry import Positive, register


class Stationary(Kernel):
    """kappa = C(h), completely monotone; invariant under translations."""

    @abc.abstractmethod
    def derivatives(self, h: Scalar) -> tuple[Scalar, Scalar, Scalar]:
        """C, C' and C'' at h, finite at h = 0."""

    @abc.abstractmethod
    def descent_length(self, gap: Scalar, slope: Scalar) -> Scalar:
        """The step of Random Function Descent for `gap` = mu - f(x) and slope |g| along it.

        The r >= 0 that minimises E[f(x - r g/|g|) | f(x), g], that is
        -gap C(r^2/2)/C(0) - slope r C'(r^2/2)/C'(0); the variance cancels.
        Source: arXiv 2305.01377.
        """

    @abc.abstractmethod
    def frequency_scales(self, key: Key[Array, ""], n: int) -> Float[Array, " n"]:
        """n draws of lambda^(1/2), where C(h)/C(0) = E exp(-lambda h).

        cos(<w, x> + b) with w = lambda^(1/2) N(0, I) and b uniform then has covariance C/2 C(0).
        """

    def __call__(self, a: Scalar, b: Scalar, t: Scalar, h: Scalar) -> Scalar:
        return self.derivatives(h)[0]

    def jet(self, a: Scalar, b: Scalar, t: Scalar, h: Scalar) -> Jet:
        value, first, second = self.derivatives(h)
        gradient = jnp.zeros(4, value.dtype).at[3].set(first)
        return Jet(value, gradient, jnp.zeros((4, 4), value.dtype).at[3, 3].set(second))


class _Scaled(Stationary):
    """A function of h/scale^2, times the variance."""

    var: Scalar
    scale: Scalar

    def __init__(self, var: Positive = 1.0, scale: Positive = 1.0):
        self.var, self.scale = numbers("var", var, "positive"), numbers("scale", scale, "positive")


@register("landscapes.kernel", "squared_exponential")
class SquaredExponential(_Scaled):
    """C(h) = var exp(-h/scale^2).

    Args:
        var: positive variance of f times d.
        scale: positive length.

    Raises:
        ValueError: another value.

    Example:
        >>> kernel = SquaredExponential(var=1.0, scale=2.0)
        >>> float(kernel.derivatives(jnp.asarray(0.0))[1])
        -0.25
    """

    def derivatives(self, h: Scalar) -> tuple[Scalar, Scalar, Scalar]:
        s2 = self.scale**2
        value = self.var * jnp.exp(-h / s2)
        return value, -value / s2, value / s2**2

    def descent_length(self, gap: Scalar, slope: Scalar) -> Scalar:
        half, reach = gap / 2, self.scale**2 * slope
        root = jnp.sqrt(half**2 + (self.scale * slope) ** 2)
        # Two forms of one root, each without cancellation on its side.
        above = reach / jnp.where(gap >= 0, half + root, 1.0)
        return jnp.where(gap >= 0, above, (root - half) / slope)

    def frequency_scales(self, key: Key[Array, ""], n: int) -> Float[Array, " n"]:
        return jnp.full(n, 1 / self.scale)


@register("landscapes.kernel", "rational_quadratic")
class RationalQuadratic(_Scaled):
    """C(h) = var q^(-beta/2), q = 1 + 2h/(beta scale^2).

    Args:
        var: positive variance of f times d.
        scale: positive length.
        beta: positive; the squared exponential as it grows.

    Raises:
        ValueError: another value.

    Example:
        >>> kernel = RationalQuadratic(scale=1.5, beta=2.0)
    """

    beta: Scalar

    def __init__(self, var: Positive = 1.0, scale: Positive = 1.0, beta: Positive = 2.0):
        super().__init__(var, scale)
        self.beta = numbers("beta", beta, "positive")

    def derivatives(self, h: Scalar) -> tuple[Scalar, Scalar, Scalar]:
        s2, beta = self.scale**2, self.beta
        q = 1 + 2 * h / (beta * s2)
        value = self.var * q ** (-beta / 2)
        return value, -value / (s2 * q), value * (beta + 2) / (beta * s2**2 * q**2)

    def descent_length(self, gap: Scalar, slope: Scalar) -> Scalar:
        beta, b = self.beta, gap / (self.scale * slope)

        def cubic(q: Array) -> Array:
            return ((b / beta * q + (1 + beta) / beta) * q + b) * q - 1

        def halve(bracket: tuple[Array, Array], _: None) -> tuple[tuple[Array, Array], None]:
            low, high = bracket
            middle = (low + high) / 2
            below = cubic(middle) < 0
            return (jnp.where(below, middle, low), jnp.where(below, high, middle)), None

        # The cubic is negative at 0 and changes sign before 1 for b >= -1/(1 + beta).  Below, its
        # smallest positive root, if there is one, comes before its largest stationary point.
        short = b >= -1 / (1 + beta)
        square = (1 + beta) ** 2 - 3 * b**2 * beta
        largest = (1 + beta + jnp.sqrt(jnp.maximum(square, 0.0))) / (-3 * jnp.where(short, -1.0, b))
        top = jnp.where(short, 1.0, largest)
        (low, _), _ = jax.lax.scan(halve, (jnp.zeros_like(b), top), None, length=60)
        low = jax.lax.stop_gradient(low)
        # A last step of Newton, which also carries the derivative.
        slope_at = (3 * b / beta * low + 2 * (1 + beta) / beta) * low + b
        root = low - cubic(low) / slope_at
        found = short | ((square > 0) & (cubic(top) >= 0))
        return self.scale * jnp.where(found, root, jnp.inf)

    def frequency_scales(self, key: Key[Array, ""], n: int) -> Float[Array, " n"]:
        draws = jax.random.gamma(key, self.beta / 2, (n,), self.beta.dtype)
        return jnp.sqrt(2 * draws / self.beta) / self.scale


@register("landscapes.kernel", "matern32")
class Matern32(_Scaled):
    """C(h) = var (1 + q) e^-q, q = sqrt(6h)/scale; once differentiable.

    Args:
        var: positive variance of f times d.
        scale: positive length.

    Raises:
        ValueError: another value.

    Example:
        >>> kernel = Matern32(scale=0.5)
    """

    def derivatives(self, h: Scalar) -> tuple[Scalar, Scalar, Scalar]:
        s2, q = self.scale**2, _root(6 * h) / self.scale
        decay = self.var * jnp.exp(-q)
        # C'' grows like h^(-1/2), but always multiplies two components of x - y: 0 at h = 0.
        away = h > 0
        second = jnp.where(away, 9 * decay / (s2**2 * jnp.where(away, q, 1.0)), 0.0)
        return decay * (1 + q), -3 * decay / s2, second

    def descent_length(self, gap: Scalar, slope: Scalar) -> Scalar:
        below = math.sqrt(3) * slope / self.scale + 3 * gap / self.scale**2
        return jnp.where(below > 0, slope / jnp.where(below > 0, below, 1.0), jnp.inf)

    def frequency_scales(self, key: Key[Array, ""], n: int) -> Float[Array, " n"]:
        return _student(key, 3.0, n, self.scale)


@register("landscapes.kernel", "matern52")
class Matern52(_Scaled):
    """C(h) = var (1 + q + q^2/3) e^-q, q = sqrt(10h)/scale; twice differentiable.

    Args:
        var: positive variance of f times d.
        scale: positive length.

    Raises:
        ValueError: another value.

    Example:
        >>> kernel = Matern52(var=1.3, scale=0.8)
    """

    def derivatives(self, h: Scalar) -> tuple[Scalar, Scalar, Scalar]:
        s2, q = self.scale**2, _root(10 * h) / self.scale
        decay = self.var * jnp.exp(-q)
        first = -5 * decay * (1 + q) / (3 * s2)
        return decay * (1 + q + q**2 / 3), first, 25 * decay / (3 * s2**2)

    def descent_length(self, gap: Scalar, slope: Scalar) -> Scalar:
        alpha = math.sqrt(5) * gap / (3 * self.scale * slope)
        root = jnp.sqrt((1 - alpha) ** 2 + 4 * jnp.maximum(1 + alpha, 0.0))
        # Two forms of one root, each without cancellation on its side.
        below = (root + 1 - alpha) / (2 * jnp.where(alpha > -1, 1 + alpha, 1.0))
        q = jnp.where(alpha > 1, 2 / (root - jnp.minimum(1 - alpha, 0.0)), below)
        return jnp.where(alpha > -1, self.scale * q / math.sqrt(5), jnp.inf)

    def frequency_scales(self, key: Key[Array, ""], n: int) -> Float[Array, " n"]:
        return _student(key, 5.0, n, self.scale)


def _student(key: Key[Array, ""], freedom: float, n: int, scale: Scalar) -> Float[Array, " n"]:
    """Frequencies of a Matern kernel follow Student's law with 2 nu degrees of freedom."""
    chi = jax.random.chisquare(key, freedom, (n,), scale.dtype)
    return jnp.sqrt(freedom / chi) / scale


def _root(x: Array) -> Array:
    """The square root, with derivative 0 at 0 instead of none."""
    return jnp.where(x > 0, jnp.sqrt(jnp.where(x > 0, x, 1.0)), 0.0)
