"""The expansion of one-pass SGD in 1/sqrt(d) round its limit: drift, noise and start.

Let y be the stacked Gram blocks and side parameters, F the right-hand side of the limit and xi the
random increment of a step (`increment.py`).  Then sqrt(d) (y_SGD - y) tends to a Gaussian process
with

    drift J = dF/dy,   noise Sigma = Cov(xi),   covariance P_0 at t = 0 (of the start's law).

`Expansion` computes J, Sigma and P_0 from a system.  `covariance.py` integrates the covariance of
the process, `adjoint.py` the variance of single statistics, for `fluctuations.py`.  The expansion
goes beyond arXiv 2308.08977.
"""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from hdjax import precise
from hdjax.integrate import Integrator
from hdjax.streaming.columns import Columns, LinearColumns
from hdjax.streaming.field import BlockField, GramSummary
from hdjax.streaming.increment import increment, second_order
from hdjax.streaming.limit import BlockState, ScaledField, velocity
from hdjax.streaming.projections import Layout

# The integration stops where the trace of the blocks exceeds this number: a limit that diverges has
# no error bars.
_DIVERGED = 1e4


class Expansion(eqx.Module):
    """Drift, noise and start of the expansion, on a flattened state of length n.

    The flattened state contains the upper triangle of each symmetric block, divided by the weight
    of its group, and the side parameters.  Without this division the tolerances of a solver would
    overlook a group of tiny weight, although its eigenvalue may be so large that much of the risk
    depends on this group.

    Attributes:
        field: the right-hand side of the limit, on the nodes of a reduction if groups are many.
        origin: (blocks, side) at t = 0.
        law: (g, q, q, q, q) d times the covariance of the entries of each block at the start;
            blocks of different groups are independent.  None for a given start.
        dimension: d.
        integrator: the tolerances of the integration.
    """

    field: BlockField
    origin: BlockState
    law: Float[Array, "g q q q q"] | None
    dimension: Float[Array, ""]
    integrator: Integrator

    @property
    def layout(self) -> Layout:
        """The kinds and numbers of columns."""
        return self.field.layout

    @property
    def pairs(self) -> tuple[np.ndarray, np.ndarray]:
        """Row and column indices of the entries of a block that the flattened state contains."""
        return np.triu_indices(self.layout.width)

    @property
    def shape(self) -> tuple[int, int]:
        """The number of groups, and the number of entries of each block."""
        return self.field.weights.shape[0], len(self.pairs[0])

    @property
    def scale(self) -> Float[Array, "g 1"]:
        """The divisors of the blocks: the weights of the groups, and 1 for weights of zero."""
        return ScaledField(self.field).scale[..., 0]

    @property
    def start(self) -> Float[Array, " n"]:
        """The flattened state at t = 0."""
        return self.pack(self.origin)

    @property
    def size(self) -> int:
        """The length n of the flattened state."""
        groups, entries = self.shape
        return groups * entries + sum(leaf.size for leaf in jax.tree.leaves(self.origin[1]))

    def pack(self, state: BlockState) -> Float[Array, " n"]:
        """The flattened state of (blocks, side)."""
        blocks, side = state
        rows, columns = self.pairs
        return ravel_pytree((blocks[:, rows, columns] / self.scale, side))[0]

    def unpack(self, flat: Float[Array, " n"]) -> BlockState:
        """The state (blocks, side) of a flattened state."""
        rows, columns = self.pairs
        pairs, rest = self.split(flat)
        pairs = pairs * self.scale
        blocks = jnp.zeros_like(self.origin[0]).at[:, rows, columns].set(pairs)
        return blocks.at[:, columns, rows].set(pairs), ravel_pytree(self.origin[1])[1](rest)

    def split(self, flat: Float[Array, " n"]) -> tuple[Float[Array, "g e"], Float[Array, " rest"]]:
        """The parts of a flattened state: entries of the blocks, and side parameters."""
        groups, entries = self.shape
        return flat[: groups * entries].reshape(groups, entries), flat[groups * entries :]

    def force(self, t: Float[Array, ""], flat: Float[Array, " n"]) -> Float[Array, " n"]:
        """The right-hand side F of the limit, for a flattened state."""
        state = self.unpack(flat)
        return self.pack(velocity(self.field.coefficients(t, state), state))

    def local(self, t: Float[Array, ""], flat: Float[Array, " n"]) -> Float[Array, "g e e"]:
        """The part of J at frozen coefficients: a matrix for each group, which can be stiff."""
        state = self.unpack(flat)
        coefficients = self.field.coefficients(t, state)
        groups, entries = self.shape

        def frozen(flat: Float[Array, " n"]) -> Float[Array, "g e"]:
            return self.split(self.pack(velocity(coefficients, self.unpack(flat))))[0]

        def column(unit: Float[Array, " e"]) -> Float[Array, "g e"]:
            tangent = jnp.zeros_like(flat).at[: groups * entries].set(jnp.tile(unit, groups))
            return jax.jvp(frozen, (flat,), (tangent,))[1]

        return jax.vmap(column, out_axes=2)(jnp.eye(entries, dtype=flat.dtype))

    def linear(
        self, t: Float[Array, ""], flat: Float[Array, " n"]
    ) -> tuple[Float[Array, "n n"], Float[Array, "n n"]]:
        """The matrices J and Sigma at time `t` and a flattened state."""
        jacobian = jax.jacfwd(self.force, argnums=1)(t, flat)
        noise = increment(self.field, t, self.unpack(flat)).covariance()
        groups, entries = self.shape
        q, (rows, columns) = self.layout.width, self.pairs
        places = np.arange(groups * q**2).reshape(groups, q, q)[:, rows, columns].ravel()
        beside = np.arange(groups * q**2, groups * q**2 + flat.size - places.size)
        places = np.concatenate([places, beside])
        scales = jnp.concatenate([jnp.repeat(self.scale, entries), jnp.ones(len(beside))])
        return jacobian, noise[places][:, places] / scales[:, None] / scales[None]

    def noise(
        self, t: Float[Array, ""], flat: Float[Array, " n"], gradients: Float[Array, "k n"]
    ) -> Float[Array, " k"]:
        """The noise g^T Sigma g of each gradient g, computed in memory linear in the state."""
        found = increment(self.field, t, self.unpack(flat))
        return jax.vmap(lambda g: found.variance_along(*self.along(g)))(gradients)

    def along(
        self, gradient: Float[Array, " n"]
    ) -> tuple[Float[Array, "g q q"], Float[Array, " rest"]]:
        """The gradient in (whole blocks, side parameters) of a gradient in the flattened state."""
        pairs, rest = self.split(gradient)
        rows, columns = self.pairs
        return jnp.zeros_like(self.origin[0]).at[:, rows, columns].set(pairs / self.scale), rest

    def start_variance(self, gradients: Float[Array, "*k n"]) -> Float[Array, "*k"]:
        """The variance g^T P_0 g at t = 0 of each gradient g."""

        def form(gradient: Float[Array, " n"]) -> Float[Array, ""]:
            if self.law is None:
                return jnp.zeros((), gradient.dtype)
            blocks, _ = self.along(gradient)
            moved = precise.einsum("gabcd,gcd->gab", self.law, blocks)
            return jnp.sum(blocks * moved)

        return jnp.vectorize(form, signature="(n)->()")(gradients)

    @property
    def start_covariance(self) -> Float[Array, "n n"]:
        """The covariance P_0 at t = 0 as a matrix."""
        n, (groups, entries) = self.size, self.shape
        result = jnp.zeros((n, n), self.origin[0].dtype)
        if self.law is None:
            return result
        rows, columns = self.pairs
        own = self.law[:, rows, columns][:, :, rows, columns] / self.scale[..., None] ** 2
        i, a, b = np.indices((groups, entries, entries))
        return result.at[i * entries + a, i * entries + b].set(own)

    def second_order(self, t: Float[Array, ""], flat: Float[Array, " n"]) -> Float[Array, " n"]:
        """The second-order change G: d^2 times the 1/d^2 part of the mean change in a step."""
        blocks = second_order(self.field, t, self.unpack(flat))
        return self.pack((blocks, jax.tree.map(jnp.zeros_like, self.origin[1])))

    def values(
        self, statistics: Callable[[GramSummary], dict[str, Array]], flat: Float[Array, " n"]
    ) -> dict[str, Array]:
        """The statistics of a flattened state."""
        blocks, side = self.unpack(flat)
        return statistics(GramSummary(blocks, side, self.field.eigenvalues, self.layout))

    def norm(self, errors: tuple[Array, ...]) -> Array:
        """The root mean square of errors of vectors and matrices, with groups by their shares."""
        groups, entries = self.shape
        beside = self.size - groups * entries
        shares = jnp.repeat(ScaledField(self.field).shares / entries, entries)
        shares = jnp.concatenate([shares, jnp.full(beside, 1 / max(beside, 1), shares.dtype)])
        total = jnp.zeros(())
        for error in errors:
            square = jnp.square(error)
            for _ in range(error.ndim):
                square = jnp.tensordot(square, shares, 1)
            total = total + square
        return jnp.sqrt(total)

    def alive(self, flat: Float[Array, " n"]) -> Array:
        """Whether the limit has not diverged at a flattened state."""
        return jnp.trace(self.unpack(flat)[0].sum(0)) < _DIVERGED


def start_covariance(
    columns: Columns,
    weights: Float[Array, " g"],
    given: Float[Array, "g f f"] | None,
    extension: Float[Array, "k q"],
) -> Float[Array, "g q q q q"]:
    """The covariance of the Gram blocks under the start's law, times d.

    Blocks of different groups are independent, so there is one covariance for each group.  It is
    zero if the law consists of given Gram blocks.

    Args:
        columns: the law of the start.
        weights: the weights of the groups.
        given: Gram blocks of the given columns F of `LinearColumns`; None if there are none.
        extension: the matrix from [X | X* | means] to [memories | X | X* | means].
    """
    g, q = weights.shape[0], extension.shape[1]
    if not isinstance(columns, LinearColumns):
        return jnp.zeros((g, q, q, q, q), weights.dtype)
    random = columns.layout.to_frame(columns.mix_random) @ extension
    s = random.T @ random
    # Wick's theorem: the rows of the columns are independent Gaussian vectors whose means are the
    # rows of the given columns.
    half = (weights / 2)[:, None, None] * s[None]
    if given is not None:
        mix = columns.layout.to_frame(columns.mix_given) @ extension
        half = half + precise.einsum("fa,gfh,hb->gab", mix, given, mix)

    def pair(left: str, right: str) -> Array:
        first = jnp.einsum(f"g{left},{right}->gabcd", half, s)
        return first + jnp.einsum(f"{left},g{right}->gabcd", s, half)

    return pair("ac", "bd") + pair("ad", "bc")
