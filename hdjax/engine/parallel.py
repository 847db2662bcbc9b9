"""The pure programs of the engine for several points of a sweep, and for several devices.

Points are stacked along a leading axis, over which the programs are mapped by `vmap`.  Runs are
divided between the devices of a mesh, and each device runs its share by the program of a single
device.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Int, Key, PyTree

from hdjax.engine.ensemble import Curves, Theory, own_limits, predict, with_paths
from hdjax.engine.plan import Plan
from hdjax.engine.runs import Running, Stops, advance
from hdjax.system import System


def stacked(trees: Sequence[Any]) -> Any:
    """The trees stacked along a leading axis.

    A single tree gets no such axis: without it the program is twice as fast as a batch of one.
    """

    def stack(*leaves: Any) -> Any:
        # A Python integer (the number of steps of a solver, say) is static, a part of the program.
        if not isinstance(leaves[0], jax.Array | np.ndarray | np.generic | float):
            return leaves[0]
        arrays = [jnp.asarray(leaf) for leaf in leaves]
        return jnp.stack(arrays) if len(arrays) > 1 else arrays[0]

    return jax.tree.map(stack, *trees)


def spread(runs: PyTree, mesh: Mesh, many: bool) -> PyTree:
    """Arrays of runs, divided between the devices.

    Args:
        runs: a pytree of arrays whose first axis is that of the runs.
        mesh: the devices, along an axis "runs".
        many: whether the arrays have an axis of points before that of the runs.
    """
    return jax.device_put(runs, NamedSharding(mesh, PartitionSpec(*[None] * many, "runs")))


@eqx.filter_jit
def predict_points(systems: System, plans: Plan, many: bool) -> Theory:
    """What the theory says at some points (`predict`); `many` says whether they are stacked."""
    return _over_points(predict, many, systems, plans)


@eqx.filter_jit
def advance_points(
    systems: System,
    plans: Plan,
    keys: Key[Array, "*points"],
    run_ids: Int[Array, " runs"],
    running: Running,
    ticks: Int[Array, "*points stops"],
    records: Int[Array, " stops"],
    first: Int[Array, ""],
    last: Int[Array, ""],
    mesh: Mesh,
    many: bool,
) -> Running:
    """Advance the runs at some points from stop to stop (`advance`)."""

    def point(system: System, plan: Plan, key: Key[Array, ""], running: Any, ticks: Any) -> Any:
        stops = Stops(ticks, records)

        def share(run_ids: Int[Array, " runs"], running: Running) -> Running:
            return advance(system, plan, key, run_ids, running, stops, first, last)

        return _over_runs(share, mesh)(run_ids, running)

    return _over_points(point, many, systems, plans, keys, running, ticks)


@eqx.filter_jit
def own_limits_of_points(
    systems: System, plans: Plan, starts: PyTree, mesh: Mesh, many: bool
) -> Curves | None:
    """The limits of the runs at some points, from their realised starts (`own_limits`)."""

    def point(system: System, plan: Plan, starts: PyTree) -> Curves | None:
        return _over_runs(partial(own_limits, system, plan), mesh)(starts)

    return _over_points(point, many, systems, plans, starts)


@eqx.filter_jit
def with_paths_of_points(plan: Plan, runs: Curves) -> Curves:
    """Curves (points, runs) with their path statistics (`with_paths`)."""
    return jax.vmap(jax.vmap(partial(with_paths, plan)))(runs)


def _over_points(function: Callable[..., Any], many: bool, *arguments: Any) -> Any:
    return eqx.filter_vmap(function)(*arguments) if many else function(*arguments)


def _over_runs(function: Callable[..., Any], mesh: Mesh) -> Callable[..., Any]:
    """The function, with the leading axis of all arguments divided between the devices."""
    if mesh.size == 1:
        return function
    runs: Any = PartitionSpec("runs")
    return jax.shard_map(function, mesh=mesh, in_specs=runs, out_specs=runs, check_vma=False)
