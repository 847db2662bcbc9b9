"""What the algorithms on a fixed least-squares problem share: data, mean path, statistics."""

import abc
from collections.abc import Mapping
from typing import Any, ClassVar

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from hdjax.multipass.flow import Flow
from hdjax.multipass.modes import Modes, svd_modes
from hdjax.multipass.problem import Problem
from hdjax.schedules import Schedule
from hdjax.system import Method, Simulator, System, all_finite, check_leaves


class LeastSquares(System):
    """An algorithm on a `Problem`, or on `Modes` alone."""

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
        """The mean path."""
        return Flow(self.modes, self.ridge)

    @property
    def statistics_of(self) -> tuple[str, ...]:
        """Names of the statistics: those that both sides know."""
        names = ["loss", *self.modes.quadratics]
        if self.problem is not None:
            names = [name for name in names if name == "loss" or name in self.problem.quadratics]
        return tuple(names)

    @abc.abstractmethod
    def direct(self, dtype: str) -> Simulator:
        """The algorithm itself on explicit iterates of precision `dtype`."""

    def simulator_of(self, method: Method, horizon: None) -> Simulator:
        """The method's own."""
        return method.simulator(self, horizon)

    def horizon(self, ts: Float[np.ndarray, " times"], method: Any = None) -> None:
        """One program serves any duration."""
        return None

    def alive(self, summary: dict[str, Array]) -> Bool[Array, ""]:
        """Whether all statistics are finite."""
        return all_finite(summary)

    def review(self, ts: Float[np.ndarray, " times"]) -> None:
        """Nothing is doubtful that `validate` does not warn of."""

    def check_numbers(self) -> None:
        """Raise ValueError on a rate, a ridge or data that are not allowed (concrete ones)."""
        check_leaves("learning_rate", self.learning_rate, 0.0)
        check_leaves("ridge", self.ridge, 0.0)
        if self.problem is not None:
            check_leaves("problem.matrix", self.problem.matrix, -np.inf)

    def start(self) -> dict[str, Array]:
        """The statistics of X_0, which every run starts from."""
        one = jnp.ones_like(self.modes.eigenvalues)
        return self.named(self.flow.values(one, jnp.zeros_like(one)))

    def statistics(self, summary: dict[str, Array]) -> dict[str, Array]:
        """Loss per sample, and the problem's quadratic statistics."""
        return summary

    def named(self, values: dict[str, Array]) -> dict[str, Array]:
        """Those of the values that both sides know."""
        return {name: values[name] for name in self.statistics_of}


class MultiPass(LeastSquares):
    """An algorithm that draws one sample at a step; time is t = k/n.

    Attributes:
        sampling: "replacement", "reshuffling" or "single_pass".
    """

    sampling: eqx.AbstractVar[str]
    # A `Solver` of `limit.py`, which is written in terms of this class.
    solver: eqx.AbstractVar[Any]


class Batched(LeastSquares):
    """An algorithm with momentum Delta and batches of zeta n samples; time is the step k."""

    momentum: eqx.AbstractVar[Float[Array, ""]]
    batch_fraction: eqx.AbstractVar[Float[Array, ""]]


def required(problem: Problem | None) -> Problem:
    """The problem of a system that is simulated.

    Raises:
        ValueError: there is none.
    """
    if problem is None:
        raise ValueError(
            "problem: None, the system has a law's modes alone; allowed: hd.limit, or a problem"
        )
    return problem


def modes_of(problem: Problem | None, modes: Modes | None) -> Modes:
    """The modes that are given, or else the problem's singular value decomposition.

    Raises:
        ValueError: neither is given.
        TypeError: a problem that is none.
    """
    if problem is None and modes is None:
        raise ValueError("problem, modes: None; allowed: at least one of them")
    if modes is not None:
        return modes
    if not isinstance(problem, Problem):
        raise TypeError(f"problem: {problem!r}; allowed: a Problem")
    return svd_modes(problem)[0]
