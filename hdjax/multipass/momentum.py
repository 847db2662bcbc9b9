"""SGD with momentum and batches on a fixed least-squares problem.

    X_{k+1} = X_k - gamma(k) sum_{i in B_k} (a_i (a_i^T X_k - b_i) + delta/n X_k)
              + Delta (X_k - X_{k-1}),

|B_k| = zeta n samples drawn without replacement inside the batch, afresh at each step (a sum over
the batch, not a mean), X_{-1} = X_0, delta the ridge of L + delta/2 |X|^2.  Time is the step k
itself: the limit (`recursion.py`) has no differential equation.

Source: arXiv 2206.01029 and "Trajectory of Mini-Batch Momentum" (Lee, Cheng, Paquette, Paquette
2022).
"""

from collections.abc import Callable
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int, Key, PyTree

from hdjax import random
from hdjax.multipass.diagnostics import warn_of_growth, warn_of_localisation
from hdjax.multipass.least_squares import LeastSquares, modes_of
from hdjax.multipass.modes import Modes
from hdjax.multipass.problem import Problem
from hdjax.multipass.rates import is_stable
from hdjax.multipass.recursion import Recursion, Squaring
from hdjax.multipass.simulate import Direct, required
from hdjax.random import Stream
from hdjax.registry import NonNegative, Positive
from hdjax.schedules import Constant, Schedule, as_schedule
from hdjax.system import Simulator, is_concrete, steps_at


class MomentumSGD(LeastSquares):
    """SGD with momentum and batches on least squares.

    Args:
        problem: a `Problem`, or None for the limit of given `modes` alone.
        learning_rate: gamma, of the sum over the batch: O(1) for rows of squared norm O(1); a
            number or a schedule (function of the step k).
        batch_fraction: zeta in (0, 1]; zeta n must be an integer.
        momentum: Delta in [0, 1).
        modes: as for `MultiPassSGD`.
        ridge: delta >= 0 of the penalty delta/2 |X|^2 on L; None: none.
        solver: how the limit is computed; None: `Recursion()`.

    Raises:
        ValueError, TypeError: naming the argument, its value and what is allowed.

    Example:
        >>> problem = hd.multipass.gaussian_problem(40, 20, key=jax.random.key(0))
        >>> system = MomentumSGD(problem, 0.5, batch_fraction=0.25, momentum=0.3)
        >>> system.batch_size
        10
    """

    time_label: ClassVar[str] = "step k"

    problem: Problem | None
    modes: Modes
    learning_rate: Schedule
    momentum: Float[Array, ""]
    batch_fraction: Float[Array, ""]
    ridge: Float[Array, ""] | None
    solver: Recursion | Squaring

    def __init__(
        self,
        problem: Problem | None,
        learning_rate: Any,
        *,
        batch_fraction: Positive,
        momentum: NonNegative = 0.0,
        modes: Modes | None = None,
        ridge: NonNegative | None = None,
        solver: Any = None,
    ):
        dtype = jnp.result_type(float)
        self.problem = problem
        self.learning_rate = as_schedule(learning_rate)
        self.momentum = jnp.asarray(momentum, dtype)
        self.batch_fraction = jnp.asarray(batch_fraction, dtype)
        self.ridge = None if ridge is None else jnp.asarray(ridge, dtype)
        self.modes = modes_of(problem, modes)
        self.solver = Recursion() if solver is None else solver
        self.validate()

    @property
    def batch_size(self) -> int:
        """The number zeta n of samples in a batch."""
        return round(float(self.batch_fraction * self.modes.samples))

    def validate(self, *, compared: bool = False, realised: bool = False) -> None:
        if not isinstance(self.solver, Recursion | Squaring):
            raise TypeError(
                f"solver: {self.solver!r} with momentum, whose limit is a recursion; allowed: "
                "Recursion(), Squaring() or None"
            )
        self.solver.check(self)
        if not is_concrete(self):
            return
        zeta, delta = float(self.batch_fraction), float(self.momentum)
        if not 0 <= delta < 1:
            raise ValueError(f"momentum: {delta}; allowed: at least 0 and below 1")
        if not 0 < zeta <= 1:
            raise ValueError(f"batch_fraction: {zeta}; allowed: above 0, at most 1")
        size = zeta * float(self.modes.samples)
        if abs(size - round(size)) > 1e-4 or round(size) < 1:
            raise ValueError(
                f"batch_fraction: {zeta}, a batch of {size:.6g} samples; allowed: a multiple of "
                f"1/n = 1/{int(self.modes.samples)}"
            )
        self.check_numbers()
        if compared:
            self._warn(zeta, delta)

    def _warn(self, zeta: float, delta: float) -> None:
        """Where the limit grows, or SGD leaves it without a sign in the limit."""
        gamma = float(self.learning_rate(0.0))
        plain = isinstance(self.learning_rate, Constant) and self.ridge is None
        if plain and not is_stable(self.modes, gamma, zeta, delta):
            warn_of_growth(
                f"learning_rate: {gamma:.4g} with momentum {delta:.4g} and batch_fraction "
                f"{zeta:.4g} is not stable"
            )
        else:
            warn_of_localisation(self.modes, self.problem, gamma)

    def simulator(self, method: Any = None, horizon: Any = None) -> "MomentumSimulator":
        """The algorithm itself, in float32 (`Direct`)."""
        method = Direct() if method is None else method
        if not isinstance(method, Direct):
            raise TypeError(f"method: {method!r}; allowed: Direct(...) or None")
        problem = required(self.problem)
        # Cast once, not in each interval.
        data = problem.matrix.astype(method.dtype), problem.labels.astype(method.dtype)
        return MomentumSimulator(self, problem, *data, method.dtype)

    @eqx.filter_jit
    def limit(
        self,
        ts: Float[Array, " times"],
        start: dict[str, Array] | None = None,
        save: Callable[[dict[str, Array]], PyTree[Array]] = lambda summary: summary,
    ) -> PyTree[Array]:
        """The statistics at the steps `ts` (increasing); derivatives by forward mode."""
        steps = jnp.round(ts).astype(int)
        return self.solver(self, steps, lambda values: save(self.named(values)))


class MomentumSimulator(Simulator):
    """One realisation; the clock is the step k.

    Batches are masks of n numbers: the runs share one product with A, and no rows are copied.
    """

    system: MomentumSGD
    problem: Problem
    matrix: Float[Array, "n d"]
    labels: Float[Array, " n"]
    dtype: str = eqx.field(static=True)

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
            residuals = jnp.dot(self.matrix, x, precision="highest") - self.labels
            chosen = jnp.where(order < size, residuals, 0)
            gradient = jnp.dot(chosen, self.matrix, precision="highest")
            if pull is not None:
                gradient = gradient + pull.astype(self.dtype) * x
            gamma = system.learning_rate(k.astype(time)).astype(self.dtype)
            return jnp.stack([x - gamma * gradient + delta * (x - before), x])

        return lax.fori_loop(k0, k1, step, state)

    def summary(self, state: Float[Array, "2 d"]) -> dict[str, Array]:
        values = self.problem.values(state[0].astype(self.problem.start.dtype))
        return {name: values[name] for name in self.system.statistics_of}

    def ticks(self, ts: Float[np.ndarray, " times"]) -> Int[np.ndarray, " times"]:
        """The step k = floor(t)."""
        return steps_at(ts, 1.0)

    def times(self, ticks: Int[np.ndarray, " times"]) -> Float[np.ndarray, " times"]:
        return np.asarray(ticks, np.float64)

    def bytes_per_run(self) -> int:
        n, d = self.problem.matrix.shape
        return 8 * (6 * d + 6 * n)
