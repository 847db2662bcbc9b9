"""Methods that run SGD and SGD with momentum at finite size: in R^d, or as homogenised SGD.

`Direct` runs the algorithm itself.  Without momentum that is

    X_{k+1} = X_k - gamma(k/n) (a_i (a_i^T X_k - b_i) + delta/n X_k),

and with momentum Delta and batches B_k of zeta n samples

    X_{k+1} = X_k - gamma(k) sum_{i in B_k} (a_i (a_i^T X_k - b_i) + delta/n X_k)
              + Delta (X_k - X_{k-1}).

`Homogenised` runs the diffusion that has the same mean loss as SGD.  All runs share one copy of A.
The samples of step k are a function of the run's key and of k alone.

Source: slides "Hitting the High-D(imensional) Notes", frames "Our framework" (SGD and homogenised
SGD) and "Large batch: SGD+M".
"""

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int, Key

from hdjax import precise, random
from hdjax.arrays import decay_share
from hdjax.checks import check_dtype
from hdjax.clocks import Clock, Intervals, Steps, Within
from hdjax.multipass.least_squares import Batched, LeastSquares, MultiPass, required
from hdjax.multipass.problem import Problem
from hdjax.random import Stream
from hdjax.registry import PositiveFloat, Precision, register
from hdjax.system import Method, Simulator

SAMPLINGS = ("replacement", "reshuffling", "single_pass")

# The number of consecutive steps whose samples are drawn together.
_BLOCK = 32


@register("multipass.method", "direct")
class Direct(Method):
    """The algorithm itself, on iterates in R^d.

    Args:
        dtype: precision of the run, "float32" or "float64" (which needs `jax_enable_x64`); the
            limit keeps the precision of the system.

    Raises:
        ValueError: another dtype, or float64 without 64-bit numbers.

    Example:
        >>> method = Direct(dtype="float32")
    """

    dtype: Precision = eqx.field(static=True, default="float32")

    def __check_init__(self) -> None:
        check_dtype(self.dtype)

    def simulator(self, system: LeastSquares, horizon: None = None) -> Simulator:
        """The simulator of `system` on iterates of precision `dtype`."""
        return system.direct(self.dtype)


class _Iterates(Simulator):
    """One realisation of an algorithm in R^d (abstract).

    Attributes:
        system: the algorithm.
        problem: the data in the precision of the limit.
        matrix: A (n, d) in the precision of the run.
        labels: b (n,) in the precision of the run.
        dtype: the precision of the run.
    """

    system: eqx.AbstractVar[LeastSquares]
    problem: Problem
    matrix: Float[Array, "n d"]
    labels: Float[Array, " n"]
    dtype: str = eqx.field(static=True)

    @classmethod
    def of(cls, system: LeastSquares, dtype: str) -> "_Iterates":
        """The simulator of `system`; its data are cast here once, not in each interval."""
        problem = required(system.problem)
        return cls(
            system=system,
            problem=problem,
            matrix=problem.matrix.astype(dtype),
            labels=problem.labels.astype(dtype),
            dtype=dtype,
        )


class SGDSimulator(_Iterates):
    """One realisation of SGD in R^d; the clock counts steps k, and t = k/n."""

    system: MultiPass

    @property
    def clock(self) -> Clock:
        """The clock of n steps in a unit of time; a single pass ends after n steps."""
        clock, n = Steps(self.problem.samples), self.problem.samples
        if self.system.sampling != "single_pass":
            return clock
        return Within(clock, last=n, why="when a single pass has used every sample once")

    def init(self, key: Key[Array, ""]) -> Float[Array, " d"]:
        return self.problem.start.astype(self.dtype)

    def advance(
        self,
        state: Float[Array, " d"],
        k0: Int[Array, ""],
        k1: Int[Array, ""],
        key: Key[Array, ""],
    ) -> Float[Array, " d"]:
        system, n = self.system, self.problem.samples
        matrix, labels = self.matrix, self.labels
        time = system.modes.floor.dtype

        def rate(tick: Int[Array, ""]) -> Float[Array, ""]:
            gamma = system.learning_rate(tick.astype(time) / n)
            # The last block may reach beyond k1; its steps from k1 on have rate 0.
            return jnp.where(tick < k1, gamma, 0).astype(self.dtype)

        def block(j: Int[Array, ""], x: Float[Array, " d"]) -> Float[Array, " d"]:
            ticks = k0 + _BLOCK * j + jnp.arange(_BLOCK, dtype=k0.dtype)
            chosen, rates = self._samples(key, ticks), jax.vmap(rate)(ticks)
            shrink = None if system.ridge is None else system.ridge.astype(self.dtype) / n

            def step(i: Int[Array, ""], x: Float[Array, " d"]) -> Float[Array, " d"]:
                row, gamma = matrix[chosen[i]], rates[i]
                residual = precise.dot(row, x) - labels[chosen[i]]
                moved = x - gamma * residual * row
                return moved if shrink is None else moved - gamma * shrink * x

            return lax.fori_loop(0, _BLOCK, step, x)

        return lax.fori_loop(0, (k1 - k0 + _BLOCK - 1) // _BLOCK, block, state)

    def _samples(self, key: Key[Array, ""], ticks: Int[Array, " steps"]) -> Int[Array, " steps"]:
        """The index of the sample that each of consecutive steps draws."""
        n, own = self.problem.samples, random.stream(key, Stream.STEPS)
        if self.system.sampling == "single_pass":
            return jnp.minimum(ticks, n - 1)
        if self.system.sampling == "replacement":
            return jax.vmap(lambda k: _below(own, k, n))(ticks)
        epochs = ticks // n
        first = epochs[0]

        def order(epoch: Int[Array, ""]) -> Int[Array, " n"]:
            return jax.random.permutation(random.at(own, epoch), n)

        if n < _BLOCK:
            return jax.vmap(lambda e, k: order(e)[k % n])(epochs, ticks)
        # A block of at most n steps reaches into two epochs at most.
        here, after = order(first), order(first + 1)
        return jnp.where(epochs == first, here[ticks % n], after[ticks % n])

    def iterate(self, state: Float[Array, " d"]) -> Float[Array, " d"]:
        """The parameters X_k of a run."""
        return state

    def summary(self, state: Float[Array, " d"]) -> dict[str, Array]:
        values = self.problem.values(state.astype(self.problem.start.dtype))
        return {name: values[name] for name in self.system.statistics_of}

    def side_by_side(self) -> int | None:
        # On a CPU a run's iterate stays in the cache while the next one waits.
        return 1 if jax.default_backend() == "cpu" else None


class MomentumSimulator(_Iterates):
    """One realisation of SGD with momentum in R^d; the clock counts steps k.

    A batch is a mask of n numbers, so that all runs share one product with A and no rows are
    copied.  The state is X_k and X_{k-1}.
    """

    system: Batched

    @property
    def clock(self) -> Steps:
        """The clock whose time is the step k."""
        return Steps(1)

    def init(self, key: Key[Array, ""]) -> Float[Array, "2 d"]:
        start = self.problem.start.astype(self.dtype)
        return jnp.stack([start, start])

    def advance(
        self,
        state: Float[Array, "2 d"],
        k0: Int[Array, ""],
        k1: Int[Array, ""],
        key: Key[Array, ""],
    ) -> Float[Array, "2 d"]:
        system, own = self.system, random.stream(key, Stream.STEPS)
        n = self.problem.samples
        size = jnp.round(system.batch_fraction * n).astype(jnp.int32)
        time = system.momentum.dtype
        delta = system.momentum.astype(self.dtype)
        pull = None if system.ridge is None else system.ridge * system.batch_fraction

        def step(k: Int[Array, ""], state: Float[Array, "2 d"]) -> Float[Array, "2 d"]:
            x, before = state
            order = jax.random.permutation(random.at(own, k), jnp.arange(n, dtype=jnp.int32))
            residuals = precise.dot(self.matrix, x) - self.labels
            chosen = jnp.where(order < size, residuals, 0)
            gradient = precise.dot(chosen, self.matrix)
            if pull is not None:
                gradient = gradient + pull.astype(self.dtype) * x
            gamma = system.learning_rate(k.astype(time)).astype(self.dtype)
            return jnp.stack([x - gamma * gradient + delta * (x - before), x])

        return lax.fori_loop(k0, k1, step, state)

    def iterate(self, state: Float[Array, "2 d"]) -> Float[Array, " d"]:
        """The parameters X_k of a run."""
        return state[0]

    def summary(self, state: Float[Array, "2 d"]) -> dict[str, Array]:
        values = self.problem.values(state[0].astype(self.problem.start.dtype))
        return {name: values[name] for name in self.system.statistics_of}


@register("multipass.method", "homogenised")
class Homogenised(Method):
    """Homogenised SGD, a diffusion in the eigenbasis of A^T A.

        dx_j = -gamma (lambda_j x_j - s_j y_j + delta x_j) dt + gamma s_j sqrt(2 L/n) dB_j.

    Homogenised SGD has the mean loss of SGD, but other fluctuations.  Sources: slides "Hitting the
    High-D(imensional) Notes", frame "Our framework"; arXiv 2205.07069 (with the ridge delta).

    Args:
        dt: the time step, in epochs; records fall on multiples of dt.  Within a step the drift is
            exact, and the noise is that of the loss at its beginning.

    Raises:
        ValueError: dt is not positive.

    Example:
        >>> method = Homogenised(dt=0.01)
    """

    exact: ClassVar[bool] = False
    dt: PositiveFloat = eqx.field(static=True, default=0.01)

    def __check_init__(self) -> None:
        if not (np.isfinite(self.dt) and self.dt > 0):
            raise ValueError(f"dt: {self.dt}; allowed: finite and positive")

    def simulator(self, system: LeastSquares, horizon: None = None) -> "HomogenisedSimulator":
        """The simulator of `system`.

        Raises:
            ValueError: the system has no problem, or its modes are a quadrature rule.
        """
        problem = required(system.problem)
        if system.modes.eigenvalues.shape != (min(problem.matrix.shape),):
            raise ValueError(
                "modes: those of a quadrature rule; allowed with Homogenised: None (the problem's "
                "singular value decomposition)"
            )
        return HomogenisedSimulator(system, self.dt)


class HomogenisedSimulator(Simulator):
    """One realisation of homogenised SGD; the clock counts steps of length dt.

    The state is (p,) the coordinates x_j on the right singular vectors of A.

    Attributes:
        system: the algorithm.
        dt: the time step, in epochs.
    """

    system: LeastSquares
    dt: float = eqx.field(static=True)

    @property
    def clock(self) -> Intervals:
        """The clock of steps of length dt."""
        return Intervals(self.dt)

    def init(self, key: Key[Array, ""]) -> Float[Array, " p"]:
        return self.system.modes.start

    def advance(
        self,
        state: Float[Array, " p"],
        k0: Int[Array, ""],
        k1: Int[Array, ""],
        key: Key[Array, ""],
    ) -> Float[Array, " p"]:
        modes, own = self.system.modes, random.stream(key, Stream.STEPS)
        s, rates = modes.singular_values, self.system.flow.rates
        dtype, p = modes.floor.dtype, modes.eigenvalues.shape[0]

        def step(k: Int[Array, ""], x: Float[Array, " p"]) -> Float[Array, " p"]:
            gamma = self.system.learning_rate((k.astype(dtype) + 0.5) * self.dt)
            loss = modes.mean_loss(s * x - modes.labels)
            scale = gamma * self.dt
            decay = jnp.exp(-rates * scale)
            pull = scale * decay_share(rates * scale) * s * modes.labels
            spread = decay_share(2 * rates * scale) * self.dt * 2 * loss / modes.samples
            z = random.normals(own, k, 1, p, dtype)[0]
            return decay * x + pull + gamma * s * jnp.sqrt(spread) * z

        return lax.fori_loop(k0, k1, step, state)

    def summary(self, state: Float[Array, " p"]) -> dict[str, Array]:
        modes = self.system.modes
        residuals = modes.singular_values * state - modes.labels
        values = modes.values(residuals, state, jnp.zeros_like(state))
        return {name: values[name] for name in self.system.statistics_of}


def _below(key: Key[Array, ""], tick: Int[Array, ""], n: int) -> Int[Array, ""]:
    """A uniform draw from 0, ..., n - 1 that belongs to one tick."""
    return jax.random.randint(random.at(key, tick), (), 0, n, jnp.int32)
