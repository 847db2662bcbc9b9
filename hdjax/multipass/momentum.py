"""SGD with momentum and batches on a fixed least-squares problem: the system `MomentumSGD`.

    X_{k+1} = X_k - gamma(k) sum_{i in B_k} (a_i (a_i^T X_k - b_i) + delta/n X_k)
              + Delta (X_k - X_{k-1}),    X_{-1} = X_0.

Each step draws a fresh batch B_k of zeta n samples without replacement inside the batch, and the
gradient is a sum over the batch, not a mean.  delta is the ridge of L + delta/2 |X|^2.  Time is the
step k itself: the limit (`recursion.py`) is a recursion, not a differential equation.

Sources: slides "Hitting the High-D(imensional) Notes", frame "Large batch: SGD+M"; arXiv
2206.01029 ("Trajectory of Mini-Batch Momentum", Section 1).
"""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from hdjax.arrays import whole_steps
from hdjax.checks import checked, is_concrete
from hdjax.limits import Limit
from hdjax.multipass.diagnostics import warn_of_growth, warn_of_localisation
from hdjax.multipass.least_squares import Batched, modes_of
from hdjax.multipass.modes import Modes
from hdjax.multipass.problem import Problem
from hdjax.multipass.rates import is_stable
from hdjax.multipass.recursion import Recursion, Squaring
from hdjax.multipass.simulate import Direct, MomentumSimulator
from hdjax.registry import NonNegative, Positive
from hdjax.schedules import Constant, Schedule, ScheduleLike, as_schedule
from hdjax.system import Method, Simulator, WithoutFluctuations


class MomentumSGD(Batched, WithoutFluctuations):
    """SGD with momentum and batches on a fixed least-squares problem, and its limit.

    Args:
        problem: a `Problem`, or None for the limit of given `modes` alone.
        learning_rate: gamma, which multiplies the sum over the batch: O(1) for rows of squared
            norm O(1); a number or a schedule (function of the step k).
        batch_fraction: zeta in (0, 1], the samples of a batch over all samples; zeta n must be an
            integer.
        momentum: Delta in [0, 1).
        modes: the eigenvalues and residuals that the limit is computed from; None: the problem's
            singular value decomposition.
        ridge: delta >= 0 of the penalty delta/2 |X|^2 on L; None: none.
        solver: how the limit is computed; None: `Recursion()`.

    Raises:
        ValueError, TypeError: an argument is not allowed; the message names the argument, its
            value and what is allowed.

    Example:
        >>> problem = hd.multipass.gaussian_problem(40, 20, key=jax.random.key(0))
        >>> system = MomentumSGD(problem, 0.5, batch_fraction=0.25, momentum=0.3)
        >>> system.batch_size
        10
    """

    time_label: ClassVar[str] = "step k"
    methods: ClassVar[tuple[type[Method], ...]] = (Direct,)
    no_fluctuations: ClassVar[str] = "no equation of the spread is known with momentum"

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
        learning_rate: ScheduleLike,
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
                f"solver: {self.solver!r}; allowed with momentum, whose limit is a recursion: "
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
        """Warn if the loss grows, or if SGD may leave the limit."""
        gamma = float(self.learning_rate(0.0))
        plain = isinstance(self.learning_rate, Constant) and self.ridge is None
        if plain and not is_stable(self.modes, gamma, zeta, delta):
            warn_of_growth(
                f"learning_rate: {gamma:.4g}, which is not stable with momentum {delta:.4g} and "
                f"batch_fraction {zeta:.4g}; allowed for a bounded loss: see "
                "hd.multipass.rates.is_stable"
            )
        else:
            warn_of_localisation(self.modes, self.problem, gamma)

    def direct(self, dtype: str) -> Simulator:
        """The simulator of SGD with momentum on iterates in R^d of precision `dtype`."""
        return MomentumSimulator.of(self, dtype)

    def about(self, horizon: None) -> Mapping[str, str]:
        """No remarks: a result of this system needs no further explanation."""
        return {}

    @checked
    @eqx.filter_jit
    def limit(
        self,
        ts: Float[Array, " times"],
        start: dict[str, Array] | None = None,
        horizon: None = None,
        save: Callable[[dict[str, Array]], PyTree[Array]] = lambda summary: summary,
    ) -> Limit:
        """The limit of the statistics; derivatives are by forward mode.

        Args:
            ts: (times,) increasing steps k, from 0 on.
            start: not used: every run starts from the problem's own X_0.
            horizon: not used: one program serves any duration.
            save: a function of the statistics by name; its values at `ts` are kept.
        """
        steps = whole_steps(ts)
        saved = self.solver(self, steps, lambda values: save(self.named(values)))
        return Limit.whole(saved, ts)
