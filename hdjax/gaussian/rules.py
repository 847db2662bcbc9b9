"""Quadrature rules for E[f(z)] = int f(z) exp(-|z|^2/2) dz / (2 pi)^(n/2), z in R^n.

    E[f(z)] ~ sum_i w_i f(z_i),   sum_i w_i = 1.

Users choose a rule as the `rule` of a loss. The trapezoid rule of spacing h has an error of order
exp(-2 pi a / h) for f analytic in the strip |Im z| < a (L. N. Trefethen, J. A. C. Weideman, "The
exponentially convergent trapezoidal rule", SIAM Review 56, 2014). For the logistic function of
sqrt(Q) z the error is exp(-2 pi^2 / (h sqrt Q)), while a Gauss-Hermite rule has no correct digit at
Q = 100.

A rule is a frozen, hashable record of its parameters. It can be a static field of a module, and its
nodes are constants of the compiled program.
"""

import abc
import dataclasses
import functools
import math

import numpy as np
import scipy
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from hdjax.checks import checked
from hdjax.registry import Count, PositiveFloat, Size

Nodes = tuple[Float[np.ndarray, "nodes dim"], Float[np.ndarray, " nodes"]]


@dataclasses.dataclass(frozen=True)
class Rule(abc.ABC):
    """The base class of rules, which give nodes and weights for any number of variables."""

    def nodes(self, dim: int, dtype: DTypeLike = np.float64) -> Nodes:
        """The nodes (N, dim) and the positive weights (N,), whose sum is one.

        Args:
            dim: number of variables; for 0 variables there is one node of weight 1.
            dtype: floating dtype of nodes and weights.

        Raises:
            ValueError: a negative `dim`.
        """
        if dim < 0:
            raise ValueError(f"dim: {dim}; allowed: 0 or more variables")
        return _cached_nodes(self, dim, np.dtype(dtype))

    @abc.abstractmethod
    def unnormalised(self, dim: int) -> Nodes:
        """The nodes and weights in float64 for `dim` > 0; weights need not be normalised."""

    @abc.abstractmethod
    def references(self) -> tuple["Rule", ...]:
        """The rules whose disagreement with this rule measures its error."""

    @abc.abstractmethod
    def disagreement(self, values: Array | np.ndarray) -> Array | np.ndarray:
        """The error of the value of this rule, `values[0]`.

        `values[1:]` are the values of its references.
        """


@checked
@dataclasses.dataclass(frozen=True)
class Trapezoid(Rule):
    """The tensor trapezoid rule in a ball; it is accurate for large logits and usable for kinks.

    For an even number of points no node has a coordinate 0: a jump at 0 is halfway between nodes,
    and a function that is singular at 0 is not evaluated there.

    Args:
        points: number of nodes per variable; the spacing is h = 2 radius / points.
        radius: radius of the ball; nodes outside it are dropped. The weight outside is of order
            exp(-radius^2 / 2), 2e-16 for the default.

    Raises:
        ValueError: `points` below 1, `radius` not positive and finite.

    Example:
        >>> z, w = Trapezoid(1024).nodes(dim=1)
        >>> bool(abs((w * z[:, 0] ** 4).sum() - 3) < 1e-12)
        True
    """

    points: Size
    radius: PositiveFloat = 8.5

    def __post_init__(self):
        _at_least("points", self.points, 1)
        if not 0 < self.radius < math.inf:
            raise ValueError(f"radius: {self.radius}; allowed: positive and finite")

    def unnormalised(self, dim: int) -> Nodes:
        """The midpoints of cells that are in the ball, with weights exp(-|z|^2 / 2)."""
        spacing = 2 * self.radius / self.points
        line = (np.arange(self.points) - (self.points - 1) / 2) * spacing
        z = _tensor(line, dim)
        square = (z**2).sum(1)
        inside = square <= self.radius**2
        return z[inside], np.exp(-square[inside] / 2)

    def references(self) -> tuple[Rule, ...]:
        """The trapezoid rule with half the points."""
        return (Trapezoid(max(self.points // 2, 1), self.radius),)

    def disagreement(self, values: Array | np.ndarray) -> Array | np.ndarray:
        """The difference of the values of the two rules."""
        return abs(values[1] - values[0])


@checked
@dataclasses.dataclass(frozen=True)
class GaussHermite(Rule):
    """The tensor Gauss-Hermite rule, which is exact for polynomials of degree 2 points - 1.

    It is inaccurate for functions with kinks and for large logits.

    Args:
        points: number of nodes per variable. Nodes with a weight below 1e-20 of the largest are
            dropped.

    Raises:
        ValueError: `points` below 1 or above 256.

    Example:
        >>> z, w = GaussHermite(20).nodes(dim=2)
        >>> bool(abs((w * z[:, 0] ** 2 * z[:, 1] ** 2).sum() - 1) < 1e-12)
        True
    """

    points: Size

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
        """A trapezoid rule with twice the points."""
        # The reference is of another kind, because for functions with kinks Gauss-Hermite rules
        # agree with each other long before they are accurate.
        return (Trapezoid(max(2 * self.points, 16)),)

    def disagreement(self, values: Array | np.ndarray) -> Array | np.ndarray:
        """The difference of the values of the two rules."""
        return abs(values[1] - values[0])


@checked
@dataclasses.dataclass(frozen=True)
class QMC(Rule):
    """Quasi-Monte Carlo: scrambled Sobol points mapped to normals z, with their mirror images -z.

    The seed determines the points, so that a differential equation whose right-hand side uses them
    is deterministic. Odd moments vanish exactly; other moments have errors of about 1e-4 to 1e-3.

    Args:
        log2_points: logarithm of the number of nodes, 2^log2_points with the mirror images.
        seed: seed of the scrambling.
        replicates: number of independent randomisations that the error estimate compares.

    Raises:
        ValueError: `log2_points` outside 1 to 24, a negative `seed`, fewer than 2 `replicates`.

    Example:
        >>> z, w = QMC(log2_points=10).nodes(dim=5)
        >>> z.shape
        (1024, 5)
    """

    log2_points: Size = 13
    seed: Count = 0
    replicates: Size = 8

    def __post_init__(self):
        _at_least("log2_points", self.log2_points, 1)
        _at_least("seed", self.seed, 0)
        _at_least("replicates", self.replicates, 2)
        if self.log2_points > 24:
            raise ValueError(f"log2_points: {self.log2_points}; allowed: up to 24")

    def unnormalised(self, dim: int) -> Nodes:
        """The Sobol points and their mirror images, with equal weights."""
        sobol = scipy.stats.qmc.Sobol(dim, bits=30, rng=self.seed)
        # Points are multiples of 2^-30, and a shift to the middle of the cell keeps them off 0, 1.
        uniform = sobol.random_base2(self.log2_points - 1) + 2.0**-31
        z = scipy.special.ndtri(uniform)
        return np.concatenate([z, -z]), np.ones(2 * len(z))

    def references(self) -> tuple[Rule, ...]:
        """The rules with other seeds of the scrambling."""
        # These seeds differ from neighbouring seeds, which a user may use for randomisations.
        seeds = np.random.SeedSequence(self.seed).generate_state(self.replicates - 1)
        return tuple(dataclasses.replace(self, seed=int(seed)) for seed in seeds)

    def disagreement(self, values: Array | np.ndarray) -> Array | np.ndarray:
        """The standard deviation of the values."""
        return values.std(axis=0, ddof=1)


@checked
def default_rule(dim: Count) -> Rule:
    """The rule that `expectation` takes for a number of variables.

    For 1, 2 and 3 variables it is a trapezoid rule. Its error for the logistic function of logits
    is about 1e-14, 1e-14 and 1e-10 at standard deviations of 30, 4 and 2, and 3e-4, 2e-5 and 8e-4
    at standard deviations of 100, 10 and 5. For more variables it is quasi-Monte Carlo.

    Args:
        dim: number of variables.
    """
    points = {0: 1, 1: 1024, 2: 128, 3: 48}
    return Trapezoid(points[dim]) if dim in points else QMC()


@functools.lru_cache(maxsize=64)
def _cached_nodes(rule: Rule, dim: int, dtype: np.dtype) -> Nodes:
    z, w = rule.unnormalised(dim) if dim else (np.zeros((1, 0)), np.ones(1))
    z, w = z.astype(dtype), (w / w.sum()).astype(dtype)
    # The cache returns the same arrays again, so they must not be written to.
    z.flags.writeable = w.flags.writeable = False
    return z, w


def _tensor(line: np.ndarray, dim: int) -> np.ndarray:
    return np.stack(np.meshgrid(*[line] * dim, indexing="ij"), axis=-1).reshape(-1, dim)


def _at_least(name: str, value: int, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise ValueError(f"{name}: {value!r}; allowed: an integer of at least {least}")
