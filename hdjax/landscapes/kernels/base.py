"""Covariances of isotropic Gaussian random functions, and the derivatives that the theory needs.

    Cov(f(x), f(y)) = kappa/d,    a = |x|^2/2,  b = |y|^2/2,  t = <x, y>,  h = |x - y|^2/2.

Points have norm O(1).  A kernel is a function of (a, b, t, h).  The relation h = a + b - t is never
used to eliminate one of the four numbers, so that neither stationary kernels, which depend on h,
nor dot-product kernels, which depend on t, suffer cancellation.  With delta = x - y, the
derivatives along a direction v at x and w at y are

    D_v (a, b, t, h) = (<x, v>, 0, <y, v>, <delta, v>),
    D_w (a, b, t, h) = (0, <y, w>, <x, w>, -<delta, w>),

and D_v D_w (t, h) = (<v, w>, -<v, w>).  Every covariance of values and derivatives follows from the
gradient and the Hessian of the kernel in these numbers (`Jet`).

Kernels that are positive definite in every dimension are completely monotone functions of h, power
series in t with coefficients c_p >= 0, amplitudes s(a) s(b), and sums and products of these.

Source: arXiv 2410.09973, Definitions 2.3 (isotropic Gaussian function) and 2.8 (valid in all
dimensions) and Lemma 2.7 (stationary kernels), where d is N; Schoenberg (1938, 1942) on validity.
"""

import abc
import functools
import operator
from collections.abc import Callable
from typing import Annotated, Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from hdjax.checks import Checked
from hdjax.landscapes._arguments import as_tree, numbers
from hdjax.registry import Bounds, Each, In, OneOrMoreReal, Reals, register

Scalar = Float[Array, ""]


class Jet(eqx.Module):
    """The value and the derivatives of a kernel at a pair of points (x, y).

    A subscript of kappa in the properties is a partial derivative of kappa(a, b, t) with
    h = a + b - t inserted: 1 for a, 2 for b, 3 for t.

    Attributes:
        value: kappa.
        gradient: (4,) the gradient in (a, b, t, h).
        hessian: (4, 4) the Hessian in (a, b, t, h).
    """

    value: Scalar
    gradient: Float[Array, " 4"]
    hessian: Float[Array, "4 4"]

    @property
    def derivative(self) -> Scalar:
        """kappa_3, d times the covariance of D_e f(x) and D_e f(y) for e orthogonal to x and y."""
        return self.gradient[2] - self.gradient[3]

    @property
    def response(self) -> Scalar:
        """kappa_33, the coefficient of y in the response of the gradient at x (`limit.py`)."""
        h = self.hessian
        return h[2, 2] - h[2, 3] - h[3, 2] + h[3, 3]

    @property
    def own_response(self) -> Scalar:
        """kappa_13, the coefficient of x in the response of the gradient at x (`limit.py`)."""
        h = self.hessian
        return h[0, 2] - h[0, 3] + h[3, 2] - h[3, 3]


class Kernel(Checked):
    """A covariance kappa(a, b, t, h), times d; kernels add and multiply with `+` and `*`."""

    @abc.abstractmethod
    def __call__(self, a: Scalar, b: Scalar, t: Scalar, h: Scalar) -> Scalar:
        """The covariance of f(x) and f(y), times d."""

    def jet(self, a: Scalar, b: Scalar, t: Scalar, h: Scalar) -> Jet:
        """The value and the derivatives; by autodiff, unless a kernel has closed forms."""
        point = jnp.stack([a, b, t, h])

        def value(point: Array) -> Array:
            return self(point[0], point[1], point[2], point[3])

        return Jet(value(point), jax.grad(value)(point), jax.hessian(value)(point))

    def __add__(self, other: "Kernel") -> "Kernel":
        return Sum(self, other)

    def __mul__(self, other: "Kernel") -> "Kernel":
        return Product(self, other)


@register("landscapes.kernel", "spin_glass")
class SpinGlass(Kernel):
    """The kernel kappa = xi(t) = sum_p c_p t^p of mixed p-spin functions and random quadratics.

    Args:
        coefficients: c_0, c_1, c_2, ..., at least 0.  c_0 is the variance of a random constant, c_1
            that of a random linear term, and c_2 that of a random quadratic.

    Raises:
        ValueError: no coefficients, or a negative one.

    Example:
        >>> kernel = SpinGlass([0.0, 0.0, 0.0, 1.0])  # the pure 3-spin
        >>> float(kernel(*jnp.zeros(2), jnp.asarray(2.0), jnp.asarray(0.0)))
        8.0
    """

    coefficients: Float[Array, " p"]

    def __init__(self, coefficients: Annotated[Any, Each(Bounds(least=0), shortest=1)]):
        self.coefficients = numbers("coefficients", coefficients, "at least 0", ndim=1)
        if not self.coefficients.shape[0]:
            raise ValueError("coefficients: none; allowed: at least one")

    def __call__(self, a: Scalar, b: Scalar, t: Scalar, h: Scalar) -> Scalar:
        return jnp.polyval(self.coefficients[::-1], t)

    def jet(self, a: Scalar, b: Scalar, t: Scalar, h: Scalar) -> Jet:
        c = self.coefficients[::-1]
        first, second = _derivative(c), _derivative(_derivative(c))
        gradient = jnp.zeros(4, t.dtype).at[2].set(jnp.polyval(first, t))
        hessian = jnp.zeros((4, 4), t.dtype).at[2, 2].set(jnp.polyval(second, t))
        return Jet(jnp.polyval(c, t), gradient, hessian)


class Amplitude(Kernel):
    """The kernel kappa = s(a) s(b) of a random multiple of s(|x|^2/2).

    The product with another kernel is the kernel of s(|x|^2/2) times the function of the other.

    Args:
        s: a differentiable function of lambda = |x|^2/2, or the coefficients of a polynomial.

    Raises:
        TypeError: `s` is neither.

    Example:
        >>> kernel = Amplitude([1.0, 0.3]) * hd.landscapes.kernels.SquaredExponential()
    """

    s: Callable

    def __init__(self, s: OneOrMoreReal | Callable):
        self.s = as_radial("s", s)

    def __call__(self, a: Scalar, b: Scalar, t: Scalar, h: Scalar) -> Scalar:
        return self.s(a) * self.s(b)


class FunctionKernel(Kernel):
    """Any kernel kappa(a, b, t) that the user defines, differentiated by autodiff.

    The kernel must be positive definite in dimension d, which nothing checks, and twice
    differentiable at x = y; a square root of |x - y|^2 is not (see `Matern32`).  A landscape
    refuses a kernel that is not symmetric or has negative variances at x_0.

    Args:
        kappa: a differentiable function of a = |x|^2/2, b = |y|^2/2 and t = <x, y>.

    Raises:
        TypeError: `kappa` cannot be called.

    Example:
        >>> kernel = FunctionKernel(lambda a, b, t: jnp.exp(t))
    """

    kappa: Callable

    def __init__(self, kappa: Any):
        self.kappa = as_tree("kappa", kappa)

    def __call__(self, a: Scalar, b: Scalar, t: Scalar, h: Scalar) -> Scalar:
        return self.kappa(a, b, t)


KernelLike = Annotated[Any, In("landscapes.kernel")]


def _sum(terms: list[KernelLike]) -> "Kernel":
    """The sum of kernels, the kernel of a sum of independent functions.

    Args:
        terms: at least one kernel.
    """
    if not terms:
        raise ValueError("terms: none; allowed: at least one kernel")
    return functools.reduce(operator.add, terms)


@register("landscapes.kernel", "modulated")
def _modulated(amplitude: Reals, kernel: KernelLike) -> "Kernel":
    """The kernel s(a) s(b) kappa of s(|x|^2/2) f(x), for a polynomial s.

    Args:
        amplitude: the coefficients of s.
        kernel: kappa, the kernel of f.
    """
    return Amplitude(np.asarray(amplitude)) * kernel


@register("landscapes.kernel", "sum", _sum)
class Sum(Kernel):
    """The kernel of a sum of two independent functions, made by `+` on kernels."""

    left: Kernel
    right: Kernel

    def __call__(self, a: Scalar, b: Scalar, t: Scalar, h: Scalar) -> Scalar:
        return self.left(a, b, t, h) + self.right(a, b, t, h)

    def jet(self, a: Scalar, b: Scalar, t: Scalar, h: Scalar) -> Jet:
        return jax.tree.map(jnp.add, self.left.jet(a, b, t, h), self.right.jet(a, b, t, h))


class Product(Kernel):
    """The product of two kernels, which is positive definite too; made by `*` on kernels."""

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


class Polynomial(Checked):
    """A polynomial sum_j c_j lambda^j in lambda = |x|^2/2; c_1 is the coefficient of a ridge.

    Args:
        coefficients: c_0, c_1, ..., finite.

    Example:
        >>> float(Polynomial([1.0, 2.0])(jnp.asarray(3.0)))
        7.0
    """

    coefficients: Float[Array, " p"]

    def __init__(self, coefficients: Reals):
        self.coefficients = numbers("coefficients", coefficients, "finite", ndim=1)

    def __call__(self, x: Scalar) -> Scalar:
        """The value of the polynomial at lambda = `x`."""
        return jnp.polyval(self.coefficients[::-1], x)


def as_radial(name: str, value: Any) -> Callable:
    """A function of lambda = |x|^2/2, from a number, coefficients of a polynomial, or a callable.

    Args:
        name: name of the argument, for messages.
        value: a number, a list of coefficients, or a differentiable function.

    Raises:
        TypeError, ValueError: another value.
    """
    if callable(value):
        return as_tree(name, value)
    try:
        array = jnp.atleast_1d(jnp.asarray(value, jnp.result_type(float)))
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name}: {value!r}; allowed: a number, a list, a function") from error
    return Polynomial(numbers(name, array, "finite", ndim=1))


def _derivative(c: Array) -> Array:
    """The coefficients of the derivative of a polynomial; the highest one comes first."""
    n = c.shape[0]
    if n < 2:
        return jnp.zeros(1, c.dtype)
    return c[:-1] * jnp.arange(n - 1, 0, -1, dtype=c.dtype)
