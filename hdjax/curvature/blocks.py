"""Statistics of a block of the Hessian or gradient covariance: measured in a run, and predicted.

`Alignment` has these statistics, with the same names on both sides.  For the block of a column c (a
class, a neuron), with E the space of its `rank` largest eigenvalues:

    outliers   the `rank` largest eigenvalues       (theory: the edge, where there are fewer)
    edge       the next eigenvalue                  (theory: the edge, where there are no more)
    largest    the next eigenvalue                  (theory: its mean at this d instead of the edge)
    student    the share |P_E x_c|/|x_c| of the column in E
    cosines    principal cosines of E and span(means)
    gap        (smallest outlier - edge)/edge
    spread     (edge - b)/(smallest outlier - b), b the block's mean eigenvalue: the width of the
               bulk, which is a point for n >> d
    no_separation, unconcentrated     1 where gap < 0.1, and where spread > 1/2

For the block of side parameters: its eigenvalues (`eigenvalues`), the number of those above a third
of the largest (`rank`), the share of theta in the space of the `Block.rank` largest (`student`),
and its share in the space of those above a third (`aligned`).

Source: "Spectral alignment of SGD" (arXiv 2310.03010), whose results fail without separation of the
outliers, without concentration of the matrices, and for parameters outside the means' span
(`outside_means`).
"""

from typing import Annotated

import equinox as eqx
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Key, PyTree

from hdjax import precise
from hdjax.checks import Checked, checked
from hdjax.curvature.alignment import principal_cosines, share
from hdjax.curvature.law import Quadrature, small_weights
from hdjax.curvature.matrices import empirical
from hdjax.curvature.solvers import top_space
from hdjax.curvature.theory import block_theory
from hdjax.curvature.weights import Kind, check_kind
from hdjax.registry import Count, OneOf, Positive, Size, register
from hdjax.streaming import GramSummary, OnePassSGD
from hdjax.streaming.samples import Samples

__all__ = [
    "measured",
    "predicted",
]

# Below this gap, or above this spread, the space of a block's outliers is not separated.
SEPARATION, CONCENTRATION = 0.1, 0.5
# Eigenvalues of the finite block above this part of its largest count towards its rank.
_LARGE = 1 / 3


@register("curvature.block", "")
class Block(Checked):
    """A block of the Hessian or gradient covariance that `Alignment` measures and predicts.

    Args:
        index: the column (class, neuron), or "theta" for the side parameters.
        kind: the matrix, "hessian" or "gradient".
        rank: dimensions of the space of the largest eigenvalues.

    Raises:
        ValueError: the kind is another one, the index is negative, or the rank is below 1.

    Example:
        >>> Block(0, "gradient").name
        'gradient_0'
    """

    index: Count | Annotated[str, OneOf("theta")] = eqx.field(static=True, default=0)
    kind: Kind = eqx.field(static=True, default="hessian")
    rank: Size = eqx.field(static=True, default=2)

    def __check_init__(self) -> None:
        check_kind(self.kind)
        if self.index != "theta" and not (isinstance(self.index, int) and self.index >= 0):
            raise ValueError(f"index: {self.index!r}; allowed: 'theta', or a column from 0 on")
        if self.rank < 1:
            raise ValueError(f"rank: {self.rank}; allowed: at least 1")

    @property
    def name(self) -> str:
        """The beginning of the names of the block's statistics."""
        return f"{self.kind}_{self.index}"


@checked
def measured(
    block: Block,
    system: OnePassSGD,
    samples: Samples,
    moving: Float[Array, "d m"],
    frozen: Float[Array, "d c"],
    theta: PyTree,
    key: Key[Array, ""],
) -> dict[str, Array]:
    """Statistics of a block at the parameters of a run, on given samples.

    Args:
        block: the block.
        system: the training.
        samples: the samples of the empirical matrix.
        moving: (d, m) columns X.
        frozen: (d, c) columns of the means.
        theta: side parameters.
        key: the key of the eigensolver's random columns.
    """
    matrix = empirical(system, samples, moving, frozen, theta, block.kind)
    m = moving.shape[1]
    if isinstance(block.index, str):
        finite = matrix.restrict(range(m, matrix.weights.shape[1])).weights.mean(0)
        return _named(block, _finite(block, finite, theta))
    c = block.index
    matrix = matrix.restrict([c])
    start = jnp.concatenate([moving, frozen], axis=1)
    top = top_space(matrix.product, start, block.rank + 1, key, tolerance=1e-4, cycles=8)
    space = top.vectors[:, : block.rank]
    squares = (samples.rows**2).sum(1)
    bulk = jnp.mean(matrix.weights[:, 0, 0] * squares) / matrix.dimension
    return _named(
        block,
        _scalars(top.values, bulk)
        | {
            "largest": top.values[-1],
            "student": share(moving[:, c], space),
            "cosines": principal_cosines(space, frozen),
        },
    )


def predicted(
    block: Block, system: OnePassSGD, summary: GramSummary, alpha: Positive, nodes: Quadrature
) -> dict[str, Array]:
    """Statistics of a block in the limit, at n = alpha d samples of the law `nodes`.

    Args:
        block: the block.
        system: the training.
        summary: a state of the limit (or of a run).
        alpha: n/d.
        nodes: the law of the samples: fresh ones (`quadrature`) or training ones
            (`training_samples`).

    Example:
        >>> mixture = hd.streaming.mixtures.mixture_softmax(64, 3, snr=4.0, learning_rate=1.0)
        >>> nodes = hd.curvature.quadrature(mixture, mixture.start().overlaps)
        >>> found = predicted(Block(0), mixture, mixture.start(), 4.0, nodes)
    """
    if isinstance(block.index, str):
        m = system.layout.students
        weights = small_weights(system, nodes, summary.theta, block.kind)[:, :, m:, m:]
        finite = precise.einsum("cn,cnij->ij", nodes.probabilities, weights)
        return _named(block, _finite(block, finite, summary.theta))
    theory = block_theory(system, summary, block.index, block.kind, alpha, nodes=nodes)
    spectrum = theory.spectrum()

    def first(bulk: Array) -> Float[Array, " r"]:
        """The first rank + 1 values, with `bulk` in the places of missing outliers."""
        values = jnp.where(spectrum.exists, spectrum.values, bulk)
        return jnp.concatenate([values, jnp.full((block.rank + 1,), bulk)])[: block.rank + 1]

    largest, _ = theory.largest_bulk_eigenvalue(system.spectrum.dimension)
    return _named(
        block,
        _scalars(first(spectrum.edge), theory.population_bulk())
        | {
            "largest": first(largest)[-1],
            "student": spectrum.share_of(block.index, block.rank),
            "cosines": spectrum.principal_cosines(block.rank),
        },
    )


def _scalars(values: Float[Array, " r"], bulk: Float[Array, ""]) -> dict[str, Array]:
    """The statistics of the rank + 1 largest eigenvalues and of the mean eigenvalue `bulk`."""
    smallest, edge = values[-2], values[-1]
    rise = smallest - edge
    # Without noise the bulk is the point zero.
    gap = jnp.where(rise == 0, 0, rise / jnp.where(rise == 0, 1, edge))
    distance = smallest - bulk
    spread = jnp.where(distance > 0, (edge - bulk) / jnp.where(distance > 0, distance, 1), 1)
    return {
        "outliers": values[:-1],
        "edge": edge,
        "gap": gap,
        "spread": spread,
        "no_separation": (gap < SEPARATION).astype(values.dtype),
        "unconcentrated": (spread > CONCENTRATION).astype(values.dtype),
    }


def _finite(block: Block, matrix: Float[Array, "p p"], theta: PyTree) -> dict[str, Array]:
    """The statistics of the block of side parameters."""
    values, vectors = jnp.linalg.eigh(matrix)
    values, vectors = values[::-1], vectors[:, ::-1]
    flat = ravel_pytree(theta)[0]
    large = values > _LARGE * values[0]
    return {
        "eigenvalues": values,
        "rank": large.sum().astype(values.dtype),
        "student": share(flat, vectors[:, : block.rank]),
        "aligned": share(flat, jnp.where(large[None], vectors, 0)),
    }


def _named(block: Block, values: dict[str, Array]) -> dict[str, Array]:
    """The statistics under their full names."""
    return {f"{block.name}_{name}": value for name, value in values.items()}
