"""What all systems of the family share: the target, the dimension, the start and the statistics.

    F*(x) = f*(W*^T x),  x ~ N(0, I_d),  W* in St(d, r);   student F(x) = f(W^T x),  W in St(d, q);
    M = W^T W* (q, r),   G = M^T M with the squared cosines of the principal angles as eigenvalues.

The loss is E (F - F*)^2, without the factor 1/2.  Source: arXiv 2310.19793.
"""

import abc
import warnings
from collections.abc import Mapping

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from hdjax.checks import Checked, checked, is_concrete
from hdjax.multiindex.links.link import Link
from hdjax.multiindex.small import product
from hdjax.multiindex.starts import haar_overlap, small_overlap
from hdjax.multiindex.tensors import Tensors, squared_norm
from hdjax.registry import Dimension, Size, Values
from hdjax.system import Method, Simulator, System

LABELS: Mapping[str, str] = {
    "loss": "loss E(F − F*)²",
    "cosines": "squared cosines of the principal angles",
    "overlaps": "overlaps W^T W*",
    "recovered": "all squared cosines above 1/2",
    "trapped": "loss above 1 % of |f*|²",
}
DETERMINISTIC = (
    "it is deterministic given its start, and the overlap of a Haar start is of order d^{-1/2}; "
    "compare with start='realised'"
)
# A loss counts as trapped above the truncation residual plus this share of |f*|^2.
_TRAPPED = 0.01


class OverlapSummary(eqx.Module):
    """The summary of a state: its overlap, and what statistics need beside it.

    Attributes:
        matrix: the overlap M = W^T W* (q, r).
        gap: K = I - M^T M (r, r), without cancellation near recovery where the state allows it.
        readout: Hermite tensors of the student's link where the link moves, otherwise None.
    """

    matrix: Float[Array, "q r"]
    gap: Float[Array, "r r"]
    readout: Tensors | None = None

    @classmethod
    @checked
    def of(cls, matrix: Float[Array, "q r"], readout: Tensors | None = None) -> "OverlapSummary":
        """The summary of an overlap M, whose gap I - M^T M is computed from M."""
        gram = product(matrix.T, matrix)
        return cls(matrix, jnp.eye(matrix.shape[1], dtype=matrix.dtype) - gram, readout)

    @property
    def cosines(self) -> Float[Array, " r"]:
        """Squared cosines of the r principal angles, largest first; 0 beyond the first q."""
        q, r = self.matrix.shape
        values = jnp.linalg.svd(self.matrix, compute_uv=False) ** 2
        return jnp.concatenate([values, jnp.zeros(max(r - q, 0), values.dtype)])


class Algorithm(System):
    """A system that is one algorithm, which the method `Direct` runs."""

    @abc.abstractmethod
    def direct(self) -> Simulator:
        """The simulator of the algorithm."""


class Direct(Method):
    """The method that runs a system's own algorithm: descent, SGD, or the flow between saddles.

    Example:
        >>> method = hd.multiindex.Direct()
    """

    def simulator(self, system: Algorithm, horizon: None = None) -> Simulator:
        """The simulator of `system`."""
        return system.direct()


def check_overlap(matrix: Float[Array, "q r"]) -> None:
    """Raise ValueError unless a concrete M is finite, with squared cosines of at most 1."""
    if not is_concrete(matrix):
        return
    values = np.asarray(matrix)
    if not np.isfinite(values).all():
        raise ValueError("start: NaN or infinite entries; allowed: finite numbers")
    cosine = float(np.linalg.norm(values, 2)) ** 2
    if not cosine <= 1 + 1e-6:
        raise ValueError(f"start: largest squared cosine {cosine:.6g}; allowed: at most 1")


class Problem(Checked):
    """A multi-index model in dimension d, and the law of its start.

    Args:
        link: f*, the link of the target.
        dimension: d, at least q and r; an int where arrays of size d are made.
        directions: q, the number of student columns; None: r.
        start: the overlap M at the start (q, r); None: that of a Haar start, exact at any d.

    Raises:
        ValueError, TypeError: an argument has a value or a type that is not allowed.

    Example:
        >>> import hdjax as hd
        >>> problem = Problem(hd.multiindex.links.sine(), dimension=100)
    """

    link: Link
    dimension: Float[Array, ""]
    matrix: Float[Array, "q r"] | None
    directions: int = eqx.field(static=True)
    size: int | None = eqx.field(static=True)

    def __init__(
        self,
        link: Link,
        dimension: Dimension,
        directions: Size | None = None,
        start: Values | None = None,
    ):
        if not isinstance(link, Link):
            raise TypeError(f"link: {link!r}; allowed: a Link of hdjax.multiindex")
        dtype = jnp.result_type(float)
        self.link = link
        self.dimension = jnp.asarray(dimension, dtype)
        self.size = int(dimension) if isinstance(dimension, int | np.integer) else None
        self.matrix = None if start is None else jnp.asarray(start, dtype)
        if self.matrix is not None and self.matrix.ndim != 2:
            raise ValueError(f"start: shape {self.matrix.shape}; allowed: (q, r), M = W^T W*")
        rows = link.variables if self.matrix is None else self.matrix.shape[0]
        self.directions = rows if directions is None else int(directions)
        self.check()

    def check(self) -> None:
        """Raise ValueError if the concrete values do not make a multi-index problem."""
        q, r = self.directions, self.link.variables
        if q < 1:
            raise ValueError(f"directions: {q}; allowed: at least 1")
        if all(tensor is None for tensor in self.link.tensors[1:]) or (
            is_concrete(self.link) and float(squared_norm(self.link.tensors[1:])) == 0
        ):
            raise ValueError("link: constant, so that nothing flows; allowed: a function of z")
        if is_concrete(self.dimension):
            d = float(self.dimension)
            if not d >= max(q, r):
                raise ValueError(f"dimension: {d:g}; allowed: at least q = {q} and r = {r}")
            if self.matrix is None and d < q + r and self.size is None:
                raise ValueError(
                    f"dimension: {d:g} as an array; allowed: an int, or at least q + r = {q + r}"
                )
        if self.matrix is None:
            return
        if self.matrix.shape != (q, r):
            raise ValueError(f"start: shape {self.matrix.shape}; allowed: {(q, r)}, M = W^T W*")
        check_overlap(self.matrix)

    def warn(self, *, profiled: bool) -> None:
        """Warn of a concrete problem in which some directions are never found."""
        q, r = self.directions, self.link.variables
        if q < r:
            warnings.warn(
                f"directions: {q}; advised: at least r = {r}, because the rank of G never exceeds "
                f"{q} and bad local minima appear even for the profiled flow",
                stacklevel=4,
            )
        if self.matrix is not None and is_concrete(self.matrix) and q >= r and profiled:
            smallest = np.linalg.svd(np.asarray(self.matrix), compute_uv=False).min()
            if smallest == 0:
                warnings.warn(
                    "start: det G = 0; advised: an overlap M of full rank, because a direction "
                    "without overlap is never learnt",
                    stacklevel=4,
                )

    def sample(self, key: Key[Array, ""]) -> Float[Array, "q r"]:
        """Draw the overlap M at the start of one run."""
        if self.matrix is not None:
            return self.matrix
        q, r = self.directions, self.link.variables
        if self.size is not None and self.size < q + r:
            return small_overlap(key, self.size, q, r).astype(self.dimension.dtype)
        return haar_overlap(key, self.dimension, q, r)

    def start(self) -> Float[Array, "q r"]:
        """The overlap M at the start as d grows: 0 for a Haar start."""
        if self.matrix is not None:
            return self.matrix
        return jnp.zeros((self.directions, self.link.variables), self.dimension.dtype)

    @property
    def target(self) -> Float[Array, "d r"]:
        """The columns W* in R^d: the first r coordinate vectors."""
        return jnp.eye(self.coordinates(), self.link.variables, dtype=self.dimension.dtype)

    def coordinates(self) -> int:
        """The dimension d as an int, for the shapes of arrays in R^d.

        Raises:
            ValueError: the dimension was given as an array.
        """
        if self.size is None:
            raise ValueError("dimension: an array; allowed: an int, as R^d itself is simulated")
        return self.size

    def statistics(self, summary: OverlapSummary, loss: Float[Array, ""]) -> dict[str, Array]:
        """The loss, the squared cosines, the overlaps and the indicators `recovered` and `trapped`.

        `recovered` is 1 where every squared cosine exceeds 1/2, and `trapped` is 1 where the loss
        exceeds the truncation residual by 1 % of |f*|^2.  A direction that f* does not depend on is
        never found: judge such a link by `trapped`.
        """
        cosines = summary.cosines
        dtype = cosines.dtype
        floor = self.link.residual + _TRAPPED * self.link.norm2
        return {
            "loss": loss,
            "cosines": cosines,
            "overlaps": summary.matrix,
            "recovered": (cosines[-1] > 0.5).astype(dtype),
            "trapped": (loss > floor).astype(dtype),
        }
