"""The devices of an experiment: a mesh, and how arrays of points and runs lie on it.

A mesh has the axis "runs", over which the runs of a chunk are divided, or the axis "points", over
which the points of a sweep are divided, or both.  An experiment with a single point divides its
runs over all devices.  A method may also divide a single run; its simulator says how.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import PyTree

from hdjax import random

_POINTS, _RUNS = AXES = ("points", "runs")
# Bytes of states times steps, from which on a simulation is spread over the cores of a CPU.  Below
# it the program for several devices, which compiles some tenths of a second longer, saves nothing.
_SPREAD = 1e9


class Layout(NamedTuple):
    """How the arrays of an experiment lie on devices.

    Attributes:
        mesh: the devices.
        many: whether the arrays have an axis of points before that of the runs.
        one: a single run; the sharding of an array that is divided between devices, or None for all
            others.
    """

    mesh: Mesh
    many: bool
    one: Any = None

    @property
    def axes(self) -> tuple[Any, Any]:
        """The axes of the mesh over which points and runs are divided."""
        if jax.tree.leaves(self.one):
            return None, None
        names = self.mesh.axis_names
        if not self.many:
            return None, names
        return (_POINTS if _POINTS in names else None), (_RUNS if _RUNS in names else None)

    @property
    def shares(self) -> tuple[int, int]:
        """Into how many shares points and runs are divided."""

        def size(axes: Any) -> int:
            named = axes if isinstance(axes, tuple) else (axes,)
            return math.prod(self.mesh.shape[name] for name in named if name is not None)

        points, runs = self.axes
        return size(points), size(runs)

    def spec(self, *, points: bool = False, runs: bool = False) -> Any:
        """How arrays are divided that have an axis of points, if there are many, or one of runs."""
        own_points, own_runs = self.axes
        leading = [own_points] * (points and self.many) + [own_runs] * runs
        return PartitionSpec(*leading)

    def place(self, tree: PyTree, *, points: bool = False, runs: bool = False) -> PyTree:
        """The arrays of a tree, divided between the devices as `spec` says."""
        sharding = NamedSharding(self.mesh, self.spec(points=points, runs=runs))
        return place(tree, jax.tree.map(lambda _: sharding, tree))

    def runs(self, running: Any) -> Any:
        """For each array of a `Running` how it is divided."""
        whole, before = self.spec(points=True, runs=True), [None] * (1 + self.many)

        def each(_: Any, own: NamedSharding | None) -> NamedSharding:
            spec = whole if own is None else PartitionSpec(*before, *own.spec)
            return NamedSharding(self.mesh, spec)

        if self.one is None:
            return jax.tree.map(lambda _: NamedSharding(self.mesh, whole), running)
        return jax.tree.map(each, running, self.one)

    def divided(self, function: Callable[..., Any], *specs: Any, out: Any) -> Callable[..., Any]:
        """The function, each device of which computes the shares of its arguments.

        Args:
            function: a function of pytrees.
            *specs: how each of its arguments is divided, by `spec`.
            out: how its value is divided.
        """
        if self.mesh.size == 1 or jax.tree.leaves(self.one):
            return function

        def call(*arguments: Any) -> Any:
            arrays, rest = eqx.partition(arguments, eqx.is_array)

            def share(*arrays: Any) -> Any:
                return function(*eqx.combine(arrays, rest))

            return jax.shard_map(
                share, mesh=self.mesh, in_specs=specs, out_specs=out, check_vma=False
            )(*arrays)

        return call


def place(tree: PyTree, shardings: PyTree) -> PyTree:
    """The arrays of a tree, divided between devices; those of other processes belong to these.

    Args:
        tree: a pytree whose arrays are the same in all processes.
        shardings: for each of its leaves how it is divided.
    """

    def placed(leaf: Any, sharding: NamedSharding) -> Any:
        if not isinstance(leaf, jax.Array | np.ndarray | np.generic):
            return leaf
        if sharding.is_fully_addressable:
            return jax.device_put(leaf, sharding)
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            keys: Any = leaf
            return random.restored(placed(jax.random.key_data(keys), sharding), keys)
        values = np.asarray(leaf)
        return jax.make_array_from_callback(values.shape, sharding, lambda i: values[i])

    return jax.tree.map(placed, tree, shardings)


def layout_of(one: Any, *, work: int, runs: int, points: int, mesh: Mesh | None) -> Layout:
    """How the arrays of an experiment lie on devices.

    Args:
        one: the shapes of a single run; None if nothing is simulated.
        work: the bytes that a run holds, times the steps of all runs.
        runs: number of runs of a chunk at each point.
        points: number of points of a chunk.
        mesh: the devices; None: those of all processes.  On a CPU a small experiment stays on one
            device of each process.

    Raises:
        ValueError: a mesh with axes of other names or without devices of some process, or one
            beside a method that divides a run.
    """
    many, own = points > 1, jax.tree.map(lambda leaf: leaf.sharding, one)
    if mesh is not None:
        _check_mesh(mesh)
    if divided := jax.tree.leaves(own):
        if mesh is not None:
            raise ValueError(
                f"mesh: {dict(mesh.shape)}; allowed with a method that divides a run between "
                "devices: None"
            )
        return Layout(divided[0].mesh, many, own)
    if mesh is None:
        little = one is None or (jax.default_backend() == "cpu" and work < _SPREAD)
        mesh = _default(jax.local_devices()[:1] if little else jax.devices(), runs, points)
    # The axes of `jax.make_mesh` are of a kind that would have to be named in every operation.
    return Layout(Mesh(mesh.devices, mesh.axis_names), many)


def _check_mesh(mesh: Mesh) -> None:
    names = mesh.axis_names
    if not names or not set(names) <= set(AXES):
        raise ValueError(f"mesh: axes {', '.join(map(str, names))}; allowed: {', '.join(AXES)}")
    found = {device.process_index for device in mesh.devices.flat}
    if found != {jax.process_index()} and len(found) < jax.process_count():
        raise ValueError(
            f"mesh: devices of {len(found)} of {jax.process_count()} processes; allowed: devices "
            "of all processes"
        )


def _default(devices: Sequence[Any], runs: int, points: int) -> Mesh:
    """The mesh on which each device computes the fewest runs."""
    count = len(devices)

    def most(shares: int) -> int:
        return -(-runs // shares) * -(-points // (count // shares))

    shares = min((n for n in range(count, 0, -1) if count % n == 0), key=most)
    return Mesh(np.array(devices).reshape(-1, shares), AXES)


def parse_mesh(text: str) -> Mesh:
    """The mesh that a text such as "runs=4,points=2" describes, of the first devices.

    Raises:
        ValueError: the text describes no mesh, or one of more devices than there are.

    Example:
        >>> dict(parse_mesh("runs=1,points=1").shape)
        {'runs': 1, 'points': 1}
    """
    pairs = [pair.partition("=") for pair in text.split(",")]
    sizes = {name: int(size) for name, _, size in pairs if size.isdecimal()}
    count, devices = math.prod(sizes.values()), jax.devices()
    if len(sizes) < len(pairs) or not set(sizes) <= set(AXES) or not 0 < count <= len(devices):
        raise ValueError(
            f"mesh: {text!r}; allowed: {_RUNS}=N, {_POINTS}=N or both, such as "
            f"{_RUNS}={len(devices)}, with a product of at most {len(devices)} devices"
        )
    return Mesh(np.array(devices[:count]).reshape(*sizes.values()), tuple(sizes))
