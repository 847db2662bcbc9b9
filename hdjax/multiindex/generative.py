"""Generative exponents: what reusing a batch makes of the information exponent.

The smallest k with zeta_k = E[E[h_k(z) | y]^2] > 0 for y = f*(z), z ~ N(0, 1): the information
exponent after the best transformation of labels (Damian, Pillaud-Vivien, Lee, Bruna,
"Computational-Statistical Gaps in Gaussian Single-Index Models", arXiv 2403.05529).  By quadrature:
a fine grid of z is sorted by y and cut into bins b of equal mass p_b,
zeta_k = sum_b p_b (mean of h_k in b)^2.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from hdjax import gaussian
from hdjax.multiindex.hermite import hermite
from hdjax.multiindex.links import Link

# The bias of binning is of order 1e-5.
_THRESHOLD = 1e-3


def generative_spectrum(
    link: Link, degree: int = 4, *, bins: int = 400, nodes: int = 2**16
) -> Float[Array, " k"]:
    """zeta_1, ..., zeta_degree of a link in one variable.

    Values move a little with the number of bins: use them as yes or no.

    Args:
        link: f*, with r = 1.
        degree: the highest k.
        bins: bins of equal mass.
        nodes: of the grid of z.

    Raises:
        ValueError: a link of several variables.

    Example:
        >>> zeta = generative_spectrum(hd.multiindex.from_coefficients({(3,): 1.0}))
        >>> bool(zeta[0] > 0.5)
        True
    """
    if link.variables != 1:
        raise ValueError(f"link: {link.variables} variables; allowed: 1")
    z, w = gaussian.Trapezoid(nodes).nodes(1, jnp.result_type(float))
    z, w = jnp.asarray(z), jnp.asarray(w)
    order = jnp.argsort(jax.vmap(link)(z))
    mass = jnp.cumsum(w[order]) - w[order] / 2
    bin_of = jnp.clip((mass * bins).astype(int), 0, bins - 1)
    weighted = w[order][:, None] * hermite(z[order, 0], degree)
    sums = jax.ops.segment_sum(weighted, bin_of, bins, indices_are_sorted=True)
    return jnp.sum(sums[:, 1:] ** 2 / jnp.maximum(sums[:, :1], 1e-300), axis=0)


def generative_exponent(link: Link, degree: int = 6, **options: Any) -> int:
    """The smallest k <= degree with zeta_k > 1e-3; 0 if there is none.

    Args:
        link: f*, concrete.
        degree: the highest k that is tried.
        **options: of `generative_spectrum`.

    Example:
        >>> generative_exponent(hd.multiindex.from_coefficients({(2,): 1.0}))
        2
    """
    found = generative_spectrum(link, degree, **options) > _THRESHOLD
    return int(jnp.argmax(found)) + 1 if bool(found.any()) else 0


@dataclasses.dataclass(frozen=True)
class generative:
    """`generative_spectrum` of a system's link, as a statistic.

    Args:
        degree: the highest k.

    Example:
        >>> statistic = generative(4)
    """

    degree: int = 4

    def __call__(self, system: Any, summary: Any) -> Float[Array, " k"]:
        return generative_spectrum(system.problem.link, self.degree)
