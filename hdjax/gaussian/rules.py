"""Nodes and weights for E[f(z)] = int f(z) exp(-|z|^2/2) dz / (2 pi)^(n/2), z in R^n.

    E[f(z)] ~ sum_i w_i f(z_i),   sum_i w_i = 1.

The trapezoid rule of spacing h has an error of order exp(-2 pi a / h) for f analytic in the strip
|Im z| < a: for the logistic function of sqrt(Q) z this is exp(-2 pi^2 / (h sqrt Q)), where
Gauss-Hermite has lost all digits by Q = 100 (L. N. Trefethen, J. A. C. Weideman, "The exponentially
convergent trapezoidal rule", SIAM Review 56, 2014).

A rule is a frozen, hashable record of its parameters: it can be a static field of a module, and
its nodes are constants of the compiled program.
"""

import abc
import dataclasses
import functools
import math

import numpy as np
import scipy
from jax.typing import DTypeLike
from jaxtyping import Array, Float

Nodes = tuple[Float[np.ndarray, "nodes dim"], Float[np.ndarray, " nodes"]]


@dataclasses.dataclass(frozen=True)
class Rule(abc.ABC):
    """A way to choose nodes and weights, for any number of variables."""

    def nodes(self, dim: int, dtype: DTypeLike = np.float64) -> Nodes:
        """Nodes (N, dim) and positive weights (N,) that sum to one.

        Args:
            dim: number of variables; with none there is one node, of weight 1.
            dtype: floating dtype of both.

        Raises:
            ValueError: a negative `dim`.
        """
        if dim < 0:
            raise ValueError(f"dim: {dim}; allowed: 0 or more variables")
        return _cached_nodes(self, dim, np.dtype(dtype))

    @abc.abstractmethod
    def unnormalised(self, dim: int) -> Nodes:
        """The nodes in float64, for `dim` > 0; the weights need not be normalised."""

    @abc.abstractmethod
    def references(self) -> tuple["Rule", ...]:
        """Rules whose disagreement with this one measures its error."""

    @abc.abstractmethod
    def disagreement(self, values: Array | np.ndarray) -> Array | np.ndarray:
        """The error in this rule's value, `values[0]`, given those of its references (the rest)."""


@dataclasses.dataclass(frozen=True)
class Trapezoid(Rule):
    """Tensor trapezoid rule in the ball of a radius: accurate for large logits, usable for kinks.

    For an even number of points no node has a coordinate 0, so a jump there is cut in the middle,
    and what is singular there is not evaluated at its singularity.

    Args:
        points: nodes per variable; the spacing is h = 2 radius / points.
        radius: nodes beyond it are dropped. The weight of what is left out is of order
            exp(-radius^2 / 2), 2e-16 for the default.

    Raises:
        ValueError: `points` below 1, `radius` not positive and finite.

    Example:
        >>> z, w = Trapezoid(1024).nodes(dim=1)
        >>> bool(abs((w * z[:, 0] ** 4).sum() - 3) < 1e-12)
        True
    """

    points: int
    radius: float = 8.5

    def __post_init__(self):
        _at_least("points", self.points, 1)
        if not 0 < self.radius < math.inf:
            raise ValueError(f"radius: {self.radius}; allowed: positive and finite")

    def unnormalised(self, dim: int) -> Nodes:
        """Midpoints of cells, as far as they are in the ball."""
        spacing = 2 * self.radius / self.points
        line = (np.arange(self.points) - (self.points - 1) / 2) * spacing
        z = _tensor(line, dim)
        square = (z**2).sum(1)
        inside = square <= self.radius**2
        return z[inside], np.exp(-square[inside] / 2)

    def references(self) -> tuple[Rule, ...]:
        """The rule with half the points."""
        return (Trapezoid(max(self.points // 2, 1), self.radius),)

    def disagreement(self, values: Array | np.ndarray) -> Array | np.ndarray:
        """The difference of the two."""
        return abs(values[1] - values[0])


@dataclasses.dataclass(frozen=True)
class GaussHermite(Rule):
    """Tensor Gauss-Hermite rule: exact for polynomials of degree 2 points - 1, bad for kinks.

    Args:
        points: nodes per variable. Nodes of a weight below 1e-20 of the largest are dropped.

    Raises:
        ValueError: `points` below 1 or above 256.

    Example:
        >>> z, w = GaussHermite(20).nodes(dim=2)
        >>> bool(abs((w * z[:, 0] ** 2 * z[:, 1] ** 2).sum() - 1) < 1e-12)
        True
    """

    points: int

    def __post_init__(self):
        _at_least("points", self.points, 1)
        if self.points > 256:
            raise ValueError(f"points: {self.points}; allowed: up to 256 (use Trapezoid beyond)")

    def unnormalised(self, dim: int) -> Nodes:
        """Tensor products of the nodes of one variable."""
        line, weights = np.polynomial.hermite_e.hermegauss(self.points)
        z, w = _tensor(line, dim), _tensor(weights, dim).prod(1)
        keep = w > 1e-20 * w.max()
        return z[keep], w[keep]

    def references(self) -> tuple[Rule, ...]:
        """A trapezoid rule."""
        # Another kind of rule: for kinks, Gauss-Hermite rules agree long before they are right.
        return (Trapezoid(max(2 * self.points, 16)),)

    def disagreement(self, values: Array | np.ndarray) -> Array | np.ndarray:
        """The difference of the two."""
        return abs(values[1] - values[0])


@dataclasses.dataclass(frozen=True)
class QMC(Rule):
    """Scrambled Sobol points mapped to normals, together with their mirror images -z.

    The points are fixed by the seed, so that a differential equation whose right-hand side uses
    them is deterministic. Odd moments vanish exactly; the others err by about 1e-3 to 1e-4.

    Args:
        log2_points: 2^log2_points nodes, mirror images included.
        seed: of the scrambling.
        replicates: independent randomisations that the error estimate compares.

    Raises:
        ValueError: `log2_points` outside 1 to 24, a negative `seed`, fewer than 2 `replicates`.

    Example:
        >>> z, w = QMC(log2_points=10).nodes(dim=5)
        >>> z.shape
        (1024, 5)
    """

    log2_points: int = 13
    seed: int = 0
    replicates: int = 8

    def __post_init__(self):
        _at_least("log2_points", self.log2_points, 1)
        _at_least("seed", self.seed, 0)
        _at_least("replicates", self.replicates, 2)
        if self.log2_points > 24:
            raise ValueError(f"log2_points: {self.log2_points}; allowed: up to 24")

    def unnormalised(self, dim: int) -> Nodes:
        """Sobol points and their mirror images."""
        sobol = scipy.stats.qmc.Sobol(dim, bits=30, rng=self.seed)
        # Points are multiples of 2^-30: the middle of the cell keeps them off 0 and 1.
        uniform = sobol.random_base2(self.log2_points - 1) + 2.0**-31
        z = scipy.special.ndtri(uniform)
        return np.concatenate([z, -z]), np.ones(2 * len(z))

    def references(self) -> tuple[Rule, ...]:
        """The same points with other scramblings."""
        # Far from neighbouring seeds, which a user may have in use as other randomisations.
        seeds = np.random.SeedSequence(self.seed).generate_state(self.replicates - 1)
        return tuple(dataclasses.replace(self, seed=int(seed)) for seed in seeds)

    def disagreement(self, values: Array | np.ndarray) -> Array | np.ndarray:
        """The standard deviation."""
        return values.std(axis=0, ddof=1)


def default_rule(dim: int) -> Rule:
    """The rule that `expectation` takes for so many variables.

    Trapezoid rules for 1, 2 and 3 variables, with which the logistic function of logits of standard
    deviation 30, 4 and 2 is integrated to about 1e-14, 1e-14 and 1e-10, and of 100, 10 and 5 to
    3e-4, 2e-5 and 8e-4; scrambled Sobol points above.

    Args:
        dim: number of variables.
    """
    points = {0: 1, 1: 1024, 2: 128, 3: 48}
    return Trapezoid(points[dim]) if dim in points else QMC()


@functools.lru_cache(maxsize=64)
def _cached_nodes(rule: Rule, dim: int, dtype: np.dtype) -> Nodes:
    z, w = rule.unnormalised(dim) if dim else (np.zeros((1, 0)), np.ones(1))
    z, w = z.astype(dtype), (w / w.sum()).astype(dtype)
    # The cache hands out the same arrays again.
    z.flags.writeable = w.flags.writeable = False
    return z, w


def _tensor(line: np.ndarray, dim: int) -> np.ndarray:
    return np.stack(np.meshgrid(*[line] * dim, indexing="ij"), axis=-1).reshape(-1, dim)


def _at_least(name: str, value: int, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise ValueError(f"{name}: {value!r}; allowed: an integer of at least {least}")
