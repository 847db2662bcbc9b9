"""Runs on their way: a pure program that advances many runs from stop to stop, and records.

The runs of an experiment are advanced in segments of time.  A segment begins with the `Running` at
which the segment before it ended, so that a long run can be saved between two segments.  How the
stops are divided into segments changes no bit of the result, because all segments run one compiled
program.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int, Key

from hdjax import random
from hdjax.engine.plan import Numbers, Plan, Values, as_array
from hdjax.random import Stream
from hdjax.system import Simulator, System

T = TypeVar("T")


class Running(eqx.Module):
    """A run on its way, or several with leading axes.

    Attributes:
        state: the state of the simulator.
        tick: the tick that the state has reached.
        values: the curve (times, ...) of each statistic; zero where it is not recorded yet.
        alive: (times,) whether the summary was alive at each record.
        probes: the curve (times, ...) of each probe.
        start: the summary of the start if the limit starts from it, otherwise None.
    """

    state: Any
    tick: Any
    values: Values
    alive: Numbers
    probes: Values
    start: Any


class Stops(eqx.Module):
    """The ticks at which runs pause: those of the records, and others in long intervals.

    Attributes:
        ticks: (stops,) the ticks, not decreasing.
        records: (stops,) the position in the plan of the record that is made at a stop; -1 for
            none.
    """

    ticks: Int[Array, " stops"]
    records: Int[Array, " stops"]


def shapes(system: System, plan: Plan, key: Key[Array, ""]) -> Running:
    """The shapes and dtypes of a single run, and how it is divided between devices, if it is.

    Args:
        system: the system.
        plan: the plan.
        key: the key of the experiment; only its type is used.
    """
    times = plan.ticks.shape[0]
    simulator = system.simulator(plan.method, plan.horizon)

    def first(key: Key[Array, ""]) -> Running:
        state, tick = simulator.init(key), plan.ticks[0]
        values, alive, probes = _record(system, simulator, plan, state, tick, key)
        values, alive, probes = jax.tree.map(
            lambda x: jnp.zeros((times, *x.shape), x.dtype), (values, alive, probes)
        )
        return Running(state, tick, values, alive, probes, _start(simulator, plan, state))

    one = jax.eval_shape(first, key)
    if (shardings := simulator.sharding(one.state)) is None:
        return one
    state = jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        one.state,
        shardings,
    )
    return eqx.tree_at(lambda one: one.state, one, state)


def blank(one: Running, key: Key[Array, ""], leading: tuple[int, ...]) -> Running:
    """Runs that have not begun: zeros, on the host.

    Args:
        one: the shapes of a single run.
        key: the key of the experiment, in place of the keys that a state may hold.
        leading: the leading axes, those of the runs.
    """

    def zeros(leaf: Any) -> Any:
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jnp.broadcast_to(key, (*leading, *leaf.shape))
        return np.zeros((*leading, *leaf.shape), leaf.dtype)

    return jax.tree.map(zeros, one)


def advance(
    system: System,
    plan: Plan,
    key: Key[Array, ""],
    run_ids: Int[Array, " runs"],
    running: Running,
    stops: Stops,
    first: Any,
    last: Any,
    *,
    batch_size: int | None = None,
) -> Running:
    """Advance runs from stop to stop, and record; the runs begin if `first` is 0.

    Args:
        system: the system.
        plan: the plan.
        key: the key of the experiment.
        run_ids: (runs,) the numbers of the runs.
        running: the runs after the stops before `first`, or `blank`.
        stops: all stops.
        first: the position of the first stop that is made.
        last: the position after the last stop that is made.
        batch_size: as for `ensemble`.
    """
    simulator = system.simulator(plan.method, plan.horizon)

    def one(arguments: tuple[Int[Array, ""], Running]) -> Running:
        run_key = random.at(key, arguments[0])
        return advance_one(system, simulator, plan, run_key, arguments[1], stops, first, last)

    batch_size = simulator.side_by_side() if batch_size is None else batch_size
    return _map(one, (run_ids, running), batch_size)


def advance_one(
    system: System,
    simulator: Simulator,
    plan: Plan,
    run_key: Key[Array, ""],
    running: Running,
    stops: Stops,
    first: Any,
    last: Any,
) -> Running:
    """Advance a single run; the arguments are those of `advance`."""

    def begin(old: tuple[Any, Any]) -> tuple[Any, Any]:
        state = simulator.init(run_key)
        return state, _start(simulator, plan, state)

    # Only what changes goes through a condition, because the rest would be copied.
    state, start = _if(first == 0, begin, (running.state, running.start))
    tick = jnp.where(first == 0, 0, running.tick)
    running = Running(state, tick, running.values, running.alive, running.probes, start)
    to_stop = partial(_to_stop, system, simulator, plan, run_key, stops)
    return jax.lax.fori_loop(first, last, to_stop, running)


def _to_stop(
    system: System,
    simulator: Simulator,
    plan: Plan,
    run_key: Key[Array, ""],
    stops: Stops,
    position: Int[Array, ""],
    running: Running,
) -> Running:
    """Advance a run to a stop, and record there if the stop is a record."""
    tick, record = stops.ticks[position], stops.records[position]
    state = simulator.advance(running.state, running.tick, tick, run_key)

    def recorded(curves: Any) -> Any:
        new = _record(system, simulator, plan, state, tick, run_key)
        return jax.tree.map(lambda curve, value: curve.at[record].set(value), curves, new)

    curves = running.values, running.alive, running.probes
    values, alive, probes = _if(record >= 0, recorded, curves)
    return Running(state, tick, values, alive, probes, running.start)


def _if(condition: Any, function: Callable[[T], T], value: T) -> T:
    """`function(value)` where the condition holds, and otherwise the value."""
    if isinstance(condition, bool):
        return function(value) if condition else value
    return jax.lax.cond(condition, function, lambda value: value, value)


def _start(simulator: Simulator, plan: Plan, state: Any) -> Any:
    return simulator.summary(state) if plan.start == "realised" else None


def _record(
    system: System,
    simulator: Simulator,
    plan: Plan,
    state: Any,
    tick: Int[Array, ""],
    run_key: Key[Array, ""],
) -> tuple[Values, Bool[Array, ""], Values]:
    """The statistics of a state, whether it is alive, and its probes."""
    summary = simulator.summary(state)
    probes_key = random.stream(run_key, Stream.PROBES)
    probes = {
        name: as_array(
            "probes",
            name,
            probe(simulator, state, random.at(random.at(probes_key, position), tick)),
        )
        for position, (name, probe) in enumerate(plan.probes)
    }
    return plan.evaluate(system, summary), system.alive(summary), probes


def _map(function: Callable[[Any], Any], arguments: Any, batch_size: int | None) -> Any:
    """`vmap` over the runs, in batches of equal size.

    A smaller last batch would need another compilation.
    """
    runs = jax.tree.leaves(arguments)[0].shape[0]
    if batch_size is None or runs <= batch_size > 1:
        return jax.vmap(function)(arguments)
    batch_size = max(size for size in range(1, batch_size + 1) if runs % size == 0)
    # With an axis of length one the program would be twice as slow on a CPU.
    return jax.lax.map(function, arguments, batch_size=batch_size if batch_size > 1 else None)
