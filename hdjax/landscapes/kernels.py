"""Covariances of isotropic Gaussian random functions, and the derivatives that the theory needs.

    Cov(f(x), f(y)) = kappa / d,    a = |x|^2/2,  b = |y|^2/2,  t = <x, y>,  h = |x - y|^2/2.

Points have norm O(1).  A kernel is a function of (a, b, t, h); that h = a + b - t is never used to
eliminate one of them, so that neither stationary nor dot-product kernels suffer cancellation.  With
delta = x - y, the derivatives of the four along a direction v at x and w at y are

    D_v (a, b, t, h) = (<x, v>, 0, <y, v>, <delta, v>),
    D_w (a, b, t, h) = (0, <y, w>, <x, w>, -<delta, w>),

and D_v D_w (t, h) = (<v, w>, -<v, w>), which gives every covariance of values and derivatives from
the gradient and the Hessian of the kernel (`Jet`).

Valid in every dimension: completely monotone functions of h, power series in t with coefficients
c_p >= 0, amplitudes s(a) s(b), sums and products of these.
Source: arXiv 2410.09973, section 2 (where d is N); Schoenberg (1938, 1942) for the validity.
"""

import abc
import math
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from hdjax.landscapes._arguments import as_tree, numbers

Scalar = Float[Array, ""]


class Jet(eqx.Module):
    """A kernel at a pair of points: value, gradient and Hessian in (a, b, t, h)."""

    value: Scalar
    gradient: Float[Array, " 4"]
    hessian: Float[Array, "4 4"]

    @property
    def derivative(self) -> Scalar:
        """kappa_3, the covariance of derivatives along one direction orthogonal to x and y."""
        return self.gradient[2] - self.gradient[3]

    @property
    def response(self) -> Scalar:
        """kappa_33, the coefficient of y in the mean response of the gradient at x."""
        h = self.hessian
        return h[2, 2] - h[2, 3] - h[3, 2] + h[3, 3]

    @property
    def own_response(self) -> Scalar:
        """kappa_13, the coefficient of x in the mean response of the gradient at x."""
        h = self.hessian
        return h[0, 2] - h[0, 3] + h[3, 2] - h[3, 3]


class Kernel(eqx.Module):
    """kappa(a, b, t, h); kernels add and multiply."""

    @abc.abstractmethod
    def __call__(self, a: Scalar, b: Scalar, t: Scalar, h: Scalar) -> Scalar:
        """The covariance of f(x) and f(y), times d."""

    def jet(self, a: Scalar, b: Scalar, t: Scalar, h: Scalar) -> Jet:
        """Value and derivatives; by autodiff unless a kernel knows better."""
        point = jnp.stack([a, b, t, h])

        def value(point: Array) -> Array:
            return self(point[0], point[1], point[2], point[3])

        return Jet(value(point), jax.grad(value)(point), jax.hessian(value)(point))

    def __add__(self, other: "Kernel") -> "Kernel":
        return Sum(self, other)

    def __mul__(self, other: "Kernel") -> "Kernel":
        return Product(self, other)


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
        """N draws of lambda^(1/2), where C(h)/C(0) = E exp(-lambda h).

        cos(<w, x> + b) with w = lambda^(1/2) N(0, I) and b uniform then has covariance C/2 C(0).
        """

    def __call__(self, a: Scalar, b: Scalar, t: Scalar, h: Scalar) -> Scalar:
        return self.derivatives(h)[0]

    def jet(self, a: Scalar, b: Scalar, t: Scalar, h: Scalar) -> Jet:
        value, first, second = self.derivatives(h)
        gradient = jnp.zeros(4, value.dtype).at[3].set(first)
        return Jet(value, gradient, jnp.zeros((4, 4), value.dtype).at[3, 3].set(second))


class SquaredExponential(Stationary):
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

    var: Scalar
    scale: Scalar

    def __init__(self, var: Any = 1.0, scale: Any = 1.0):
        self.var, self.scale = numbers("var", var, "positive"), numbers("scale", scale, "positive")

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


class RationalQuadratic(Stationary):
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

    var: Scalar
    scale: Scalar
    beta: Scalar

    def __init__(self, var: Any = 1.0, scale: Any = 1.0, beta: Any = 2.0):
        self.var, self.scale = numbers("var", var, "positive"), numbers("scale", scale, "positive")
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


class Matern32(Stationary):
    """C(h) = var (1 + q) e^-q, q = sqrt(6h)/scale; once differentiable.

    Args:
        var: positive variance of f times d.
        scale: positive length.

    Raises:
        ValueError: another value.

    Example:
        >>> kernel = Matern32(scale=0.5)
    """

    var: Scalar
    scale: Scalar

    def __init__(self, var: Any = 1.0, scale: Any = 1.0):
        self.var, self.scale = numbers("var", var, "positive"), numbers("scale", scale, "positive")

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


class Matern52(Stationary):
    """C(h) = var (1 + q + q^2/3) e^-q, q = sqrt(10h)/scale; twice differentiable.

    Args:
        var: positive variance of f times d.
        scale: positive length.

    Raises:
        ValueError: another value.

    Example:
        >>> kernel = Matern52(var=1.3, scale=0.8)
    """

    var: Scalar
    scale: Scalar

    def __init__(self, var: Any = 1.0, scale: Any = 1.0):
        self.var, self.scale = numbers("var", var, "positive"), numbers("scale", scale, "positive")

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


class SpinGlass(Kernel):
    """kappa = xi(t) = sum_p c_p t^p: mixed p-spin functions, random quadratics (p = 2) among them.

    Args:
        coefficients: c_0, c_1, c_2, ...; at least 0.  c_0 is a random constant, c_1 a random
            linear term.

    Raises:
        ValueError: a negative coefficient.

    Example:
        >>> kernel = SpinGlass([0.0, 0.0, 0.0, 1.0])  # the pure 3-spin
        >>> float(kernel(*jnp.zeros(2), jnp.asarray(2.0), jnp.asarray(0.0)))
        8.0
    """

    coefficients: Float[Array, " p"]

    def __init__(self, coefficients: Any):
        self.coefficients = numbers("coefficients", coefficients, "at least 0", ndim=1)

    def __call__(self, a: Scalar, b: Scalar, t: Scalar, h: Scalar) -> Scalar:
        return jnp.polyval(self.coefficients[::-1], t)

    def jet(self, a: Scalar, b: Scalar, t: Scalar, h: Scalar) -> Jet:
        c = self.coefficients[::-1]
        first, second = _derivative(c), _derivative(_derivative(c))
        gradient = jnp.zeros(4, t.dtype).at[2].set(jnp.polyval(first, t))
        hessian = jnp.zeros((4, 4), t.dtype).at[2, 2].set(jnp.polyval(second, t))
        return Jet(jnp.polyval(c, t), gradient, hessian)


class Amplitude(Kernel):
    """kappa = s(a) s(b): a random multiple of s(|x|^2/2); multiplied with a kernel it modulates it.

    Args:
        s: a differentiable function of lambda = |x|^2/2, or the coefficients of a polynomial.

    Raises:
        TypeError: neither.

    Example:
        >>> kernel = Amplitude([1.0, 0.3]) * SquaredExponential()
    """

    s: Callable

    def __init__(self, s: Any):
        self.s = as_radial("s", s)

    def __call__(self, a: Scalar, b: Scalar, t: Scalar, h: Scalar) -> Scalar:
        return self.s(a) * self.s(b)


class FunctionKernel(Kernel):
    """Any kernel kappa(a, b, t), differentiated by autodiff.

    Nothing checks that it is positive definite in dimension d, nor that it is symmetric.  It must
    be twice differentiable at x = y (a square root of |x - y|^2 is not, see `Matern32`).

    Args:
        kappa: differentiable function of a = |x|^2/2, b = |y|^2/2 and t = <x, y>.

    Raises:
        TypeError: it cannot be called.

    Example:
        >>> kernel = FunctionKernel(lambda a, b, t: jnp.exp(t))
    """

    kappa: Callable

    def __init__(self, kappa: Any):
        self.kappa = as_tree("kappa", kappa)

    def __call__(self, a: Scalar, b: Scalar, t: Scalar, h: Scalar) -> Scalar:
        return self.kappa(a, b, t)


class Sum(Kernel):
    """The covariance of a sum of independent functions; made by `+`."""

    left: Kernel
    right: Kernel

    def __call__(self, a: Scalar, b: Scalar, t: Scalar, h: Scalar) -> Scalar:
        return self.left(a, b, t, h) + self.right(a, b, t, h)

    def jet(self, a: Scalar, b: Scalar, t: Scalar, h: Scalar) -> Jet:
        return jax.tree.map(jnp.add, self.left.jet(a, b, t, h), self.right.jet(a, b, t, h))


class Product(Kernel):
    """The product of two kernels; made by `*`."""

    left: Kernel
    right: Kernel

    def __call__(self, a: Scalar, b: Scalar, t: Scalar, h: Scalar) -> Scalar:
        return self.left(a, b, t, h) * self.right(a, b, t, h)

    def jet(self, a: Scalar, b: Scalar, t: Scalar, h: Scalar) -> Jet:
        u, v = self.left.jet(a, b, t, h), self.right.jet(a, b, t, h)
        cross = jnp.outer(u.gradient, v.gradient)
        return Jet(
            u.value * v.value,
            u.value * v.gradient + v.value * u.gradient,
            u.value * v.hessian + v.value * u.hessian + cross + cross.T,
        )


class Polynomial(eqx.Module):
    """sum_j c_j lambda^j, a function of lambda = |x|^2/2: constants, ridges (c_1), ...

    Args:
        coefficients: c_0, c_1, ...

    Example:
        >>> float(Polynomial([1.0, 2.0])(jnp.asarray(3.0)))
        7.0
    """

    coefficients: Float[Array, " p"]

    def __init__(self, coefficients: Any):
        self.coefficients = numbers("coefficients", coefficients, "finite", ndim=1)

    def __call__(self, x: Scalar) -> Scalar:
        """The value at `x`."""
        return jnp.polyval(self.coefficients[::-1], x)


def as_radial(name: str, value: Any) -> Callable:
    """A function of lambda = |x|^2/2: a number, coefficients of a polynomial, or a callable.

    Raises:
        TypeError, ValueError: none of these.
    """
    if callable(value):
        return as_tree(name, value)
    try:
        array = jnp.atleast_1d(jnp.asarray(value, jnp.result_type(float)))
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name}: {value!r}; allowed: a number, a list, a function") from error
    return Polynomial(numbers(name, array, "finite", ndim=1))


def _student(key: Key[Array, ""], freedom: float, n: int, scale: Scalar) -> Float[Array, " n"]:
    """Frequencies of a Matern kernel follow Student's law with 2 nu degrees of freedom."""
    chi = jax.random.chisquare(key, freedom, (n,), scale.dtype)
    return jnp.sqrt(freedom / chi) / scale


def _root(x: Array) -> Array:
    """The square root, with derivative 0 at 0 instead of none."""
    return jnp.where(x > 0, jnp.sqrt(jnp.where(x > 0, x, 1.0)), 0.0)


def _derivative(c: Array) -> Array:
    """The derivative of a polynomial with the highest coefficient first."""
    n = c.shape[0]
    if n < 2:
        return jnp.zeros(1, c.dtype)
    return c[:-1] * jnp.arange(n - 1, 0, -1, dtype=c.dtype)
