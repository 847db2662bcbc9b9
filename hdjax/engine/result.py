"""Results: one tree of groups (see `hdjax.layout`), with what people do with it.

`result.mean["risk"]` is an `xarray.DataArray`: the group `mean`, and in it the statistic under its
own name.  The coordinate `time` holds the nominal times, which were asked for, and
`recorded_time` those of the algorithm's clock.  Runs that diverged hold NaN from the time in
`result.codes["since"]` on and are left out of moments.  A statistic that is not finite
at a record is NaN there, and `result.count` says how many runs its moments are over.
"""

import importlib.metadata
import platform
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hdjax import layout, plots, store
from hdjax.engine.describe import describe
from hdjax.times import record_at

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


class Result:
    """A finished experiment.

    Attributes:
        tree: the `xarray.DataTree`; everything else is read from it.
        runs: (run, time) curves of the kept runs, as an `xarray.Dataset` of the statistics; so are
            all groups below, and with the axes of a sweep in front.
        mean: (time) mean over the finite runs.
        std: (time) standard deviation over the finite runs (ddof 1).
        count: (time) how many runs those are.
        quantile: (quantile, time) quantiles of the kept runs.
        limit: (time) the deterministic equivalent; (run, time) from realised starts.
        predicted_std: (time) the standard deviation that theory predicts.
        sup_error: (run) sup over time of |run - limit|; `sup_error_count`: over how many times;
            `sup_error_mean` and `sup_error_std`: moments over all runs, where not all are kept.
        sup_error_median: (dimension) of a scaling, with its `exponent` and `exponent_interval`.
        paths: (run) path statistics; `paths_limit`: those of the limit.
        probes: (run, time) probes.
        codes: `alive` (time), how many runs have not ended; `code` (run), a `hdjax.codes.Code`, and
            `since` (run), the nominal time from which on it holds; `limit_code`, `limit_since`.

    Raises:
        AttributeError: a group that the result does not have.

    Example:
        >>> result.mean["risk"]  # doctest: +SKIP
    """

    def __init__(self, tree: xr.DataTree):
        self.tree = tree

    def __getattr__(self, name: str) -> xr.Dataset:
        # Copies ask for attributes before there is a tree.
        groups = list(vars(self)["tree"].children) if "tree" in vars(self) else []
        if name not in groups:
            raise AttributeError(f"{name}: the result has none; it has {', '.join(groups)}")
        return layout.dataset(self.tree, name)

    def __dir__(self) -> Iterable[str]:
        return [*super().__dir__(), *self.tree.children]

    @property
    def statistics(self) -> list[str]:
        """Names of the statistics."""
        return self.tree.attrs["statistics"]

    @property
    def times(self) -> np.ndarray:
        """Nominal times of the records, those that were asked for."""
        return layout.times(self.tree)

    def at(self, t: Any) -> xr.DataTree:
        """The record of nominal time `t`: the tree without its axis of times.

        Args:
            t: a time that was asked for, up to rounding of float32.

        Raises:
            ValueError: no record has that time; the message has the nearest ones.

        Example:
            >>> result.at(1.0)["mean/risk"]  # doctest: +SKIP
        """
        return self.tree.isel(time=record_at(self.times, t))

    def zscore(self, statistic: str) -> xr.DataArray:
        """(run - limit) / predicted standard deviation.

        Raises:
            AttributeError: the theory predicts no fluctuations here.
        """
        gap = self.runs[statistic] - self.limit[statistic]
        return gap / self.predicted_std[statistic]

    def to_xarray(self) -> xr.DataTree:
        """The tree."""
        return self.tree

    def plot(self, statistic: str | None = None, **options: Any) -> Axes | Figure:
        """Draw one statistic (returns its `Axes`) or all (returns the `Figure`)."""
        if statistic is None:
            return plots.plot_all(self.tree, **options)
        return plots.plot(self.tree, statistic, **options)

    def save(self, directory: str | Path, force: bool = False) -> Path:
        """Write `result.nc` and `summary.json` into `directory`; returns it.

        Raises:
            FileExistsError: there is a result, which only `force` replaces, and an interrupted one
                only if it holds as many runs; see `hdjax.store.save_result`.
        """
        return store.save_result(self.tree, directory, force)

    def __repr__(self) -> str:
        return describe(self.tree)


def load(path: str | Path) -> Result:
    """A saved result: a NetCDF file, or the directory that holds `result.nc`.

    Example:
        >>> result = load("results/phase_retrieval")  # doctest: +SKIP
    """
    return Result(store.load_result(path))


def total_seconds(parts: Iterable[dict[str, float | None]]) -> dict[str, float | None]:
    """The seconds of several programs together; None stays what was not measured."""
    first, *others = parts
    return {
        name: None if each is None else round(sum((part[name] or 0 for part in others), each), 4)
        for name, each in first.items()
    }


def provenance() -> dict[str, Any]:
    """Versions, device and precision, as attributes of a result."""
    packages = ("hdjax", "jax", "jaxlib", "equinox", "diffrax", "numpy", "xarray")
    versions = {"python": platform.python_version()}
    for package in packages:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "not installed"
    device = jax.devices()[0]
    return {
        "versions": versions,
        "device": f"{len(jax.devices())} x {device.platform}: {device.device_kind}",
        "precision": "float64" if jax.config.read("jax_enable_x64") else "float32",
    }
