"""Links in one variable whose Hermite coefficients are known in closed form.

Quadrature converges slowly for kinks and jumps; these coefficients are exact at every degree.  The
residual of each link is the exact energy beyond its degree D.
"""

import math
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from hdjax.checks import checked, is_concrete
from hdjax.multiindex.links.link import Link
from hdjax.multiindex.tensors import squared_norm
from hdjax.registry import Real, Size, register


@register("multiindex.link", "sine")
@checked
def sine(omega: Real = 1.0, degree: Size = 11) -> Link:
    """The link sin(omega z): alpha_k = (-1)^((k-1)/2) omega^k e^(-omega^2/2) / sqrt(k!) for odd k.

    Args:
        omega: the frequency.
        degree: D, the highest degree that is kept.

    Raises:
        ValueError: the frequency is not a finite number, or the degree is below 1.

    Example:
        >>> bool(sine(1.0, degree=9).residual < 1e-7)
        True
    """
    omega = _frequency(omega)
    scale = jnp.exp(-(omega**2) / 2)
    norm2 = jnp.exp(-(omega**2)) * jnp.sinh(omega**2)
    return _link(lambda k: _alternating(k, 1, omega, scale), degree, norm2, _Wave(omega, jnp.sin))


@register("multiindex.link", "cosine")
@checked
def cosine(omega: Real = 1.0, degree: Size = 10) -> Link:
    """The link cos(omega z): alpha_k = (-1)^(k/2) omega^k e^(-omega^2/2) / sqrt(k!) for even k.

    Args:
        omega: the frequency.
        degree: D, the highest degree that is kept.

    Raises:
        ValueError: the frequency is not a finite number, or the degree is below 1.

    Example:
        >>> round(float(cosine(1.0).coefficient((0,))), 6)
        0.606531
    """
    omega = _frequency(omega)
    scale = jnp.exp(-(omega**2) / 2)
    norm2 = jnp.exp(-(omega**2)) * jnp.cosh(omega**2)
    return _link(lambda k: _alternating(k, 0, omega, scale), degree, norm2, _Wave(omega, jnp.cos))


@register("multiindex.link", "exponential")
@checked
def exponential(omega: Real = 0.5, degree: Size = 10) -> Link:
    """The link e^(omega z): alpha_k = omega^k e^(omega^2/2) / sqrt(k!).

    Args:
        omega: the rate.
        degree: D, the highest degree that is kept.

    Raises:
        ValueError: the rate is not a finite number, or the degree is below 1.

    Example:
        >>> link = exponential(0.5)
    """
    omega = _frequency(omega)

    def alpha(k: int) -> Array:
        return omega**k * jnp.exp(omega**2 / 2) / math.sqrt(math.factorial(k))

    return _link(alpha, degree, jnp.exp(2 * omega**2), _Wave(omega, jnp.exp))


@register("multiindex.link", "relu")
@checked
def relu(degree: Size = 10) -> Link:
    """The link max(0, z): alpha_k = (-1)^(k/2+1) (k-3)!! / sqrt(2 pi k!) for even k >= 2.

    The first coefficients are alpha_0 = 1/sqrt(2 pi) and alpha_1 = 1/2.

    Args:
        degree: D, the highest degree that is kept.

    Raises:
        ValueError: the degree is below 1.

    Example:
        >>> float(relu().coefficient((1,)))
        0.5
    """

    def alpha(k: int) -> float | None:
        if k < 2:
            return (1 / math.sqrt(2 * math.pi), 0.5)[k]
        if k % 2:
            return None
        sign = (-1) ** (k // 2 + 1)
        return sign * _double_factorial(k - 3) / math.sqrt(2 * math.pi * math.factorial(k))

    return _link(alpha, degree, 0.5, jax.tree_util.Partial(_relu))


@register("multiindex.link", "sign")
@checked
def sign(degree: Size = 11) -> Link:
    """The sign of z, as a link: alpha_k = 2/sqrt(2 pi) (-1)^((k-1)/2) (k-2)!! / sqrt(k!) for odd k.

    Args:
        degree: D, the highest degree that is kept.

    Raises:
        ValueError: the degree is below 1.

    Example:
        >>> round(float(sign().coefficient((1,))), 6)
        0.797885
    """

    def alpha(k: int) -> float | None:
        if k % 2 == 0:
            return None
        size = 2 / math.sqrt(2 * math.pi) * _double_factorial(k - 2)
        return (-1) ** ((k - 1) // 2) * size / math.sqrt(math.factorial(k))

    return _link(alpha, degree, 1.0, jax.tree_util.Partial(_sign))


@register("multiindex.link", "erf")
@checked
def erf(degree: Size = 11) -> Link:
    """The error function of z/sqrt 2, as a link.

    For odd k, alpha_k = (-1/2)^((k-1)/2) (k-2)!! / sqrt(pi k!).

    Args:
        degree: D, the highest degree that is kept.

    Raises:
        ValueError: the degree is below 1.

    Example:
        >>> round(float(erf().norm2), 6)
        0.333333
    """

    def alpha(k: int) -> float | None:
        if k % 2 == 0:
            return None
        size = (-0.5) ** ((k - 1) // 2) * _double_factorial(k - 2)
        return size / math.sqrt(math.pi * math.factorial(k))

    return _link(alpha, degree, 1 / 3, jax.tree_util.Partial(_erf))


@register("multiindex.link", "hermite")
@checked
def hermite_polynomial(degree: Size) -> Link:
    """The link h_k, the normalised Hermite polynomial of one degree.

    Args:
        degree: k.

    Raises:
        ValueError: the degree is below 1.

    Example:
        >>> float(hermite_polynomial(3).norm2)
        1.0
    """
    return _link(lambda k: 1.0 if k == degree else None, degree, 1.0, None)


class _Wave(eqx.Module):
    omega: Float[Array, ""]
    wave: Callable = eqx.field(static=True)

    def __call__(self, z: Float[Array, " r"]) -> Float[Array, ""]:
        return self.wave(self.omega * z[0])


def _relu(z: Float[Array, " r"]) -> Float[Array, ""]:
    return jax.nn.relu(z[0])


def _sign(z: Float[Array, " r"]) -> Float[Array, ""]:
    return jnp.sign(z[0])


def _erf(z: Float[Array, " r"]) -> Float[Array, ""]:
    return jax.scipy.special.erf(z[0] / math.sqrt(2))


def _alternating(k: int, parity: int, omega: Array, scale: Array) -> Array | None:
    if k % 2 != parity:
        return None
    return (-1) ** ((k - parity) // 2) * omega**k * scale / math.sqrt(math.factorial(k))


def _link(alpha: Callable[[int], Any], degree: int, norm2: Any, function: Any) -> Link:
    dtype = jnp.result_type(float)
    values = [alpha(k) for k in range(degree + 1)]
    tensors = tuple(
        None if value is None else jnp.asarray(value, dtype).reshape((1,) * k)
        for k, value in enumerate(values)
    )
    residual = jnp.maximum(jnp.asarray(norm2, dtype) - squared_norm(tensors), 0)
    return Link(tensors, residual, function, 1)


def _frequency(omega: Any) -> Float[Array, ""]:
    omega = jnp.asarray(omega, jnp.result_type(float))
    if omega.ndim or (is_concrete(omega) and not np.isfinite(float(omega))):
        raise ValueError(f"omega: {omega}; allowed: a finite number")
    return omega


def _double_factorial(n: int) -> int:
    return math.prod(range(n, 0, -2)) if n > 0 else 1
