"""The function `sweep`: a comparison at every point of a Cartesian grid of parameters.

Points whose systems have equal structure are stacked and run by one vmapped program.
"""

import contextlib
import itertools
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Key

from hdjax.checks import checked
from hdjax.engine.checkpoint import Checkpoint, Kept, as_checkpoint, opened
from hdjax.engine.chunks import DoesNotFitError, check_memory
from hdjax.engine.compare import Keep, Paths, Probes, Start, Statistics, prepare
from hdjax.engine.contents import Records, contents
from hdjax.engine.drive import Experiment, Loop, prepared
from hdjax.engine.plan import Plan
from hdjax.engine.progress import Progress
from hdjax.engine.result import QUANTILES, Result, most_memory, total_seconds
from hdjax.engine.runs import shapes
from hdjax.layout import Contents, check_names, stack, tree
from hdjax.registry import Runs, Size
from hdjax.system import System
from hdjax.times import nominal


@checked
def sweep(
    make_system: Callable[..., System] | type[Any],
    grid: Mapping[Any, Sequence[Any] | Array | np.ndarray],
    ts: Any,
    *,
    key: Key[Array, ""],
    runs: Runs,
    start: Start | None = "law",
    method: Any = None,
    statistics: Statistics = None,
    probes: Probes | None = None,
    paths: Paths | None = None,
    fluctuations: bool | None = False,
    mean_correction: bool = False,
    keep: Keep = "runs",
    chunk: Size | None = None,
    shared_keys: bool = True,
    progress: bool | Callable = True,
    checkpoint: Kept | None = None,
    mesh: Mesh | None = None,
) -> Result:
    """Compare runs and limit at every point of a grid of parameters.

    Points whose systems differ in numbers only are stacked and run as one vmapped program.  A
    difference in a field that is not an array (another loss, another d, a Python callable as
    schedule) needs another program, and the attribute `reasons` of the result names these fields.
    An interrupt (Ctrl-C) keeps the finished points; the numbers of the other points are NaN.  So
    are those of points whose program fails, which a warning tells.

    Args:
        make_system: called with one value for each axis as keyword arguments; returns a system.
        grid: {axis: values}; a value that is given twice is run twice.
        ts: times, as for `compare`.
        key: key of the experiment.
        runs: number of runs at each point.
        start: as for `compare`; None: simulate without a limit.
        method: as for `compare`, or a function with the arguments of `make_system` that returns a
            method.
        statistics: as for `compare`.
        probes: as for `compare`.
        paths: as for `compare`.
        fluctuations: as for `compare`; the predictions are NaN at points that the theory does not
            cover.
        mean_correction: as for `compare`.
        keep: as for `compare`.
        chunk: as for `compare`.
        shared_keys: whether all points use the same random numbers, so that differences between
            points have less noise than the values themselves; False: independent numbers.
        progress: as for `compare`.
        checkpoint: as for `compare`.
        mesh: as for `compare`.

    Returns:
        A `Result` whose groups have the axes of the grid as leading dimensions.

    Raises:
        ValueError: an empty grid or axis; an axis whose name is no text.
        KeyboardInterrupt: an interrupt came before anything was finished.

    Example:
        >>> result = sweep(make_swept, {"learning_rate": [0.5, 1.0]}, [0.0, 1.0],
        ...                key=jax.random.key(0), runs=4)
        >>> result.mean["risk"].sizes["learning_rate"]
        2
    """
    grid = _checked(grid)
    labels = {axis: _labels(values) for axis, values in grid.items()}
    systems, methods = _systems(make_system, method, grid)
    for system in systems:
        system.validate(compared=start is not None, realised=start == "realised")
    asked: dict[str, Any] = {"statistics": statistics, "probes": probes, "paths": paths}
    asked |= {"start": start, "fluctuations": fluctuations, "mean_correction": mean_correction}
    pairs = [
        prepare(system, ts, method=own, **asked)
        for system, own in zip(systems, methods, strict=True)
    ]
    plans, records = [plan for plan, _ in pairs], [clock for _, clock in pairs]
    groups = _groups(systems, plans)
    for first, *_ in groups.values():
        check_memory(systems[first], plans[first], shapes(systems[first], plans[first], key))
    whole = Experiment(systems, plans, key, runs, keep, shared_keys)
    kept = as_checkpoint(checkpoint)
    with contextlib.ExitStack() as open_:
        counting = Progress(progress, whole.steps, runs * len(plans))
        counted = open_.enter_context(contextlib.closing(counting))
        if kept is not None:
            open_.enter_context(opened(kept, whole.names()))
        options = {"chunk": chunk, "progress": counted, "mesh": mesh}
        found, interrupted = _collect(whole, records, groups, kept, options)
    measured = stack(found, tuple(len(values) for values in labels.values()))
    measured.attributes.update(_about(systems, groups, found))
    measured.attributes["interrupted"] = int(interrupted)
    return Result(tree(measured, labels, QUANTILES))


def _about(
    systems: list[System], groups: dict[Any, list[int]], found: dict[int, Contents]
) -> dict[str, Any]:
    """What a result says of a sweep: finished points, programs and why they differ, the cost."""
    return {
        "points": len(found),
        "programs": len(groups),
        "reasons": _reasons(systems, groups),
        "seconds": _seconds(found, groups),
        "memory": most_memory(part.attributes["memory"] for part in found.values()),
    }


def _checked(grid: Any) -> dict[Any, list[Any]]:
    """The values of each axis as a list.

    Raises:
        ValueError: an empty grid or axis; an axis whose name is no text.
    """
    try:
        grid = {axis: list(values) for axis, values in dict(grid).items()}
    except (TypeError, ValueError):
        raise ValueError(f"grid: {grid}; allowed: a mapping from axes to lists of values") from None
    if not grid or not all(grid.values()):
        raise ValueError(f"grid: {grid}; allowed: at least one axis, each with a value")
    check_names(grid=grid)
    return grid


def _systems(
    make_system: Callable[..., System], method: Any, grid: dict[Any, list[Any]]
) -> tuple[list[System], list[Any]]:
    """The system and the method of each point of the grid."""
    points = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
    makes = callable(method) and not isinstance(method, type)
    methods = [method(**point) if makes else method for point in points]
    return [make_system(**point) for point in points], methods


def _collect(
    whole: Experiment,
    records: list[Records],
    groups: dict[Any, list[int]],
    checkpoint: Checkpoint | None,
    options: dict[str, Any],
) -> tuple[dict[int, Contents], bool]:
    """The contents of the finished points by position, and whether an interrupt came.

    `options` are those of `prepared`.
    While a program runs, the next one is compiled.  A program that fails costs its own points.
    """
    found: dict[int, Contents] = {}
    failure: Exception | None = None
    with contextlib.ExitStack() as open_:

        def begun(number: int, members: list[int]) -> tuple[list[int], Loop]:
            part = checkpoint and checkpoint.part(f"program-{number}")
            loop = prepared(whole.at(members), checkpoint=part, **options)
            return members, open_.enter_context(loop)

        try:
            loops = itertools.starmap(begun, enumerate(groups.values()))
            # A pair is made of a program and the one after it, so that the latter has begun.
            pairs: Any = itertools.pairwise(itertools.chain(loops, [None]))
            for (members, loop), _ in pairs:
                try:
                    collected = loop.run()
                except (jax.errors.JaxRuntimeError, MemoryError, DoesNotFitError) as error:
                    failure = error
                    told = " ".join(str(error).split())[:200]
                    warnings.warn(
                        f"sweep: {len(members)} of {len(whole.systems)} points failed, and their "
                        f"numbers are NaN: {told}",
                        stacklevel=3,
                    )
                    continue
                if collected.runs < whole.runs and found:
                    return found, True
                for position, i in enumerate(members[: collected.points]):
                    found[i] = contents(
                        whole.systems[i],
                        whole.plans[i],
                        records[i],
                        collected,
                        kind="sweep",
                        key=whole.key,
                        keep=whole.keep,
                        point=position,
                    )
                if collected.interrupted:
                    return found, True
        except KeyboardInterrupt:
            if not found:
                raise
            return found, True
    if failure is not None and not found:
        raise failure
    return found, False


def _seconds(found: dict[int, Contents], groups: dict[Any, list[int]]) -> Any:
    """The seconds of all programs; the points of a program share the seconds of its first one."""
    firsts = [found[members[0]] for members in groups.values() if members[0] in found]
    return total_seconds(part.attributes["seconds"] for part in firsts)


def _structure(tree: Any) -> Any:
    arrays, static = eqx.partition(tree, eqx.is_array)
    shapes = [(leaf.shape, str(leaf.dtype)) for leaf in jax.tree.leaves(arrays)]
    leaves, treedef = jax.tree.flatten(static)
    return str(shapes), treedef, tuple(leaves)


def _groups(systems: list[System], plans: list[Plan]) -> dict[Any, list[int]]:
    groups: dict[Any, list[int]] = {}
    for index, pair in enumerate(zip(systems, plans, strict=True)):
        groups.setdefault(_structure(pair), []).append(index)
    return groups


def _reasons(systems: list[System], groups: dict[Any, list[int]]) -> str:
    """The names of the fields in which the programs of a sweep differ."""
    firsts = [systems[members[0]] for members in groups.values()]
    fields = {
        name
        for other in firsts[1:]
        for name in vars(firsts[0])
        if _structure(getattr(firsts[0], name)) != _structure(getattr(other, name, None))
    }
    return ", ".join(sorted(fields))


def _labels(values: list[Any]) -> list[Any]:
    """The labels of an axis: numbers and text are themselves; other values have name or number."""
    labels = [_plain(value) for value in values]
    if None not in labels:
        return labels
    names = [getattr(value, "__name__", None) for value in values]
    if None not in names and len(set(names)) == len(names):
        return names
    told = [name or repr(value) for name, value in zip(names, values, strict=True)]
    return [f"{i}: {text}"[:60] for i, text in enumerate(told)]


def _plain(value: Any) -> Any:
    """The value as a Python number or text, also from arrays without axes; None for all others."""
    if isinstance(value, int | float | str):
        return value
    dtype = getattr(value, "dtype", None)
    if getattr(value, "shape", None) != () or not isinstance(dtype, np.dtype) or dtype.kind == "c":
        return None
    number = np.asarray(value)
    return (nominal(number) if jnp.issubdtype(dtype, jnp.floating) else number).item()
