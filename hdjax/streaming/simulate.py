"""Direct simulation of one-pass SGD in R^d: the method `Direct`, the default of the family.

    X_{k+1} = X_k - gamma(k/d)/d (mean over the batch of a g^T + tau X_k)

It runs in the eigenbasis of the covariance, where the entries of a sample are independent.  Samples
come from the counter-based generator of `hdjax.random`.  Several steps are processed together by
matrix products (`hdjax.streaming._kernel`); the result equals step-by-step SGD up to rounding,
whatever the size of these blocks.

Source: the slides "Hitting the High-D(imensional) Notes", slide "One-pass SGD" (paper: arXiv
2308.08977).
"""

from collections.abc import Callable
from typing import Annotated

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from hdjax import random
from hdjax.arrays import cast
from hdjax.checks import check_dtype
from hdjax.clocks import Steps
from hdjax.random import Stream
from hdjax.registry import In, Precision, Size, register
from hdjax.streaming import _kernel
from hdjax.streaming.columns import as_given, coordinates, group_gram
from hdjax.streaming.data import Data
from hdjax.streaming.divided import DividedSimulator
from hdjax.streaming.field import GramSummary
from hdjax.streaming.limit import Side
from hdjax.streaming.onepass import OnePass
from hdjax.streaming.optimisers.linear import LinearMemory, Rule
from hdjax.streaming.optimisers.state_rates import StateRate
from hdjax.streaming.sampler import state_rate, with_ridge
from hdjax.streaming.stepwise import StepwiseSimulator
from hdjax.system import Method, Simulator


@register("streaming.method", "direct")
class Direct(Method):
    """One-pass SGD on explicit columns in R^d, with memory and time O(d) a step.

    Args:
        dtype: precision of the run, "float32" or "float64" (which needs `jax_enable_x64`); the
            limit keeps the precision of the system.
        block: number of steps processed together; None: a number chosen for the device.
        data: the source of samples that replaces the system's Gaussian law (`Rademacher`, `Rows`,
            ...); steps are then taken one at a time.
        devices: number of devices between which the coordinates of a run are divided, for a run
            that is too large or too slow for one; the runs of an experiment follow one another.

    Raises:
        ValueError: another dtype, float64 without 64-bit numbers, a block below 1, a block or
            several devices given together with data or with an optimiser that has no linear memory,
            more devices than there are.

    Example:
        >>> method = Direct(block=8)
    """

    dtype: Precision = eqx.field(static=True, default="float32")
    block: Size | None = eqx.field(static=True, default=None)
    data: Annotated[Data, In("streaming.data")] | None = None
    devices: Size = eqx.field(static=True, default=1)

    def __check_init__(self) -> None:
        check_dtype(self.dtype)
        if self.block is not None and self.block < 1:
            raise ValueError(f"block: {self.block}; allowed: None or at least 1")
        if not (self.data is None or isinstance(self.data, Data)):
            raise TypeError(
                f"data: {type(self.data).__name__}; allowed: None, or a law of "
                "hdjax.streaming.data (such as Rows(array))"
            )
        if self.block is not None and self.data is not None:
            raise ValueError(
                f"block: {self.block}; allowed with data: None (steps are taken one at a time)"
            )

    def simulator(self, system: OnePass, horizon: None = None) -> Simulator:
        """The simulator of `system` in R^d."""
        d = coordinates(system.spectrum)
        if self.data is not None or not isinstance(system.optimiser, LinearMemory):
            if self.block is not None:
                raise ValueError(
                    f"block: {self.block}; allowed with {type(system.optimiser).__name__}: None "
                    "(steps are taken one at a time)"
                )
            if self.devices > 1:
                raise ValueError(
                    f"devices: {self.devices}; allowed with data, and with an optimiser without a "
                    "linear memory: 1"
                )
            return StepwiseSimulator(system, self.dtype, self.data)
        block = self.block if self.block is not None else _kernel.block_size(d // self.devices)
        simulator = DirectSimulator(system, self.dtype, block)
        return simulator if self.devices == 1 else DividedSimulator(simulator, self.devices)


class DirectState(eqx.Module):
    """The state of a run: columns in the eigenbasis of K, and the variables beside them.

    The `moving` columns are [memories | X], the `frozen` columns are [X* | means].
    """

    moving: Float[Array, "d p"]
    frozen: Float[Array, "d f"]
    side: Side


class DirectSimulator(Simulator):
    """The simulator of one run of direct SGD, whose clock counts the steps k (t = k/d)."""

    system: OnePass
    dtype: str = eqx.field(static=True)
    block: int = eqx.field(static=True)

    @property
    def clock(self) -> Steps:
        """The clock that counts steps, d of them in a unit of time."""
        return Steps(coordinates(self.system.spectrum))

    def init(self, key: Key[Array, ""]) -> DirectState:
        system = self.system
        columns = system.columns.sample(random.stream(key, Stream.START), system.spectrum)
        columns = system.extended(columns).astype(self.dtype)
        p = system.layout.moving
        return DirectState(
            columns[:, :p], columns[:, p:], cast(system.start_side(system.spectrum), self.dtype)
        )

    def advance(
        self,
        state: DirectState,
        k0: Int[Array, ""],
        k1: Int[Array, ""],
        key: Key[Array, ""],
    ) -> DirectState:
        return self.descend(state, k0, k1, key, self.scale())

    def scale(self) -> Float[Array, "c d"]:
        """The square roots of the eigenvalues at each coordinate, for each component."""
        eigenvalues = cast(self.system, self.dtype).eigenvalues
        if eigenvalues.shape[-1] != coordinates(self.system.spectrum):
            eigenvalues = eigenvalues[:, self.system.spectrum.groups]
        return jnp.sqrt(eigenvalues)

    def descend(
        self,
        state: DirectState,
        k0: Int[Array, ""],
        k1: Int[Array, ""],
        key: Key[Array, ""],
        scale: Float[Array, "c d"],
        share: _kernel.Share | None = None,
    ) -> DirectState:
        """Advance the coordinates that a device has; the arguments are those of the kernel."""
        system, layout = cast(self.system, self.dtype), self.system.layout
        s, d = layout.teachers, system.spectrum.dimension

        def rules(moving: Float[Array, "p d"], side: Side) -> Callable[[Array], Rule]:
            gamma = None
            if isinstance(system.learning_rate, StateRate):
                own = self.summary(DirectState(moving.T, state.frozen, side))
                gamma = state_rate(self.system, own).astype(self.dtype)

            def rule(tick: Int[Array, ""]) -> Rule:
                t = tick.astype(d.dtype) / d
                rate = system.learning_rate(t) if gamma is None else gamma
                return with_ridge(system.optimiser.step(rate, t, d), system.ridge)

            return rule

        moving, side = _kernel.advance(
            state.moving,
            state.side,
            k0,
            k1,
            key,
            fixed=state.frozen[:, :s],
            means=state.frozen[:, s:].T if layout.means else None,
            scale=scale,
            probabilities=system.probabilities,
            gradient=system.loss.gradient,
            noise=system.loss.noise,
            rules=rules,
            steps=self.block,
            batch_size=system.batch_size,
            share=share,
        )
        return DirectState(moving, state.frozen, side)

    def summary(self, state: DirectState) -> GramSummary:
        system = self.system
        dtype = system.ridge.dtype
        columns = jnp.concatenate([state.moving, state.frozen], axis=1)
        # Differences of columns are taken first, in the precision of the run (they are exact near
        # recovery); sums over coordinates follow, in the precision of the limit.
        columns = system.layout.to_frame(columns).astype(dtype)
        blocks = group_gram(columns, system.spectrum)
        side = jax.tree.map(lambda x: x.astype(dtype), state.side)
        return GramSummary(blocks, side, system.eigenvalues, system.layout)

    def iterate(self, state: DirectState) -> Float[Array, "d m"]:
        """The student columns X of a run, in the coordinates in which K is given."""
        return as_given(state.moving[:, self.system.layout.first :], self.system.spectrum)

    def side_by_side(self) -> int | None:
        return _kernel.side_by_side(coordinates(self.system.spectrum))
