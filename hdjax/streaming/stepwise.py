"""Direct simulation of SGD one step at a time, for any optimiser and any data.

    G_k = mean over the batch of a g^T + tau X_k,     X_{k+1} = X_k - gamma(k/d)/d T_k(G_k),

with T_k any transformation of Optax, applied in the coordinates in which K is given.  `Direct` uses
this simulator for data of the user and for optimisers without a linear memory; otherwise it uses
the kernel of `_kernel.py`, which is several times faster.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int, Key

from hdjax import precise, random
from hdjax.arrays import cast
from hdjax.clocks import Clock, Steps, Within
from hdjax.random import Stream
from hdjax.streaming.columns import as_given, coordinates, group_gram
from hdjax.streaming.data import Data
from hdjax.streaming.field import GramSummary
from hdjax.streaming.limit import Side
from hdjax.streaming.onepass import OnePass
from hdjax.streaming.optimisers.linear import LinearMemory, moved, times_weights
from hdjax.streaming.optimisers.state_rates import StateRate
from hdjax.streaming.sampler import state_rate, with_ridge
from hdjax.system import Simulator


class StepwiseState(eqx.Module):
    """The state of a run.

    Attributes:
        moving: columns [memories | X] in the eigenbasis of K.
        frozen: columns [X* | means] in the eigenbasis of K.
        side: the variables beside the columns.
        optimiser: the state of the Optax transformation; None for a linear memory.
        order: what the data drew at the start of the run, such as the order of their rows.
    """

    moving: Float[Array, "d p"]
    frozen: Float[Array, "d f"]
    side: Side
    optimiser: Any
    order: Any


class StepwiseSimulator(Simulator):
    """The simulator of one run, whose clock counts the steps k (t = k/d)."""

    system: OnePass
    dtype: str = eqx.field(static=True)
    data: Data | None

    def __check_init__(self) -> None:
        if self.data is not None:
            self.data.check(self.system)

    @property
    def clock(self) -> Clock:
        """The clock that counts steps, d of them in a unit of time, until a data set is used up."""
        clock = Steps(coordinates(self.system.spectrum))
        if self.data is None:
            return clock
        most = self.data.steps(self.system.batch_size)
        return Within(clock, last=most, why="when every row of the data has been used once")

    def init(self, key: Key[Array, ""]) -> StepwiseState:
        system = self.system
        columns = system.columns.sample(random.stream(key, Stream.START), system.spectrum)
        columns = system.extended(columns).astype(self.dtype)
        moving, side = columns[:, : system.layout.moving], system.start_side(system.spectrum)
        side = cast(side, self.dtype)
        own = None
        if not isinstance(system.optimiser, LinearMemory):
            own, side = self._transformation.init((moving, side.theta)), Side(side.theta)
        order = None if self.data is None else self.data.order(random.stream(key, Stream.ORDER))
        return StepwiseState(moving, columns[:, system.layout.moving :], side, own, order)

    def advance(
        self, state: StepwiseState, k0: Int[Array, ""], k1: Int[Array, ""], key: Key[Array, ""]
    ) -> StepwiseState:
        return lax.fori_loop(k0, k1, lambda tick, state: self._step(state, tick, key), state)

    def summary(self, state: StepwiseState) -> GramSummary:
        system = self.system
        dtype = system.ridge.dtype
        columns = jnp.concatenate([state.moving, state.frozen], axis=1)
        columns = system.layout.to_frame(columns).astype(dtype)
        side = state.side
        if state.optimiser is not None:
            optimiser: Any = system.optimiser
            own = optimiser.accumulated(state.optimiser, system.spectrum)
            side = Side(side.theta, None, own)
        side = cast(side, dtype)
        blocks = group_gram(columns, system.spectrum)
        return GramSummary(blocks, side, system.eigenvalues, system.layout)

    def iterate(self, state: StepwiseState) -> Float[Array, "d m"]:
        """The student columns X of a run, in the coordinates in which K is given."""
        return as_given(state.moving[:, self.system.layout.first :], self.system.spectrum)

    @property
    def _transformation(self) -> Any:
        system = cast(self.system, self.dtype)
        return system.optimiser.transformation(system)

    def _step(
        self, state: StepwiseState, tick: Int[Array, ""], key: Key[Array, ""]
    ) -> StepwiseState:
        system, layout = cast(self.system, self.dtype), self.system.layout
        m, s, b = layout.students, layout.teachers, system.batch_size
        d = system.spectrum.dimension
        noise_dim, components = system.loss.noise.dim, system.probabilities.shape[0]
        labels = random.stream(key, Stream.LABELS)
        extras = random.normals(labels, tick, 1, b * (noise_dim + (components > 1)), self.dtype)
        extras = extras.reshape(b, -1)
        component = jnp.zeros(b, jnp.int32)
        if components > 1:
            edges = jax.scipy.special.ndtri(jnp.cumsum(system.probabilities)[:-1])
            component = (extras[:, -1:] > edges[None]).sum(1, dtype=jnp.int32)
        rows = self._rows(random.stream(key, Stream.STEPS), tick, state.order, component)
        if layout.means:
            rows = rows + state.frozen[:, s:].T[component]

        def product(a: Array, b: Array) -> Array:
            return precise.dot(a, b)

        x, teacher = product(rows, state.moving[:, -m:]), product(rows, state.frozen[:, :s])
        gradient, slope = jax.vmap(system.loss.gradient, in_axes=(0, 0, 0, 0, None))(
            x,
            teacher,
            component,
            jax.vmap(system.loss.noise)(extras[:, :noise_dim]),
            state.side.theta,
        )
        mean, slope = product(rows.T, gradient) / b, jax.tree.map(lambda x: x.mean(0), slope)
        gamma = system.learning_rate
        t = tick.astype(d.dtype) / d
        if isinstance(gamma, StateRate):
            rate = state_rate(self.system, self.summary(state)).astype(self.dtype)
        else:
            rate = gamma(t)
        if isinstance(system.optimiser, LinearMemory):
            weights, mixing = with_ridge(system.optimiser.step(rate, t, d), system.ridge)
            blocks = state.moving.reshape(-1, weights.shape[0], m)
            mixed = (blocks[:, :, None] * mixing[None, :, :, None]).sum(1)
            moving = state.moving + mixed.reshape(state.moving.shape) - times_weights(mean, weights)
            change = moved(state.side.parameters, slope, weights, mixing)
            parameters = jax.tree.map(jnp.add, state.side.parameters, change)
            accumulated = state.side.accumulated
            if accumulated is not None:
                accumulated = accumulated + (mean**2).sum() / d**2
            side = Side.of(parameters, accumulated)
            return StepwiseState(moving, state.frozen, side, None, state.order)
        parameters = (state.moving, state.side.theta)
        gradients = jax.tree.map(lambda g, x: g + system.ridge * x, (mean, slope), parameters)
        # Optimisers act on the coordinates in which K is given.
        there, own = self._rotated((gradients, parameters)), state.optimiser
        updates, own = self._transformation.update(there[0], own, there[1])
        updates = self._rotated(updates, back=True)
        moving, theta = jax.tree.map(lambda x, u: x - rate / d * u, parameters, updates)
        return StepwiseState(moving, state.frozen, Side(theta), own, state.order)

    def _rows(
        self, key: Key[Array, ""], tick: Int[Array, ""], order: Any, component: Int[Array, " b"]
    ) -> Float[Array, "b d"]:
        """The samples of a step in the eigenbasis, without the means of their components."""
        system = cast(self.system, self.dtype)
        scale = jnp.sqrt(system.eigenvalues)[component]
        d = coordinates(self.system.spectrum)
        if scale.shape[1] != d:
            scale = scale[:, self.system.spectrum.groups]
        if self.data is None:
            z = random.normals(key, tick, 1, component.shape[0] * d, self.dtype)
            return scale * z.reshape(scale.shape)
        return self.data.rows(random.at(key, tick), tick, order, scale, self.system.spectrum)

    def _rotated(self, tree: Any, *, back: bool = False) -> Any:
        """Columns from the eigenbasis to the coordinates in which K is given, or back."""
        basis = self.system.spectrum.basis
        if basis is None:
            return tree
        basis = basis.T if back else basis
        d = basis.shape[0]
        return jax.tree.map(
            lambda x: precise.dot(basis.astype(x.dtype), x) if x.shape[0] == d else x,
            tree,
        )
