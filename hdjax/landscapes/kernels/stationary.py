"""Stationary kernels: kappa = C(h), h = |x - y|^2/2, with C completely monotone.

C(h) = C(0) E exp(-lambda h) for some law of lambda > 0 (Schoenberg, 1938), so that C is positive
definite in every dimension.  A function of this covariance is a superposition of cosines with
random frequencies lambda^(1/2) N(0, I), by which `Explicit` draws it.  Besides C, C' and C'', each
kernel has the length of the step of Random Function Descent (arXiv 2305.01377).

Source: arXiv 2410.09973, Lemma 2.7 (stationary isotropic functions are isotropic).
"""

import abc
import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from hdjax.landscapes._arguments import numbers
from hdjax.landscapes.kernels.base import Jet, Kernel, Scalar
from hdjax.registry import Positive, register


class Stationary(Kernel):
    """A kernel kappa = C(h) that is invariant under translations, with C completely monotone."""

    @abc.abstractmethod
    def derivatives(self, h: Scalar) -> tuple[Scalar, Scalar, Scalar]:
        """The numbers C(h), C'(h) and C''(h), which are finite also at h = 0."""

    @abc.abstractmethod
    def descent_length(self, gap: Scalar, slope: Scalar) -> Scalar:
        """The length of the step of Random Function Descent.

        The length r >= 0 minimises E[f(x - r g/|g|) | f(x), g], that is the function
        -gap C(r^2/2)/C(0) - slope r C'(r^2/2)/C'(0) of r; the variance of f cancels.  It is
        infinite where there is no minimiser.  Source: arXiv 2305.01377.

        Args:
            gap: mu - f(x), the mean less the value.
            slope: |g|, positive.
        """

    @abc.abstractmethod
    def frequency_scales(self, key: Key[Array, ""], n: int) -> Float[Array, " n"]:
        """Draws of lambda^(1/2), (n,), where C(h)/C(0) = E exp(-lambda h).

        With w = lambda^(1/2) N(0, I) and b uniform on [0, 2 pi), cos(<w, x> + b) has the covariance
        C(h)/(2 C(0)).
        """

    def __call__(self, a: Scalar, b: Scalar, t: Scalar, h: Scalar) -> Scalar:
        return self.derivatives(h)[0]

    def jet(self, a: Scalar, b: Scalar, t: Scalar, h: Scalar) -> Jet:
        value, first, second = self.derivatives(h)
        gradient = jnp.zeros(4, value.dtype).at[3].set(first)
        return Jet(value, gradient, jnp.zeros((4, 4), value.dtype).at[3, 3].set(second))


class _Scaled(Stationary):
    """A stationary kernel that is a variance times a function of h/scale^2."""

    var: Scalar
    scale: Scalar

    def __init__(self, var: Positive = 1.0, scale: Positive = 1.0):
        self.var, self.scale = numbers("var", var, "positive"), numbers("scale", scale, "positive")


@register("landscapes.kernel", "squared_exponential")
class SquaredExponential(_Scaled):
    """The squared exponential kernel, C(h) = var exp(-h/scale^2).

    Args:
        var: the variance of f times d, positive.
        scale: the length scale, positive.

    Raises:
        ValueError: an argument is not positive.

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
        # Two forms of the same root; each is free of cancellation for one sign of the gap.
        above = reach / jnp.where(gap >= 0, half + root, 1.0)
        return jnp.where(gap >= 0, above, (root - half) / slope)

    def frequency_scales(self, key: Key[Array, ""], n: int) -> Float[Array, " n"]:
        return jnp.full(n, 1 / self.scale)


@register("landscapes.kernel", "rational_quadratic")
class RationalQuadratic(_Scaled):
    """The rational quadratic kernel, C(h) = var q^(-beta/2) with q = 1 + 2h/(beta scale^2).

    Args:
        var: the variance of f times d, positive.
        scale: the length scale, positive.
        beta: the exponent, positive; as it grows, the kernel tends to the squared exponential.

    Raises:
        ValueError: an argument is not positive.

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

        # The cubic is negative at 0 and changes sign before 1 for b >= -1/(1 + beta).  For smaller
        # b its smallest positive root, if there is one, lies before its largest stationary point.
        short = b >= -1 / (1 + beta)
        square = (1 + beta) ** 2 - 3 * b**2 * beta
        largest = (1 + beta + jnp.sqrt(jnp.maximum(square, 0.0))) / (-3 * jnp.where(short, -1.0, b))
        top = jnp.where(short, 1.0, largest)
        (low, _), _ = jax.lax.scan(halve, (jnp.zeros_like(b), top), None, length=60)
        low = jax.lax.stop_gradient(low)
        # A last Newton step, through which derivatives with respect to gap and slope pass.
        slope_at = (3 * b / beta * low + 2 * (1 + beta) / beta) * low + b
        root = low - cubic(low) / slope_at
        found = short | ((square > 0) & (cubic(top) >= 0))
        return self.scale * jnp.where(found, root, jnp.inf)

    def frequency_scales(self, key: Key[Array, ""], n: int) -> Float[Array, " n"]:
        draws = jax.random.gamma(key, self.beta / 2, (n,), self.beta.dtype)
        return jnp.sqrt(2 * draws / self.beta) / self.scale


@register("landscapes.kernel", "matern32")
class Matern32(_Scaled):
    """The Matern kernel of smoothness 3/2, C(h) = var (1 + q) e^-q with q = sqrt(6h)/scale.

    Functions with this covariance are once differentiable.

    Args:
        var: the variance of f times d, positive.
        scale: the length scale, positive.

    Raises:
        ValueError: an argument is not positive.

    Example:
        >>> kernel = Matern32(scale=0.5)
    """

    def derivatives(self, h: Scalar) -> tuple[Scalar, Scalar, Scalar]:
        s2, q = self.scale**2, _root(6 * h) / self.scale
        decay = self.var * jnp.exp(-q)
        # C'' diverges like h^(-1/2), but it always multiplies two components of x - y, so that the
        # product tends to 0: C'' is taken as 0 at h = 0.
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
    """The Matern kernel of smoothness 5/2, C(h) = var (1 + q + q^2/3) e^-q, q = sqrt(10h)/scale.

    Functions with this covariance are twice differentiable.

    Args:
        var: the variance of f times d, positive.
        scale: the length scale, positive.

    Raises:
        ValueError: an argument is not positive.

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
        # Two forms of the same root; each is free of cancellation on one side of alpha = 1.
        below = (root + 1 - alpha) / (2 * jnp.where(alpha > -1, 1 + alpha, 1.0))
        q = jnp.where(alpha > 1, 2 / (root - jnp.minimum(1 - alpha, 0.0)), below)
        return jnp.where(alpha > -1, self.scale * q / math.sqrt(5), jnp.inf)

    def frequency_scales(self, key: Key[Array, ""], n: int) -> Float[Array, " n"]:
        return _student(key, 5.0, n, self.scale)


def _student(key: Key[Array, ""], freedom: float, n: int, scale: Scalar) -> Float[Array, " n"]:
    """Draws of lambda^(1/2) for a Matern kernel, whose frequencies follow Student's t law.

    Args:
        key: key of the draws.
        freedom: the degrees of freedom 2 nu, with nu the smoothness.
        n: the number of draws.
        scale: the length scale.
    """
    chi = jax.random.chisquare(key, freedom, (n,), scale.dtype)
    return jnp.sqrt(freedom / chi) / scale


def _root(x: Array) -> Array:
    """The square root of x >= 0, whose derivative at 0 is set to 0."""
    return jnp.where(x > 0, jnp.sqrt(jnp.where(x > 0, x, 1.0)), 0.0)
