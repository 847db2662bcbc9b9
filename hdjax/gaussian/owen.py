"""Owen's function T, a Gaussian probability of a wedge, which JAX does not have.

    T(h, a) = 1/(2 pi) int_0^a exp(-h^2 (1 + x^2)/2) / (1 + x^2) dx

The moments of the hinge loss need it. With x = tan(u) the integrand becomes exp(-h^2 / (2 cos^2 u))
on [0, arctan a], for which 16 Gauss-Legendre nodes have an error of 1e-15 if a <= 1; for larger a a
reflection formula is used.

Source: D. Owen, "Tables for computing bivariate normal probabilities" (Ann. Math. Statist. 27,
1956).
"""

import math

import jax.numpy as jnp
import numpy as np
from jax.scipy.special import ndtr
from jaxtyping import Array, Float

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(16)


def owens_t(h: Float[Array, ""], a: Float[Array, ""]) -> Float[Array, ""]:
    """Owen's function T(h, a), which is even in h, odd in a, and differentiable.

    Args:
        h: distance of the wedge from the origin.
        a: slope of the wedge.

    Example:
        >>> import jax.numpy as jnp
        >>> bool(jnp.abs(owens_t(jnp.asarray(0.0), jnp.asarray(1.0)) - 1 / 8) < 1e-6)
        True
    """
    h, size = jnp.abs(h), jnp.abs(a)
    steep = size > 1
    # For a, h >= 0, T(h, a) = (Phi(h) + Phi(ah))/2 - Phi(h) Phi(ah) - T(ah, 1/a).
    scaled = h * size
    slope = jnp.where(steep, 1 / jnp.where(steep, size, 1), size)
    value = _integral(jnp.where(steep, scaled, h), slope)
    both = (ndtr(h) + ndtr(scaled)) / 2 - ndtr(h) * ndtr(scaled)
    return jnp.sign(a) * jnp.where(steep, both - value, value)


def _integral(h: Float[Array, ""], a: Float[Array, ""]) -> Float[Array, ""]:
    end = jnp.arctan(a)
    u = end * jnp.asarray((_NODES + 1) / 2, h.dtype)
    heights = jnp.exp(-0.5 * (h / jnp.cos(u)) ** 2)
    return end / (4 * math.pi) * jnp.dot(jnp.asarray(_WEIGHTS, h.dtype), heights)
