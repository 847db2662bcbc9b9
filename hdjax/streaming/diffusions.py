"""Diffusions that approximate one-pass SGD: the methods `Homogenised` and `CorrectedDiffusion`.

Homogenised SGD is the diffusion

    dX = -gamma K W H dt + gamma K^{1/2} dB_t C^{1/2} / sqrt(d)

with a Brownian motion B_t in R^{d x m}.  The mean of every statistic agrees with that of SGD to
O(1/d), but the fluctuations do not: in isotropic noiseless least squares the variance rate of the
risk is 2/(2 - gamma)^2 times that of SGD.  The corrected diffusion acts on the Gram blocks, and its
noise has the covariance Sigma of the increment of SGD (`increment.py`):

    dV = F(V) dt + (Sigma(V)/d)^{1/2} dB_t.

Its spread is that of SGD to leading order in 1/sqrt(d): its linearisation is the linear-noise
equation of `fluctuations.py`.  The cost of both does not depend on d: a step of length dt
integrates the drift by the exponential midpoint rule, with the noise frozen at the start of the
step.

Source: the slides "Hitting the High-D(imensional) Notes", slide "Exact Dynamics Idea: Diffusion
Approximation" (homogenized SGD) and the theorem "High dimensional equivalence of SGD" (paper: arXiv
2308.08977); the corrected diffusion is derived here.
"""

import abc
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Int, Key

from hdjax import gaussian, random
from hdjax.clocks import Intervals
from hdjax.random import Stream
from hdjax.registry import PositiveFloat, register
from hdjax.streaming.field import GramSummary
from hdjax.streaming.increment import increment
from hdjax.streaming.limit import BlockState, Coefficients, advance_side, column_flow, flow
from hdjax.streaming.onepass import OnePass
from hdjax.streaming.sampler import (
    GramState,
    bartlett,
    check_columns,
    chi,
    directions,
    fold_in,
    gram_summary,
    outside,
    start_state,
)
from hdjax.system import Method, Simulator


@register("streaming.method", "homogenised")
class Homogenised(Method):
    """Homogenised SGD, simulated on Gram blocks, for any d.

    The simulation is exact in law except for the error of the time step.  Means agree with those of
    SGD to O(1/d).  Fluctuations do not: use `CorrectedDiffusion` for them.

    Args:
        dt: the time step, in units of d steps of SGD; records must be at multiples of dt.

    Raises:
        ValueError: a dt that is not positive.
        TypeError: an optimiser without a linear memory.

    Example:
        >>> method = Homogenised(dt=0.01)
    """

    exact: ClassVar[bool] = False
    dt: PositiveFloat = eqx.field(static=True, default=0.01)

    def simulator(self, system: OnePass, horizon: None = None) -> "HomogenisedSimulator":
        """The simulator of homogenised SGD for `system`."""
        check_columns(self, system)
        return HomogenisedSimulator(system, self.dt)


@register("streaming.method", "corrected_diffusion")
class CorrectedDiffusion(Method):
    """The corrected diffusion, which acts on Gram blocks and has the fluctuations of SGD.

    Args:
        dt: the time step, in units of d steps of SGD; records must be at multiples of dt.

    Raises:
        ValueError: a dt that is not positive.
        TypeError: an optimiser without a linear memory.

    Example:
        >>> method = CorrectedDiffusion(dt=0.01)
    """

    exact: ClassVar[bool] = False
    dt: PositiveFloat = eqx.field(static=True, default=0.01)

    def simulator(self, system: OnePass, horizon: None = None) -> "CorrectedSimulator":
        """The simulator of the corrected diffusion for `system`."""
        check_columns(self, system)
        return CorrectedSimulator(system, self.dt)


class Stepper(Simulator):
    """The base class of simulators of a diffusion, whose clock counts steps of length dt.

    Their precision is that of the limit.
    """

    system: eqx.AbstractVar[OnePass]
    dt: eqx.AbstractVar[float]

    @property
    def clock(self) -> Intervals:
        """The clock that counts steps of length dt."""
        return Intervals(self.dt)

    @abc.abstractmethod
    def step(self, state: Any, t: Float[Array, ""], k: Int[Array, ""], key: Key[Array, ""]) -> Any:
        """The state at time t + dt from `state` at time `t`, with the draws of tick `k`."""

    def advance(
        self, state: Any, k0: Int[Array, ""], k1: Int[Array, ""], key: Key[Array, ""]
    ) -> Any:
        dtype = self.system.ridge.dtype
        return lax.fori_loop(
            k0, k1, lambda k, state: self.step(state, k.astype(dtype) * self.dt, k, key), state
        )

    def middle(self, t: Float[Array, ""], state: BlockState) -> Coefficients:
        """The coefficients of the drift at t + dt/2, at a state predicted by a half step."""
        field = self.system.field_on(self.system.spectrum)
        half = self.dt / 2
        predicted = flow(field.coefficients(t, state), state, jnp.asarray(half, t.dtype))
        return field.coefficients(t + half, predicted)


class HomogenisedSimulator(Stepper):
    """The simulator of one run of homogenised SGD, in q directions of each eigenspace."""

    system: OnePass
    dt: float = eqx.field(static=True)

    def init(self, key: Key[Array, ""]) -> GramState:
        return start_state(self.system, key, self.system.ridge.dtype)

    def step(
        self, state: GramState, t: Float[Array, ""], k: Int[Array, ""], key: Key[Array, ""]
    ) -> GramState:
        system, (g, q, p) = self.system, state.moving.shape
        h = jnp.asarray(self.dt, t.dtype)
        coefficients = self.middle(t, self.summary(state).state)
        decay, carry, noise = column_flow(coefficients, h)
        # The noise of a block is shared equally among the coordinates of the eigenspace.
        counts = system.spectrum.multiplicities[:, None, None]
        colour = jax.vmap(gaussian.factor)(noise / jnp.maximum(counts, 1)).mT

        dof = outside(system, p)
        sizes = np.cumsum([g * q * p, g * p])
        count = int(sizes[-1]) + g * p * (p - 1) // 2
        normals = random.normals(random.stream(key, Stream.STEPS), k, 1, count, t.dtype)[0]
        z, length, above = jnp.split(normals, sizes)
        lengths = chi(random.stream(key, Stream.CHI), k[None], dof, length.reshape(1, g, p))[0]
        z = jnp.where(directions(system)[:, :, None], z.reshape(g, q, p), 0)

        def product(a: Array, b: Array) -> Array:
            return (a[:, :, :, None] * b[:, None]).sum(2)

        moved = product(state.moving, decay) + product(state.frozen, carry) + product(z, colour)
        rows = product(bartlett(lengths, above), colour)
        side = advance_side(coefficients, state.side, h)
        return GramState(fold_in(moved, rows, lengths), state.frozen, side)

    def summary(self, state: GramState) -> GramSummary:
        return gram_summary(self.system, state)


class CorrectedSimulator(Stepper):
    """The simulator of one run of the corrected diffusion, whose state is (blocks, side)."""

    system: OnePass
    dt: float = eqx.field(static=True)

    def init(self, key: Key[Array, ""]) -> BlockState:
        state = start_state(self.system, key, self.system.ridge.dtype)
        return gram_summary(self.system, state).state

    def step(
        self, state: BlockState, t: Float[Array, ""], k: Int[Array, ""], key: Key[Array, ""]
    ) -> BlockState:
        system, h = self.system, jnp.asarray(self.dt, t.dtype)
        noise = increment(system.field_on(system.spectrum), t, state)
        z = random.normals(random.stream(key, Stream.STEPS), k, 1, noise.normals, t.dtype)[0]
        flat, unravel = ravel_pytree(flow(self.middle(t, state), state, h))
        return unravel(flat + jnp.sqrt(h / system.spectrum.dimension) * noise.sample(z))

    def summary(self, state: BlockState) -> GramSummary:
        return GramSummary(*state, self.system.eigenvalues, self.system.layout)
