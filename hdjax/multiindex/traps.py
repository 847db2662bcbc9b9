"""Traps of the planted flow: families of links with known trap probabilities from Haar starts.

The loss of a planted student has local minima; the profiled loss has none for q >= r.  Trapping is
not monotone in how symmetric a link is.  It needs two incompatible symmetries, because under one
exact symmetry group every maximum of the correlation is global.  Experiments compare measured
frequencies with these probabilities.  Source of the traps: arXiv 2310.19793 (planted model); the
families and their probabilities are derived here.
"""

import itertools
import math
from collections.abc import Mapping

import numpy as np

from hdjax.checks import checked
from hdjax.multiindex.links.link import Link, from_coefficients
from hdjax.registry import PositiveFloat

__all__ = [
    "basin_probability",
    "cubics_probability",
    "radial_harmonics",
    "single_probability",
]

_GRID = 2**14


@checked
def radial_harmonics(weights: Mapping[int, float]) -> Link:
    """The link (h_2(z_1) + h_2(z_2))/sqrt 2 + sum_m a_m Re (z_1 + i z_2)^m / sqrt(2^{m-1} m!).

    Args:
        weights: {m: a_m^2}, small numbers, for different m >= 1.

    Raises:
        ValueError: there is no weight, a degree m is below 1, or a weight is negative.

    Example:
        >>> link = radial_harmonics({3: 0.02, 4: 0.04})
        >>> round(float(link.norm2), 6)
        1.06
    """
    _check(weights)
    coefficients: dict[tuple[int, ...], float] = {
        (2, 0): 1 / math.sqrt(2),
        (0, 2): 1 / math.sqrt(2),
    }
    for m, square in weights.items():
        size = math.sqrt(square / (2 ** (m - 1) * math.factorial(m)))
        for j in range(0, m + 1, 2):
            # A harmonic polynomial is its own Hermite expansion: z^a becomes sqrt(a!) h_a.
            orders = math.sqrt(math.factorial(m - j) * math.factorial(j))
            value = (-1) ** (j // 2) * math.comb(m, j) * orders * size
            coefficients[m - j, j] = coefficients.get((m - j, j), 0.0) + value
    return from_coefficients(coefficients)


@checked
def basin_probability(weights: Mapping[int, float]) -> float:
    """The trap probability of `radial_harmonics` for small weights, as d grows.

    The radial part takes M to O(2).  On both components of O(2) the correlation is P(theta) =
    sum_m a_m^2 cos(m theta), and the probability is the share of the angles that lie in basins of
    maxima that are not global.  The formula does not hold with m = 1 (a linear part acts before the
    radial part) or m = 2 (which biases the angle).

    Args:
        weights: {m: a_m^2}, small numbers, for different m >= 3.

    Raises:
        ValueError: as for `radial_harmonics`, or an m is 1 or 2.

    Example:
        >>> round(basin_probability({3: 0.02, 4: 0.04}), 3)
        0.733
    """
    _check(weights)
    if min(weights) < 3:
        raise ValueError(f"weights: m = {min(weights)}; allowed: m of at least 3")
    theta = 2 * np.pi * np.arange(_GRID) / _GRID
    height = sum(square * np.cos(m * theta) for m, square in weights.items())
    height = np.asarray(height)
    before, after = np.roll(height, 1), np.roll(height, -1)
    valleys = np.flatnonzero((height <= before) & (height < after))
    trapped = 0.0
    for start, stop in itertools.pairwise([*valleys, valleys[0] + _GRID]):
        top = height[np.arange(start, stop) % _GRID].max()
        if top < height.max() - 1e-6 * np.ptp(height):
            trapped += (stop - start) / _GRID
    return float(trapped)


def cubics_probability() -> float:
    """The trap probability of h_3(z_1) + h_3(z_2) as d grows, 31/48.

    The largest positive entry of M wins, and the flow succeeds if the opposite entry is positive
    too. The signs of the four entries are equally likely, and so is which positive entry is the
    largest.

    Example:
        >>> cubics_probability() == 31 / 48
        True
    """
    trapped = 0.0
    for signs in itertools.product([False, True], repeat=4):
        positive = [i for i, sign in enumerate(signs) if sign]
        saved = sum(signs[3 - i] for i in positive)
        trapped += 1 - (saved / len(positive) if positive else 0)
    return trapped / 16


@checked
def single_probability(link: Link, threshold: PositiveFloat = 1e-8) -> float:
    """The trap probability of a link in one variable as d grows, 0 or 1/2.

    With s the information exponent, the probability is 0 for s = 1 (the drift at m = 0 acts first)
    and for even links.  Otherwise the sign of m decides, and the probability is 1/2.

    Args:
        link: f*, with r = 1 and concrete numbers.
        threshold: squared coefficients up to this times |f*|^2 count as zero.

    Raises:
        ValueError: the link has several variables.

    Example:
        >>> single_probability(hd.multiindex.links.from_coefficients({(2,): 0.7, (3,): 0.7}))
        0.5
    """
    if link.variables != 1:
        raise ValueError(f"link: {link.variables} variables; allowed: 1")
    small = threshold * float(link.norm2)
    orders = [
        k
        for k, tensor in enumerate(link.dense().tensors)
        if k and tensor is not None and float(np.sum(np.asarray(tensor) ** 2)) > small
    ]
    if orders[0] == 1 or all(k % 2 == 0 for k in orders):
        return 0.0
    return 0.5


def _check(weights: Mapping[int, float]) -> None:
    if not weights or min(weights) < 1 or min(weights.values()) < 0:
        raise ValueError(f"weights: {dict(weights)}; allowed: {{m: a_m^2}}, m >= 1, a_m^2 >= 0")
