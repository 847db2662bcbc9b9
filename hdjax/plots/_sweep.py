"""Sweeps: lines over one axis, a heat map over two."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize

from hdjax.names import entry_dims
from hdjax.plots import _curves
from hdjax.plots._style import (
    BLACK,
    BLUE,
    Extent,
    dress,
    is_log_spaced,
    label_few_ticks,
    legend,
    pretty,
    spans_decades,
)
from hdjax.times import record_at

_VALUES = ("mean", "limit", "std", "sup_error")
_MOST_LETTERS = 36  # of all names on an axis side by side


def draw(
    ds: xr.Dataset,
    statistic: str,
    ax: Axes,
    *,
    value: str | None = None,
    time: float | None = None,
    select: Mapping[str, Any] | None = None,
    index: _curves.Index = None,
    **options: Any,
) -> None:
    """Draw a statistic at one time over the axes that are not selected."""
    ds = _selected(ds, select or {})
    axes = [axis for axis in json.loads(ds.attrs["axes"]) if axis in ds.dims]
    if not axes:
        _curves.draw(ds, statistic, ax, index=index, **options)
        return
    if options:
        raise ValueError(f"{', '.join(options)}: allowed for curves, with every axis selected")
    if len(axes) > 2:
        raise ValueError(
            f"select: axes {', '.join(axes)} are left; allowed: at most two, select the others"
        )
    value = value or ("mean" if f"{statistic}_mean" in ds else "limit")
    if value not in _VALUES:
        raise ValueError(f"value: {value!r}; allowed: {', '.join(_VALUES)}")
    ds = _entry(ds, statistic, index)
    name = f"{statistic}_{value}"
    if name not in ds:
        raise ValueError(f"value: {value!r}; the result has no {name}")
    ds = _at(_bounded(ds, statistic), time)
    label = _label(ds, statistic, value, index)
    (_lines if len(axes) == 1 else _heat_map)(ds, statistic, axes, value, label, ax)


def groups(ds: xr.Dataset) -> list[xr.Dataset]:
    """The parts of a sweep over one axis of names "group: point", each with its group as axis."""
    axes = json.loads(ds.attrs["axes"]) if ds.attrs["kind"] == "sweep" else []
    if len(axes) != 1 or ds[axes[0]].dtype.kind in "iuf":
        return []
    (axis,) = axes
    names = [str(name).split(": ", 1) for name in ds[axis].values]
    if not all(len(name) == 2 for name in names):
        return []
    parts = []
    for group in dict.fromkeys(name[0] for name in names):
        members = [i for i, name in enumerate(names) if name[0] == group]
        part = ds.isel({axis: members}).assign_coords({axis: [names[i][1] for i in members]})
        part = part.rename({axis: group})
        parts.append(part.assign_attrs(axes=json.dumps([group])))
    return parts


def _selected(ds: xr.Dataset, select: Mapping[str, Any]) -> xr.Dataset:
    axes = json.loads(ds.attrs["axes"])
    for axis, value in select.items():
        if axis not in axes:
            raise ValueError(f"select: {axis!r}; allowed: {', '.join(axes)}")
        values = ds[axis].values
        near = values == value
        if values.dtype.kind in "iuf" and isinstance(value, int | float):
            near = np.isclose(values, value, rtol=1e-9, atol=0)
        if not near.any():
            listed = ", ".join(str(v) for v in values)
            raise ValueError(f"select: {axis} = {value!r}; allowed: {listed}")
        ds = ds.isel({axis: int(np.argmax(near))})
    return ds


def _entry(ds: xr.Dataset, statistic: str, index: _curves.Index) -> xr.Dataset:
    dims = entry_dims(ds.dims, statistic)
    if not dims:
        return ds
    chosen = (index,) if isinstance(index, int) else index
    shape = tuple(ds.sizes[dim] for dim in dims)
    if chosen is None or len(chosen) != len(dims):
        raise ValueError(f"index: {index}; allowed: an entry of shape {shape}")
    return ds.isel(dict(zip(dims, chosen, strict=True)))


def _at(ds: xr.Dataset, time: float | None) -> xr.Dataset:
    """The record of nominal time `time`, or the last one."""
    return ds.isel(time=-1 if time is None else record_at(ds["time"].values, time, "time"))


def _bounded(ds: xr.Dataset, statistic: str) -> xr.Dataset:
    """The same numbers, NaN where the statistic has diverged without being counted as such."""
    names = [n for n in (f"{statistic}_mean", f"{statistic}_limit") if n in ds]
    extent = Extent([ds[name].transpose(..., "time").values for name in names])
    parts = [f"{statistic}_{part}" for part in (*_VALUES, "quantile")]
    return ds.assign({n: ds[n].where(np.abs(ds[n]) <= extent.ceiling) for n in parts if n in ds})


def _value(ds: xr.Dataset, statistic: str, value: str) -> xr.DataArray:
    """A number for each point, NaN where no run stayed finite."""
    data = ds[f"{statistic}_{value}"]
    if "run" in data.dims:
        good = data.notnull().any("run")
        data = data.where(good, 0.0)
        data = (data.median("run") if value == "sup_error" else data.mean("run")).where(good)
    return data


def _label(ds: xr.Dataset, statistic: str, value: str, index: _curves.Index) -> str:
    name = ds[f"{statistic}_{value}"].attrs.get("long_name", statistic)
    if index is not None:
        name += f" {np.atleast_1d(index).tolist()}"
    if value == "sup_error":
        return f"median of sup over t of |run − limit|,\n{name}"
    prefix = {"mean": "", "limit": "limit of ", "std": "standard deviation of "}[value]
    return f"{prefix}{name} at t = {float(ds['time']):.4g}"


def _positions(values: np.ndarray) -> tuple[np.ndarray, bool]:
    """Where the grid points stand on an axis, and whether it is one of numbers."""
    if values.dtype.kind in "iuf":
        return values.astype(float), True
    return np.arange(len(values), dtype=float), False


def _ticks(ax: Axes, which: str, values: np.ndarray, numeric: bool) -> None:
    axis = ax.xaxis if which == "x" else ax.yaxis
    logarithmic = numeric and is_log_spaced(values)
    if logarithmic:
        getattr(ax, f"set_{which}scale")("log")
    if not numeric:
        names = [str(value).replace("_", " ") for value in values]
        axis.set_ticks(range(len(values)), labels=names)
        if which == "x" and sum(len(name) for name in names) > _MOST_LETTERS:
            ax.tick_params(axis="x", labelrotation=30)
    else:
        label_few_ticks(axis, values.astype(float), logarithmic)


def _lines(
    ds: xr.Dataset, statistic: str, axes: list[str], value: str, label: str, ax: Axes
) -> None:
    (axis,) = axes
    values = ds[axis].values
    x, numeric = _positions(values)
    centre = _value(ds, statistic, value).values
    names = {"sup_error": "median over the runs", "limit": "limit"}
    name = names.get(value, f"{value} of {ds.attrs['runs']} runs")
    colour = BLACK if value == "limit" else BLUE
    joined = "-" if numeric else "none"
    ax.plot(x, centre, color=colour, linestyle=joined, marker="o", markersize=4, label=name)
    drawn = [centre]
    if value == "mean":
        low, high = (
            ds[f"{statistic}_quantile"].isel(quantile=[0, -1]).transpose("quantile", ...).values
        )
        band: dict[str, Any] = {"color": BLUE, "label": "5–95 % of the runs"}
        if numeric:
            ax.fill_between(x, low, high, alpha=0.2, linewidth=0, **band)
        else:
            ax.vlines(x, low, high, alpha=0.4, linewidth=4, **band)
        drawn.append(low)
        if f"{statistic}_limit" in ds:
            limit = _value(ds, statistic, "limit").values
            dashed = "--" if numeric else "none"
            ax.plot(x, limit, color=BLACK, ls=dashed, marker="x", ms=5, lw=1.3, label="limit")
            drawn.append(limit)
    if spans_decades(*drawn):
        ax.set_yscale("log")
    _ticks(ax, "x", values, numeric)
    dress(ax, axis.replace("_", " "), label)
    legend(ax, _divergence(ds, axis))


def _divergence(ds: xr.Dataset, axis: str) -> list[str]:
    if "diverged_at" not in ds:
        return []
    bad = ds["diverged_at"].notnull().sum("run").values
    total = ds.sizes["run"]
    values = ds[axis].values
    points = [f"{n} of {total} at {v}" for v, n in zip(values, bad, strict=True) if n]
    return [f"runs that diverged: {', '.join(points)}"] if points else []


def _heat_map(
    ds: xr.Dataset, statistic: str, axes: list[str], value: str, label: str, ax: Axes
) -> None:
    down, across = axes
    data = _value(ds, statistic, value).transpose(down, across).values
    norm = LogNorm() if spans_decades(data) else Normalize()
    edges = []
    for axis in (across, down):
        position, numeric = _positions(ds[axis].values)
        edges.append(_edges(position, numeric and is_log_spaced(position)))
    mesh = ax.pcolormesh(*edges, np.ma.masked_invalid(data), cmap="viridis", norm=norm)
    figure: Any = ax.get_figure(root=True)
    bar = figure.colorbar(mesh, ax=ax)
    bar.set_label(pretty(label), fontsize=9)
    bar.ax.tick_params(labelsize=8)
    for which, axis in (("x", across), ("y", down)):
        values = ds[axis].values
        _ticks(ax, which, values, values.dtype.kind in "iuf")
    dress(ax, across.replace("_", " "), down.replace("_", " "))
    ax.grid(False)
    if not np.isfinite(data).all():
        ax.patch.set(hatch="////", edgecolor="0.7", facecolor="0.95")
        gaps = ~np.isfinite(data) & _gaps(ds, statistic, axes)
        whys = {"diverged": not (np.isfinite(data) | gaps).all(), "not finite": gaps.any()}
        legend(ax, [f"hatched: {' or '.join(why for why, found in whys.items() if found)}"])


def _gaps(ds: xr.Dataset, statistic: str, axes: list[str]) -> np.ndarray:
    """The points at which runs have not diverged, but none has a finite statistic."""
    if f"{statistic}_count" not in ds:
        return np.array(False)
    return ((ds[f"{statistic}_count"] == 0) & (ds["count"] > 0)).transpose(*axes).values


def _edges(centres: np.ndarray, logarithmic: bool) -> np.ndarray:
    """Borders of the cells round increasing or decreasing centres."""
    if len(centres) == 1:
        return np.array([centres[0] - 0.5, centres[0] + 0.5])
    points = np.log(centres) if logarithmic else centres
    middle = (points[1:] + points[:-1]) / 2
    edges = np.concatenate([[2 * points[0] - middle[0]], middle, [2 * points[-1] - middle[-1]]])
    return np.exp(edges) if logarithmic else edges
