"""The error against the dimension, with the fitted power of d."""

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from hdjax.plots._style import BLACK, BLUE, dress, label_few_ticks, legend


def draw(ds: xr.Dataset, statistic: str, ax: Axes) -> None:
    """Median of sup |run - limit| with its quartiles, log-log, and the fit."""
    dims = ds["dimension"].values.astype(float)
    median = ds[f"{statistic}_median"].values
    errors = ds[f"{statistic}_sup_error"].values
    some = np.any(np.isfinite(errors), axis=1)
    safe = np.where(some[:, None], errors, 0.0)
    low, high = np.where(some, np.nanquantile(safe, [0.25, 0.75], axis=1), np.nan)
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
    slope = float(ds[f"{statistic}_exponent"])
    good = np.isfinite(median) & (median > 0)
    if np.isfinite(slope) and good.any():
        centre, height = np.log(dims[good]).mean(), np.log(median[good]).mean()
        bounds = ds[f"{statistic}_exponent_interval"].values
        label = f"$d^{{\\,{slope:.2f}}}$, exponent in [{bounds[0]:.2f}, {bounds[1]:.2f}]"
        fit = np.exp(height + slope * (np.log(dims) - centre))
        ax.plot(dims, fit, color=BLACK, linestyle="--", linewidth=1.3, label=label)
    ax.set_xscale("log")
    if good.any():
        ax.set_yscale("log")
    label_few_ticks(ax.xaxis, dims, logarithmic=True)
    name = ds[f"{statistic}_sup_error"].attrs.get("long_name", statistic)
    dress(ax, "dimension d", f"sup over t of |run − limit|,\n{name}")
    bad = int(np.isfinite(ds["diverged_at"].values).sum())
    notes = [f"{bad} of {errors.size} runs diverged (left out)"] if bad else []
    legend(ax, notes)
