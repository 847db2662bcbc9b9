"""A cartesian grid of systems: vmapped where shapes allow, a loop only over what changes them."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key

from hdjax.engine.compare import check_run, prepare
from hdjax.engine.contents import Records, contents
from hdjax.engine.drive import drive
from hdjax.engine.ensemble import Plan
from hdjax.engine.result import QUANTILES, Result, total_seconds
from hdjax.layout import Contents, check_names, stack, tree
from hdjax.system import System
from hdjax.times import nominal


def sweep(
    make_system: Callable[..., System],
    grid: Mapping[Any, Sequence[Any] | Array | np.ndarray],
    ts: Any,
    *,
    key: Key[Array, ""],
    runs: int,
    start: str | None = "law",
    method: Any = None,
    statistics: Any = None,
    probes: Any = None,
    paths: Any = None,
    fluctuations: bool | None = False,
    keep: str = "runs",
    chunk: int | None = None,
    shared_keys: bool = True,
    progress: bool = True,
) -> Result:
    """Compare on every point of a grid.

    Points whose systems differ in numbers only are stacked and run as one vmapped program; a
    field that is not an array (another loss, another d, a Python callable as schedule) makes a
    program of its own, and `reasons` in the result's attributes says which.

    Args:
        make_system: called with one value for each axis, by name.
        grid: {axis: values}; a value that is given twice is run twice.
        ts: times, as for `compare`.
        key: key of the experiment.
        runs: runs at each point.
        start: as for `compare`; None: simulate without a limit.
        method: as for `compare`, or a function of a point's values (as `make_system`) that
            returns one.
        statistics: as for `compare`.
        probes: as for `compare`.
        paths: as for `compare`.
        fluctuations: as for `compare`; where theory gives none at a point, they are NaN there.
        keep: as for `compare`.
        chunk: as for `compare`.
        shared_keys: the same random numbers at every point (differences between points are then
            sharper than either value); False: independent ones.
        progress: as for `compare`.

    An interrupt (Ctrl-C) keeps the points that were finished; the others are NaN.

    Raises:
        ValueError: an empty grid or axis; an axis whose name is no text.

    Example:
        >>> result = sweep(make_swept, {"learning_rate": [0.5, 1.0]}, [0.0, 1.0],
        ...                key=jax.random.key(0), runs=4)
        >>> result.mean["risk"].sizes["learning_rate"]
        2
    """
    try:
        grid = {axis: list(values) for axis, values in dict(grid).items()}
    except (TypeError, ValueError):
        raise ValueError(f"grid: {grid}; allowed: a mapping from axes to lists of values") from None
    if not grid or not all(grid.values()):
        raise ValueError(f"grid: {grid}; allowed: at least one axis, each with a value")
    check_run(runs, keep, chunk, key)
    check_names(grid=grid)
    labels = {axis: _labels(values) for axis, values in grid.items()}
    points = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
    systems = [make_system(**point) for point in points]
    methods = [method(**point) if callable(method) else method for point in points]
    for system in systems:
        system.validate(compared=start is not None, realised=start == "realised")
    prepared = [
        prepare(
            system,
            ts,
            method=own,
            statistics=statistics,
            probes=probes,
            paths=paths,
            start=start,
            fluctuations=fluctuations,
        )
        for system, own in zip(systems, methods, strict=True)
    ]
    plans, records = [plan for plan, _ in prepared], [clock for _, clock in prepared]
    groups = _groups(systems, plans)
    found = _collect(
        systems,
        plans,
        records,
        groups,
        key,
        runs=runs,
        keep=keep,
        chunk=chunk,
        shared_keys=shared_keys,
        progress=progress,
    )
    measured = stack(found, tuple(len(values) for values in labels.values()))
    firsts = [found[members[0]] for members in groups.values() if members[0] in found]
    measured.attributes.update(
        points=len(found),
        interrupted=int(len(found) < len(points) or measured.attributes["interrupted"]),
        programs=len(groups),
        reasons=_reasons(systems, groups),
        seconds=total_seconds(part.attributes["seconds"] for part in firsts),
    )
    return Result(tree(measured, labels, QUANTILES))


def _collect(
    systems: list[System],
    plans: list[Plan],
    records: list[Records],
    groups: dict[Any, list[int]],
    key: Key[Array, ""],
    *,
    runs: int,
    keep: str,
    **options: Any,
) -> dict[int, Contents]:
    """The contents of the points that were finished, group by group."""
    found: dict[int, Contents] = {}
    for members in groups.values():
        chosen = [systems[i] for i in members], [plans[i] for i in members]
        try:
            collected = drive(*chosen, key, runs=runs, keep=keep, **options)
            if collected.runs < runs and found:
                break
            for position, i in enumerate(members[: collected.points]):
                found[i] = contents(
                    systems[i],
                    plans[i],
                    records[i],
                    collected,
                    kind="sweep",
                    key=key,
                    keep=keep,
                    point=position,
                )
        except KeyboardInterrupt:
            if not found:
                raise
            break
        if collected.interrupted:
            break
    return found


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
    """The fields on which the programs of a sweep differ."""
    firsts = [systems[members[0]] for members in groups.values()]
    fields = {
        name
        for other in firsts[1:]
        for name in vars(firsts[0])
        if _structure(getattr(firsts[0], name)) != _structure(getattr(other, name, None))
    }
    return ", ".join(sorted(fields))


def _labels(values: list[Any]) -> list[Any]:
    """The coordinate of an axis: numbers and text as they are, other values by name or number."""
    labels = [_plain(value) for value in values]
    if None not in labels:
        return labels
    names = [getattr(value, "__name__", None) for value in values]
    if None not in names and len(set(names)) == len(names):
        return names
    told = [name or repr(value) for name, value in zip(names, values, strict=True)]
    return [f"{i}: {text}"[:60] for i, text in enumerate(told)]


def _plain(value: Any) -> Any:
    """A number or a text, also of arrays without axes; None for everything else."""
    if isinstance(value, int | float | str):
        return value
    dtype = getattr(value, "dtype", None)
    if getattr(value, "shape", None) != () or not isinstance(dtype, np.dtype) or dtype.kind == "c":
        return None
    number = np.asarray(value)
    return (nominal(number) if jnp.issubdtype(dtype, jnp.floating) else number).item()
