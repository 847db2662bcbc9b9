"""Results on disk: the tree as NetCDF, and a JSON summary with a stable layout.

`result.nc` holds the groups of the tree (`hdjax.layout`) as groups of one NetCDF 4 file.  A complex
variable has an additional last dimension `complex` with its real and imaginary parts, and an
attribute `complex` that says so.  Attributes that are no text, number or array are written as JSON
text, and the attribute `json_attributes` lists their names.

`summary.json` of a simulation, a limit or a comparison:

    {"family": str, "config": {...} or null, "versions": {...}, "device": str, "runs": int,
     "times": [...], "recorded_times": [...],
     "statistics": {NAME: {"limit", "mean", "std", "predicted_mean",
                           "predicted_std": [...] over times,
                           "sup_error": median over the runs}},
     "path": {NAME: {"median", "mean", "std": over the runs, "limit"}},
     "expect": [{"rule": str, "value": number, "passed": bool}],
     "seconds": {"compile", "simulate", "limit"}, "memory": {"simulate", "limit": bytes}}

"times" are the nominal times, and "recorded_times" the times of the algorithm's clock, such as k/d.
A vector or matrix is a nested list at each time, and a complex number is a list of its real and
imaginary part.  A number that does not exist or is not finite is null.  With realised starts,
"limit" is the mean over the finite limits of the runs (for a path statistic the median).

A sweep has "axes": {NAME: [values]} in addition, and each number above becomes a list nested over
the axes.  A scaling has "dimensions": [...] in place of "times", statistics {"sup_error": [median
over the runs at each dimension], "exponent": x, "exponent_interval": [low, high]}, "cost":
{"compile", "simulate", "limit": [seconds at each dimension], "memory": [bytes]}, and
"cost_exponent": {"compile", "simulate", "limit", "memory": [exponent, low, high]}, and
"efficiency": {"devices", "seconds", "efficiency": [a number for each number of devices]} or null.

A file appears under its name complete or not at all.  `save_result` replaces a result only with
`force`, and never replaces it by an interrupted result of fewer runs.
"""

import itertools
import json
import os
import re
import tempfile
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from hdjax import layout, reading, reductions

# The files of a result in its directory.
RESULT, SUMMARY, FIGURE = FILES = ("result.nc", "summary.json", "figure.png")
# Attributes of the root that `summary` and figures need, and that tell a result from other files.
_ATTRIBUTES = ("kind", "family", "statistics", "paths", "runs", "device", "interrupted", "axes")
# The attribute that marks complex variables, and the attribute that lists attributes in JSON.
_COMPLEX, _JSON = "complex", "json_attributes"


def prepare(directory: str | Path, force: bool = False) -> Path:
    """Make a directory for a result and check that it can be written, before anything is computed.

    Args:
        directory: the directory into which `save_result` will write.
        force: whether a result in the directory may be replaced.

    Returns:
        The directory.

    Raises:
        FileExistsError: the directory holds a result, and `force` is False.
        OSError: no file can be written into the directory.

    Example:
        >>> prepare("results/mine").is_dir()
        True
    """
    directory = Path(directory)
    _refuse_to_replace(directory, force)
    directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=directory):
        return directory


def save_result(result: xr.DataTree, directory: str | Path, force: bool = False) -> Path:
    """Write `result.nc` and `summary.json` of a result.

    Args:
        result: the tree of a result.
        directory: the directory into which the files are written; it is made if necessary.
        force: whether a result in the directory may be replaced.

    Returns:
        The directory.

    Raises:
        FileExistsError: the directory holds a result, and `force` is False; or `result` was
            interrupted and has fewer runs than the result in the directory (summed over the points
            of a sweep or the dimensions of a scaling).
        OSError: a file cannot be written.

    Example:
        >>> save_result(result.tree, "results/mine")  # doctest: +SKIP
    """
    directory = Path(directory)
    _refuse_to_replace(directory, force, result)
    save(result, directory / RESULT)
    save_summary(result, directory / SUMMARY)
    return directory


def beside(directory: str | Path) -> Path:
    """Make a new directory within `directory`, for a result that must not replace the one there.

    Example:
        >>> first = beside(prepare("results/mine"))
        >>> first.name, beside("results/mine").name
        ('other-1', 'other-2')
    """
    for count in itertools.count(1):
        other = Path(directory) / f"other-{count}"
        try:
            other.mkdir(parents=True)
        except FileExistsError:
            continue
        return other
    raise AssertionError


def load_result(path: str | Path) -> xr.DataTree:
    """Read the tree of a result.

    Args:
        path: a NetCDF file, or the directory that holds `result.nc`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is no NetCDF file, or holds no result of this package.

    Example:
        >>> load_result("results/mine")["mean/risk"]  # doctest: +SKIP
    """
    path = Path(path)
    result = load(path / RESULT if path.is_dir() else path)
    missing = _missing(result)
    if missing:
        raise ValueError(f"path: {str(path)!r} has no {missing}; allowed: a result of hdjax")
    return result


def _missing(result: xr.DataTree) -> str:
    """The name of something that a tree lacks to be a result; empty if it lacks nothing."""
    for name in _ATTRIBUTES:
        if name not in result.attrs:
            return f"attribute {name!r}"
    attrs = result.attrs
    if attrs["kind"] not in layout.KINDS:
        return f"kind of result: {attrs['kind']}"
    statistics = attrs["statistics"]
    # A scaling of the limit alone has times and memory, and no statistics.
    if not isinstance(statistics, list) or not (statistics or attrs["kind"] == "scaling"):
        return "list of statistics"
    if attrs["kind"] == "scaling" and "dimension" not in attrs["axes"]:
        return "axis 'dimension'"
    curves = ("mean", "limit", "sup_error_median")
    for name in statistics:
        if not any(reading.has(result, group, name) for group in curves):
            return f"variable of {name!r}"
    return ""


def save(tree: xr.DataTree, path: str | Path) -> Path:
    """Write a tree to a NetCDF file, complete or not at all; `load` reads the same tree back.

    The file is made in memory first, because HDF5 crashes when the disk is full.

    Args:
        tree: any tree.
        path: the file; its directory is made if necessary.

    Returns:
        The path.

    Raises:
        OSError: the file cannot be written; an earlier file of that name stays as it was.

    Example:
        >>> save(result.tree, "results/result.nc")  # doctest: +SKIP
    """
    nodes = {node.path: _to_file(node.to_dataset(inherit=False)) for node in tree.subtree}
    return write(path, xr.DataTree.from_dict(nodes).to_netcdf(engine="h5netcdf"))


def load(path: str | Path) -> xr.DataTree:
    """Read a tree that `save` wrote into memory.

    Args:
        path: the NetCDF file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is no NetCDF file.

    Example:
        >>> load("results/result.nc")["mean/risk"]  # doctest: +SKIP
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"path: no file {str(path)!r}; allowed: a result.nc")
    try:
        with xr.open_datatree(path, engine="h5netcdf") as opened:
            opened.load()
            nodes = {node.path: _from_file(node.to_dataset(False)) for node in opened.subtree}
        return xr.DataTree.from_dict(nodes)
    except Exception as error:
        # For damaged files h5py raises exceptions of many types.
        raise ValueError(
            f"path: {str(path)!r} is no NetCDF file ({error}); allowed: a result of hdjax"
        ) from None


def _to_file(ds: xr.Dataset) -> xr.Dataset:
    """The form of a group in a file: complex numbers are pairs, and attributes plain values."""
    ds = ds.drop_encoding().assign_attrs(_to_json(ds.attrs))
    dim = layout.free(_COMPLEX, {str(name) for name in (*ds.variables, *ds.dims)})
    for name, variable in list(ds.variables.items()):
        attrs, values = _to_json(variable.attrs), variable.values
        if not np.iscomplexobj(values):
            ds[name].attrs = attrs
            continue
        attrs[_COMPLEX] = f"real and imaginary part, along {dim}"
        ds[name] = (
            (*variable.dims, dim),
            np.stack([np.real(values), np.imag(values)], axis=-1),
            attrs,
        )
    return ds


def _from_file(ds: xr.Dataset) -> xr.Dataset:
    """The group whose form in a file is `ds`: the inverse of `_to_file`."""
    ds = ds.drop_encoding()
    ds.attrs = _from_json(ds.attrs)
    for name, variable in list(ds.variables.items()):
        ds[name].attrs = attrs = _from_json(variable.attrs)
        if attrs.pop(_COMPLEX, None) is not None:
            # The sum real + 1j * imaginary would be NaN where a part is infinite.
            parts = np.ascontiguousarray(variable.values)
            values = parts.view(np.result_type(parts.dtype, np.complex64))[..., 0]
            ds[name] = (variable.dims[:-1], values, attrs)
    return ds


def _to_json(attrs: Mapping[Any, Any]) -> dict[Any, Any]:
    """Attributes as NetCDF can hold them: values of other types are written as JSON text."""
    plain = {name: value for name, value in attrs.items() if _is_plain(value)}
    others = {
        name: json.dumps(value, default=str) for name, value in attrs.items() if name not in plain
    }
    return plain | others | ({_JSON: json.dumps(list(others))} if others else {})


def _from_json(attrs: Mapping[Any, Any]) -> dict[Any, Any]:
    """The attributes whose form in a file is `attrs`: the inverse of `_to_json`."""
    encoded = json.loads(attrs.get(_JSON, "[]"))
    found = {name: json.loads(v) if name in encoded else v for name, v in attrs.items()}
    found.pop(_JSON, None)
    return found


def _is_plain(value: Any) -> bool:
    """Whether an attribute of a NetCDF file can hold a value."""
    if isinstance(value, np.ndarray):
        return value.dtype.kind in "iuf" and value.ndim == 1
    if isinstance(value, str):
        return not re.search("[\0\ud800-\udfff]", value)
    return isinstance(value, int | float | np.number) and not isinstance(value, bool | complex)


def save_summary(result: xr.DataTree, path: str | Path) -> Path:
    """Write the `summary` of a result as JSON, complete or not at all, and return the path."""
    text = json.dumps(summary(result), indent=1, allow_nan=False, default=str) + "\n"
    return write(path, text.encode())


def write(path: str | Path, content: bytes | memoryview) -> Path:
    """Write a file, complete or not at all, and make its directory if necessary.

    Args:
        path: the file, which is replaced if it exists.
        content: the bytes of the file.

    Returns:
        The path.

    Raises:
        OSError: the file cannot be written; an earlier file of that name stays as it was.

    Example:
        >>> write("new/numbers.txt", b"1 2 3").read_bytes()
        b'1 2 3'
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # The number of the process would not be unique: containers share numbers, threads a process.
    part = path.with_name(f".{uuid.uuid4().hex}.part")
    try:
        with open(part, "xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None
    finally:
        part.unlink(missing_ok=True)
    return path


def summary(result: xr.DataTree) -> dict[str, Any]:
    """The content of `summary.json`: the result in plain numbers, lists and text.

    The opening of `hdjax.store` describes the layout.

    Args:
        result: the tree of a result, whose attribute "expect" is copied.

    Example:
        >>> summary(result.tree)["statistics"]["risk"]["limit"][-1]  # doctest: +SKIP
    """
    attrs = result.attrs
    scaling = attrs["kind"] == "scaling"
    axes = {axis: _listed(reading.labels(result, axis)) for axis in reading.axes(result)}
    content = {
        "family": attrs["family"],
        "config": attrs.get("config"),
        "versions": attrs.get("versions", {}),
        "device": attrs["device"],
        "runs": int(attrs["runs"]),
    }
    if scaling:
        content["dimensions"] = axes["dimension"]
        content["cost"] = attrs["cost"]
        powers = attrs["cost_exponent"].items()
        content["cost_exponent"] = {name: _listed(np.array(power)) for name, power in powers}
        content["efficiency"] = attrs.get("efficiency")
    else:
        content["times"] = _listed(reading.times(result))
        content["recorded_times"] = _listed(reading.recorded_times(result))
        content |= {"axes": axes} if axes else {}
    describe = _scaling_statistic if scaling else _statistic
    content["statistics"] = {name: describe(result, name) for name in attrs["statistics"]}
    content["path"] = {} if scaling else {name: _path(result, name) for name in attrs["paths"]}
    content["expect"] = attrs.get("expect", [])
    seconds = attrs.get("seconds", {})
    content["seconds"] = {part: seconds.get(part) for part in ("compile", "simulate", "limit")}
    memory = attrs.get("memory", {})
    content["memory"] = {part: memory.get(part) for part in ("simulate", "limit")}
    return content


def _statistic(result: xr.DataTree, name: str) -> dict[str, Any]:
    return {
        "limit": _values(result, "limit", name, np.nanmean),
        "mean": _values(result, "mean", name),
        "std": _values(result, "std", name),
        "predicted_mean": _values(result, "predicted_mean", name),
        "predicted_std": _values(result, "predicted_std", name),
        "sup_error": _values(result, "sup_error", name),
    }


def _scaling_statistic(result: xr.DataTree, name: str) -> dict[str, Any]:
    return {
        "sup_error": _values(result, "sup_error_median", name),
        "exponent": _values(result, "exponent", name),
        "exponent_interval": _values(result, "exponent_interval", name),
    }


def _path(result: xr.DataTree, name: str) -> dict[str, Any]:
    some = reading.has(result, "paths", name)
    several = some and reading.variable(result, "paths", name).sizes["run"] > 1
    return {
        "median": _values(result, "paths", name),
        "mean": _values(result, "paths", name, np.nanmean),
        "std": _values(result, "paths", name, np.nanstd, ddof=1) if several else None,
        "limit": _values(result, "paths_limit", name),
    }


def _values(
    result: xr.DataTree,
    group: str,
    name: str,
    reduction: Callable[..., Any] = np.nanmedian,
    **options: Any,
) -> Any:
    """The values of a variable as nested lists, reduced over the runs; None if there is none."""
    if not reading.has(result, group, name):
        return None
    values = reductions.over_runs(reading.variable(result, group, name), reduction, **options)
    return _listed(values.values)


def _listed(values: np.ndarray) -> Any:
    """The array as nested lists, with None for numbers that are not finite."""
    if values.dtype.kind == "c":
        values = np.stack([np.real(values), np.imag(values)], axis=-1)
    if values.dtype.kind != "f":
        return values.tolist()
    plain = values.astype(object)
    plain[~np.isfinite(values)] = None
    return plain.tolist()


def _refuse_to_replace(directory: Path, force: bool, new: xr.DataTree | None = None) -> None:
    """Raise FileExistsError if a result in `directory` may not be replaced; see `save_result`."""
    found = [name for name in FILES if (directory / name).exists()]
    if found and not force:
        raise FileExistsError(
            f"directory: {str(directory)!r} holds {', '.join(found)}; allowed: another directory, "
            "or force (--force)"
        )
    if new is None or not new.attrs["interrupted"] or RESULT not in found:
        return
    try:
        had, has = _finished_runs(load_result(directory)), _finished_runs(new)
    except ValueError as error:
        raise FileExistsError(
            f"directory: {str(directory)!r} holds a result that cannot be read ({error}); allowed: "
            "another directory"
        ) from None
    if has < had:
        raise FileExistsError(
            f"directory: {str(directory)!r} holds a result of {had} runs, this interrupted one "
            f"{has}; allowed: another directory"
        )


def _finished_runs(result: xr.DataTree) -> int:
    """The number of finished runs, summed over the points of a sweep or dimensions of a scaling."""
    return int(result.attrs["runs"]) * int(result.attrs.get("points", 1))
