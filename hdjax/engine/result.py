"""Results: one xarray Dataset, with what people do with it.

Variables are named after statistics: `risk` (run, time) for the kept runs, `risk_mean`,
`risk_std`, `risk_count`, `risk_quantile`, `risk_limit`, `risk_sup_error` (run),
`risk_predicted_std`.  The coordinate `time` holds the nominal times, which were asked for, and
`recorded_time` those of the algorithm's clock.  Runs that diverged hold NaN from `diverged_at` on
and are left out of moments; `count` says how many have not.  A statistic that is not finite at a
record is NaN there, and `risk_count` says how many runs its moments are over.
"""

import importlib.metadata
import json
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hdjax import plots, store
from hdjax.engine.describe import describe
from hdjax.times import record_at

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


class Result:
    """A finished experiment.

    Attributes:
        data: the `xarray.Dataset`; everything else is read from it.

    Example:
        >>> result.data["risk_mean"]  # doctest: +SKIP
    """

    def __init__(self, data: xr.Dataset):
        self.data = data

    @property
    def statistics(self) -> list[str]:
        """Names of the statistics."""
        return json.loads(self.data.attrs["statistics"])

    @property
    def times(self) -> np.ndarray:
        """Nominal times of the records, those that were asked for."""
        return self.data["time"].values

    def at(self, t: Any) -> xr.Dataset:
        """The record of nominal time `t`: the dataset without its axis of times.

        Args:
            t: a time that was asked for, up to rounding of float32.

        Raises:
            ValueError: no record has that time; the message has the nearest ones.

        Example:
            >>> result.at(1.0)["risk_mean"]  # doctest: +SKIP
        """
        return self.data.isel(time=record_at(self.times, t))

    def __getitem__(self, name: str) -> xr.DataArray:
        return self.data[name]

    def mean(self, statistic: str) -> xr.DataArray:
        """Mean over the finite runs."""
        return self.data[f"{statistic}_mean"]

    def std(self, statistic: str) -> xr.DataArray:
        """Standard deviation over the finite runs (ddof 1)."""
        return self.data[f"{statistic}_std"]

    def limit(self, statistic: str) -> xr.DataArray:
        """The deterministic equivalent (one curve for each run if starts are realised)."""
        return self.data[f"{statistic}_limit"]

    def sup_error(self, statistic: str) -> xr.DataArray:
        """Sup over time of |run - limit| for each kept run."""
        return self.data[f"{statistic}_sup_error"]

    def zscore(self, statistic: str) -> xr.DataArray:
        """(run - limit) / predicted standard deviation.

        Raises:
            KeyError: the theory predicts no fluctuations here.
        """
        data = self.data
        return (data[statistic] - data[f"{statistic}_limit"]) / data[f"{statistic}_predicted_std"]

    def to_xarray(self) -> xr.Dataset:
        """The dataset."""
        return self.data

    def plot(self, statistic: str | None = None, **options: Any) -> Axes | Figure:
        """Draw one statistic (returns its `Axes`) or all (returns the `Figure`)."""
        if statistic is None:
            return plots.plot_all(self.data, **options)
        return plots.plot(self.data, statistic, **options)

    def save(self, directory: str | Path, force: bool = False) -> Path:
        """Write `result.nc` and `summary.json` into `directory`; returns it.

        Raises:
            FileExistsError: there is a result, which only `force` replaces, and an interrupted one
                only if it holds as many runs; see `hdjax.store.save_result`.
        """
        return store.save_result(self.data, directory, force)

    def __repr__(self) -> str:
        return describe(self.data)


def load(path: str | Path) -> Result:
    """A saved result: a NetCDF file, or the directory that holds `result.nc`.

    Example:
        >>> result = load("results/phase_retrieval")  # doctest: +SKIP
    """
    return Result(store.load_result(path))


def total_seconds(parts: Sequence[xr.Dataset]) -> str:
    """The attribute `seconds` of what several programs measured."""
    seconds = [json.loads(part.attrs["seconds"]) for part in parts]
    names = [name for name in seconds[0] if seconds[0][name] is not None]
    total = {name: round(sum(each[name] for each in seconds), 4) for name in names}
    return json.dumps(seconds[0] | total)


def provenance() -> dict[str, str]:
    """Versions, device and precision, as attributes of a dataset."""
    packages = ("hdjax", "jax", "jaxlib", "equinox", "diffrax", "numpy", "xarray")
    versions = {"python": platform.python_version()}
    for package in packages:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "not installed"
    device = jax.devices()[0]
    return {
        "versions": json.dumps(versions),
        "device": f"{len(jax.devices())} x {device.platform}: {device.device_kind}",
        "precision": "float64" if jax.config.read("jax_enable_x64") else "float32",
    }
