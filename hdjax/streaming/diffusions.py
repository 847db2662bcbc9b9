"""Diffusions that stand for SGD: homogenised SGD, and the one with SGD's own fluctuations.

Homogenised SGD (arXiv 2308.08977) is, in R^{d x m} with B_t a Brownian motion there,

    dX = -gamma K W H dt + gamma K^{1/2} dB_t C^{1/2} / sqrt(d).

It has SGD's mean of every statistic to O(1/d), but not its fluctuations: in isotropic noiseless
least squares the variance of the risk is 2/(2 - gamma)^2 times SGD's.  The corrected diffusion is
that of the Gram blocks whose noise has the covariance Sigma of SGD's increment,

    dV = F(V) dt + (Sigma(V)/d)^{1/2} dB_t,

whose spread is SGD's to leading order in 1/sqrt(d) (its linearisation is the linear-noise equation
of `fluctuations.py`).  Neither costs more for larger d, or for more steps of SGD: a step of theirs
is a time dt, by the exponential midpoint rule for the drift, with the noise frozen at its start.
"""

import abc
from typing import Any

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
    """Homogenised SGD, exactly in law on Gram blocks but for the time step; any d.

    Means agree with SGD's to O(1/d); fluctuations do not: use `CorrectedDiffusion` for those.

    Args:
        dt: the time step; records fall on its multiples.

    Raises:
        ValueError: dt not positive.

    Example:
        >>> method = Homogenised(dt=0.01)
    """

    dt: PositiveFloat = eqx.field(static=True, default=0.01)

    def __check_init__(self) -> None:
        _check_step(self.dt)

    def simulator(self, system: OnePass, horizon: None = None) -> "HomogenisedSimulator":
        """The simulator of `system`."""
        check_columns(self, system)
        return HomogenisedSimulator(system, self.dt)


@register("streaming.method", "corrected_diffusion")
class CorrectedDiffusion(Method):
    """The diffusion of the Gram blocks with SGD's own fluctuations.

    Args:
        dt: the time step; records fall on its multiples.

    Raises:
        ValueError: dt not positive.

    Example:
        >>> method = CorrectedDiffusion(dt=0.01)
    """

    dt: PositiveFloat = eqx.field(static=True, default=0.01)

    def __check_init__(self) -> None:
        _check_step(self.dt)

    def simulator(self, system: OnePass, horizon: None = None) -> "CorrectedSimulator":
        """The simulator of `system`."""
        check_columns(self, system)
        return CorrectedSimulator(system, self.dt)


class Stepper(Simulator):
    """The clock counts steps of length dt; the precision is the limit's."""

    system: eqx.AbstractVar[OnePass]
    dt: eqx.AbstractVar[float]

    @property
    def clock(self) -> Intervals:
        """Steps of length dt."""
        return Intervals(self.dt)

    @abc.abstractmethod
    def step(self, state: Any, t: Float[Array, ""], k: Int[Array, ""], key: Key[Array, ""]) -> Any:
        """One realisation from time `t` to t + dt, with the draws of tick `k`."""

    def advance(
        self, state: Any, k0: Int[Array, ""], k1: Int[Array, ""], key: Key[Array, ""]
    ) -> Any:
        dtype = self.system.ridge.dtype
        return lax.fori_loop(
            k0, k1, lambda k, state: self.step(state, k.astype(dtype) * self.dt, k, key), state
        )

    def bytes_per_run(self) -> int:
        return 16 * self.system.ridge.dtype.itemsize * self.system.start().blocks.size

    def middle(self, t: Float[Array, ""], state: BlockState) -> Coefficients:
        """The drift's coefficients half a step on, by a predictor."""
        field = self.system.field_on(self.system.spectrum)
        half = self.dt / 2
        predicted = flow(field.coefficients(t, state), state, jnp.asarray(half, t.dtype))
        return field.coefficients(t + half, predicted)


class HomogenisedSimulator(Stepper):
    """One realisation of homogenised SGD, in q directions of each eigenspace."""

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
        # What a coordinate of the eigenspace gets of the block's noise.
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
    """One realisation of the corrected diffusion; the state is (blocks, side)."""

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


def _check_step(dt: float) -> None:
    if not (np.isfinite(dt) and dt > 0):
        raise ValueError(f"dt: {dt}; allowed: positive")
