"""Results on disk: the tree as NetCDF, and a JSON summary that other programs can rely on.

`result.nc` holds the groups of the tree (`hdjax.layout`) as groups of one file, which any program
that knows NetCDF 4 reads.  A complex variable has a last dimension more, `complex`, with its real
and imaginary part, and an attribute `complex` that says so.  Attributes that are no text, number
or array are written as JSON, and `json_attributes` names them.

`summary.json` of a simulation, a limit or a comparison:

    {"family": str, "config": {...} or null, "versions": {...}, "device": str, "runs": int,
     "times": [...], "recorded_times": [...],
     "statistics": {NAME: {"limit", "mean", "std", "predicted_std": [...] over times,
                           "sup_error": median over the runs}},
     "path": {NAME: {"median", "mean", "std": over the runs, "limit"}},
     "expect": [{"rule": str, "value": number, "passed": bool}],
     "seconds": {"compile", "simulate", "limit"}}

"times" are the nominal ones, which were asked for, and "recorded_times" those of the algorithm's
clock, k/d.  Vectors and matrices are nested lists within a time, and a complex number is a list of
its real and imaginary part.  What does not exist, or is not finite, is null.  With a limit from
each run's realised start, "limit" is the mean over the finite ones (of a path statistic the
median).

A sweep has "axes": {NAME: [values]} besides, and every number above becomes a list nested over the
axes.  A scaling has "dimensions": [...] in the place of "times", and statistics {"sup_error":
[median over the runs at each dimension], "exponent": x, "exponent_interval": [low, high]}.

A file appears under its name whole or not at all, and no result is lost to another: `save_result`
replaces one only when it is told to, and never by an interrupted one that holds less.
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

from hdjax import layout

# The files of a result in its directory.
RESULT, SUMMARY, FIGURE = FILES = ("result.nc", "summary.json", "figure.png")
# What `summary` and figures ask of a tree, and other programs' files do not have.
_ATTRIBUTES = ("kind", "family", "statistics", "paths", "runs", "device", "interrupted", "axes")
# An attribute of complex variables, and of what has attributes in JSON.
_COMPLEX, _JSON = "complex", "json_attributes"


def prepare(directory: str | Path, force: bool = False) -> Path:
    """Make a directory for a result; call this before anything is computed.

    Args:
        directory: where `save_result` will write.
        force: whether a result that is there may be replaced.

    Returns:
        The directory.

    Raises:
        FileExistsError: there is a result, and no `force`.
        OSError: nothing can be written there.

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
        result: a result's tree.
        directory: where to write; it is made.
        force: whether a result that is there may be replaced.

    Returns:
        The directory.

    Raises:
        FileExistsError: there is a result, and no `force`; or `result` was interrupted and holds
            fewer runs than the one that is there (over all points of a sweep, all dimensions of a
            scaling).
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
    """A new directory within `directory`, for a result that must not replace the one there.

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
    """Read the tree of a result: a NetCDF file, or the directory that holds `result.nc`.

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
    """What a tree lacks of a result; empty if nothing."""
    for name in _ATTRIBUTES:
        if name not in result.attrs:
            return f"attribute {name!r}"
    attrs = result.attrs
    if attrs["kind"] not in layout.KINDS:
        return f"kind of result: {attrs['kind']}"
    statistics = attrs["statistics"]
    if not isinstance(statistics, list) or not statistics:
        return "list of statistics"
    if attrs["kind"] == "scaling" and "dimension" not in attrs["axes"]:
        return "axis 'dimension'"
    curves = ("mean", "limit", "sup_error_median")
    for name in statistics:
        if not any(layout.has(result, group, name) for group in curves):
            return f"variable of {name!r}"
    return ""


def save(tree: xr.DataTree, path: str | Path) -> Path:
    """Write a tree to a NetCDF file, whole or not at all; `load` gives back what it was.

    Args:
        tree: any tree.
        path: the file; its directory is made.

    The file is made in memory first: HDF5 does not survive a disk that is full.

    Returns:
        The path.

    Raises:
        OSError: the file cannot be written; what was there is left as it was.

    Example:
        >>> save(result.tree, "results/result.nc")  # doctest: +SKIP
    """
    nodes = {node.path: _to_file(node.to_dataset(inherit=False)) for node in tree.subtree}
    return write(path, xr.DataTree.from_dict(nodes).to_netcdf(engine="h5netcdf"))


def load(path: str | Path) -> xr.DataTree:
    """Read a tree that `save` wrote, into memory.

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
        # Damaged files make h5py raise nearly anything.
        raise ValueError(f"path: {str(path)!r} is no NetCDF file: {error}") from None


def _to_file(ds: xr.Dataset) -> xr.Dataset:
    """A group without complex numbers, and with attributes that NetCDF can hold."""
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
    """The group that `_to_file` made `ds` of."""
    ds = ds.drop_encoding()
    ds.attrs = _from_json(ds.attrs)
    for name, variable in list(ds.variables.items()):
        ds[name].attrs = attrs = _from_json(variable.attrs)
        if attrs.pop(_COMPLEX, None) is not None:
            # Not real + 1j * imaginary, which makes NaN of infinite parts.
            parts = np.ascontiguousarray(variable.values)
            values = parts.view(np.result_type(parts.dtype, np.complex64))[..., 0]
            ds[name] = (variable.dims[:-1], values, attrs)
    return ds


def _to_json(attrs: Mapping[Any, Any]) -> dict[Any, Any]:
    """Attributes with text in the place of what NetCDF cannot hold."""
    plain = {name: value for name, value in attrs.items() if _is_plain(value)}
    others = {
        name: json.dumps(value, default=str) for name, value in attrs.items() if name not in plain
    }
    return plain | others | ({_JSON: json.dumps(list(others))} if others else {})


def _from_json(attrs: Mapping[Any, Any]) -> dict[Any, Any]:
    """The attributes that `_to_json` made `attrs` of."""
    encoded = json.loads(attrs.get(_JSON, "[]"))
    found = {name: json.loads(v) if name in encoded else v for name, v in attrs.items()}
    found.pop(_JSON, None)
    return found


def _is_plain(value: Any) -> bool:
    """Whether a NetCDF attribute can hold a value."""
    if isinstance(value, np.ndarray):
        return value.dtype.kind in "iuf" and value.ndim == 1
    if isinstance(value, str):
        return not re.search("[\0\ud800-\udfff]", value)
    return isinstance(value, int | float | np.number) and not isinstance(value, bool | complex)


def save_summary(result: xr.DataTree, path: str | Path) -> Path:
    """Write `summary` of a result as JSON, whole or not at all; returns the path."""
    text = json.dumps(summary(result), indent=1, allow_nan=False, default=str) + "\n"
    return write(path, text.encode())


def write(path: str | Path, content: bytes | memoryview) -> Path:
    """Write a file, whole or not at all, and make its directory.

    Args:
        path: the file, which is replaced.
        content: its bytes.

    Returns:
        The path.

    Raises:
        OSError: the file cannot be written; what was there is left as it was.

    Example:
        >>> write("new/numbers.txt", b"1 2 3").read_bytes()
        b'1 2 3'
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Containers share process numbers and threads share a process: the name is nobody else's.
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
    """The result in plain numbers, lists and text; see the module for its layout.

    Args:
        result: a result's tree; its attribute "expect" goes in as it is.

    Example:
        >>> summary(result.tree)["statistics"]["risk"]["limit"][-1]  # doctest: +SKIP
    """
    attrs = result.attrs
    scaling = attrs["kind"] == "scaling"
    axes = {axis: _listed(layout.labels(result, axis)) for axis in layout.axes(result)}
    content = {
        "family": attrs["family"],
        "config": attrs.get("config"),
        "versions": attrs.get("versions", {}),
        "device": attrs["device"],
        "runs": int(attrs["runs"]),
    }
    if scaling:
        content["dimensions"] = axes["dimension"]
    else:
        content["times"] = _listed(layout.times(result))
        content["recorded_times"] = _listed(layout.recorded_times(result))
        content |= {"axes": axes} if axes else {}
    describe = _scaling_statistic if scaling else _statistic
    content["statistics"] = {name: describe(result, name) for name in attrs["statistics"]}
    content["path"] = {} if scaling else {name: _path(result, name) for name in attrs["paths"]}
    content["expect"] = attrs.get("expect", [])
    seconds = attrs.get("seconds", {})
    content["seconds"] = {part: seconds.get(part) for part in ("compile", "simulate", "limit")}
    return content


def _statistic(result: xr.DataTree, name: str) -> dict[str, Any]:
    return {
        "limit": _values(result, "limit", name, np.nanmean),
        "mean": _values(result, "mean", name),
        "std": _values(result, "std", name),
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
    some = layout.has(result, "paths", name)
    several = some and layout.variable(result, "paths", name).sizes["run"] > 1
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
    """What a group holds of a name, one number for all runs; None if it holds nothing."""
    if not layout.has(result, group, name):
        return None
    values = layout.over_runs(layout.variable(result, group, name), reduction, **options)
    return _listed(values.values)


def _listed(values: np.ndarray) -> Any:
    """Nested lists, with None for what JSON has no number for."""
    if values.dtype.kind == "c":
        values = np.stack([np.real(values), np.imag(values)], axis=-1)
    if values.dtype.kind != "f":
        return values.tolist()
    plain = values.astype(object)
    plain[~np.isfinite(values)] = None
    return plain.tolist()


def _refuse_to_replace(directory: Path, force: bool, new: xr.DataTree | None = None) -> None:
    """The one rule of what may be replaced; see `save_result`."""
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
        raise FileExistsError(f"{error}; nobody knows what it holds") from None
    if has < had:
        raise FileExistsError(
            f"directory: {str(directory)!r} holds a result of {had} runs, this interrupted one "
            f"{has}; allowed: another directory"
        )


def _finished_runs(result: xr.DataTree) -> int:
    """Runs that were finished, over all points of a sweep and all dimensions of a scaling."""
    return int(result.attrs["runs"]) * int(result.attrs.get("points", 1))
