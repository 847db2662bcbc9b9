"""Laws of the eigenvalues of A^T A as n and d grow at a fixed ratio r = d/n.

Marchenko-Pastur for independent entries, and sample covariances A = n^-1/2 Z Sigma^1/2, whose
companion transform -1/w solves (Silverstein 1995, Silverstein and Choi 1995)

    z = w (1 + r int s/(w - s) dH(s)),

with H the law of the eigenvalues of Sigma; the Stieltjes transform int dmu/(x - z) is
((1 - r)/z - 1/w)/r.  With w = u + i h the points x of the continuous part are those with
r int s^2/((u - s)^2 + h^2) dH = 1, which has one h > 0 for each u between two edges; edges are the
real w with dz/dw = 0, and below the support z increases with real w.

mu is normalised by d: it has mass 1, of which max(0, 1 - 1/r) at zero.
"""

import abc
import itertools
from typing import Any

import numpy as np
import scipy
from jaxtyping import Float

from hdjax.multipass._roots import find_root


class SpectralLaw(abc.ABC):
    """A continuous law of eigenvalues, with an atom at zero for r > 1."""

    ratio: float

    @property
    @abc.abstractmethod
    def mean(self) -> float:
        """The mean of mu, tr A^T A/d."""

    @property
    @abc.abstractmethod
    def intervals(self) -> list[tuple[float, float]]:
        """The intervals that the continuous part lives on, in increasing order."""

    @abc.abstractmethod
    def density(self, x: Float[np.ndarray, " points"]) -> Float[np.ndarray, " points"]:
        """The density of the continuous part, by d."""

    @abc.abstractmethod
    def below(self, z: float) -> float:
        """The Stieltjes transform int dmu(x)/(x - z) for z below the continuous part, z != 0."""

    @property
    def edges(self) -> tuple[float, float]:
        """The smallest and the largest point of the continuous part."""
        intervals = self.intervals
        return intervals[0][0], intervals[-1][1]

    def second(self, z: float) -> float:
        """The integral int x^2/(x - z) dmu(x), z up to the lower edge."""
        # x^2/(x - z) = x + z + z^2/(x - z)
        return self.mean + z + (z * z * self.below(z) if z else 0.0)

    def rule(self, points: int) -> tuple[Float[np.ndarray, " nodes"], Float[np.ndarray, " nodes"]]:
        """Nodes and weights for integrals over the continuous part, `points` in each interval.

        Gauss-Chebyshev of the second kind, which has the square roots of the density's ends in its
        weight; in the variable sqrt(x), where the lower end is zero.

        Raises:
            ValueError: `points` below 1.
        """
        if points < 1:
            raise ValueError(f"points: {points}; allowed: at least 1")
        angle = np.arange(1, points + 1) * np.pi / (points + 1)
        slope = np.pi / (points + 1) * np.sin(angle) / 2
        nodes, weights = [], []
        for low, high in self.intervals:
            if low > 1e-8 * high:
                x = low + (high - low) * (1 + np.cos(angle)) / 2
                scale = (high - low) * slope
            else:
                root = np.sqrt(high) * (1 + np.cos(angle)) / 2
                x, scale = root**2, 2 * root * np.sqrt(high) * slope
            nodes.append(x)
            weights.append(scale * self.density(x))
        return np.concatenate(nodes), np.concatenate(weights)


class MarchenkoPastur(SpectralLaw):
    """A with independent entries of mean zero and variance v/n.

    Args:
        ratio: r = d/n.
        variance: v; None: 1/r, for rows of squared norm 1.

    Raises:
        ValueError: numbers that are not positive.

    Example:
        >>> [round(edge, 6) for edge in MarchenkoPastur(0.5).edges]
        [0.171573, 5.828427]
    """

    def __init__(self, ratio: float, variance: float | None = None):
        self.ratio = _positive("ratio", ratio)
        self.variance = 1 / self.ratio if variance is None else _positive("variance", variance)

    @property
    def mean(self) -> float:
        return self.variance

    @property
    def intervals(self) -> list[tuple[float, float]]:
        root = np.sqrt(self.ratio)
        return [(float(self.variance * (1 - root) ** 2), float(self.variance * (1 + root) ** 2))]

    def density(self, x: Float[np.ndarray, " points"]) -> Float[np.ndarray, " points"]:
        low, high = self.edges
        root = np.sqrt(np.maximum((high - x) * (x - low), 0))
        return root / (2 * np.pi * self.ratio * self.variance * x)

    def below(self, z: float) -> float:
        r, zeta = self.ratio, z / self.variance
        b = 1 - r - zeta
        root = np.sqrt(max(b * b - 4 * r * zeta, 0))
        # The branch without cancellation: the product of both roots is 1/(r zeta).
        return 2 / (b + root) / self.variance if b > 0 else (b - root) / (2 * r * z)


class SampleCovariance(SpectralLaw):
    """A = n^-1/2 Z Sigma^1/2, the entries of Z independent of mean 0 and variance 1.

    Args:
        ratio: r = d/n.
        eigenvalues: (g,) of Sigma, positive.
        weights: (g,) their shares of the dimension; None: equal.

    Raises:
        ValueError: numbers that are not positive, weights that do not sum to 1, shapes.

    Example:
        >>> law = SampleCovariance(0.5, [2.0])
        >>> [round(edge, 6) for edge in law.edges]
        [0.171573, 5.828427]
    """

    def __init__(self, ratio: float, eigenvalues: Any, weights: Any = None):
        self.ratio = _positive("ratio", ratio)
        self.eigenvalues = np.asarray(eigenvalues, float)
        g = self.eigenvalues.size
        self.weights = np.full(g, 1 / max(g, 1)) if weights is None else np.asarray(weights, float)
        bad = self.eigenvalues.ndim != 1 or not g or self.weights.shape != (g,)
        if bad or not (np.isfinite(self.eigenvalues).all() and (self.eigenvalues > 0).all()):
            raise ValueError(f"eigenvalues: {eigenvalues}; allowed: (g,) finite and positive")
        if not (self.weights > 0).all() or abs(self.weights.sum() - 1) > 1e-9:
            raise ValueError(f"weights: {weights}; allowed: (g,) positive with sum 1")
        self._ends = self._find_ends()

    @property
    def mean(self) -> float:
        return float(self.weights @ self.eigenvalues)

    @property
    def intervals(self) -> list[tuple[float, float]]:
        return [(max(float(self._x(u)), 0.0), float(self._x(v))) for u, v in self._ends]

    def below(self, z: float) -> float:
        u = self._ends[0][0]
        if z < self._x(u):
            low = u - self.mean
            while self._x(low) > z:
                low = u - 4 * (u - low)
            u = find_root(lambda u: self._x(u) - z, low, u)
        return ((1 - self.ratio) / z - 1 / u) / self.ratio

    def density(self, x: Float[np.ndarray, " points"]) -> Float[np.ndarray, " points"]:
        result = np.zeros(len(x))
        for i, value in enumerate(x):
            for low, high in self._ends:
                if self._x(low) < value < self._x(high):
                    u = find_root(lambda u, at=value: self._point(u)[0].real - at, low, high)
                    _, w = self._point(u)
                    result[i] = (-1 / w).imag / (np.pi * self.ratio)
        return result

    def rule(self, points: int) -> tuple[Float[np.ndarray, " nodes"], Float[np.ndarray, " nodes"]]:
        if points < 1:
            raise ValueError(f"points: {points}; allowed: at least 1")
        # In the variable u, of which x is a smooth function also at the edges; in its root, where
        # the density is infinite at x = 0.
        angle = np.arange(1, points + 1) * np.pi / (points + 1)
        share, change = (1 + np.cos(angle)) / 2, np.sin(angle) / 2 * np.pi / (points + 1)
        nodes, weights = [], []
        for low, high in self._ends:
            hard = self._x(low) <= 1e-8 * self._x(high)
            us = low + (high - low) * (share**2 if hard else share)
            for u, factor in zip(us, 2 * share * change if hard else change, strict=True):
                x, w = self._point(u)
                slope = 1 / (1 / self._slope(w)).real
                density = (-1 / w).imag / (np.pi * self.ratio)
                nodes.append(x.real)
                weights.append(density * slope * (high - low) * factor)
        return np.array(nodes), np.array(weights)

    def _x(self, w: Any) -> Any:
        s = self.eigenvalues
        return w * (1 + self.ratio * (self.weights * s / (w - s)).sum())

    def _slope(self, w: Any) -> Any:
        s = self.eigenvalues
        return 1 - self.ratio * (self.weights * (s / (w - s)) ** 2).sum()

    def _point(self, u: float) -> tuple[complex, complex]:
        """The point x of the continuous part that belongs to Re w = u, and its w."""
        s, strength = self.eigenvalues, self.ratio * self.weights * self.eigenvalues**2

        def excess(height: float) -> float:
            return 1 - (strength / ((u - s) ** 2 + height**2)).sum()

        top = np.sqrt(strength.sum())
        least = 1e-14 * top
        height = find_root(excess, least, top * (1 + 1e-12)) if excess(least) < 0 else least
        w = complex(u, height)
        return self._x(w), w

    def _find_ends(self) -> list[tuple[float, float]]:
        """The real w of the edges, where x' = 0: outside of the s, and in the gaps between them."""
        s = np.unique(self.eigenvalues)
        reach = 2 * np.sqrt(self.ratio) * s[-1]
        tiny = 1e-13 * s[-1]
        ends = [find_root(self._slope, s[0] - reach - tiny, s[0] * (1 - 1e-13))]
        for left, right in itertools.pairwise(s):
            # x' is concave between two poles.
            inner = left + (right - left) * 1e-9, right - (right - left) * 1e-9
            options = {"xatol": 1e-10 * (right - left)}
            found: Any = scipy.optimize.minimize_scalar(
                lambda u: -self._slope(u), bounds=inner, method="bounded", options=options
            )
            if found.fun < 0:
                halves = (inner[0], found.x), (found.x, inner[1])
                ends += [find_root(self._slope, *half) for half in halves]
        ends.append(find_root(self._slope, s[-1] * (1 + 1e-13), s[-1] + reach + tiny))
        return list(zip(ends[::2], ends[1::2], strict=True))


def _positive(name: str, value: float) -> float:
    if not (np.isfinite(value) and value > 0):
        raise ValueError(f"{name}: {value}; allowed: finite and positive")
    return float(value)
