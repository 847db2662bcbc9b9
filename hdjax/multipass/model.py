"""Multi-pass SGD on a fixed least-squares problem: the system `MultiPassSGD`.

    X_{k+1} = X_k - gamma(k/n) (a_i (a_i^T X_k - b_i) + delta/n X_k),    t = k/n  (epochs)

Each step draws a sample i afresh from the n samples.  The data are fixed, and only the choice of
samples is random; the limit as n and d grow (`limit.py`) therefore keeps the whole spectrum of A.

Scalings: rows have |a_i|^2 = O(1), so that gamma = O(1) is the step itself, without a factor of n
or d.  The loss L = 1/2 |A X - b|^2 is a sum over samples, and delta is the ridge of
L + delta/2 |X|^2.  The statistic "loss" is L/n.

Sources: slides "Hitting the High-D(imensional) Notes", frames "Our framework" and "Expected Risk";
arXiv 2102.04396 (Volterra equation), 2205.07069 (homogenised SGD, ridge, quadratic statistics).
"""

from collections.abc import Callable, Mapping
from typing import Annotated, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from hdjax.checks import checked, is_concrete
from hdjax.limits import Limit
from hdjax.multipass import means
from hdjax.multipass.diagnostics import (
    linear_noise_error,
    warn_of_growth,
    warn_of_linear_noise,
    warn_of_localisation,
)
from hdjax.multipass.fluctuations import fluctuations, theory
from hdjax.multipass.least_squares import MultiPass, modes_of, required
from hdjax.multipass.limit import BlockODE, Solver, Spectral
from hdjax.multipass.modes import Modes
from hdjax.multipass.problem import Problem
from hdjax.multipass.simulate import SAMPLINGS, Direct, Homogenised, SGDSimulator
from hdjax.registry import NonNegative, OneOf
from hdjax.schedules import Constant, Schedule, ScheduleLike, as_schedule
from hdjax.system import (
    Method,
    NoFluctuationsError,
    NoLimitError,
    Simulator,
)


class MultiPassSGD(MultiPass):
    """SGD on a fixed least-squares problem, and its deterministic equivalent.

    Args:
        problem: a `Problem`, or None for the limit of given `modes` alone.
        learning_rate: gamma = O(1), the step itself: a number or a schedule (function of t = k/n).
        modes: the eigenvalues and residuals that the limit is computed from; None: the problem's
            singular value decomposition.  `lanczos_modes` serves large problems, `law_modes` the
            law of a random problem.
        ridge: delta >= 0 of the penalty delta/2 |X|^2 on L; None: none.
        sampling: "replacement" (independent draws, which the limit describes), "reshuffling" (a
            new order in each epoch) or "single_pass" (one epoch in the order given, t <= 1).
        solver: how the limit is computed; None: `BlockODE()`.

    Raises:
        ValueError, TypeError: an argument is not allowed; the message names the argument, its
            value and what is allowed.

    Example:
        >>> problem = hd.multipass.gaussian_problem(200, 100, key=jax.random.key(0), noise=0.5)
        >>> system = hd.multipass.MultiPassSGD(problem, learning_rate=1.0)
        >>> round(float(system.start()["loss"]), 1)
        0.6
    """

    time_label: ClassVar[str] = "t = k/n (epochs)"
    methods: ClassVar[tuple[type[Method], ...]] = (Direct, Homogenised)

    problem: Problem | None
    modes: Modes
    learning_rate: Schedule
    ridge: Float[Array, ""] | None
    solver: Solver
    sampling: str = eqx.field(static=True)

    def __init__(
        self,
        problem: Problem | None,
        learning_rate: ScheduleLike,
        *,
        modes: Modes | None = None,
        ridge: NonNegative | None = None,
        sampling: Annotated[str, OneOf(*SAMPLINGS)] = "replacement",
        solver: Solver | None = None,
    ):
        if sampling not in SAMPLINGS:
            raise ValueError(f"sampling: {sampling!r}; allowed: {', '.join(SAMPLINGS)}")
        dtype = jnp.result_type(float)
        self.problem = problem
        self.learning_rate = as_schedule(learning_rate)
        self.ridge = None if ridge is None else jnp.asarray(ridge, dtype)
        self.sampling = sampling
        self.modes = modes_of(problem, modes)
        self.solver = BlockODE() if solver is None else solver
        self.validate()

    def validate(self, *, compared: bool = False, realised: bool = False) -> None:
        if not isinstance(self.solver, BlockODE | Spectral):
            raise TypeError(f"solver: {self.solver!r}; allowed: BlockODE(...), Spectral() or None")
        self.solver.check(self)
        if not is_concrete(self):
            return
        self.check_numbers()
        if compared:
            self._refuse_other_samplings()
            self._warn()

    def _warn(self) -> None:
        """Warn if the loss grows, if SGD may leave the limit, or if the spread is inexact."""
        gamma, modes = float(self.learning_rate(0.0)), self.modes
        most = float(2 * modes.samples / jnp.sum(modes.multiplicities * modes.eigenvalues))
        plain = isinstance(self.learning_rate, Constant) and self.ridge is None
        if plain and gamma >= most:
            warn_of_growth(
                f"learning_rate: {gamma:.4g}; allowed for a bounded loss: below 2 n/tr A^T A = "
                f"{most:.4g}"
            )
        else:
            warn_of_localisation(modes, self.problem, gamma)
        if self._theory() == "linear noise":
            warn_of_linear_noise(required(self.problem))

    def _theory(self) -> str:
        """The theory that predicts the spread (`fluctuations.theory`); "" if there is none."""
        try:
            return theory(self)
        except NoFluctuationsError:
            return ""

    def _refuse_other_samplings(self) -> None:
        if self.sampling != "replacement":
            raise NoLimitError(
                f"sampling: {self.sampling!r}; allowed with a limit: 'replacement' (other "
                "samplings are other processes, which can be simulated with hd.simulate)"
            )

    def direct(self, dtype: str) -> Simulator:
        """The simulator of SGD on iterates in R^d of precision `dtype`."""
        return SGDSimulator.of(self, dtype)

    @checked
    @eqx.filter_jit
    def limit(
        self,
        ts: Float[Array, " times"],
        start: dict[str, Array] | None = None,
        horizon: None = None,
        save: Callable[[dict[str, Array]], PyTree[Array]] = lambda summary: summary,
    ) -> Limit:
        """The limit of the statistics.

        Args:
            ts: (times,) increasing times in epochs, from 0 on.
            start: not used: every run starts from the problem's own X_0.
            horizon: not used: one program serves any duration.
            save: a function of the statistics by name; its values at `ts` are kept.

        Raises:
            NoLimitError: the sampling is not "replacement".
        """
        self._refuse_other_samplings()
        return self.solver(self, ts, lambda values: save(self.named(values)))

    def fluctuations(
        self,
        ts: Float[Array, " times"],
        statistics: Callable[[dict[str, Array]], dict[str, Array]],
        start: dict[str, Array] | None = None,
        horizon: None = None,
    ) -> dict[str, Array]:
        """Predicted standard deviations at `ts` of statistics that depend on the loss alone.

        `hdjax.multipass.fluctuations.fluctuations` says which theory predicts them; `start` and
        `horizon` are not used.
        """
        return fluctuations(self, ts, statistics)

    def mean_correction(
        self,
        ts: Float[Array, " times"],
        statistics: Callable[[dict[str, Array]], dict[str, Array]],
        start: dict[str, Array] | None = None,
        horizon: None = None,
    ) -> dict[str, Array]:
        """The exact mean over runs minus the limit, at `ts`, of statistics that are linear.

        The exact means of the loss and of the quadratic statistics come from second moments of the
        iterate (`hdjax.multipass.means`), and a statistic is evaluated at these means.  `start` and
        `horizon` are not used.

        Raises:
            NoMeanCorrectionError: another sampling, no problem, or too large a problem.
        """
        means.check(self)
        exact = means.exact_means(self, ts)

        def shifted(summary: dict[str, Array]) -> dict[str, Array]:
            return statistics(self.named(summary))

        values = self.limit(ts).values
        return jax.tree.map(jnp.subtract, jax.vmap(shifted)(exact), jax.vmap(shifted)(values))

    def about(self, horizon: None) -> Mapping[str, str]:
        """The name of the theory that predicts the spread, and the error of that theory."""
        found = self._theory()
        if found == "":
            return {}
        if found == "exact":
            text = "from exact fourth moments of the residual"
        elif found == "closed":
            text = (
                "from exact second moments of the residual, fourth moments as for "
                "a Gaussian vector; within about 10 % for d <= n/2, 15 % beyond"
            )
        else:
            error = float(linear_noise_error(required(self.problem)))
            text = f"linear-noise equation, up to about {100 * error:.0f} % off"
        return {"fluctuations": f"predicted std: {text}"}
