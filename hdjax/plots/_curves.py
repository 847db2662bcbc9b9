"""Statistics against time: runs, their mean and band, the limit and the predicted band."""

import dataclasses
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from hdjax.names import entry_dims
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

# The standard normal quantile of 95 %: predicted bands hold as much as the runs' band.
_Z95 = 1.6449
_FEW = 6

Index = int | tuple[int, ...] | None


@dataclasses.dataclass
class _Curves:
    """What is drawn of one entry of a statistic: arrays over time, None where there is nothing."""

    label: str
    count: int = 0
    runs: Any = None  # those that stayed finite; all, if none did
    mean: Any = None
    low: Any = None
    high: Any = None
    limits: Any = None
    limit: Any = None
    predicted: Any = None

    def values(self) -> list[np.ndarray]:
        """The curves that decide about the scale."""
        runs = self.runs if self.mean is None else None
        parts = (runs, self.mean, self.low, self.high, self.limit)
        return [part for part in parts if part is not None]


def draw(
    ds: xr.Dataset,
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
    base = ds[statistic] if statistic in ds else ds[f"{statistic}_limit"]
    entries, total = _entries(base, statistic, index)
    alive, notes = _divergence(ds)
    if len(entries) < total:
        notes = [f"the first {len(entries)} of {total} entries", *notes]
    time = ds["time"].values
    curves = [_collect(ds, statistic, entry, alive, band) for entry in entries]
    extent = Extent([value for part in curves for value in part.values()])

    xscale = xscale or ("log" if is_log_spaced(time) else "linear")
    # Before there are values that a search for the best limits would overflow with.
    extent.fit(ax, yscale or extent.scale())
    for position, part in enumerate(curves):
        alone = len(curves) == 1
        _draw_entry(ax, time, part, runs, None if alone else CYCLE[position % len(CYCLE)], band)
    ax.set_xscale(xscale)
    if xscale == "linear" and time.size > 1:
        ax.set_xlim(time[0], time[extent.last()])
    label = base.attrs.get("long_name", statistic)
    if len(curves) == 1 and curves[0].label:
        label = f"{label} {curves[0].label}"
    dress(ax, ds.attrs.get("time_label", "time"), label)
    styles = {}
    if len(curves) > 1 and curves[0].limit is not None and curves[0].mean is not None:
        styles = {"limit": "--"} | (
            {"predicted 5–95 %": ":"} if curves[0].predicted is not None else {}
        )
    legend(ax, notes + extent.notes, styles)


def _entries(base: xr.DataArray, statistic: str, index: Index) -> tuple[list[tuple[int, ...]], int]:
    """Which entries of the statistic to draw, and how many there are."""
    shape = tuple(base.sizes[dim] for dim in entry_dims(base.dims, statistic))
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


def _divergence(ds: xr.Dataset) -> tuple[np.ndarray | None, list[str]]:
    """Which kept runs stayed finite, and what to say of the others."""
    notes = []
    ends = {"limit_diverged_at": "limit diverged", "limit_gave_up_at": "the limit's solver gave up"}
    for name, what in ends.items():
        if name in ds and np.isfinite(ds[name].values).any():
            notes.append(f"{what} at t = {np.nanmin(ds[name].values):.4g}")
    if "diverged_at" not in ds:
        return None, notes
    at = ds["diverged_at"].values
    alive = ~np.isfinite(at)
    if not alive.all():
        bad = at.size - alive.sum()
        first = np.nanmin(at)
        left = " (not drawn)" if alive.any() else ""
        notes.append(f"{bad} of {at.size} runs diverged from t = {first:.4g} on{left}")
    if ds.attrs.get("interrupted"):
        notes.append("interrupted")
    return alive, notes


def _collect(
    ds: xr.Dataset, name: str, entry: tuple[int, ...], alive: np.ndarray | None, band: str
) -> _Curves:
    def get(variable: str) -> Any:
        if variable not in ds:
            return None
        values = ds[variable]
        return values.isel({f"{name}_{axis}": i for axis, i in enumerate(entry)}).values

    curves = _Curves(str(list(entry)) if entry else "")
    if alive is not None and alive.any():
        # Stored moments are over all runs, of which curves may be a part.
        curves.count = ds.attrs["runs"] if alive.all() else int(alive.sum())
        _collect_runs(curves, get, name, alive, band)
    elif alive is not None:
        runs = get(name)
        curves.runs = runs[np.isfinite(runs).any(axis=1)]
    limit = get(f"{name}_limit")
    if limit is not None and ds[f"{name}_limit"].dims[0] == "run":
        kept = limit if alive is None or not alive.any() else limit[alive]
        curves.limits = kept
        curves.limit = _finite_mean(kept)
    elif limit is not None:
        curves.limit = limit
        curves.predicted = get(f"{name}_predicted_std")
    return curves


def _collect_runs(curves: _Curves, get: Any, name: str, alive: np.ndarray, band: str) -> None:
    curves.runs = get(name)[alive]
    if alive.all():
        curves.mean, spread = get(f"{name}_mean"), get(f"{name}_std")
        quantiles = get(f"{name}_quantile")
        curves.low, curves.high = quantiles[0], quantiles[-1]
    else:
        # Stored moments hold what diverging runs did before they stopped: leave that out.
        some = np.isfinite(curves.runs).any(axis=0)
        safe = np.where(some, curves.runs, 0.0)
        curves.mean = _finite_mean(curves.runs)
        spread = np.where(some, np.nanstd(safe, axis=0), np.nan)
        curves.low, curves.high = np.where(some, np.nanquantile(safe, [0.05, 0.95], axis=0), np.nan)
    if band == "std":
        curves.low, curves.high = curves.mean - spread, curves.mean + spread


def _finite_mean(values: np.ndarray) -> np.ndarray:
    some = np.isfinite(values).any(axis=0)
    return np.where(some, np.nanmean(np.where(some, values, 0.0), axis=0), np.nan)


def _draw_entry(
    ax: Axes,
    time: np.ndarray,
    curves: _Curves,
    runs: int,
    colour: str | None,
    band: str,
) -> None:
    """One entry; with a `colour` of its own it is one of several, and the legend names it."""
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
    if curves.predicted is not None and curves.limit is not None:
        edge = _Z95 * curves.predicted
        tint = ORANGE if alone else theory
        dots: dict[str, Any] = {"color": tint, "linewidth": 1.2, "linestyle": ":"}
        ax.plot(time, curves.limit + edge, label=label("predicted 5–95 %"), **dots)
        ax.plot(time, curves.limit - edge, **dots)
