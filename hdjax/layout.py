"""The one schema of results: an `xarray.DataTree` of groups, in which names are the user's own.

    group               dimensions       what it holds of each statistic
    runs                run, time        the kept runs; NaN after a divergence
    mean, std, count    time             moments over the finite runs, and how many those are
    quantile            quantile, time   quantiles of the kept runs
    limit               time             the deterministic equivalent
    predicted_std       time             the standard deviation that theory predicts
    sup_error           run              sup over times and entries of |run - limit|
    sup_error_count     run              over how many times
    sup_error_mean, sup_error_std        moments over all runs, where not all are kept
    sup_error_median, exponent           of a scaling: at each dimension; the fitted power of d
    exponent_interval   bound            the ends of its interval
    paths, paths_limit  run; none        path statistics of the runs, and of the limit
    probes              run, time        probes
    codes                                alive (time): how many runs have not ended; code (run),
                                         since (run): how a run ended and from when on
                                         (`hdjax.codes`); limit_code, limit_since

The axes of a sweep (of a scaling, its dimension) are in front, the entries of a vector or matrix
behind.  With realised starts the limit's groups have the dimension `run` too.  Coordinates are
those of the dimensions, and `recorded_time` beside the nominal `time`.  Each group has its own, so
that it can be read by itself.  A dimension of an axis or of entries has a name that nothing else
has, if need be with underscores behind it; `axes` finds it.

A tree cannot hold every text as a name: `encode` writes what it cannot hold as `_x002F_`.
Attributes of the root are plain Python values: `statistics`, `paths` and `probes` are lists of
names, `axes` maps each axis to its dimension, and `config`, `expect`, `seconds` and `versions` are
as they were made.
"""

import re
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from hdjax.codes import Code

# A dimension that realised starts alone have.
_OWN = "run of realised starts"
_DIMS: dict[str, tuple[str, ...]] = {
    "runs": ("run", "time"),
    "mean": ("time",),
    "std": ("time",),
    "count": ("time",),
    "quantile": ("quantile", "time"),
    "limit": (_OWN, "time"),
    "predicted_std": ("time",),
    "sup_error": ("run",),
    "sup_error_count": ("run",),
    "sup_error_mean": (),
    "sup_error_std": (),
    "sup_error_median": (),
    "exponent": (),
    "exponent_interval": ("bound",),
    "paths": ("run",),
    "paths_limit": (_OWN,),
    "probes": ("run", "time"),
}
_CODES: dict[str, tuple[str, ...]] = {
    "alive": ("time",),
    "code": ("run",),
    "since": ("run",),
    "limit_code": (_OWN,),
    "limit_since": (_OWN,),
}
_HOW = ("code", "limit_code")
GROUPS = (*_DIMS, "codes")
_OF_RUNS = ("runs", "mean", "std", "count", "quantile", "paths", "codes")
_OF_BOTH = ("limit", "sup_error", "sup_error_count", "paths_limit")
# The groups of each kind of result, where theory predicts all that it can.
KINDS: dict[str, tuple[str, ...]] = {
    "simulate": _OF_RUNS,
    "limit": ("limit", "paths_limit", "predicted_std", "codes"),
    "compare": (*_OF_RUNS, *_OF_BOTH, "predicted_std"),
    "sweep": (*_OF_RUNS, *_OF_BOTH, "predicted_std"),
    "scaling": (
        *("sup_error", "sup_error_count", "sup_error_median", "exponent", "exponent_interval"),
        "codes",
    ),
}
# What is one number for all axes, and for all entries.
_WITHOUT_AXES = ("exponent", "exponent_interval")
_WITHOUT_ENTRIES = tuple(group for group in _DIMS if group.startswith(("sup_error", "exponent")))
# What is complex for complex statistics.
_COMPLEX = ("runs", "mean", "quantile", "limit")
_COORDINATES = ("run", "time", "recorded_time", "quantile", "bound")
# What NetCDF does not hold: control characters, "/", other first characters than letters, digits
# and underscores, a space at the end.  Fixed width, so that nothing is read in two ways.
_FORBIDDEN = re.compile(
    r"_(?=x[0-9A-F]{4})|[\0-\x1f\x7f/\ud800-\udfff]|^[^0-9A-Za-z_\x80-\U0010ffff]| $"
)

Arrays = dict[str, np.ndarray]


class Contents(NamedTuple):
    """What a result holds, before it is a tree.

    Attributes:
        groups: by name, arrays by statistic with the dimensions of the group in front.
        times: (times,) the nominal times; empty, if there are none.
        recorded: (..., times) the times of the algorithm's clock; axes in front.
        attributes: of the root, without `axes`.
        labels: of statistics, for readers.
    """

    groups: dict[str, Arrays]
    times: np.ndarray
    recorded: np.ndarray
    attributes: dict[str, Any]
    labels: Mapping[str, str]


def check_names(**names: Iterable[Any]) -> None:
    """Refuse names that no result can hold.

    Args:
        **names: the `statistics`, `paths`, `probes` and axes of the `grid`.

    Raises:
        ValueError: a name that is no text, or empty; one that is given twice; a statistic that is
            called like a coordinate.

    Example:
        >>> check_names(statistics=["risk", "a/b"], grid=["learning_rate", "time"])
    """
    for kind, given in names.items():
        given = list(given)
        for name in given:
            if not isinstance(name, str) or not name:
                raise ValueError(f"{kind}: {name!r}; allowed: text")
            if given.count(name) > 1:
                raise ValueError(f"{kind}: {name!r} is given twice; allowed: different names")
            if kind != "grid" and name in _COORDINATES:
                raise ValueError(
                    f"{kind}: {name!r}; allowed: other names than those of the coordinates, "
                    f"{', '.join(_COORDINATES)}"
                )


def encode(name: str) -> str:
    """A name as trees and NetCDF files hold it.

    Example:
        >>> encode("risk"), encode("a/b")
        ('risk', 'a_x002F_b')
    """
    return _FORBIDDEN.sub(lambda found: f"_x{ord(found[0]):04X}_", name)


def decode(name: str) -> str:
    """The name that `encode` made `name` of.

    Example:
        >>> decode("a_x002F_b")
        'a/b'
    """
    return re.sub("_x([0-9A-F]{4})_", lambda found: chr(int(found[1], 16)), name)


def free(name: str, taken: Iterable[str]) -> str:
    """A name that is not taken: `name`, with as many underscores behind it as it needs.

    Example:
        >>> free("risk", ["risk", "risk_"])
        'risk__'
    """
    taken = set(taken)
    while name in taken:
        name += "_"
    return name


def tree(
    contents: Contents,
    axes: Mapping[str, list[Any]] | None = None,
    levels: Iterable[float] = (),
) -> xr.DataTree:
    """The tree of a result.

    Args:
        contents: what it holds.
        axes: the values of each axis that the arrays have in front.
        levels: of the quantiles.
    """
    axes, attributes = dict(axes or {}), contents.attributes
    names = {name for variables in contents.groups.values() for name in variables}
    taken = {encode(name) for name in names}.union(_COORDINATES, _CODES)
    dims: dict[str, str] = {}
    for axis in axes:
        dims[axis] = free(encode(axis), taken)
        taken.add(dims[axis])
    coordinates: dict[str, Any] = {dims[axis]: values for axis, values in axes.items()}
    coordinates |= {"time": contents.times, "quantile": list(levels), "bound": ["low", "high"]}
    recorded = [*dims.values(), "time"][-contents.recorded.ndim :], contents.recorded
    realised = attributes["start"] == "realised"
    nodes = {}
    for group, variables in contents.groups.items():
        data, label = {}, contents.labels.get
        for name, values in variables.items():
            lead = [] if group in _WITHOUT_AXES else list(dims.values())
            lead += _dims(group, name, realised)
            values = np.asarray(values)
            entries = [f"{encode(name)}_{i}" for i in range(values.ndim - len(lead))]
            entries = [free(dim, taken) for dim in entries]
            text = {} if group == "codes" else {"long_name": label(name, name)}
            data[encode(name)] = ([*lead, *entries], values, text)
        node = xr.Dataset(data)
        own = {dim: coordinates[str(dim)] for dim in node.dims if dim in coordinates}
        if "run" in node.dims:
            own["run"] = np.arange(node.sizes["run"])
        if "time" in node.dims:
            own["recorded_time"] = recorded
        nodes[group] = node.assign_coords(own)
    root = xr.Dataset(attrs={**attributes, "axes": dims})
    return xr.DataTree.from_dict({"/": root, **nodes})


def _dims(group: str, name: str, realised: bool) -> list[str]:
    """The dimensions of a variable between the axes and the entries."""
    own = _CODES[name] if group == "codes" else _DIMS[group]
    return ["run" if dim == _OWN else dim for dim in own if dim != _OWN or realised]


def empty(
    kind: str,
    statistics: Mapping[str, Any],
    times: Any = (),
    *,
    paths: Iterable[str] = (),
    axes: Mapping[str, list[Any]] | None = None,
    levels: Iterable[float] = (),
    start: str | None = "law",
    **attributes: Any,
) -> xr.DataTree:
    """A result of one run in which all numbers are NaN.

    Args:
        kind: of result; see `KINDS`.
        statistics: an array of each, or its `jax.ShapeDtypeStruct`.
        times: (times,) of the records.
        paths: names of path statistics.
        axes: the values of each axis; of a scaling, those of "dimension".
        levels: of the quantiles.
        start: of the limit; None for no limit.
        **attributes: of the root.
    """
    axes, levels, times = dict(axes or {}), list(levels), np.asarray(times, float)
    sizes = {"run": 1, "time": times.size, "quantile": len(levels), "bound": 2}
    lead = [len(values) for values in axes.values()]
    with_runs, with_limit = "runs" in KINDS[kind], start is not None and "limit" in KINDS[kind]
    codes = {"alive": with_runs, "code": kind != "limit", "since": kind != "limit"}
    codes |= dict.fromkeys(("limit_code", "limit_since"), with_limit)
    names = {
        "paths": dict.fromkeys(paths, np.zeros(())),
        "paths_limit": dict.fromkeys(paths, np.zeros(())),
        "codes": {name: np.zeros(()) for name, there in codes.items() if there},
    }

    def blank(group: str, name: str, value: Any) -> np.ndarray:
        shape = [] if group in _WITHOUT_AXES else list(lead)
        shape += [sizes[dim] for dim in _dims(group, name, start == "realised")]
        shape += [] if group in _WITHOUT_ENTRIES else value.shape
        numbers = complex if group in _COMPLEX and value.dtype.kind == "c" else float
        return np.full(shape, np.nan, numbers)

    groups = {
        group: {
            name: blank(group, name, value) for name, value in names.get(group, statistics).items()
        }
        for group in KINDS[kind]
        if with_limit or kind == "scaling" or group not in (*_OF_BOTH, "predicted_std")
    }
    attributes |= {"kind": kind, "statistics": list(statistics), "paths": list(paths)}
    attributes = {"runs": 1, "config": None, "start": start or "", **attributes}
    recorded = np.broadcast_to(times, (*lead, times.size))
    found = {group: variables for group, variables in groups.items() if variables}
    return tree(Contents(found, times, recorded, attributes, {}), axes, levels)


def stack(parts: Mapping[int, Contents], shape: tuple[int, ...]) -> Contents:
    """The contents of several points as one, with axes in front.

    Args:
        parts: contents by the position of their point; of points that are missing, numbers are
            NaN, counts 0 and codes `Code.NOT_RUN`.
        shape: of the grid of points.
    """
    first = next(iter(parts.values()))

    def stacked(arrays: Mapping[int, np.ndarray], count: int = 0) -> np.ndarray:
        one = np.asarray(next(iter(arrays.values())))
        blank = count if np.issubdtype(one.dtype, np.integer) else np.nan
        values = np.full((int(np.prod(shape)), *one.shape), blank, one.dtype)
        for position, array in arrays.items():
            values[position] = array
        return values.reshape(shape + one.shape)

    # Theory may predict a spread at some points alone.
    names = dict.fromkeys(
        (group, name)
        for part in parts.values()
        for group, variables in part.groups.items()
        for name in variables
    )
    groups: dict[str, Arrays] = {}
    for group, name in names:
        arrays = {
            position: part.groups[group][name]
            for position, part in parts.items()
            if name in part.groups.get(group, {})
        }
        code = Code.NOT_RUN if name in _HOW and group == "codes" else 0
        groups.setdefault(group, {})[name] = stacked(arrays, code)
    # Recorded times k/d differ between dimensions; the nominal ones are those of all points.
    recorded = stacked({position: part.recorded for position, part in parts.items()})
    return first._replace(groups=groups, recorded=recorded)


def axes(result: xr.DataTree) -> dict[str, str]:
    """The dimension of each axis of a sweep or scaling."""
    return result.attrs["axes"]


def labels(result: xr.DataTree, axis: str) -> np.ndarray:
    """The values along an axis."""
    dim = axes(result)[axis]
    return next(node.dataset[dim].values for node in result.children.values() if dim in node.dims)


def times(result: xr.DataTree) -> np.ndarray:
    """The nominal times of the records; none, of a scaling."""
    return _along_time(result, "time")


def recorded_times(result: xr.DataTree) -> np.ndarray:
    """(..., times) the times of the algorithm's clock, with the axes of a sweep in front."""
    return _along_time(result, "recorded_time")


def _along_time(result: xr.DataTree, name: str) -> np.ndarray:
    found = (node.dataset[name].values for node in result.children.values() if "time" in node.dims)
    return next(found, np.zeros(0))


def has(result: xr.DataTree, group: str, name: str) -> bool:
    """Whether a group has a variable of this name."""
    return group in result.children and encode(name) in result[group].data_vars


def variable(result: xr.DataTree, group: str, name: str) -> xr.DataArray:
    """What a group holds under a name.

    Raises:
        KeyError: it holds nothing, or there is no such group.
    """
    if not has(result, group, name):
        raise KeyError(f"{name!r}: the result has no {group} of it")
    return result[group].to_dataset()[encode(name)]


def ended(result: xr.DataTree) -> np.ndarray:
    """(..., run) the nominal times from which on runs have ended; NaN where they have not.

    Empty, if the result has no runs.
    """
    if not has(result, "codes", "code"):
        return np.zeros(0)
    code = variable(result, "codes", "code").values
    since = variable(result, "codes", "since").values
    return np.where(np.isin(code, (Code.NOT_RUN, Code.FINE, Code.NOT_FINITE)), np.nan, since)


def dataset(result: xr.DataTree, group: str) -> xr.Dataset:
    """A group under the user's own names, also those that no tree can hold."""
    found = result[group].to_dataset()
    encoded = {*found.variables, *found.dims}
    plain = {name: decode(str(name)) for name in encoded if decode(str(name)) != name}
    return found.rename(plain) if plain else found


def entries(result: xr.DataTree, values: xr.DataArray) -> list[str]:
    """The dimensions of a variable that are entries of a vector or matrix."""
    lead = {*_COORDINATES, *axes(result).values()}
    return [str(dim) for dim in values.dims if dim not in lead]


def select(result: xr.DataTree, points: Mapping[str, int]) -> xr.DataTree:
    """The part of a sweep at one value of some axes.

    Args:
        result: a sweep.
        points: the position on each of these axes.
    """
    dims = axes(result)
    part = result.isel({dims[axis]: position for axis, position in points.items()})
    part.attrs["axes"] = {axis: dim for axis, dim in dims.items() if axis not in points}
    return part


def relabel(
    result: xr.DataTree, axis: str, positions: list[int], name: str, values: list[Any]
) -> xr.DataTree:
    """The part of a sweep at some values of an axis, which gets another name and labels.

    Args:
        result: a sweep.
        axis: which axis.
        positions: of the points to keep.
        name: the axis is called so.
        values: its labels there.
    """
    dim = axes(result)[axis]

    def labelled(node: xr.Dataset) -> xr.Dataset:
        return node.assign_coords({dim: values}) if dim in node.dims else node

    part = result.isel({dim: positions}).map_over_datasets(labelled)
    part.attrs = {**result.attrs, "axes": {name: dim}}
    return part


def skip_nan(
    reduction: Callable[..., Any], values: Any, axis: int | None = 0, **options: Any
) -> np.ndarray:
    """Reduce over the numbers among `values`; NaN where there is none.

    Args:
        reduction: NumPy's `nanmean`, `nanmedian`, `nanquantile`, ...; of complex numbers, real and
            imaginary parts are reduced by themselves.
        values: any array.
        axis: over which.
        **options: of the reduction.

    Example:
        >>> skip_nan(np.nanmean, np.array([[1.0, np.nan], [3.0, np.nan]])).tolist()
        [2.0, nan]
    """
    values = np.asarray(values)
    if np.iscomplexobj(values):
        parts = [skip_nan(reduction, part, axis, **options) for part in (values.real, values.imag)]
        return parts[0] + 1j * parts[1]
    some = ~np.isnan(values).all(axis=axis)
    safe = np.where(some if axis is None else np.expand_dims(some, axis), values, 0.0)
    # A level that some runs never reach has an infinite mean, but a median; and NumPy warns of the
    # standard deviation of a single number.
    with np.errstate(invalid="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return np.where(some, reduction(safe, axis=axis, **options), np.nan)


def over_runs(
    values: xr.DataArray, reduction: Callable[..., Any] = np.nanmedian, **options: Any
) -> xr.DataArray:
    """Reduce a variable over its runs, if it has any, as `skip_nan` does."""
    if "run" not in values.dims:
        return values
    return values.reduce(lambda array, axis: skip_nan(reduction, array, axis, **options), "run")
