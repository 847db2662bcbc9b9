"""Figures of a statistic against time: runs, their mean and band, limit and predicted band."""

import dataclasses
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from hdjax import reading, reductions
from hdjax.codes import Code
from hdjax.plots._style import (
    BLACK,
    BLUE,
    CYCLE,
    ORANGE,
    Extent,
    dress,
    is_log_spaced,
    legend,
)

# The standard normal quantile of 95 %: the predicted band has the same levels as that of the runs.
_Z95 = 1.6449
_FEW = 6

Index = int | tuple[int, ...] | None


@dataclasses.dataclass
class _Curves:
    """The curves of one entry of a statistic: arrays over time, or None if there is none.

    Attributes:
        label: the index of the entry; empty for a scalar.
        count: number of runs in the mean and the band.
        runs: (run, time) the runs that stayed finite; all runs if none did.
        mean: mean over the runs.
        low: lower edge of the band.
        high: upper edge of the band.
        limits: (run, time) the limits from realised starts.
        limit: the limit, or the mean of `limits`.
        predicted: the predicted standard deviation.
        centre: the predicted mean; None: theory has the limit alone.
    """

    label: str
    count: int = 0
    runs: Any = None
    mean: Any = None
    low: Any = None
    high: Any = None
    limits: Any = None
    limit: Any = None
    predicted: Any = None
    centre: Any = None

    def values(self) -> list[np.ndarray]:
        """The curves that determine the scale of the axis."""
        runs = self.runs if self.mean is None else None
        parts = (runs, self.mean, self.low, self.high, self.limit)
        return [part for part in parts if part is not None]


def draw(
    result: xr.DataTree,
    statistic: str,
    ax: Axes,
    *,
    index: Index = None,
    runs: int = 12,
    band: str = "quantile",
    xscale: str | None = None,
    yscale: str | None = None,
) -> None:
    """Draw `statistic` over time into `ax`."""
    if band not in ("quantile", "std"):
        raise ValueError(f"band: {band!r}; allowed: 'quantile', 'std'")
    group = "runs" if reading.has(result, "runs", statistic) else "limit"
    base = reading.variable(result, group, statistic)
    dims = reading.entries(result, base)
    entries, total = _entries(base, dims, index)
    alive, notes = _divergence(result)
    if len(entries) < total:
        notes = [f"the first {len(entries)} of {total} entries", *notes]
    time = reading.times(result)
    curves = [
        _collect(result, statistic, dict(zip(dims, entry, strict=True)), alive, band)
        for entry in entries
    ]
    extent = Extent([value for part in curves for value in part.values()])

    xscale = xscale or ("log" if is_log_spaced(time) else "linear")
    # The scale is set before curves are drawn, because Matplotlib's search for the limits of the
    # axis could overflow.
    extent.fit(ax, yscale or extent.scale())
    for position, part in enumerate(curves):
        alone = len(curves) == 1
        _draw_entry(ax, time, part, runs, None if alone else CYCLE[position % len(CYCLE)], band)
    ax.set_xscale(xscale)
    if xscale == "linear" and time.size > 1:
        ax.set_xlim(time[0], time[extent.last()])
    label = label_of(base, statistic)
    if len(curves) == 1 and curves[0].label:
        label = f"{label} {curves[0].label}"
    dress(ax, result.attrs.get("time_label", "time"), label)
    styles = {}
    if len(curves) > 1 and curves[0].limit is not None and curves[0].mean is not None:
        styles = {"limit": "--"} | (
            {"predicted 5–95 %": ":"} if curves[0].predicted is not None else {}
        )
    legend(ax, notes + extent.notes, styles)


def real(values: xr.DataArray) -> xr.DataArray:
    """The numbers that are drawn: the real part of complex values, other values unchanged."""
    return values.real if np.iscomplexobj(values) else values


def label_of(values: xr.DataArray, statistic: str) -> str:
    """The label of the axis of a statistic, for readers."""
    name = values.attrs.get("long_name", statistic)
    return f"real part of {name}" if np.iscomplexobj(values) else name


def _entries(
    base: xr.DataArray, dims: list[str], index: Index
) -> tuple[list[tuple[int, ...]], int]:
    """The entries of a statistic that are drawn, and the number of different entries."""
    shape = tuple(base.sizes[dim] for dim in dims)
    if index is not None:
        chosen = (index,) if isinstance(index, int) else tuple(index)
        fits = len(chosen) == len(shape) and all(
            -size <= i < size for i, size in zip(chosen, shape, strict=True)
        )
        if not fits:
            raise ValueError(f"index: {index}; allowed: an entry of shape {shape}")
        return [tuple(i % size for i, size in zip(chosen, shape, strict=True))], 1
    entries = [tuple(int(i) for i in entry) for entry in np.ndindex(*shape)]
    values = base.values
    symmetric = len(shape) == 2 and shape[0] == shape[1]
    if symmetric and np.allclose(values, values.swapaxes(-1, -2), rtol=1e-4, equal_nan=True):
        entries = [entry for entry in entries if entry[0] <= entry[1]]
    return entries[:_FEW], len(entries)


def _divergence(result: xr.DataTree) -> tuple[np.ndarray | None, list[str]]:
    """Which kept runs stayed finite (None without runs), and notes about the runs and the limit."""
    notes = []
    if reading.has(result, "codes", "limit_code"):
        codes = np.atleast_1d(reading.variable(result, "codes", "limit_code").values)
        since = np.atleast_1d(reading.variable(result, "codes", "limit_since").values)
        for code in sorted(set(codes) - {Code.NOT_RUN, Code.FINE, Code.NOT_FINITE}):
            notes.append(f"limit: {Code(code).words} from t = {since[codes == code].min():.4g} on")
    if not reading.has(result, "codes", "code"):
        return None, notes
    at = reading.ended(result)
    alive = ~np.isfinite(at)
    if not alive.all():
        bad = at.size - alive.sum()
        first = reductions.skip_nan(np.nanmin, at, axis=None)
        left = " (not drawn)" if alive.any() else ""
        notes.append(f"{bad} of {at.size} runs diverged from t = {first:.4g} on{left}")
    if result.attrs.get("interrupted"):
        notes.append("interrupted")
    return alive, notes


def _collect(
    result: xr.DataTree,
    name: str,
    entry: dict[str, int],
    alive: np.ndarray | None,
    band: str,
) -> _Curves:
    def get(group: str) -> Any:
        if not reading.has(result, group, name):
            return None
        return real(reading.variable(result, group, name)).isel(entry).values

    curves = _Curves(str(list(entry.values())) if entry else "")
    if alive is not None and alive.any():
        # The stored moments are over all runs, of which only some may have kept curves.
        curves.count = result.attrs["runs"] if alive.all() else int(alive.sum())
        _collect_runs(curves, get, alive, band)
    elif alive is not None:
        runs = get("runs")
        curves.runs = runs[np.isfinite(runs).any(axis=1)]
    limit = get("limit")
    if limit is not None and limit.ndim == 2:
        kept = limit if alive is None or not alive.any() else limit[alive]
        curves.limits = kept
        curves.limit = reductions.skip_nan(np.nanmean, kept)
    elif limit is not None:
        curves.limit = limit
        curves.predicted, curves.centre = get("predicted_std"), get("predicted_mean")
    return curves


def _collect_runs(curves: _Curves, get: Any, alive: np.ndarray, band: str) -> None:
    curves.runs = get("runs")[alive]
    if alive.all():
        curves.mean, spread = get("mean"), get("std")
        quantiles = get("quantile")
        curves.low, curves.high = quantiles[0], quantiles[-1]
    else:
        # The stored moments contain the values of diverging runs before their end.  They are
        # computed again without these runs.
        curves.mean = reductions.skip_nan(np.nanmean, curves.runs)
        spread = reductions.skip_nan(np.nanstd, curves.runs)
        curves.low, curves.high = reductions.skip_nan(np.nanquantile, curves.runs, q=[0.05, 0.95])
    if band == "std":
        curves.low, curves.high = curves.mean - spread, curves.mean + spread


def _draw_entry(
    ax: Axes,
    time: np.ndarray,
    curves: _Curves,
    runs: int,
    colour: str | None,
    band: str,
) -> None:
    """Draw the curves of one entry.

    Several entries have a `colour` each, and the legend names the entries; a single entry has the
    colour None, and the legend names its curves.
    """
    alone = colour is None
    main, theory = (BLUE, BLACK) if colour is None else (colour, colour)

    def label(text: str) -> str | None:
        return text if alone else None

    faint: dict[str, Any] = {"color": main, "alpha": 0.25, "linewidth": 0.6}
    single: Any = [] if curves.runs is None else curves.runs[:runs]
    if curves.mean is None:
        for i, run in enumerate(single):
            ax.plot(time, run, label=None if i else label("single runs"), **faint)
    else:
        if len(single) and alone and curves.count > 1:
            ax.plot(time, single.T, **faint)
        what = "5–95 % of the runs" if band == "quantile" else "mean ± standard deviation"
        style: dict[str, Any] = {"color": main, "alpha": 0.2, "linewidth": 0}
        if curves.count > 1:
            ax.fill_between(time, curves.low, curves.high, label=label(what), **style)
        several = f"mean of {curves.count} runs" if curves.count > 1 else "one run"
        name = label(several) or curves.label
        ax.plot(time, curves.mean, color=main, linewidth=2.2, label=name)
    if curves.limits is not None:
        shown = min(runs, len(curves.limits))
        ax.plot(time, curves.limits[:shown].T, color=theory, alpha=0.35, linewidth=0.6, ls="--")
    if curves.limit is not None:
        name = "limit" if curves.limits is None else "mean of the runs' own limits"
        ax.plot(
            time,
            curves.limit,
            color=theory,
            linewidth=1.3,
            linestyle="--",
            label=label(name) or (curves.label if curves.mean is None else None),
        )
    tint = ORANGE if alone else theory
    if curves.centre is not None:
        ax.plot(time, curves.centre, color=tint, linewidth=1.2, label=label("predicted mean"))
    if curves.predicted is not None and curves.limit is not None:
        edge = _Z95 * curves.predicted
        centre = curves.limit if curves.centre is None else curves.centre
        dots: dict[str, Any] = {"color": tint, "linewidth": 1.2, "linestyle": ":"}
        ax.plot(time, centre + edge, label=label("predicted 5–95 %"), **dots)
        ax.plot(time, centre - edge, **dots)
