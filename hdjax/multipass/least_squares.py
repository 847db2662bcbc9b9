"""What the algorithms on a fixed least-squares problem share: data, mean path, statistics."""

from collections.abc import Mapping
from typing import ClassVar

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from hdjax.multipass.limit import Flow
from hdjax.multipass.modes import Modes, svd_modes
from hdjax.multipass.problem import Problem
from hdjax.schedules import Schedule
from hdjax.system import System, check_leaves


class LeastSquares(System):
    """An algorithm on a `Problem`, or on `Modes` alone; subclasses know its clock and its limit."""

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
