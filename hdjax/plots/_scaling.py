"""Figures of a scaling: the distance between runs and limit against d, with the fitted power."""

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from hdjax import reading, reductions
from hdjax.plots._style import BLACK, BLUE, dress, label_few_ticks, legend


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
        fit = np.exp(height + slope * (np.log(dims) - centre))
        ax.plot(dims, fit, color=BLACK, linestyle="--", linewidth=1.3, label=label)
    ax.set_xscale("log")
    if good.any():
        ax.set_yscale("log")
    label_few_ticks(ax.xaxis, dims, logarithmic=True)
    name = error.attrs.get("long_name", statistic)
    dress(ax, "dimension d", f"sup over t of |run − limit|,\n{name}")
    bad = int(np.isfinite(reading.ended(result)).sum())
    notes = [f"{bad} of {errors.size} runs diverged (left out)"] if bad else []
    legend(ax, notes)
