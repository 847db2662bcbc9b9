"""Figures of scalings: error, time and memory against d with their powers, and the efficiency."""

from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from hdjax import reading, reductions
from hdjax.plots._style import BLACK, BLUE, VERMILLION, dress, label_few_ticks, legend

# The kinds of seconds, as the legend names them; those of compilation follow no power.
_SECONDS = {
    "simulate": ("runs", BLUE),
    "limit": ("limit", BLACK),
    "compile": ("compilation", "0.6"),
}


def draw(result: xr.DataTree, statistic: str, ax: Axes) -> None:
    """Draw the median of sup |run - limit| with its quartiles and the fit, on logarithmic axes."""
    dims = reading.labels(result, "dimension").astype(float)
    median = reading.variable(result, "sup_error_median", statistic).values
    error = reading.variable(result, "sup_error", statistic)
    errors = error.values
    low, high = reductions.skip_nan(np.nanquantile, errors, axis=1, q=[0.25, 0.75])
    ax.errorbar(
        dims,
        median,
        yerr=np.stack([median - low, high - median]),
        fmt="o",
        color=BLUE,
        markersize=5,
        capsize=3,
        linewidth=1.4,
        label=f"median and quartiles of {errors.shape[1]} runs",
    )
    slope = float(reading.variable(result, "exponent", statistic))
    good = np.isfinite(median) & (median > 0)
    if np.isfinite(slope) and good.any():
        centre, height = np.log(dims[good]).mean(), np.log(median[good]).mean()
        bounds = reading.variable(result, "exponent_interval", statistic).values
        label = f"$d^{{\\,{slope:.2f}}}$, exponent in [{bounds[0]:.2f}, {bounds[1]:.2f}]"
        lines = ((slope, BLACK, "--", label), (-0.5, "0.55", ":", "$d^{\\,-1/2}$"))
        for power, color, style, label in lines:
            line = np.exp(height + power * (np.log(dims) - centre))
            ax.plot(dims, line, color=color, linestyle=style, linewidth=1.3, label=label)
    _logarithmic(ax, dims, bool(good.any()))
    name = error.attrs.get("long_name", statistic)
    dress(ax, "dimension d", f"sup over t of |run − limit|,\n{name}")
    bad = int(np.isfinite(reading.ended(result)).sum())
    notes = [f"{bad} of {errors.size} runs diverged (left out)"] if bad else []
    legend(ax, notes)


def draw_seconds(result: xr.DataTree, ax: Axes) -> None:
    """Draw the seconds of runs, limit and compilation against d, with their fitted powers."""
    cost, slopes = result.attrs["cost"], result.attrs["cost_exponent"]
    for part, (name, color) in _SECONDS.items():
        if any(cost[part]):
            fitted = None if part == "compile" else slopes[part]
            _draw_power(ax, result, cost[part], fitted, name, color)
    dress(ax, "dimension d", "seconds")
    legend(ax, [])


def draw_memory(result: xr.DataTree, ax: Axes) -> None:
    """Draw the memory that the larger program takes on a device against d, with its power."""
    memory = np.array(result.attrs["cost"]["memory"]) / 2**20
    slope = result.attrs["cost_exponent"]["memory"]
    _draw_power(ax, result, memory, slope, "larger program", VERMILLION)
    dress(ax, "dimension d", "memory of a device, MiB")
    legend(ax, [])


def draw_efficiency(result: xr.DataTree, ax: Axes) -> None:
    """Draw the efficiency at the largest d against the number of devices, beside the ideal of 1."""
    found = result.attrs["efficiency"]
    devices, dims = found["devices"], reading.labels(result, "dimension")
    ax.axhline(1, color="0.55", linestyle=":", linewidth=1.3, label="ideal")
    label = f"runs at d = {dims[-1]}"
    ax.plot(devices, found["efficiency"], "o-", color=BLUE, markersize=5, label=label)
    ax.set_xscale("log", base=2)
    ax.set_xticks(devices, [str(count) for count in devices])
    ax.minorticks_off()
    ax.set_ylim(0, 1.1 * max(1.0, *found["efficiency"]))
    dress(ax, "devices", "efficiency")
    legend(ax, [])


def _draw_power(
    ax: Axes, result: xr.DataTree, values: Any, fitted: Any, name: str, color: str
) -> None:
    """Draw values against d, on logarithmic axes, and the power of d that was fitted to them."""
    dims, values = reading.labels(result, "dimension").astype(float), np.asarray(values, float)
    label = name
    if fitted is not None and np.isfinite(fitted[0]):
        slope, low, high = fitted
        centre, height = np.log(dims).mean(), np.log(values).mean()
        line = np.exp(height + slope * (np.log(dims) - centre))
        ax.plot(dims, line, color=color, linestyle="--", linewidth=1.3)
        interval = f" [{low:.2f}, {high:.2f}]" if np.isfinite(low) else ""
        label = f"{name}: $d^{{\\,{slope:.2f}}}${interval}"
    style = "o-" if fitted is None else "o"
    ax.plot(dims, values, style, color=color, markersize=5, linewidth=1.0, label=label)
    _logarithmic(ax, dims, bool((values > 0).any()))


def _logarithmic(ax: Axes, dims: np.ndarray, positive: bool) -> None:
    """Make the axes logarithmic, the vertical one if there is a positive value."""
    ax.set_xscale("log")
    if positive:
        ax.set_yscale("log")
    label_few_ticks(ax.xaxis, dims, logarithmic=True)
