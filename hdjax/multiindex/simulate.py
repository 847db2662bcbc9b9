"""How a gradient flow is run at finite d.

`FullFlow` integrates W in R^d from gradients there; `Reduced` draws the overlap of a Haar start
exactly and integrates the reduced flow, at any d.  With the same key both start at the same M.
"""

from typing import Annotated, Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from hdjax.multiindex.flows import State, full_summary, full_velocity
from hdjax.multiindex.limit import Integrator
from hdjax.multiindex.problem import Overlap
from hdjax.multiindex.starts import lift
from hdjax.registry import In, Precision, register
from hdjax.system import Simulator, check_dtype
from hdjax.times import nominal

# Ticks in a unit of time: records are at multiples of 10^-6.
_TICKS = 2**20


@register("multiindex.method", "full_flow")
class FullFlow(eqx.Module):
    """The flow of W on the Stiefel manifold of R^d, memory and time O(d) a step.

    Args:
        integrator: how W is integrated; None: the system's.
        dtype: precision of the simulation, "float32" or "float64"; None: the system's.

    Example:
        >>> method = FullFlow()
    """

    integrator: Annotated[Integrator, In("multiindex.integrator")] | None = None
    dtype: Precision | None = eqx.field(static=True, default=None)

    def __check_init__(self) -> None:
        if self.dtype is not None:
            check_dtype(self.dtype)

    def simulator(self, system: Any) -> "FullSimulator":
        """The simulator of a `GradientFlow`."""
        system.problem.coordinates()
        own = system.integrator if self.integrator is None else self.integrator
        return FullSimulator(_cast(system, self.dtype), own, system.problem.dimension.dtype)


@register("multiindex.method", "reduced")
class Reduced(eqx.Module):
    """The reduced flow from an exactly drawn start, at any d.

    Args:
        integrator: how overlaps are integrated; None: the system's.
        dtype: precision of the simulation, "float32" or "float64"; None: the system's.

    Example:
        >>> method = Reduced(Integrator(rtol=1e-5), dtype="float32")
    """

    integrator: Annotated[Integrator, In("multiindex.integrator")] | None = None
    dtype: Precision | None = eqx.field(static=True, default=None)

    def __check_init__(self) -> None:
        if self.dtype is not None:
            check_dtype(self.dtype)

    def simulator(self, system: Any) -> "ReducedSimulator":
        """The simulator of a `GradientFlow`."""
        own = system.integrator if self.integrator is None else self.integrator
        return ReducedSimulator(_cast(system, self.dtype), own, system.problem.dimension.dtype)


class FlowClock:
    """The clock of a flow: ticks of 2^-20."""

    def ticks(self, ts: Float[np.ndarray, " times"]) -> Int[np.ndarray, " times"]:
        """The nearest tick."""
        return np.round(nominal(ts) * _TICKS).astype(np.int64)

    def times(self, ticks: Int[np.ndarray, " times"]) -> Float[np.ndarray, " times"]:
        """Ticks in units of time."""
        return np.asarray(ticks, np.float64) / _TICKS

    def time(self, tick: Int[Array, ""], dtype: Any) -> Float[Array, ""]:
        """The same of a traced tick."""
        return tick.astype(dtype) / _TICKS


class FullSimulator(FlowClock, Simulator):
    """One realisation in R^d; W* are the first r coordinates, by rotation invariance."""

    system: Any
    integrator: Integrator
    limit_dtype: Any = eqx.field(static=True)

    @property
    def target(self) -> Float[Array, "d r"]:
        """W*."""
        return self.system.problem.target

    def init(self, key: Key[Array, ""]) -> State:
        matrix = self.system.problem.sample(key)
        moving = self.system.student.initial(self.system.problem.link, matrix)
        return lift(key, matrix, self.target), moving

    def advance(
        self, state: State, k0: Int[Array, ""], k1: Int[Array, ""], key: Key[Array, ""]
    ) -> State:
        system = self.system
        link, dimension = system.problem.link, system.problem.dimension
        t0, t1 = (self.time(k, dimension.dtype) for k in (k0, k1))

        def rate(state: State) -> State:
            return full_velocity(link, system.student, system.metric, self.target, state)

        moved = self.integrator(rate, state, t0, t1[None], dimension, lambda y: y)
        return first_of(moved, state, k0 == k1)

    def summary(self, state: State) -> Overlap:
        return _cast(full_summary(state[0], self.target, state[1]), self.limit_dtype)

    def bytes_per_run(self) -> int:
        # A Runge-Kutta step of high order holds the stages.
        return 8 * 20 * self.system.problem.coordinates() * self.system.problem.directions


class ReducedSimulator(FlowClock, Simulator):
    """One realisation of the overlaps."""

    system: Any
    integrator: Integrator
    limit_dtype: Any = eqx.field(static=True)

    def init(self, key: Key[Array, ""]) -> State:
        matrix = self.system.problem.sample(key)
        return matrix, self.system.student.initial(self.system.problem.link, matrix)

    def advance(
        self, state: State, k0: Int[Array, ""], k1: Int[Array, ""], key: Key[Array, ""]
    ) -> State:
        dimension = self.system.problem.dimension
        t0, t1 = (self.time(k, dimension.dtype) for k in (k0, k1))
        rate = self.system.reduced_velocity
        moved = self.integrator(rate, state, t0, t1[None], dimension, lambda y: y)
        return first_of(moved, state, k0 == k1)

    def summary(self, state: State) -> Overlap:
        return _cast(Overlap.of(*state), self.limit_dtype)

    def bytes_per_run(self) -> int:
        return 8 * 20 * 4 * self.system.problem.directions * self.system.problem.link.variables


def first_of(moved: Any, state: Any, still: Any) -> Any:
    """The state at the end of an interval; of an empty one, where it began."""
    return jax.tree.map(lambda new, old: jnp.where(still, old, new[0]), moved, state)


def _cast(tree: Any, dtype: Any) -> Any:
    """The tree with its floating arrays in `dtype` (None: as they are)."""
    if dtype is None:
        return tree
    return jax.tree.map(lambda x: x.astype(dtype) if eqx.is_inexact_array(x) else x, tree)
