"""The programs of the engine for several points of a sweep, and for several devices.

Points are stacked along a leading axis, over which the programs are mapped by `vmap`.  Points and
runs are divided between the devices (`hdjax.engine.devices`), and each device computes its share by
the program of a single device.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, Key, PyTree

from hdjax import hosts
from hdjax.engine.devices import Layout
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


class Points(NamedTuple):
    """Some points of a sweep, stacked if there are several in a chunk.

    Attributes:
        first: the position of the first point.
        count: number of points; the stacked ones may repeat the last of them.
        layout: how arrays lie on devices; it says whether they have a leading axis of points.
        systems: the systems.
        plans: their plans.
        placed: the systems, the plans, the keys and the ticks of the stops, on the devices.
    """

    first: int
    count: int
    layout: Layout
    systems: System
    plans: Plan
    placed: tuple[Any, ...]

    def fetch(self, tree: PyTree) -> PyTree:
        """Results of a program as NumPy arrays with a leading axis of `count` points."""

        def fetched(array: np.ndarray) -> np.ndarray:
            # Neither archives nor NetCDF files hold numbers of 16 bits such as bfloat16.
            array = array.astype(np.float32) if array.dtype.kind == "V" else array
            return (array if self.layout.many else array[None])[: self.count]

        return jax.tree.map(fetched, hosts.gather(tree))


@eqx.filter_jit
def predict_points(systems: System, plans: Plan, layout: Layout) -> Theory:
    """What the theory says at some points (`predict`)."""
    points = partial(_over_points, predict, layout.many)
    spec = layout.spec(points=True)
    # One point needs one device, which already has its system.
    divided = layout.divided(points, spec, spec, out=spec) if layout.shares[0] > 1 else points
    return divided(systems, plans)


@eqx.filter_jit
def advance_points(
    systems: System,
    plans: Plan,
    keys: Key[Array, "*points"],
    ticks: Int[Array, "*points stops"],
    records: Int[Array, " stops"],
    run_ids: Int[Array, " runs"],
    running: Running,
    first: Int[Array, ""],
    last: Int[Array, ""],
    layout: Layout,
) -> Running:
    """Advance the runs at some points from stop to stop (`advance`)."""

    def points(given: Any, every: Any, run_ids: Int[Array, " runs"], running: Running) -> Running:
        records, first, last = every

        def point(system: System, plan: Plan, key: Any, ticks: Any, running: Running) -> Running:
            stops = Stops(ticks, records)
            return advance(system, plan, key, run_ids, running, stops, first, last)

        return _over_points(point, layout.many, *given, running)

    both = layout.spec(points=True, runs=True)
    specs = layout.spec(points=True), layout.spec(), layout.spec(runs=True), both
    given, every = (systems, plans, keys, ticks), (records, first, last)
    ended = layout.divided(points, *specs, out=both)(given, every, run_ids, running)
    # The next segment begins where this one ends.
    return jax.lax.with_sharding_constraint(ended, layout.runs(ended))


@eqx.filter_jit
def own_limits_of_points(
    systems: System, plans: Plan, starts: PyTree, layout: Layout
) -> Curves | None:
    """The limits of the runs at some points, from their realised starts (`own_limits`)."""
    points, both = layout.spec(points=True), layout.spec(points=True, runs=True)
    function = partial(_over_points, own_limits, layout.many)
    return layout.divided(function, points, points, both, out=both)(systems, plans, starts)


@eqx.filter_jit
def with_paths_of_points(plan: Plan, runs: Curves) -> Curves:
    """Curves (points, runs) with their path statistics (`with_paths`)."""
    return jax.vmap(jax.vmap(partial(with_paths, plan)))(runs)


def _over_points(function: Callable[..., Any], many: bool, *arguments: Any) -> Any:
    return eqx.filter_vmap(function)(*arguments) if many else function(*arguments)
