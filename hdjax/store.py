"""Results on disk: the dataset as NetCDF, and a JSON summary that other programs can rely on.

`summary.json` of a simulation, a limit or a comparison:

    {"family": str, "config": {...} or null, "versions": {...}, "device": str, "runs": int,
     "times": [...], "recorded_times": [...],
     "statistics": {NAME: {"limit", "mean", "std", "predicted_std": [...] over times,
                           "sup_error": median over the runs}},
     "path": {NAME: {"median", "mean", "std": over the runs, "limit"}},
     "expect": [{"rule": str, "value": number, "passed": bool}],
     "seconds": {"compile", "simulate", "limit"}}

"times" are the nominal ones, which were asked for, and "recorded_times" those of the algorithm's
clock, k/d.  Vectors and matrices are nested lists within a time.  What does not exist, or is not
finite, is null.  With a limit from each run's realised start, "limit" is the mean over the finite
ones (of a path statistic the median).

A sweep has "axes": {NAME: [values]} besides, and every number above becomes a list nested over the
axes.  A scaling has "dimensions": [...] in the place of "times", and statistics {"sup_error":
[median over the runs at each dimension], "exponent": x, "exponent_interval": [low, high]}.

A file appears under its name whole or not at all, and no result is lost to another: `save_result`
replaces one only when it is told to, and never by an interrupted one that holds less.
"""

import itertools
import json
import os
import tempfile
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

# The files of a result in its directory.
RESULT, SUMMARY, FIGURE = FILES = ("result.nc", "summary.json", "figure.png")
# NetCDF knows neither complex numbers nor nested attributes.
_IMAGINARY = "__imag"
# What `summary` and figures ask of a dataset, and other programs' files do not have.
_ATTRIBUTES = ("kind", "family", "statistics", "runs", "device", "interrupted")
# The coordinate of each kind of result.
_COORDINATES: dict[str, str] = {
    **dict.fromkeys(("simulate", "limit", "compare", "sweep"), "time"),
    "scaling": "dimension",
}


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


def save_result(ds: xr.Dataset, directory: str | Path, force: bool = False) -> Path:
    """Write `result.nc` and `summary.json` of a result.

    Args:
        ds: a result's dataset.
        directory: where to write; it is made.
        force: whether a result that is there may be replaced.

    Returns:
        The directory.

    Raises:
        FileExistsError: there is a result, and no `force`; or `ds` was interrupted and holds fewer
            runs than the result that is there (over all points of a sweep, all dimensions of a
            scaling).
        OSError: a file cannot be written.

    Example:
        >>> save_result(result.data, "results/mine")  # doctest: +SKIP
    """
    directory = Path(directory)
    _refuse_to_replace(directory, force, ds)
    save(ds, directory / RESULT)
    save_summary(ds, directory / SUMMARY)
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


def load_result(path: str | Path) -> xr.Dataset:
    """Read the dataset of a result: a NetCDF file, or the directory that holds `result.nc`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is no NetCDF file, or holds no result of this package.

    Example:
        >>> load_result("results/mine")["risk_mean"]  # doctest: +SKIP
    """
    path = Path(path)
    ds = load(path / RESULT if path.is_dir() else path)
    missing = _missing(ds)
    if missing:
        raise ValueError(f"path: {str(path)!r} has no {missing}; allowed: a result of hdjax")
    return ds


def _missing(ds: xr.Dataset) -> str:
    """What a dataset lacks of a result; empty if nothing."""
    for name in _ATTRIBUTES:
        if name not in ds.attrs:
            return f"attribute {name!r}"
    coordinate = _COORDINATES.get(str(ds.attrs["kind"]))
    if coordinate is None:
        return f"kind of result: {ds.attrs['kind']}"
    if coordinate not in ds.coords:
        return f"coordinate {coordinate!r}"
    try:
        statistics = json.loads(str(ds.attrs["statistics"]))
    except ValueError:
        statistics = None
    if not isinstance(statistics, list) or not statistics:
        return "list of statistics"
    curves = ("_mean", "_limit", "_sup_error")
    lost = [s for s in statistics if not any(f"{s}{curve}" in ds for curve in curves)]
    return f"variable of {lost[0]!r}" if lost else ""


def save(ds: xr.Dataset, path: str | Path) -> Path:
    """Write a dataset to a NetCDF file, whole or not at all.

    Complex variables become two real ones, and attributes that NetCDF cannot hold become text;
    `load` puts complex variables together again.

    Args:
        ds: any dataset.
        path: the file; its directory is made.

    The file is made in memory first: HDF5 does not survive a disk that is full.

    Returns:
        The path.

    Raises:
        OSError: the file cannot be written; what was there is left as it was.

    Example:
        >>> save(result.data, "results/result.nc")  # doctest: +SKIP
    """
    flat = _without_complex(ds)
    flat = flat.assign_attrs({name: _plain(value) for name, value in ds.attrs.items()})
    for name, variable in flat.variables.items():
        plain = {key: _plain(value) for key, value in variable.attrs.items()}
        flat[name].attrs = plain
    return write(path, flat.to_netcdf(engine="h5netcdf"))


def load(path: str | Path) -> xr.Dataset:
    """Read a dataset that `save` wrote, into memory.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is no NetCDF file.

    Example:
        >>> load("results/result.nc")["risk_mean"]  # doctest: +SKIP
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"path: no file {str(path)!r}; allowed: a result.nc")
    try:
        with xr.open_dataset(path, engine="h5netcdf") as opened:
            ds = opened.load()
    except Exception as error:
        # Damaged files make h5py raise nearly anything.
        raise ValueError(f"path: {str(path)!r} is no NetCDF file: {error}") from None
    for name in [str(name) for name in ds.variables if str(name).endswith(_IMAGINARY)]:
        real = name.removesuffix(_IMAGINARY)
        if real not in ds:
            raise ValueError(f"path: {str(path)!r} has {name!r}; allowed: with {real!r}")
        ds[real] = (ds[real] + 1j * ds[name]).assign_attrs(ds[real].attrs)
        ds = ds.drop_vars(name)
    return ds


def save_summary(ds: xr.Dataset, path: str | Path) -> Path:
    """Write `summary` of a result as JSON, whole or not at all; returns the path."""
    text = json.dumps(summary(ds), indent=1, allow_nan=False) + "\n"
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


def summary(ds: xr.Dataset) -> dict[str, Any]:
    """The result in plain numbers, lists and text; see the module for its layout.

    Args:
        ds: a result's dataset; its attribute "expect" (JSON), if any, goes in as it is.

    Example:
        >>> summary(result.data)["statistics"]["risk"]["limit"][-1]  # doctest: +SKIP
    """
    attrs = ds.attrs
    scaling = attrs["kind"] == "scaling"
    axes = {axis: _listed(ds[axis].values) for axis in _json(attrs, "axes", [])}
    content = {
        "family": attrs["family"],
        "config": _json(attrs, "config", None),
        "versions": _json(attrs, "versions", {}),
        "device": attrs["device"],
        "runs": int(attrs["runs"]),
    }
    if scaling:
        content["dimensions"] = _listed(ds["dimension"].values)
    else:
        content["times"] = _listed(ds["time"].values)
        if "recorded_time" in ds:
            content["recorded_times"] = _listed(ds["recorded_time"].values)
    if axes:
        content["axes"] = axes
    describe = _scaling_statistic if scaling else _statistic
    content["statistics"] = {name: describe(ds, name) for name in _json(attrs, "statistics", [])}
    content["path"] = {} if scaling else {n: _path(ds, n) for n in _json(attrs, "paths", [])}
    content["expect"] = _json(attrs, "expect", [])
    seconds = _json(attrs, "seconds", {})
    content["seconds"] = {part: seconds.get(part) for part in ("compile", "simulate", "limit")}
    return content


def _statistic(ds: xr.Dataset, name: str) -> dict[str, Any]:
    error = f"{name}_sup_error"
    return {
        "limit": _values(ds, f"{name}_limit", _mean),
        "mean": _values(ds, f"{name}_mean"),
        "std": _values(ds, f"{name}_std"),
        "predicted_std": _values(ds, f"{name}_predicted_std"),
        "sup_error": _values(ds, error),
    }


def _scaling_statistic(ds: xr.Dataset, name: str) -> dict[str, Any]:
    return {
        "sup_error": _values(ds, f"{name}_median"),
        "exponent": _values(ds, f"{name}_exponent"),
        "exponent_interval": _values(ds, f"{name}_exponent_interval"),
    }


def _path(ds: xr.Dataset, name: str) -> dict[str, Any]:
    found: dict[str, Any] = {"median": None, "mean": None, "std": None}
    if f"path_{name}" in ds:
        runs = ds[f"path_{name}"]
        # A level that some runs never reach has an infinite mean, but a median.
        with np.errstate(invalid="ignore"):
            found["median"] = _listed(_median(runs).values)
            found["mean"] = _listed(runs.mean("run").values)
            found["std"] = (
                _listed(runs.std("run", ddof=1).values) if runs.sizes["run"] > 1 else None
            )
    return {**found, "limit": _values(ds, f"path_{name}_limit")}


def _median(runs: xr.DataArray) -> xr.DataArray:
    """Median over the runs that have a number; NaN where none has."""
    some = runs.notnull().any("run")
    return runs.where(some, 0.0).median("run").where(some)


def _mean(runs: xr.DataArray) -> xr.DataArray:
    """Mean over the runs that have a number; NaN where none has."""
    some = runs.notnull().any("run")
    return runs.where(some, 0.0).mean("run").where(some)


def _values(
    ds: xr.Dataset, name: str, over_runs: Callable[[xr.DataArray], xr.DataArray] = _median
) -> Any:
    if name not in ds:
        return None
    return _listed((over_runs(ds[name]) if "run" in ds[name].dims else ds[name]).values)


def _listed(values: np.ndarray) -> Any:
    """Nested lists, with None for what JSON has no number for."""
    if values.dtype.kind != "f":
        return values.tolist()
    plain = values.astype(object)
    plain[~np.isfinite(values)] = None
    return plain.tolist()


def _json(attrs: Mapping[str, Any], name: str, default: Any) -> Any:
    text = attrs.get(name, "")
    return json.loads(text) if text else default


def _without_complex(ds: xr.Dataset) -> xr.Dataset:
    names = [str(name) for name, value in ds.variables.items() if value.dtype.kind == "c"]
    parts = {name: ds[name].real.assign_attrs(ds[name].attrs) for name in names}
    parts |= {name + _IMAGINARY: ds[name].imag for name in names}
    return ds.assign(parts)


def _plain(value: Any) -> Any:
    """What a NetCDF attribute can hold."""
    if isinstance(value, bool | np.bool_):
        return int(value)
    if value is None:
        return ""
    if isinstance(value, dict | list | tuple):
        return json.dumps(value, default=str)
    return value if isinstance(value, str | int | float | np.number | np.ndarray) else str(value)


def _refuse_to_replace(directory: Path, force: bool, new: xr.Dataset | None = None) -> None:
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


def _finished_runs(ds: xr.Dataset) -> int:
    """Runs that were finished, over all points of a sweep and all dimensions of a scaling."""
    parts = ds.sizes["dimension"] if ds.attrs["kind"] == "scaling" else ds.attrs.get("points", 1)
    return int(ds.attrs["runs"]) * int(parts)
