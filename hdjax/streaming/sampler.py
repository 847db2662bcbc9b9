"""One-pass SGD exactly in law, by its Gram blocks: the method `GramSampler`, for d up to 10^9.

Within the eigenspace of lambda_i, of dimension d_i, SGD depends on its q columns only through their
Gram block V_i = R_i^T R_i.  The part of a sample in this eigenspace is sqrt(lambda_i) n with
n ~ N(0, I).  In q orthonormal directions whose span contains the columns, n has the coordinates
z_i ~ N(0, I_q); of its part outside this span only the length c_i matters, and
c_i^2 ~ chi^2(d_i - q).  A step is therefore

    v_i = (mean of the component) + sqrt(lambda_i) z_i,    r = sum_i R_i^T v_i = (x, x*),
    R_i <- R_i - gamma/d v_i (g, 0)^T,   with the new row  -gamma/d sqrt(lambda_i) c_i (g, 0),

and a rotation folds the new row into the others.  Frozen columns (teachers, means) come first in a
triangular R_i, so that the rotation changes only the m x m corner of the students.  The state
consists of factors R_i and not of Gram matrices, so that nothing cancels and X = 0 is a valid
start.  A mini-batch of b samples appends b rows, whose Gram matrix has a Wishart law; Bartlett's
factor draws it.  Groups with d_i <= q keep their d_i coordinates.

The SGD is that of arXiv 2308.08977; the sampler is derived here.  It is exact for Gaussian mixtures
with commuting covariances.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int, Key

from hdjax import gaussian, precise, random
from hdjax.arrays import cast
from hdjax.checks import is_concrete
from hdjax.clocks import Steps
from hdjax.random import Stream
from hdjax.registry import Precision, register
from hdjax.streaming.field import GramSummary
from hdjax.streaming.limit import Side
from hdjax.streaming.onepass import OnePass
from hdjax.streaming.optimisers.linear import LinearMemory, Rule, moved, times_weights
from hdjax.streaming.optimisers.state_rates import StateRate
from hdjax.system import Method, Simulator

_MOST_STEPS = 64  # the largest number of steps whose normals are drawn together
_DRAWN = 2**14  # the largest number of normals that a run draws together
# Float32 is allowed up to this d.  Beyond, updates of size 1/d are rounded away: the drift of
# isotropic least squares has an error of a thousandth at d = 10^6, and at d = 5 10^6 the error is
# as large as the fluctuation.
_SINGLE = 10**5
# From this number n of degrees of freedom on, chi^2 is drawn by the formula of Wilson and Hilferty.
# Its relative errors are (2/(9 n))^3 in the mean and (2/(9 n))^2 / 3 in the variance: 1e-6 here.
_WILSON_HILFERTY = 128


@register("streaming.method", "gram_sampler")
class GramSampler(Method):
    """One-pass SGD exactly in law, by its Gram blocks.

    A step takes memory and time O(groups q^2) for q columns, whatever d is.  The d t steps up to
    time t are sequential: use this method for thousands of runs up to d = 10^6, and for short times
    beyond.

    Args:
        dtype: "float32" (up to d = 10^5), "float64" (needs `jax_enable_x64`), or None: float32 if
            d is an int up to 10^5, and float64 otherwise.

    Raises:
        ValueError: another dtype, float64 without 64-bit numbers, float32 above d = 10^5.
        TypeError: an optimiser without a linear memory, which needs coordinates in R^d.

    Example:
        >>> method = GramSampler()
    """

    dtype: Precision | None = eqx.field(static=True, default=None)

    def __check_init__(self) -> None:
        if self.dtype not in (None, "float32", "float64"):
            raise ValueError(f"dtype: {self.dtype!r}; allowed: 'float32', 'float64' or None")

    def simulator(self, system: OnePass, horizon: None = None) -> "GramSimulator":
        """The simulator of `system` on Gram blocks."""
        check_columns(self, system)
        d, size = system.spectrum.dimension, system.spectrum.size
        dtype = self.dtype
        if dtype is None:
            dtype = "float32" if size is not None and size <= _SINGLE else "float64"
        if dtype == "float64" and not jax.config.read("jax_enable_x64"):
            raise ValueError(
                f"dtype: {self.dtype!r} at d = {d}; allowed after "
                "jax.config.update('jax_enable_x64', True), or 'float32' with d an int up to 10^5"
            )
        if dtype == "float32" and is_concrete(d) and np.any(np.asarray(d) > _SINGLE):
            raise ValueError(
                f"dtype: 'float32' at d = {float(np.max(d)):.6g}; allowed: up to 10^5 (its updates "
                "of size 1/d are rounded away), use 'float64'"
            )
        return GramSimulator(system, dtype)


class GramState(eqx.Module):
    """The state of a run: factors R_i of the Gram blocks, and the variables beside the columns.

    Row r of group i has the coordinates of the columns along the r-th of q orthonormal directions
    of the eigenspace.  The `moving` columns are memories and students in frame coordinates, the
    `frozen` columns are [X* | means].
    """

    moving: Float[Array, "g q p"]
    frozen: Float[Array, "g q f"]
    side: Side


class GramSimulator(Simulator):
    """The simulator of one run of the sampler, whose clock counts the steps k (t = k/d)."""

    system: OnePass
    dtype: str = eqx.field(static=True)

    @property
    def clock(self) -> Steps:
        """The clock that counts steps, d of them in a unit of time."""
        return Steps(self.system.spectrum.dimension)

    def init(self, key: Key[Array, ""]) -> GramState:
        return start_state(self.system, key, self.dtype)

    def advance(
        self, state: GramState, k0: Int[Array, ""], k1: Int[Array, ""], key: Key[Array, ""]
    ) -> GramState:
        steps = self._steps

        def block(j: Int[Array, ""], state: GramState) -> GramState:
            tick = j * steps
            normals, lengths = self._draw(key, tick)
            first, last = jnp.maximum(k0 - tick, 0), jnp.minimum(k1 - tick, steps)

            def one(i: Int[Array, ""], state: GramState) -> GramState:
                row = lax.dynamic_index_in_dim(normals, i, keepdims=False)
                length = lax.dynamic_index_in_dim(lengths, i, keepdims=False)
                return self._step(state, tick + i, row, length)

            return lax.fori_loop(first, last, one, state)

        return lax.fori_loop(k0 // steps, -(-k1 // steps), block, state)

    def summary(self, state: GramState) -> GramSummary:
        return gram_summary(self.system, state)

    @property
    def _outside(self) -> Float[Array, "g b"]:
        return outside(self.system, self.system.batch_size)

    @property
    def _columns(self) -> int:
        """The number of normals a step: directions, Bartlett's factors, extras of each sample."""
        system, b = self.system, self.system.batch_size
        each = b * system.layout.width + b * (b + 1) // 2
        return system.eigenvalues.shape[1] * each + b * self._extras

    @property
    def _extras(self) -> int:
        """The number of normals of a sample for its label noise and its mixture component."""
        return self.system.loss.noise.dim + (self.system.probabilities.shape[0] > 1)

    @property
    def _steps(self) -> int:
        return max(1, min(_MOST_STEPS, _DRAWN // self._columns))

    def _draw(self, key: Key[Array, ""], tick: Int[Array, ""]) -> tuple[Array, Array]:
        """The standard normals (steps, columns) and chi variables (steps, g, b) from `tick` on."""
        n, dof = self._steps, self._outside.astype(self.dtype)
        # The normals are drawn as one row: XLA vectorises the last axis, which must be long.
        count = n * self._columns
        normals = random.normals(random.stream(key, Stream.STEPS), tick // n, 1, count, self.dtype)
        normals = normals.reshape(n, self._columns)
        ticks = tick + jnp.arange(n, dtype=tick.dtype)
        z = normals[:, : dof.size].reshape(n, *dof.shape)
        return normals[:, dof.size :], chi(random.stream(key, Stream.CHI), ticks, dof, z)

    def _step(
        self, state: GramState, tick: Int[Array, ""], normals: Float[Array, " n"], lengths: Array
    ) -> GramState:
        system, layout = cast(self.system, self.dtype), self.system.layout
        m, s, b = layout.students, layout.teachers, system.batch_size
        moving, frozen = state.moving, state.frozen
        g, q, _ = moving.shape
        extras = normals[: b * self._extras].reshape(b, self._extras)
        normals = normals[b * self._extras :]
        z = jnp.where(directions(system)[None], normals[: b * g * q].reshape(b, g, q), 0)

        component = jnp.zeros(b, jnp.int32)
        if system.probabilities.shape[0] > 1:
            edges = jax.scipy.special.ndtri(jnp.cumsum(system.probabilities)[:-1])
            component = (extras[:, -1:] > edges[None]).sum(1, dtype=jnp.int32)
        scale = jnp.sqrt(system.eigenvalues)[component]
        v = scale[:, :, None] * z
        if layout.means:
            v = v + jnp.moveaxis(frozen[:, :, s:], 2, 0)[component]
        # These are sums of products, which XLA fuses; it does not fuse a batched dot.
        x = (v[:, :, :, None] * moving[None, :, :, layout.first :]).sum((1, 2))
        teacher = (v[:, :, :, None] * frozen[None, :, :, :s]).sum((1, 2))
        if layout.centred:
            x = x + teacher
        noise = jax.vmap(system.loss.noise)(extras[:, : system.loss.noise.dim])
        gradient, slope = jax.vmap(system.loss.gradient, in_axes=(0, 0, 0, 0, None))(
            x, teacher, component, noise, state.side.theta
        )
        # The mean gradient over the batch has a part in the q directions and a part outside.
        inside = (v[:, :, :, None] * gradient[:, None, None, :]).sum(0) / b
        triangle = bartlett(lengths, normals[b * g * q :])
        beyond = (triangle * scale.T[:, None])[:, :, :, None] * gradient[None, None]
        beyond = beyond.sum(2) / b

        weights, mixing = self._rule(state, tick)
        blocks = moving.reshape(g, q, -1, m)
        mixed = (blocks[:, :, :, None] * mixing[None, None, :, :, None]).sum(2)
        if layout.centred:
            # Iterates are stored as differences to X*.  A mixture of iterates therefore contains
            # X* times the sum of their coefficients, which is small and is added separately.
            iterates = np.asarray(layout.iterates, mixing.dtype)[:, None]
            share = (iterates * mixing).sum(0)
            mixed = mixed + frozen[:, :, None, :m] * share[None, None, :, None]
        moving = moving + mixed.reshape(moving.shape) - times_weights(inside, weights)
        moving = fold_in(moving, times_weights(beyond, weights), lengths)
        slope = jax.tree.map(lambda slope: slope.mean(0), slope)
        change = moved(state.side.parameters, slope, weights, mixing)
        parameters = jax.tree.map(jnp.add, state.side.parameters, change)
        accumulated = state.side.accumulated
        if accumulated is not None:
            accumulated = (
                accumulated + ((inside**2).sum() + (beyond**2).sum()) / system.spectrum.dimension**2
            )
        return GramState(moving, frozen, Side.of(parameters, accumulated))

    def _rule(self, state: GramState, tick: Int[Array, ""]) -> Rule:
        """The rule of step `tick`: weights of the gradient, mixing of the blocks of columns."""
        system = cast(self.system, self.dtype)
        d = system.spectrum.dimension
        t = tick.astype(d.dtype) / d
        if isinstance(system.learning_rate, StateRate):
            gamma = state_rate(self.system, self.summary(state)).astype(d.dtype)
        else:
            gamma = system.learning_rate(t)
        return cast(with_ridge(system.optimiser.step(gamma, t, d), system.ridge), self.dtype)


def check_columns(method: Method, system: OnePass) -> None:
    """Raise TypeError for an optimiser that needs the gradient's coordinates in R^d."""
    if not isinstance(system.optimiser, LinearMemory):
        raise TypeError(
            f"method: {method!r} with {system.optimiser!r}; allowed: Direct(...), which alone "
            "has the coordinates of the gradient in R^d"
        )


def state_rate(system: OnePass, summary: GramSummary) -> Float[Array, ""]:
    """The learning rate of a `StateRate` at the Gram blocks of a simulation."""
    return system.field_on(system.spectrum).rate(jnp.zeros_like(system.ridge), summary.state)


def with_ridge(rule: Rule, ridge: Float[Array, ""]) -> Rule:
    """The rule of a step with the gradient tau X of the ridge penalty added to its mixing."""
    weights, mixing = rule
    return weights, mixing.at[-1].add(-ridge * weights)


def start_state(system: OnePass, key: Key[Array, ""], dtype: Any) -> GramState:
    """The state at the start of a run, drawn with the key of the run."""
    layout, p = system.layout, system.layout.moving
    factor = system.columns.sample_factor(random.stream(key, Stream.START), system.spectrum)
    factor = system.extended(factor)
    rows = layout.width - factor.shape[1]
    factor = layout.to_frame(jnp.pad(factor, ((0, 0), (0, rows), (0, 0))))
    # In the triangular factor frozen columns come first, so that its last p rows are zero in them
    # and belong to the p moving columns.
    order = np.roll(np.arange(layout.width), -p)
    triangular = jnp.linalg.qr(factor[:, :, order], mode="r")[:, :, np.argsort(order)]
    whole = outside(system, 1) > 0
    factor = jnp.where(whole[:, :, None], triangular, factor).astype(dtype)
    return GramState(
        factor[:, :, :p], factor[:, :, p:], cast(system.start_side(system.spectrum), dtype)
    )


def gram_summary(system: OnePass, state: GramState) -> GramSummary:
    """The summary of a state, with Gram blocks R_i^T R_i in the dtype of the limit."""
    dtype = system.ridge.dtype
    columns = jnp.concatenate([state.moving, state.frozen], axis=2).astype(dtype)
    blocks = precise.einsum("gra,grb->gab", columns, columns)
    return GramSummary(blocks, cast(state.side, dtype), system.eigenvalues, system.layout)


def outside(system: OnePass, rows: int) -> Float[Array, "g rows"]:
    """The degrees of freedom of the chi^2 in each row of Bartlett's factor: d_i - q - row."""
    counts = jnp.round(system.spectrum.multiplicities)[:, None] - system.layout.width
    return jnp.maximum(counts - jnp.arange(rows, dtype=counts.dtype)[None], 0)


def directions(system: OnePass) -> Bool[Array, "g q"]:
    """Which of the q directions exist in each group: min(q, d_i) of them."""
    counts = jnp.round(system.spectrum.multiplicities)
    return jnp.arange(system.layout.width, dtype=counts.dtype)[None] < counts[:, None]


def chi(
    key: Key[Array, ""], ticks: Int[Array, " n"], dof: Float[Array, "g b"], z: Float[Array, "n g b"]
) -> Float[Array, "n g b"]:
    """Draws of the square roots of chi^2 variables with `dof` degrees of freedom.

    They are transforms of the normals `z` (Wilson and Hilferty) if all degrees of freedom are 0 or
    large, and exact draws with `key` otherwise.
    """

    def exact(_: Array) -> Array:
        def one(tick: Array) -> Array:
            own = random.at(key, tick)
            return jnp.sqrt(jax.random.chisquare(own, jnp.maximum(dof, 1), dtype=dof.dtype))

        return jax.vmap(one)(ticks)

    def accurate(z: Array) -> Array:
        third = (2 / (9 * jnp.maximum(dof, 1)))[None]
        cube = jnp.maximum(1 - third + jnp.sqrt(third) * z, 0)
        return jnp.sqrt(dof[None] * cube) * cube

    small = jnp.any((dof > 0) & (dof < _WILSON_HILFERTY))
    return jnp.where(dof[None] > 0, lax.cond(small, exact, accurate, z), 0)


def fold_in(
    moving: Float[Array, "g q p"], rows: Float[Array, "g b p"], lengths: Float[Array, "g b"]
) -> Float[Array, "g q p"]:
    """The moving columns after `rows` outside the q directions are rotated into their corner.

    Groups without a direction outside the q ones (`lengths` of zero) are left as they are.
    """
    p = moving.shape[2]
    corner = moving[:, -p:]
    corner = jnp.where(lengths[:, :1, None] > 0, fold(corner, rows), corner)
    return jnp.concatenate([moving[:, :-p], corner], axis=1)


def bartlett(lengths: Float[Array, "g b"], normals: Float[Array, " n"]) -> Float[Array, "g b b"]:
    """The upper-triangular Bartlett factors of b x b Wishart matrices.

    They have chi variables on the diagonal and normals above.
    """
    g, b = lengths.shape
    upper = np.triu_indices(b, 1)
    triangle = jnp.zeros((g, b, b), lengths.dtype)
    if b > 1:
        above = jnp.where(lengths[:, upper[0]] > 0, normals.reshape(g, -1), 0)
        triangle = triangle.at[:, *upper].set(above)
    return triangle + lengths[:, :, None] * jnp.eye(b, dtype=lengths.dtype)[None]


def fold(top: Float[Array, "g m m"], rows: Float[Array, "g b m"]) -> Float[Array, "g m m"]:
    """The triangular R with R^T R = top^T top + rows^T rows, for each group.

    Householder reflections act on all groups at once, while `jnp.linalg.qr` would call LAPACK for
    each of thousands of tiny matrices.
    """
    m = top.shape[-1]
    rest, result = jnp.concatenate([top, rows], axis=1), []
    for k in range(m):
        column = rest[:, :, k]
        norm = gaussian.safe_sqrt((column**2).sum(1))
        norm = jnp.where(column[:, 0] > 0, -norm, norm)
        v = column.at[:, 0].add(-norm)
        square = (v**2).sum(1)
        share = (v[:, :, None] * rest).sum(1) / jnp.where(square > 0, square, 1)[:, None]
        rest = rest - 2 * v[:, :, None] * share[:, None]
        # After the reflection column k is `norm` at the top, and zero up to rounding below.
        rest = rest.at[:, :, k].set(0).at[:, 0, k].set(norm)
        result.append(rest[:, 0])
        rest = rest[:, 1:]
    return jnp.stack(result, axis=1)
