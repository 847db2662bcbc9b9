"""The schema of results: an `xarray.DataTree` of groups, with the user's names of statistics.

The engine makes a tree from `Contents` by `tree`; figures, files and rules read it by the functions
of `hdjax.reading`.  No other module puts together or takes apart names of groups, variables and
dimensions.

    group               dimensions       content, for each statistic
    runs                run, time        curves of the kept runs; NaN after a divergence
    mean, std           time             mean and standard deviation over the finite runs
    count               time             number of finite runs
    quantile            quantile, time   quantiles of the kept runs
    limit               time             the deterministic equivalent
    predicted_mean      time             the limit and its correction to order 1/d
    predicted_std       time             the standard deviation that theory predicts
    sup_error           run              sup over times and entries of |run - limit|
    sup_error_count     run              number of times in that supremum
    sup_error_mean, sup_error_std        moments of sup_error over all runs, if not all are kept
    sup_error_median                     of a scaling: median of sup_error at each dimension
    exponent            (no dimension)   of a scaling: the fitted power of d
    exponent_interval   bound            of a scaling: both ends of the interval of the exponent
    paths               run              path statistics of the runs
    paths_limit         (no dimension)   path statistics of the limit
    probes              run, time        probes
    codes                                alive (time): the number of runs that have not ended;
                                         code (run): how a run ended (`hdjax.codes`);
                                         since (run): the nominal time of the end;
                                         limit_code, limit_since: code and time of the limit

The axes of a sweep, or the axis `dimension` of a scaling, come before these dimensions, and the
entries of a vector or matrix after them.  With realised starts the groups of the limit have the
dimension `run` too.  Each group has the coordinates of its dimensions, and the coordinate
`recorded_time` beside the nominal `time`, so that it can be read by itself.  The dimension of an
axis or of entries is different from all names of statistics and coordinates: underscores are
appended where necessary, and `axes` maps each axis to its dimension.

A tree cannot hold every text as a name: `encode` replaces a forbidden character by its code, such
as `_x002F_` for "/".  Attributes of the root are plain Python values: `statistics`, `paths` and
`probes` are lists of names, `axes` maps each axis to its dimension, and `config`, `expect`,
`seconds` and `versions` are stored as given.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from hdjax.codes import Code

# A placeholder for the dimension `run`, which these groups have with realised starts only.
_OWN = "run of realised starts"
_DIMS: dict[str, tuple[str, ...]] = {
    "runs": ("run", "time"),
    "mean": ("time",),
    "std": ("time",),
    "count": ("time",),
    "quantile": ("quantile", "time"),
    "limit": (_OWN, "time"),
    "predicted_mean": ("time",),
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
_PREDICTED = ("predicted_mean", "predicted_std")
# The groups that each kind of result can have; those of _PREDICTED are there if theory has them.
KINDS: dict[str, tuple[str, ...]] = {
    "simulate": _OF_RUNS,
    "limit": ("limit", "paths_limit", *_PREDICTED, "codes"),
    "compare": (*_OF_RUNS, *_OF_BOTH, *_PREDICTED),
    "sweep": (*_OF_RUNS, *_OF_BOTH, *_PREDICTED),
    "scaling": (
        *("sup_error", "sup_error_count", "sup_error_median", "exponent", "exponent_interval"),
        "codes",
    ),
}
# Groups that hold one number for all points of the axes, and one number for all entries.
_WITHOUT_AXES = ("exponent", "exponent_interval")
_WITHOUT_ENTRIES = tuple(group for group in _DIMS if group.startswith(("sup_error", "exponent")))
# Groups that are complex for a complex statistic.
_COMPLEX = ("runs", "mean", "quantile", "limit")
COORDINATES = ("run", "time", "recorded_time", "quantile", "bound")
# What a name in NetCDF cannot have: control characters, "/", a first character other than a letter,
# a digit or an underscore, a space at the end.  The code has a fixed width, so that `decode` is
# unique; "_x" before four hexadecimal digits is replaced too.
_FORBIDDEN = re.compile(
    r"_(?=x[0-9A-F]{4})|[\0-\x1f\x7f/\ud800-\udfff]|^[^0-9A-Za-z_\x80-\U0010ffff]| $"
)

Arrays = dict[str, np.ndarray]


class Contents(NamedTuple):
    """The arrays and attributes of which `tree` makes the tree of a result.

    Attributes:
        groups: the groups by name: arrays by statistic, whose first axes are the axes of a sweep
            and the dimensions of the group.
        times: (times,) the nominal times; empty, if there are none.
        recorded: (..., times) the times of the algorithm's clock, after the axes of a sweep.
        attributes: the attributes of the root without `axes`.
        labels: names of statistics for readers, such as "excess risk", by statistic.
    """

    groups: dict[str, Arrays]
    times: np.ndarray
    recorded: np.ndarray
    attributes: dict[str, Any]
    labels: Mapping[str, str]


def check_names(**names: Iterable[Any]) -> None:
    """Check the names that a user gives to statistics, paths, probes and axes.

    Args:
        **names: the names by argument: `statistics`, `paths`, `probes`, and the axes of a `grid`.

    Raises:
        ValueError: a name that is no text, is empty, or is given twice; a statistic, path or probe
            with the name of a coordinate.

    Example:
        >>> check_names(statistics=["risk", "a/b"], grid=["learning_rate", "time"])
    """
    for kind, given in names.items():
        given = list(given)
        for name in given:
            if not isinstance(name, str) or not name:
                raise ValueError(f"{kind}: {name!r}; allowed: text that is not empty")
            if given.count(name) > 1:
                raise ValueError(f"{kind}: {name!r} is given twice; allowed: different names")
            if kind != "grid" and name in COORDINATES:
                raise ValueError(
                    f"{kind}: {name!r}; allowed: other names than those of the coordinates, "
                    f"{', '.join(COORDINATES)}"
                )


def encode(name: str) -> str:
    """The form of a name in trees and NetCDF files, in which forbidden characters are codes.

    Example:
        >>> encode("risk"), encode("a/b")
        ('risk', 'a_x002F_b')
    """
    return _FORBIDDEN.sub(lambda found: f"_x{ord(found[0]):04X}_", name)


def decode(name: str) -> str:
    """The user's name, from the form that `encode` gave it.

    Example:
        >>> decode("a_x002F_b")
        'a/b'
    """
    return re.sub("_x([0-9A-F]{4})_", lambda found: chr(int(found[1], 16)), name)


def free(name: str, taken: Iterable[str]) -> str:
    """`name`, with underscores appended until it differs from all names in `taken`.

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
    """The tree of a result, from its contents.

    Args:
        contents: the arrays of all groups, and the attributes of the root.
        axes: the values along each axis of a sweep or scaling, by name, in the order in which the
            arrays have these axes.
        levels: the levels of the group `quantile`.
    """
    axes, attributes = dict(axes or {}), contents.attributes
    names = {name for variables in contents.groups.values() for name in variables}
    taken = {encode(name) for name in names}.union(COORDINATES, _CODES)
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
    """The dimensions of a variable after those of the sweep's axes and before those of entries."""
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
    """The tree of a result with one run in which all numbers are NaN.

    `hdjax.expect.check` evaluates rules on it, to find their mistakes before anything is run.

    Args:
        kind: the kind of result; see `KINDS`.
        statistics: for each statistic an array, or its `jax.ShapeDtypeStruct`.
        times: (times,) nominal times of the records.
        paths: names of path statistics.
        axes: the values along each axis; for a scaling those of "dimension".
        levels: the levels of the group `quantile`.
        start: where the limit starts, "law" or "realised"; None for no limit.
        **attributes: attributes of the root, besides those that follow from the arguments.
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
        if with_limit or kind == "scaling" or group not in (*_OF_BOTH, *_PREDICTED)
    }
    attributes |= {"kind": kind, "statistics": list(statistics), "paths": list(paths)}
    attributes = {"runs": 1, "config": None, "start": start or "", **attributes}
    recorded = np.broadcast_to(times, (*lead, times.size))
    found = {group: variables for group, variables in groups.items() if variables}
    return tree(Contents(found, times, recorded, attributes, {}), axes, levels)


def stack(parts: Mapping[int, Contents], shape: tuple[int, ...]) -> Contents:
    """The contents of all points of a sweep, from the contents of each point.

    Args:
        parts: contents by the position of the point in the flattened grid.  Where a point is
            missing, floating-point numbers are NaN, counts 0 and codes `Code.NOT_RUN`.
        shape: the shape of the grid, which becomes the leading axes of all arrays.
    """
    first = next(iter(parts.values()))

    def stacked(arrays: Mapping[int, Any], count: int = 0) -> np.ndarray:
        one = np.asarray(next(iter(arrays.values())))
        blank = count if np.issubdtype(one.dtype, np.integer) else np.nan
        values = np.full((int(np.prod(shape)), *one.shape), blank, one.dtype)
        for position, array in arrays.items():
            values[position] = array
        return values.reshape(shape + one.shape)

    # The theory may cover the systems at some points only, so that other points have fewer names.
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
