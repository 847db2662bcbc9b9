"""The part of a system that all algorithms on a fixed least-squares problem share.

`MultiPass` (SGD, `model.py`) and `Batched` (SGD with momentum and batches, `momentum.py`) are
algorithms that move X on L(X) = 1/2 |A X - b|^2.  They share the data, the mean path (gradient
flow), the statistics of the start, and the checks of their numbers.
"""

import abc
from collections.abc import Mapping
from typing import Any, ClassVar

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from hdjax.arrays import all_finite
from hdjax.checks import check_leaves
from hdjax.multipass.flow import Flow
from hdjax.multipass.modes import Modes, svd_modes
from hdjax.multipass.problem import Problem
from hdjax.schedules import Schedule
from hdjax.system import Method, Simulator, System


class LeastSquares(System):
    """An algorithm on a least-squares `Problem`, or the limit of one from its `Modes` alone.

    Attributes:
        problem: the data, or None for a system that has only a limit.
        modes: the eigenvalues and residuals that the limit is computed from.
        learning_rate: gamma.
        ridge: delta of the penalty delta/2 |X|^2 on L, or None.
    """

    family: ClassVar[str] = "multipass"
    labels: ClassVar[Mapping[str, str]] = {
        "loss": "training loss per sample",
        "risk": "risk",
        "test": "test risk",
    }

    problem: eqx.AbstractVar[Problem | None]
    modes: eqx.AbstractVar[Modes]
    learning_rate: eqx.AbstractVar[Schedule]
    ridge: eqx.AbstractVar[Float[Array, ""] | None]

    @property
    def flow(self) -> Flow:
        """The mean path of the iterates: gradient flow of L with the ridge."""
        return Flow(self.modes, self.ridge)

    @property
    def statistics_of(self) -> tuple[str, ...]:
        """Names of the statistics that simulation and limit both know."""
        names = ["loss", *self.modes.quadratics]
        if self.problem is not None:
            names = [name for name in names if name == "loss" or name in self.problem.quadratics]
        return tuple(names)

    @abc.abstractmethod
    def direct(self, dtype: str) -> Simulator:
        """The simulator of the algorithm itself, on iterates in R^d of precision `dtype`."""

    def simulator_of(self, method: Method, horizon: None) -> Simulator:
        """The simulator by which `method` runs this system."""
        return method.simulator(self, horizon)

    def horizon(self, ts: Float[np.ndarray, " times"], method: Any = None) -> None:
        """None: one compiled program serves any duration."""
        return None

    def alive(self, summary: dict[str, Array]) -> Bool[Array, ""]:
        """Whether all statistics of a run are finite."""
        return all_finite(summary)

    def review(self, ts: Float[np.ndarray, " times"]) -> None:
        """No times are doubtful; `validate` warns of doubtful systems."""

    def check_numbers(self) -> None:
        """Check the learning rate, the ridge and the data, where they are concrete.

        Raises:
            ValueError: a negative rate or ridge, or numbers that are not finite.
        """
        check_leaves("learning_rate", self.learning_rate, 0.0)
        check_leaves("ridge", self.ridge, 0.0)
        if self.problem is not None:
            check_leaves("problem.matrix", self.problem.matrix, -np.inf)

    def start(self) -> dict[str, Array]:
        """The statistics of X_0, from which every run starts."""
        one = jnp.ones_like(self.modes.eigenvalues)
        return self.named(self.flow.values(one, jnp.zeros_like(one)))

    def statistics(self, summary: dict[str, Array]) -> dict[str, Array]:
        """The loss per sample and the problem's quadratic statistics, by name."""
        return summary

    def named(self, values: dict[str, Array]) -> dict[str, Array]:
        """The entries of `values` whose names are in `statistics_of`."""
        return {name: values[name] for name in self.statistics_of}


class MultiPass(LeastSquares):
    """An algorithm that draws one sample in each step; time is t = k/n, in epochs.

    Attributes:
        sampling: "replacement", "reshuffling" or "single_pass".
        solver: a `Solver` of `limit.py`, which computes the limit.
    """

    sampling: eqx.AbstractVar[str]
    # The type is `Any`, as `limit.py` imports this class.
    solver: eqx.AbstractVar[Any]


class Batched(LeastSquares):
    """An algorithm with momentum and batches; time is the step k.

    Attributes:
        momentum: Delta.
        batch_fraction: zeta; a batch has zeta n samples.
    """

    momentum: eqx.AbstractVar[Float[Array, ""]]
    batch_fraction: eqx.AbstractVar[Float[Array, ""]]


def required(problem: Problem | None) -> Problem:
    """The problem of a system, for those who need its data.

    Raises:
        ValueError: the system has no problem.
    """
    if problem is None:
        raise ValueError(
            "problem: None; allowed with a simulation: a Problem (modes alone serve hd.limit only)"
        )
    return problem


def modes_of(problem: Problem | None, modes: Modes | None) -> Modes:
    """The given modes, or else those of the problem's singular value decomposition.

    Raises:
        ValueError: neither a problem nor modes are given.
        TypeError: the problem is no `Problem`.
    """
    if problem is None and modes is None:
        raise ValueError("problem, modes: None; allowed: at least one of them")
    if modes is not None:
        return modes
    if not isinstance(problem, Problem):
        raise TypeError(f"problem: {problem!r}; allowed: a Problem")
    return svd_modes(problem)[0]
