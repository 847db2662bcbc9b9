"""Figures of a sweep at one time: lines over one axis, or a heat map over two."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize

from hdjax import reading, reductions
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
# Labels on an axis are rotated if they have more letters together than this.
_MOST_LETTERS = 36


def draw(
    result: xr.DataTree,
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
    result = _selected(result, select or {})
    axes = list(reading.axes(result))
    if not axes:
        _curves.draw(result, statistic, ax, index=index, **options)
        return
    if options:
        rule = "curves only, with every axis selected"
        raise ValueError(f"options: {', '.join(options)}; allowed for {rule}")
    if len(axes) > 2:
        raise ValueError(
            f"select: the axes {', '.join(axes)} are left; allowed: at most two (select the others)"
        )
    value = value or ("mean" if reading.has(result, "mean", statistic) else "limit")
    if value not in _VALUES:
        raise ValueError(f"value: {value!r}; allowed: {', '.join(_VALUES)}")
    if not reading.has(result, value, statistic):
        has = [name for name in _VALUES if reading.has(result, name, statistic)]
        raise ValueError(f"value: {value!r}; allowed for {statistic}: {', '.join(has)}")
    point = _Point(result, statistic, index, time)
    (_lines if len(axes) == 1 else _heat_map)(point, axes, value, ax)


def groups(result: xr.DataTree) -> list[xr.DataTree]:
    """The parts of a sweep over one axis with labels "group: point", one for each group.

    The axis of a part has the name of the group, and its labels are the points.  The list is empty
    for any other result.
    """
    axes = reading.axes(result) if result.attrs["kind"] == "sweep" else {}
    if len(axes) != 1 or reading.labels(result, next(iter(axes))).dtype.kind in "iuf":
        return []
    (axis,) = axes
    names = [str(name).split(": ", 1) for name in reading.labels(result, axis)]
    if not all(len(name) == 2 for name in names):
        return []
    parts = []
    for group in dict.fromkeys(name[0] for name in names):
        members = [i for i, name in enumerate(names) if name[0] == group]
        parts.append(reading.relabel(result, axis, members, group, [names[i][1] for i in members]))
    return parts


def _selected(result: xr.DataTree, select: Mapping[str, Any]) -> xr.DataTree:
    points = {}
    for axis, value in select.items():
        if axis not in reading.axes(result):
            raise ValueError(f"select: {axis!r}; allowed: {', '.join(reading.axes(result))}")
        values = reading.labels(result, axis)
        near = values == value
        if values.dtype.kind in "iuf" and isinstance(value, int | float):
            near = np.isclose(values, value, rtol=1e-9, atol=0)
        if not near.any():
            listed = ", ".join(str(v) for v in values)
            raise ValueError(f"select: {axis} = {value!r}; allowed: {listed}")
        points[axis] = int(np.argmax(near))
    return reading.select(result, points)


class _Point:
    """One entry of a statistic at one time, as a function of the axes of a sweep.

    Attributes:
        result: the tree of the sweep.
        record: the position of the record.
        time: the nominal time of the record.
    """

    def __init__(
        self, result: xr.DataTree, statistic: str, index: _curves.Index, time: float | None
    ):
        """Choose the record of nominal time `time`; None: the last record."""
        times = reading.times(result)
        self.record = -1 if time is None else record_at(times, time, "time")
        self.result, self.time = result, float(times[self.record])
        self._statistic, self._index = statistic, index
        curves = [self._entry(group) for group in ("mean", "limit") if self.has(group)]
        # Values beyond the ceiling have diverged, although no code says so, and are not shown.
        self._ceiling = Extent([c.transpose(..., "time").values for c in curves]).ceiling

    def has(self, group: str) -> bool:
        """Whether the result has this group of the statistic."""
        return reading.has(self.result, group, self._statistic)

    def get(self, group: str) -> xr.DataArray:
        """The values of a group, reduced over the runs; NaN where no run stayed finite."""
        data = self._entry(group)
        if group != "count":
            data = data.where(np.abs(data) <= self._ceiling)
        data = data.isel(time=self.record) if "time" in data.dims else data
        return reductions.over_runs(data, np.nanmedian if group == "sup_error" else np.nanmean)

    def label(self, group: str) -> str:
        """The label of the values of a group, for readers."""
        name = _curves.label_of(
            reading.variable(self.result, group, self._statistic), self._statistic
        )
        if self._index is not None:
            name += f" {np.atleast_1d(self._index).tolist()}"
        if group == "sup_error":
            return f"median of sup over t of |run − limit|,\n{name}"
        prefix = {"mean": "", "limit": "limit of ", "std": "standard deviation of "}[group]
        return f"{prefix}{name} at t = {self.time:.4g}"

    def _entry(self, group: str) -> xr.DataArray:
        data = _curves.real(reading.variable(self.result, group, self._statistic))
        dims = reading.entries(self.result, data)
        if not dims:
            return data
        chosen = (self._index,) if isinstance(self._index, int) else self._index
        shape = tuple(data.sizes[dim] for dim in dims)
        if chosen is None or len(chosen) != len(dims):
            raise ValueError(f"index: {self._index}; allowed: an entry of shape {shape}")
        return data.isel(dict(zip(dims, chosen, strict=True)))


def _positions(values: np.ndarray) -> tuple[np.ndarray, bool]:
    """The positions of grid points on an axis, and whether their labels are numbers."""
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


def _lines(point: _Point, axes: list[str], value: str, ax: Axes) -> None:
    (axis,) = axes
    values = reading.labels(point.result, axis)
    x, numeric = _positions(values)
    centre = point.get(value).values
    names = {"sup_error": "median over the runs", "limit": "limit"}
    name = names.get(value, f"{value} of {point.result.attrs['runs']} runs")
    colour = BLACK if value == "limit" else BLUE
    joined = "-" if numeric else "none"
    ax.plot(x, centre, color=colour, linestyle=joined, marker="o", markersize=4, label=name)
    drawn = [centre]
    if value == "mean":
        quantiles = point.get("quantile").isel(quantile=[0, -1])
        low, high = quantiles.transpose("quantile", ...).values
        band: dict[str, Any] = {"color": BLUE, "label": "5–95 % of the runs"}
        if numeric:
            ax.fill_between(x, low, high, alpha=0.2, linewidth=0, **band)
        else:
            ax.vlines(x, low, high, alpha=0.4, linewidth=4, **band)
        drawn.append(low)
        if point.has("limit"):
            limit = point.get("limit").values
            dashed = "--" if numeric else "none"
            ax.plot(x, limit, color=BLACK, ls=dashed, marker="x", ms=5, lw=1.3, label="limit")
            drawn.append(limit)
    if spans_decades(*drawn):
        ax.set_yscale("log")
    _ticks(ax, "x", values, numeric)
    dress(ax, axis.replace("_", " "), point.label(value))
    legend(ax, _divergence(point.result, values))


def _divergence(result: xr.DataTree, values: np.ndarray) -> list[str]:
    ends = reading.ended(result)
    bad = np.isfinite(ends).sum(axis=-1) if ends.size else np.zeros(len(values), int)
    points = [f"{n} of {ends.shape[-1]} at {v}" for v, n in zip(values, bad, strict=True) if n]
    return [f"runs that diverged: {', '.join(points)}"] if points else []


def _heat_map(point: _Point, axes: list[str], value: str, ax: Axes) -> None:
    down, across = axes
    dims = [reading.axes(point.result)[axis] for axis in axes]
    data = point.get(value).transpose(*dims).values
    norm = LogNorm() if spans_decades(data) else Normalize()
    edges = []
    for axis in (across, down):
        position, numeric = _positions(reading.labels(point.result, axis))
        edges.append(_edges(position, numeric and is_log_spaced(position)))
    mesh = ax.pcolormesh(*edges, np.ma.masked_invalid(data), cmap="viridis", norm=norm)
    figure: Any = ax.get_figure(root=True)
    bar = figure.colorbar(mesh, ax=ax)
    bar.set_label(pretty(point.label(value)), fontsize=9)
    bar.ax.tick_params(labelsize=8)
    for which, axis in (("x", across), ("y", down)):
        values = reading.labels(point.result, axis)
        _ticks(ax, which, values, values.dtype.kind in "iuf")
    dress(ax, across.replace("_", " "), down.replace("_", " "))
    ax.grid(False)
    if not np.isfinite(data).all():
        ax.patch.set(hatch="////", edgecolor="0.7", facecolor="0.95")
        gaps = ~np.isfinite(data) & _gaps(point, dims)
        whys = {"diverged": not (np.isfinite(data) | gaps).all(), "not finite": gaps.any()}
        legend(ax, [f"hatched: {' or '.join(why for why, found in whys.items() if found)}"])


def _gaps(point: _Point, dims: list[str]) -> np.ndarray:
    """The points at which some runs have not ended, but none has a finite statistic."""
    if not point.has("count"):
        return np.array(False)
    alive = reading.variable(point.result, "codes", "alive").isel(time=point.record)
    return ((point.get("count") == 0) & (alive > 0)).transpose(*dims).values


def _edges(centres: np.ndarray, logarithmic: bool) -> np.ndarray:
    """The borders of cells whose centres increase or decrease."""
    if len(centres) == 1:
        return np.array([centres[0] - 0.5, centres[0] + 0.5])
    points = np.log(centres) if logarithmic else centres
    middle = (points[1:] + points[:-1]) / 2
    edges = np.concatenate([[2 * points[0] - middle[0]], middle, [2 * points[-1] - middle[-1]]])
    return np.exp(edges) if logarithmic else edges
