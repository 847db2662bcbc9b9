"""Laws mu of the eigenvalues of A^T A as n and d grow at a fixed ratio r = d/n.

`MarchenkoPastur` is the law for independent entries, `SampleCovariance` that of sample covariances,
A = n^-1/2 Z Sigma^1/2.  `law_modes` makes a limit of a law, and `analysis.py` and `rates.py` its
exponents and rates.

Let H be the law of the eigenvalues of Sigma.  The companion transform of mu is -1/w, where w solves
(Silverstein 1995, Silverstein and Choi 1995)

    z = w (1 + r S),     S = int s/(w - s) dH(s).

Integrals over mu are integrals over H at this w:

    int dmu/(x - z) = int dH/(s - w)/(1 + r S),
    int x^2 dmu/(x - z) = int s^2/(s - w) dH - r w S^2.

For Marchenko-Pastur H is one point.  Outside of the support of mu, w is real, and z increases with
w; the edges of the support are the real w with dz/dw = 0.  A point x inside has w = u + i h with
r int s^2/((u - s)^2 + h^2) dH = 1, which has one solution h > 0 for each u between two edges.

mu is normalised by d: its mass is 1, of which max(0, 1 - 1/r) is an atom at zero.
"""

import abc
import itertools
from typing import Any

import jax
import numpy as np
import scipy
from jaxtyping import Float

from hdjax.checks import checked
from hdjax.multipass._roots import find_root
from hdjax.registry import PositiveFloat, Positives
from hdjax.spectra import marchenko_pastur

__all__ = [
    "MarchenkoPastur",
    "SampleCovariance",
    "SpectralLaw",
]


class SpectralLaw(abc.ABC):
    """A continuous law mu of the eigenvalues of A^T A, with an atom at zero for r > 1.

    Attributes:
        ratio: r = d/n.
        eigenvalues: (g,) the eigenvalues s of Sigma.
        weights: (g,) their shares of the dimension: the law H.
    """

    ratio: float
    eigenvalues: Float[np.ndarray, " g"]
    weights: Float[np.ndarray, " g"]

    @property
    def mean(self) -> float:
        """The mean tr A^T A/d of mu."""
        return float(self.weights @ self.eigenvalues)

    @property
    @abc.abstractmethod
    def intervals(self) -> list[tuple[float, float]]:
        """The intervals of the support of the continuous part, in increasing order."""

    @abc.abstractmethod
    def density(self, x: Float[np.ndarray, " points"]) -> Float[np.ndarray, " points"]:
        """The density of the continuous part at the points x, normalised by d."""

    @abc.abstractmethod
    def companion(self, z: float) -> float:
        """The real w that belongs to a real z outside of the continuous part.

        A z that rounding has moved past an edge gets the w of the edge.
        """

    @abc.abstractmethod
    def rule(self, points: int) -> tuple[Float[np.ndarray, " nodes"], Float[np.ndarray, " nodes"]]:
        """A quadrature rule for integrals over the continuous part.

        Args:
            points: number of nodes in each interval.

        Returns:
            Nodes x and weights, whose sum is the mass of the continuous part.

        Raises:
            ValueError: `points` is below 1.
        """

    def below(self, z: float) -> float:
        """The Stieltjes transform int dmu(x)/(x - z) at a z != 0 below the continuous part."""
        s, p, w = self.eigenvalues, self.weights, self.companion(z)
        return float(np.sum(p / (s - w)) / (1 + self.ratio * np.sum(p * s / (w - s))))

    @property
    def edges(self) -> tuple[float, float]:
        """The smallest and the largest point of the continuous part."""
        intervals = self.intervals
        return intervals[0][0], intervals[-1][1]

    def second(self, z: float) -> float:
        """The integral int x^2/(x - z) dmu(x) at a z below or above the continuous part."""
        s, p, w = self.eigenvalues, self.weights, self.companion(z)
        return float(np.sum(p * s**2 / (s - w)) - self.ratio * w * np.sum(p * s / (w - s)) ** 2)


@checked
class MarchenkoPastur(SpectralLaw):
    """The law of A^T A for a matrix A with independent entries of mean zero and variance v/n.

    Args:
        ratio: r = d/n.
        variance: v; None: 1/r, for rows of squared norm 1.

    Raises:
        ValueError: a number that is not positive.

    Example:
        >>> [round(edge, 6) for edge in MarchenkoPastur(0.5).edges]
        [0.171573, 5.828427]
    """

    def __init__(self, ratio: PositiveFloat, variance: PositiveFloat | None = None):
        self.ratio = _positive("ratio", ratio)
        self.variance = 1 / self.ratio if variance is None else _positive("variance", variance)
        self.eigenvalues, self.weights = np.array([self.variance]), np.ones(1)

    @property
    def intervals(self) -> list[tuple[float, float]]:
        root = np.sqrt(self.ratio)
        return [(float(self.variance * (1 - root) ** 2), float(self.variance * (1 + root) ** 2))]

    def density(self, x: Float[np.ndarray, " points"]) -> Float[np.ndarray, " points"]:
        low, high = self.edges
        root = np.sqrt(np.maximum((high - x) * (x - low), 0))
        return root / (2 * np.pi * self.ratio * self.variance * x)

    def companion(self, z: float) -> float:
        # w^2 - b w + v z = 0; w is the larger root above the continuous part, the smaller below.
        v = self.variance
        b = v * (1 - self.ratio) + z
        root = np.sqrt(max(b * b - 4 * v * z, 0))
        far = (b + root if b > 0 else b - root) / 2
        above = z > v * (1 + self.ratio)
        # The product of both roots is v z, which gives the other root without cancellation.
        return float(far if above == (b > 0) else v * z / far)

    def rule(self, points: int) -> tuple[Float[np.ndarray, " nodes"], Float[np.ndarray, " nodes"]]:
        # For r > 1 the rule is that of A A^T, which has no atom.  The nodes of a law are concrete,
        # also within a traced function, and have 64 bits.
        _check_points(points)
        wide = max(self.ratio, 1.0)
        with jax.enable_x64(True), jax.ensure_compile_time_eval():
            found = marchenko_pastur(1, self.ratio / wide**2, points=points)
            nodes, weights = np.asarray(found.eigenvalues), np.asarray(found.weights)
        return self.variance * wide * nodes, weights / wide


@checked
class SampleCovariance(SpectralLaw):
    """The law of A^T A for A = n^-1/2 Z Sigma^1/2, with a matrix Z of independent entries.

    The entries of Z have mean 0 and variance 1.

    Args:
        ratio: r = d/n.
        eigenvalues: (g,) the eigenvalues of Sigma, positive.
        weights: (g,) their shares of the dimension, summing to 1; None: equal shares.

    Raises:
        ValueError: numbers that are not positive, weights that do not sum to 1, or wrong shapes.

    Example:
        >>> law = SampleCovariance(0.5, [2.0])
        >>> [round(edge, 6) for edge in law.edges]
        [0.171573, 5.828427]
    """

    def __init__(
        self, ratio: PositiveFloat, eigenvalues: Positives, weights: Positives | None = None
    ):
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
    def intervals(self) -> list[tuple[float, float]]:
        return [(max(float(self._x(u)), 0.0), float(self._x(v))) for u, v in self._ends]

    def companion(self, z: float) -> float:
        low, high = self._ends[0][0], self._ends[-1][1]
        side, end = (1, high) if z > (self._x(low) + self._x(high)) / 2 else (-1, low)
        if side * (z - self._x(end)) <= 0:
            return end
        reach = self.mean
        while side * (z - self._x(end + side * reach)) > 0:
            reach *= 4
        return find_root(lambda w: self._x(w) - z, *sorted((end, end + side * reach)))

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
        _check_points(points)
        # Equal steps in an angle phi with u = low + (high - low) sin^2 phi, in which nothing is
        # singular at the edges.  Near an edge close to zero, where the density has a thin layer,
        # tan phi = scale tan psi brings the nodes together.
        step = np.pi / (2 * points + 1)
        tangent = 1 / np.tan(step * np.arange(1, points + 1))
        nodes, weights = [], []
        for (low, high), (left, right) in zip(self._ends, self.intervals, strict=True):
            scale = np.clip((left / right) ** 0.25, min(10 / points, 1), 1)
            square = (scale * tangent) ** 2
            share = square / (1 + square)
            change = 2 * step * scale * (1 + tangent**2) * np.sqrt(square) / (1 + square) ** 2
            for u, factor in zip(low + (high - low) * share, change, strict=True):
                x, w = self._point(u)
                slope = 1 / (1 / self._slope(w)).real
                density = (-1 / w).imag / (np.pi * self.ratio)
                nodes.append(x.real)
                weights.append(density * slope * (high - low) * factor)
        return np.array(nodes), np.array(weights)

    def _x(self, w: Any) -> Any:
        """The z that belongs to w."""
        s = self.eigenvalues
        return w * (1 + self.ratio * (self.weights * s / (w - s)).sum())

    def _slope(self, w: Any) -> Any:
        """The derivative dz/dw at w."""
        s = self.eigenvalues
        return 1 - self.ratio * (self.weights * (s / (w - s)) ** 2).sum()

    def _point(self, u: float) -> tuple[complex, complex]:
        """The point x of the continuous part whose w has real part u, and this w."""
        s, strength = self.eigenvalues, self.ratio * self.weights * self.eigenvalues**2

        def excess(height: float) -> float:
            return 1 - (strength / ((u - s) ** 2 + height**2)).sum()

        top = np.sqrt(strength.sum())
        least = 1e-14 * top
        height = find_root(excess, least, top * (1 + 1e-12)) if excess(least) < 0 else least
        w = complex(u, height)
        return self._x(w), w

    def _find_ends(self) -> list[tuple[float, float]]:
        """The real w of the edges, in pairs: zeros of dz/dw outside of the s and in their gaps."""
        s = np.unique(self.eigenvalues)
        reach = 2 * np.sqrt(self.ratio) * s[-1]
        tiny = 1e-13 * s[-1]
        ends = [find_root(self._slope, s[0] - reach - tiny, s[0] * (1 - 1e-13))]
        for left, right in itertools.pairwise(s):
            # dz/dw is concave between two neighbouring eigenvalues s, where it has poles.
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


def _check_points(points: int) -> None:
    """Raise ValueError if a quadrature rule would have no points."""
    if points < 1:
        raise ValueError(f"points: {points}; allowed: at least 1")


def _positive(name: str, value: float) -> float:
    """`value` as a float; raises ValueError if it is not finite and positive."""
    if not (np.isfinite(value) and value > 0):
        raise ValueError(f"{name}: {value}; allowed: finite and positive")
    return float(value)
