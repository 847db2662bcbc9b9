"""Generative exponents: the exponents that govern a link when batches are reused.

The generative exponent is the smallest k with zeta_k = E[E[h_k(z) | y]^2] > 0 for y = f*(z),
z ~ N(0, 1).  It is the information exponent after the best transformation of the labels (Damian,
Pillaud-Vivien, Lee, Bruna, "Computational-Statistical Gaps in Gaussian Single-Index Models",
arXiv 2403.05529).  The values of y are cut into bins b of about equal mass p_b,

    zeta_k = sum_b p_b (mean of h_k in b)^2,

with f* linear between the nodes of a grid, on whose cells int h_k phi = -h_{k-1} phi/sqrt(k) is
exact.  A bin averages E[h_k | y]: a zeta_k that is zero stays zero, and the others are too small.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from hdjax import precise
from hdjax.checks import checked
from hdjax.multiindex.hermite import hermite
from hdjax.multiindex.links.link import Link
from hdjax.registry import Size, register

__all__ = [
    "generative",
    "generative_exponent",
    "generative_spectrum",
]

# Nodes of the grid for each bin, with which a zeta_k that is zero comes out below 1e-6, and the
# fewest that are accepted.
_PER_BIN, _LEAST = 64, 8
_THRESHOLD = 1e-5
# The grid of z ends where a normal variable has no mass in double precision.
_RANGE = 9.0


@checked
def generative_spectrum(
    link: Link, degree: Size = 4, *, bins: Size = 400, nodes: Size | None = None
) -> Float[Array, " k"]:
    """The numbers zeta_1, ..., zeta_degree of a link in one variable.

    Values that are not zero grow a little with the number of bins: compare them with zero alone.

    Args:
        link: f*, with r = 1.
        degree: the highest k.
        bins: the number of bins of equal mass.
        nodes: the number of nodes of the grid of z, at least 8 for each bin; None: 64 for each bin.

    Raises:
        ValueError: the link has several variables, the degree or the number of bins is below 1, or
            there are too few nodes.

    Example:
        >>> zeta = generative_spectrum(hd.multiindex.links.from_coefficients({(3,): 1.0}))
        >>> bool(zeta[0] > 0.5)
        True
    """
    if link.variables != 1:
        raise ValueError(f"link: {link.variables} variables; allowed: 1")
    nodes = _PER_BIN * bins if nodes is None else nodes
    if nodes < _LEAST * bins:
        raise ValueError(
            f"nodes: {nodes}; allowed: at least {_LEAST * bins}, {_LEAST} for each bin"
        )
    z = jnp.linspace(-_RANGE, _RANGE, nodes, dtype=jnp.result_type(float))
    y, density = jax.vmap(link)(z[:, None]), jax.scipy.stats.norm.pdf(z)
    # The integrals of phi, h_1 phi, ..., h_degree phi over each cell of the grid.
    roots = jnp.sqrt(jnp.arange(1, degree + 1, dtype=z.dtype))
    ends = -density[:, None] * hermite(z, degree)[:, :degree] / roots[None]
    ends = jnp.concatenate([jax.scipy.stats.norm.cdf(z)[:, None], ends], axis=1)
    cells = jnp.diff(ends, axis=0)
    low, high = jnp.minimum(y[:-1], y[1:]), jnp.maximum(y[:-1], y[1:])
    flat = high == low

    def below(level: Float[Array, ""]) -> Float[Array, " k"]:
        """The integrals over the part of the line where y < level."""
        part = (level - low) / jnp.where(flat, 1, high - low) + flat.astype(y.dtype)
        return precise.dot(jnp.where(low < level, jnp.minimum(part, 1), 0), cells)

    order = jnp.argsort(y)
    mass = jnp.cumsum(density[order])
    cuts = jnp.arange(1, bins, dtype=z.dtype) / bins * mass[-1]
    inner = jax.lax.map(below, y[order][jnp.searchsorted(mass, cuts)])
    ends = [jnp.zeros_like(ends[:1]), inner, jnp.sum(cells, axis=0, keepdims=True)]
    sums = jnp.diff(jnp.concatenate(ends), axis=0)
    mass, moments = sums[:, :1], sums[:, 1:]
    # A value of y that has positive probability leaves some bins without mass.
    return jnp.sum(jnp.where(mass > 0, moments**2 / jnp.where(mass > 0, mass, 1), 0), axis=0)


@checked
def generative_exponent(link: Link, degree: int = 6, **options: Any) -> int:
    """The generative exponent of a link: the smallest k <= degree with zeta_k > 1e-5, or 0 if none.

    Args:
        link: f*, with r = 1 and concrete numbers.
        degree: the highest k that is tried.
        **options: `bins` and `nodes` of `generative_spectrum`.

    Raises:
        ValueError: as for `generative_spectrum`.

    Example:
        >>> generative_exponent(hd.multiindex.links.from_coefficients({(2,): 1.0}))
        2
    """
    found = generative_spectrum(link, degree, **options) > _THRESHOLD
    return int(jnp.argmax(found)) + 1 if bool(found.any()) else 0


@register("multiindex.statistic", "generative")
@checked
@dataclasses.dataclass(frozen=True)
class generative:
    """The statistic `generative_spectrum` of the system's link.

    Args:
        degree: the highest k.

    Example:
        >>> statistic = generative(4)
    """

    degree: Size = 4

    def __call__(self, system: Any, summary: Any) -> Float[Array, " k"]:
        return generative_spectrum(system.problem.link, self.degree)
