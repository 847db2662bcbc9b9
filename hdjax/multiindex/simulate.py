"""How a gradient flow is run at finite d: the methods `FullFlow` and `Reduced` of `GradientFlow`.

`FullFlow` integrates W in R^d, from gradients there.  `Reduced` draws the overlap of a Haar start
exactly and integrates the reduced flow, at any d.  With the same key both start at the same M.
"""

from typing import Annotated, Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from hdjax.arrays import cast
from hdjax.checks import check_dtype
from hdjax.clocks import Fine
from hdjax.integrate import Integrator
from hdjax.multiindex.flows import State, full_summary, full_velocity
from hdjax.multiindex.limit import flow_path
from hdjax.multiindex.problem import OverlapSummary
from hdjax.multiindex.starts import lift
from hdjax.registry import In, Precision, register
from hdjax.system import Method, Simulator

# A unit of flow time has 2^20 ticks: records are at multiples of about 10^-6.
CLOCK = Fine(2**20)


@register("multiindex.method", "full_flow")
class FullFlow(Method):
    """The flow of W on the Stiefel manifold of R^d; a step takes O(d) memory and time.

    Args:
        integrator: how W is integrated; None: the system's integrator.
        dtype: precision of the simulation, "float32" or "float64"; None: the system's precision.

    Example:
        >>> method = FullFlow()
    """

    integrator: Annotated[Integrator, In("integrator")] | None = None
    dtype: Precision | None = eqx.field(static=True, default=None)

    def __check_init__(self) -> None:
        if self.dtype is not None:
            check_dtype(self.dtype)

    def simulator(self, system: Any, horizon: None = None) -> "FullSimulator":
        """The simulator of a `GradientFlow`."""
        system.problem.coordinates()
        own = system.integrator if self.integrator is None else self.integrator
        return FullSimulator(cast(system, self.dtype), own, system.problem.dimension.dtype)


@register("multiindex.method", "reduced")
class Reduced(Method):
    """The reduced flow from an exactly drawn start, at any d.

    Args:
        integrator: how overlaps are integrated; None: the system's integrator.
        dtype: precision of the simulation, "float32" or "float64"; None: the system's precision.

    Example:
        >>> method = Reduced(Integrator(rtol=1e-5), dtype="float32")
    """

    integrator: Annotated[Integrator, In("integrator")] | None = None
    dtype: Precision | None = eqx.field(static=True, default=None)

    def __check_init__(self) -> None:
        if self.dtype is not None:
            check_dtype(self.dtype)

    def simulator(self, system: Any, horizon: None = None) -> "ReducedSimulator":
        """The simulator of a `GradientFlow`."""
        own = system.integrator if self.integrator is None else self.integrator
        return ReducedSimulator(cast(system, self.dtype), own, system.problem.dimension.dtype)


class FullSimulator(Simulator):
    """One realisation in R^d; by rotation invariance W* is the first r coordinate vectors."""

    system: Any
    integrator: Integrator
    limit_dtype: Any = eqx.field(static=True)

    @property
    def clock(self) -> Fine:
        """The clock of flow time."""
        return CLOCK

    @property
    def target(self) -> Float[Array, "d r"]:
        """The columns W*."""
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
        t0, t1 = (flow_time(k, dimension.dtype) for k in (k0, k1))

        def rate(state: State) -> State:
            return full_velocity(link, system.student, system.metric, self.target, state)

        moved = flow_path(self.integrator, rate, state, t1[None], dimension, lambda y: y, begin=t0)
        return first_of(moved.values, state, k0 == k1)

    def iterate(self, state: State) -> Float[Array, "d q"]:
        """The columns W of a run."""
        return state[0]

    def summary(self, state: State) -> OverlapSummary:
        return cast(full_summary(state[0], self.target, state[1]), self.limit_dtype)


class ReducedSimulator(Simulator):
    """One realisation of the reduced flow of overlaps."""

    system: Any
    integrator: Integrator
    limit_dtype: Any = eqx.field(static=True)

    @property
    def clock(self) -> Fine:
        """The clock of flow time."""
        return CLOCK

    def init(self, key: Key[Array, ""]) -> State:
        matrix = self.system.problem.sample(key)
        return matrix, self.system.student.initial(self.system.problem.link, matrix)

    def advance(
        self, state: State, k0: Int[Array, ""], k1: Int[Array, ""], key: Key[Array, ""]
    ) -> State:
        dimension = self.system.problem.dimension
        t0, t1 = (flow_time(k, dimension.dtype) for k in (k0, k1))
        rate = self.system.reduced_velocity
        moved = flow_path(self.integrator, rate, state, t1[None], dimension, lambda y: y, begin=t0)
        return first_of(moved.values, state, k0 == k1)

    def summary(self, state: State) -> OverlapSummary:
        return cast(OverlapSummary.of(*state), self.limit_dtype)


def flow_time(tick: Int[Array, ""], dtype: Any) -> Float[Array, ""]:
    """The flow time of a traced tick."""
    return tick.astype(dtype) / CLOCK.resolution


def first_of(moved: Any, state: Any, still: Any) -> Any:
    """The state at the end of an interval; the end of an empty interval is its beginning."""
    return jax.tree.map(lambda new, old: jnp.where(still, old, new[0]), moved, state)
