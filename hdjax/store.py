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
"""

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

# NetCDF knows neither complex numbers nor nested attributes.
_IMAGINARY = "__imag"


def save(ds: xr.Dataset, path: str | Path) -> Path:
    """Write a dataset to a NetCDF file, whole or not at all.

    Complex variables become two real ones, and attributes that NetCDF cannot hold become text;
    `load` puts complex variables together again.

    Args:
        ds: any dataset.
        path: the file; its directory is made.

    Returns:
        The path.

    Raises:
        OSError: the file cannot be written.

    Example:
        >>> save(result.data, "results/result.nc")  # doctest: +SKIP
    """
    flat = _without_complex(ds)
    flat = flat.assign_attrs({name: _plain(value) for name, value in ds.attrs.items()})
    for name, variable in flat.variables.items():
        plain = {key: _plain(value) for key, value in variable.attrs.items()}
        flat[name].attrs = plain
    return _atomic(Path(path), lambda file: flat.to_netcdf(file, engine="h5netcdf"))


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
    except (OSError, ValueError) as error:
        raise ValueError(f"path: {str(path)!r} is no NetCDF file: {error}") from None
    for name in [str(name) for name in ds.variables if str(name).endswith(_IMAGINARY)]:
        real = name.removesuffix(_IMAGINARY)
        ds[real] = (ds[real] + 1j * ds[name]).assign_attrs(ds[real].attrs)
        ds = ds.drop_vars(name)
    return ds


def save_summary(ds: xr.Dataset, path: str | Path) -> Path:
    """Write `summary` of a result as JSON, whole or not at all; returns the path."""
    text = json.dumps(summary(ds), indent=1, allow_nan=False) + "\n"
    return _atomic(Path(path), lambda file: file.write_text(text))


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


def _atomic(path: Path, write: Callable[[Path], Any]) -> Path:
    """Write beside `path` and rename: an interrupt leaves the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        write(part)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return path
