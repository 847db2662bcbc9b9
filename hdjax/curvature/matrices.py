"""Empirical Hessian and gradient covariance as products, from samples and small matrices.

    A = 1/n sum_l L_l D_l L_l^T + shift I,     L_l (dx, dtheta) = (a_l dx^T, dtheta)

for samples a_l with small matrices D_l (`weights.py`).  A product with k vectors is two matrix
products with the samples and a small product between them; the matrix itself is never formed.  A
block (of a class, a neuron or a layer) keeps some of the h indices of D.  `SampleMatrix` stores its
samples, and `StreamedMatrix` draws them again in every product.  The solvers (`solvers.py`) need
no more than products.  Source: "Spectral alignment of SGD" (arXiv 2310.03010, section 6 for
matrices on test data and section 8 for matrices on training data).
"""

import abc
from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key, PyTree

from hdjax import gaussian, precise
from hdjax.checks import Checked, checked
from hdjax.curvature.weights import Kind, check_kind, small_matrix, small_size
from hdjax.streaming import OnePassSGD
from hdjax.streaming.samples import Samples, draw_samples

__all__ = [
    "CurvatureMatrix",
    "SampleMatrix",
    "StreamedMatrix",
    "dual_gram",
]


class CurvatureMatrix(Checked):
    """A symmetric matrix on [columns x d | rest] that is known by its products.

    Attributes:
        columns: the number of small indices of the block that multiply samples.
        rest: the number of side parameters in the block.
        dimension: d.
    """

    columns: eqx.AbstractVar[int]
    rest: eqx.AbstractVar[int]
    dimension: eqx.AbstractVar[int]

    @property
    def size(self) -> int:
        """The number of rows, columns d + rest."""
        return self.columns * self.dimension + self.rest

    @abc.abstractmethod
    def product(self, vectors: Float[Array, "size k"]) -> Float[Array, "size k"]:
        """The product A V."""

    def dense(self) -> Float[Array, "size size"]:
        """The matrix as an array, for small sizes."""
        return self.product(jnp.eye(self.size, dtype=self.dtype))

    @property
    @abc.abstractmethod
    def dtype(self) -> Any:
        """The dtype of the products."""

    def lift(self, columns: Float[Array, "d k"]) -> Float[Array, "size l"]:
        """Directions in R^d copied into each column block: starts (size, columns k) for a solver.

        A block of side parameters alone has no column blocks, and no such starts.
        """
        if not self.columns:
            return jnp.zeros((self.size, 0), columns.dtype)
        eye = jnp.eye(self.columns, dtype=columns.dtype)
        return jnp.pad(jnp.kron(eye, columns), ((0, self.rest), (0, 0)))


class SampleMatrix(CurvatureMatrix):
    """The matrix of stored samples.

    Args:
        rows: (n, d) samples.
        weights: (n, h, h) symmetric small matrices D, restricted to the block's indices.
        columns: how many of the h indices multiply samples (the first ones).
        shift: the multiple of the identity that is added (a ridge).

    Raises:
        ValueError: there is no sample, or shapes do not fit together.

    Example:
        >>> matrix = SampleMatrix(jnp.eye(2), jnp.ones((2, 1, 1)), columns=1)
        >>> matrix.dense().tolist()
        [[0.5, 0.0], [0.0, 0.5]]
    """

    rows: Float[Array, "n d"]
    weights: Float[Array, "n h h"]
    shift: Float[Array, ""]
    columns: int = eqx.field(static=True)

    def __init__(self, rows: Any, weights: Any, columns: int, shift: Any = 0.0):
        rows, weights = jnp.asarray(rows), jnp.asarray(weights)
        self.rows, self.weights, self.columns = rows, weights, columns
        self.shift = jnp.asarray(shift, rows.dtype)
        n, h = weights.shape[:2]
        if rows.shape[0] != n or n < 1:
            raise ValueError(
                f"rows, weights: {rows.shape[0]} and {n} samples; allowed: equal numbers, 1 or more"
            )
        if not 0 <= columns <= h:
            raise ValueError(f"columns: {columns}; allowed: 0 to {h}, the size of the weights")

    @property
    def rest(self) -> int:
        return self.weights.shape[1] - self.columns

    @property
    def dimension(self) -> int:
        return self.rows.shape[1]

    @property
    def dtype(self) -> Any:
        return self.rows.dtype

    def product(self, vectors: Float[Array, "size k"]) -> Float[Array, "size k"]:
        total = _weighted_sum(self.rows, self.weights, self.columns, vectors)
        return total / self.rows.shape[0] + self.shift * vectors

    def restrict(self, indices: Sequence[int]) -> "SampleMatrix":
        """The block of some small indices, in their order.

        Args:
            indices: columns (below m) first, then side parameters.

        Raises:
            ValueError: an index is out of range, or a side parameter comes before a column.
        """
        columns = _block_columns(indices, self.columns, self.weights.shape[1])
        index = jnp.asarray(indices)
        weights = self.weights[:, index[:, None], index[None]]
        return SampleMatrix(self.rows, weights, columns, self.shift)


class StreamedMatrix(CurvatureMatrix):
    """The matrix of samples that are drawn again, chunk by chunk, in every product.

    Args:
        system: the system whose samples they are.
        key: the key of the samples; the key of a run gives its training samples.
        moving: (d, m) columns X.
        frozen: (d, s + c) columns [X* | means].
        theta: side parameters.
        indices: the small indices of the block; None: all.
        kind: "hessian" or "gradient".
        chunk: the number of samples that are drawn at a time.
        chunks: the number of chunks: n = chunk chunks.

    Raises:
        ValueError: a number is below 1, or the block does not exist.

    Example:
        >>> simulator = system.simulator()
        >>> state = simulator.init(jax.random.key(0))
        >>> matrix = StreamedMatrix(
        ...     system, jax.random.key(1), state.moving, state.frozen, None, chunk=8, chunks=4
        ... )
        >>> matrix.product(jnp.ones((32, 1))).shape
        (32, 1)
    """

    system: OnePassSGD
    key: Key[Array, ""]
    moving: Float[Array, "d m"]
    frozen: Float[Array, "d f"]
    theta: PyTree
    kind: Kind = eqx.field(static=True)
    indices: tuple[int, ...] = eqx.field(static=True)
    columns: int = eqx.field(static=True)
    chunk: int = eqx.field(static=True)
    chunks: int = eqx.field(static=True)

    def __init__(
        self,
        system: OnePassSGD,
        key: Key[Array, ""],
        moving: Float[Array, "d m"],
        frozen: Float[Array, "d f"],
        theta: PyTree,
        *,
        chunk: int,
        chunks: int,
        kind: Kind = "hessian",
        indices: Sequence[int] | None = None,
    ):
        check_kind(kind)
        if chunk < 1 or chunks < 1:
            raise ValueError(f"chunk, chunks: {chunk}, {chunks}; allowed: at least 1")
        m, h = moving.shape[1], small_size(moving.shape[1], theta)
        indices = tuple(range(h)) if indices is None else tuple(indices)
        self.system, self.key, self.moving, self.frozen = system, key, moving, frozen
        self.theta, self.kind, self.indices = theta, kind, indices
        self.columns, self.chunk, self.chunks = _block_columns(indices, m, h), chunk, chunks

    @property
    def rest(self) -> int:
        return len(self.indices) - self.columns

    @property
    def dimension(self) -> int:
        return self.moving.shape[0]

    @property
    def dtype(self) -> Any:
        return self.moving.dtype

    def product(self, vectors: Float[Array, "size k"]) -> Float[Array, "size k"]:
        layout, index = self.system.layout, jnp.asarray(self.indices)
        means = self.frozen[:, layout.teachers :] if layout.means else None

        def add(i: Int[Array, ""], total: Float[Array, "size k"]) -> Float[Array, "size k"]:
            samples = draw_samples(
                self.system, self.key, i * self.chunk, self.chunk, means, self.dtype
            )
            # The barrier keeps the samples: XLA would draw them again for each of two products.
            samples = jax.lax.optimization_barrier(samples)
            weights = sample_weights(
                self.system, samples, self.moving, self.frozen, self.theta, self.kind
            )
            block = weights[:, index[:, None], index[None]]
            return total + _weighted_sum(samples.rows, block, self.columns, vectors)

        total = jax.lax.fori_loop(0, self.chunks, add, jnp.zeros_like(vectors))
        return total / (self.chunk * self.chunks)


def sample_weights(
    system: OnePassSGD,
    samples: Samples,
    moving: Float[Array, "d m"],
    frozen: Float[Array, "d f"],
    theta: PyTree,
    kind: Kind,
) -> Float[Array, "n h h"]:
    """The small matrix D of every sample at the parameters (X, theta); `frozen` is [X* | means]."""
    dtype, s = moving.dtype, system.layout.teachers
    columns = jnp.concatenate([moving, frozen[:, :s]], axis=1)
    sizes = (jnp.linalg.norm(part, axis=axis) for part, axis in ((samples.rows, 1), (columns, 0)))
    seen = precise.dot(samples.rows, columns)
    seen = gaussian.without_rounding(seen, jnp.multiply.outer(*sizes))
    x, teacher = seen[:, : moving.shape[1]], seen[:, moving.shape[1] :]
    loss, theta = jax.tree.map(
        lambda leaf: jnp.asarray(leaf, dtype) if eqx.is_inexact_array(leaf) else leaf,
        (system.loss, theta),
    )
    return jax.vmap(small_matrix, in_axes=(None, None, 0, 0, 0, 0, None))(
        loss, kind, x, teacher, samples.component, samples.noise, theta
    )


@checked
def empirical(
    system: OnePassSGD,
    samples: Samples,
    moving: Float[Array, "d m"],
    frozen: Float[Array, "d f"],
    theta: PyTree,
    kind: Kind = "hessian",
    *,
    include_ridge: bool = False,
) -> SampleMatrix:
    """The empirical Hessian or gradient covariance of all parameters [m blocks of d | theta].

    Args:
        system: the system whose loss it is.
        samples: fresh samples for the matrix on test data, a run's own samples for the matrix on
            training data (`hdjax.streaming.samples.draw_samples`).
        moving: (d, m) columns X in the eigenbasis.
        frozen: (d, s + c) columns [X* | means].
        theta: side parameters.
        kind: "hessian", or "gradient" for the second moment of the gradient (the G-matrix).
        include_ridge: whether the Hessian of the ridge, a multiple of the identity, is added.

    Raises:
        ValueError: the kind is another one, the ridge is asked for with the gradient covariance, or
            there is no sample.

    Example:
        >>> state = system.simulator().init(jax.random.key(0))
        >>> samples = hd.streaming.samples.draw_samples(system, jax.random.key(1), 0, 64)
        >>> matrix = empirical(system, samples, state.moving, state.frozen, None)
        >>> matrix.size
        32
    """
    check_kind(kind)
    if include_ridge and kind != "hessian":
        raise ValueError("include_ridge: True with kind 'gradient'; allowed: False")
    weights = sample_weights(system, samples, moving, frozen, theta, kind)
    shift = system.ridge if include_ridge else 0.0
    return SampleMatrix(samples.rows, weights, moving.shape[1], shift)


@checked
def dual_gram(
    rows: Float[Array, "n d"], gradients: Float[Array, "n h"], columns: int
) -> Float[Array, "n n"]:
    """The matrix 1/n J J^T of the per-sample gradients J, with the non-zero spectrum of 1/n J^T J.

        entry (l, k) = 1/n ((g_l . g_k)(a_l . a_k) + slope_l . slope_k)

    It is the smaller of the two matrices where n < d.  For a class block with weights D >= 0 take
    `gradients` = sqrt(D) with one column.

    Args:
        rows: (n, d) samples.
        gradients: (n, h) derivatives of the loss in x (`columns` of them) and in theta.
        columns: how many of the h derivatives multiply samples.

    Example:
        >>> dual_gram(jnp.eye(2), jnp.ones((2, 1)), columns=1).tolist()
        [[0.5, 0.0], [0.0, 0.5]]
    """

    def gram(a: Float[Array, "n k"]) -> Float[Array, "n n"]:
        return precise.dot(a, a.T)

    inner = gram(gradients[:, :columns]) * gram(rows) + gram(gradients[:, columns:])
    return inner / rows.shape[0]


def _weighted_sum(
    rows: Float[Array, "n d"],
    weights: Float[Array, "n h h"],
    columns: int,
    vectors: Float[Array, "size k"],
) -> Float[Array, "size k"]:
    """The sum over samples of L_l D_l L_l^T V."""
    (n, d), k = rows.shape, vectors.shape[1]
    if not columns:
        return precise.einsum("nij,jk->ik", weights, vectors)
    # A single matrix product serves all columns and vectors: (n, d) by (d, columns k).
    first = vectors[: columns * d].reshape(columns, d, k)
    wide = first.transpose(1, 0, 2).reshape(d, columns * k)
    seen = precise.dot(rows, wide).reshape(n, columns, k)
    rest = vectors[columns * d :]
    if rest.shape[0]:
        seen = jnp.concatenate([seen, jnp.broadcast_to(rest[None], (n, *rest.shape))], axis=1)
    # Products of small matrices, written as sums, fuse; a batched product would not.
    seen = (weights[:, :, :, None] * seen[:, None]).sum(2)
    pushed = precise.dot(rows.T, seen[:, :columns].reshape(n, columns * k))
    pushed = pushed.reshape(d, columns, k).transpose(1, 0, 2).reshape(columns * d, k)
    return jnp.concatenate([pushed, seen[:, columns:].sum(0)])


def _block_columns(indices: Sequence[int], columns: int, size: int) -> int:
    """The number of columns among a block's indices, after their checks."""
    indices = list(indices)
    inside = [index < columns for index in indices]
    if (
        not indices
        or not all(0 <= index < size for index in indices)
        or len(set(indices)) < len(indices)
    ):
        raise ValueError(f"indices: {indices}; allowed: different numbers from 0 to {size - 1}")
    if inside != sorted(inside, reverse=True):
        raise ValueError(f"indices: {indices}; allowed: columns (below {columns}) first")
    return sum(inside)
