"""A cartesian grid of systems: vmapped where shapes allow, a loop only over what changes them."""

import itertools
import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import equinox as eqx
import jax
import numpy as np
import xarray as xr
from jaxtyping import Array, Key

from hdjax.engine.compare import check_run, check_times, dataset, make_plan
from hdjax.engine.drive import drive
from hdjax.engine.ensemble import Plan
from hdjax.engine.result import Result, total_seconds
from hdjax.system import System


def sweep(
    make_system: Callable[..., System],
    grid: Mapping[str, Sequence[Any]],
    ts: Any,
    *,
    key: Key[Array, ""],
    runs: int,
    start: str | None = "law",
    method: Any = None,
    statistics: Any = None,
    probes: Any = None,
    paths: Any = None,
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
        grid: {axis: values}.
        ts: times, as for `compare`.
        key: key of the experiment.
        runs: runs at each point.
        start: as for `compare`; None: simulate without a limit.
        method: as for `compare`, or a function of a point's values (as `make_system`) that
            returns one.
        statistics: as for `compare`.
        probes: as for `compare`.
        paths: as for `compare`.
        keep: as for `compare`.
        chunk: as for `compare`.
        shared_keys: the same random numbers at every point (differences between points are then
            sharper than either value); False: independent ones.
        progress: as for `compare`.

    An interrupt (Ctrl-C) keeps the points that were finished; the others are NaN.

    Raises:
        ValueError: an empty grid or axis.

    Example:
        >>> result = sweep(make_swept, {"learning_rate": [0.5, 1.0]}, [0.0, 1.0],
        ...                key=jax.random.key(0), runs=4)
        >>> result["risk_mean"].sizes["learning_rate"]
        2
    """
    if not grid or any(len(values) == 0 for values in grid.values()):
        raise ValueError(f"grid: {dict(grid)}; allowed: at least one axis, each with a value")
    check_run(runs, keep, chunk, key)
    nominal = check_times(ts)
    points = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
    systems = [make_system(**point) for point in points]
    methods = [method(**point) if callable(method) else method for point in points]
    for system in systems:
        system.validate(compared=start is not None, realised=start == "realised")
    plans = [
        make_plan(
            system,
            nominal,
            method=own,
            statistics=statistics,
            probes=probes,
            paths=paths,
            start=start,
        )
        for system, own in zip(systems, methods, strict=True)
    ]
    groups = _groups(systems, plans)
    found = _collect(
        systems,
        plans,
        groups,
        key,
        runs=runs,
        keep=keep,
        chunk=chunk,
        shared_keys=shared_keys,
        progress=progress,
    )
    data = _grid(found, grid, nominal)
    firsts = [found[members[0]] for members in groups.values() if members[0] in found]
    data.attrs.update(
        axes=json.dumps(list(grid)),
        programs=len(groups),
        reasons=_reasons(systems, groups),
        seconds=total_seconds(firsts),
    )
    return Result(data)


def _collect(
    systems: list[System],
    plans: list[Plan],
    groups: dict[Any, list[int]],
    key: Key[Array, ""],
    *,
    runs: int,
    keep: str,
    **options: Any,
) -> dict[int, xr.Dataset]:
    """The datasets of the points that were finished, group by group."""
    found: dict[int, xr.Dataset] = {}
    for members in groups.values():
        chosen = [systems[i] for i in members], [plans[i] for i in members]
        try:
            collected = drive(*chosen, key, runs=runs, keep=keep, **options)
            if collected.runs < runs and found:
                break
            for position, i in enumerate(members[: collected.points]):
                found[i] = dataset(
                    systems[i],
                    plans[i],
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


def _grid(
    found: dict[int, xr.Dataset], grid: Mapping[str, Sequence[Any]], nominal: np.ndarray
) -> xr.Dataset:
    """Datasets of the points, in order, as one with an axis for each parameter."""
    shape = tuple(len(values) for values in grid.values())
    # Recorded times k/d differ between dimensions: the grid is labelled by the nominal ones.
    parts = {i: part.assign_coords(time=nominal) for i, part in found.items()}
    first = next(iter(parts.values()))
    variables = {}
    for name, variable in first.data_vars.items():
        # Points that an interrupt left out stay NaN, and their counts 0.
        integer = np.issubdtype(variable.dtype, np.integer)
        values = np.full(
            (math.prod(shape), *variable.shape), 0 if integer else np.nan, variable.dtype
        )
        for i, part in parts.items():
            values[i] = part[name].values
        variables[name] = (
            (*grid, *variable.dims),
            values.reshape(shape + variable.shape),
            variable.attrs,
        )
    coords: dict[str, Any] = {name: _labels(values) for name, values in grid.items()}
    coords |= {str(name): value.values for name, value in first.coords.items()}
    interrupted = len(parts) < math.prod(shape) or first.attrs["interrupted"]
    attrs = {**first.attrs, "points": len(parts), "interrupted": int(interrupted)}
    return xr.Dataset(variables, coords, attrs)


def _labels(values: Sequence[Any]) -> list[Any]:
    if all(isinstance(value, int | float | str | np.number) for value in values):
        return [v.item() if isinstance(v, np.number) else v for v in values]
    return [
        getattr(value, "__name__", None) or f"{i}: {value!r}"[:60] for i, value in enumerate(values)
    ]
