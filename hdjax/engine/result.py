"""The class `Result`: the tree of a result (see `hdjax.layout`), and the functions of its users.

`result.mean["risk"]` is an `xarray.DataArray`: the statistic `risk` in the group `mean`.  The
coordinate `time` holds the nominal times, which the user gave, and `recorded_time` the times of the
algorithm's clock.  A run that diverged holds NaN from the time `result.codes["since"]` on, and is
left out of moments from that time on.  A statistic that is not finite at a record is NaN there, and
`result.count` is the number of runs over which its moments are.
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

from hdjax import plots, reading, store
from hdjax.engine.describe import describe
from hdjax.hosts import is_first
from hdjax.times import record_at

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


class Result:
    """The result of an experiment, as groups of statistics.

    Each group is an attribute, an `xarray.Dataset` with the statistics under their own names.  The
    dimensions are given below; a sweep has its axes before them.  `hdjax.layout` has the schema.

    Attributes:
        tree: the `xarray.DataTree` from which all groups are read.
        runs: (run, time) curves of the kept runs.
        mean: (time) mean over the finite runs.
        std: (time) standard deviation over the finite runs (ddof 1).
        count: (time) number of finite runs.
        quantile: (quantile, time) quantiles of the kept runs.
        limit: (time) the deterministic equivalent; (run, time) with realised starts.
        predicted_mean: (time) the limit and its correction to order 1/d, if it was asked for.
        predicted_std: (time) the standard deviation that theory predicts.
        sup_error: (run) sup over time of |run - limit|.
        sup_error_count: (run) number of times in that supremum.
        sup_error_mean: mean of `sup_error` over all runs, if not all runs are kept.
        sup_error_std: standard deviation of `sup_error` over all runs, likewise.
        sup_error_median: (dimension) median of `sup_error` in a scaling.
        exponent: the power of d that a scaling fits to these medians.
        exponent_interval: (bound) the bootstrap interval of the exponent.
        paths: (run) path statistics of the runs.
        paths_limit: path statistics of the limit; (run) with realised starts.
        probes: (run, time) probes.
        codes: `alive` (time), the number of runs that have not ended; `code` (run), a
            `hdjax.codes.Code`; `since` (run), the nominal time from which on the code holds;
            `limit_code` and `limit_since`, the same for the limit.

    Raises:
        AttributeError: on access to a group that the result does not have.

    Example:
        >>> result.mean["risk"]  # doctest: +SKIP
    """

    def __init__(self, tree: xr.DataTree):
        self.tree = tree

    def __getattr__(self, name: str) -> xr.Dataset:
        # The module `copy` asks for attributes before the tree is set.
        groups = list(vars(self)["tree"].children) if "tree" in vars(self) else []
        if name not in groups:
            raise AttributeError(f"{name}: the result has none; allowed: {', '.join(groups)}")
        return reading.dataset(self.tree, name)

    def __dir__(self) -> Iterable[str]:
        return [*super().__dir__(), *self.tree.children]

    @property
    def statistics(self) -> list[str]:
        """The names of the statistics."""
        return self.tree.attrs["statistics"]

    @property
    def times(self) -> np.ndarray:
        """(times,) the nominal times of the records."""
        return reading.times(self.tree)

    def at(self, t: Any) -> xr.DataTree:
        """The tree at the record of nominal time `t`, without the dimension `time`.

        Args:
            t: the nominal time of a record, up to the rounding of float32.

        Raises:
            ValueError: no record has that time; the message gives the times of the nearest records.

        Example:
            >>> result.at(1.0)["mean/risk"]  # doctest: +SKIP
        """
        return self.tree.isel(time=record_at(self.times, t))

    def zscore(self, statistic: str) -> xr.DataArray:
        """(run, time) the z-scores (run - mean) / predicted_std of a statistic.

        The mean is the predicted mean, if the result has it, and otherwise the limit.

        Raises:
            AttributeError: the result has no predicted standard deviations, runs or limit.
        """
        mean = self.predicted_mean if "predicted_mean" in self.tree.children else self.limit
        return (self.runs[statistic] - mean[statistic]) / self.predicted_std[statistic]

    def to_xarray(self) -> xr.DataTree:
        """The tree of the result, as `xarray.DataTree`."""
        return self.tree

    def plot(self, statistic: str | None = None, **options: Any) -> Axes | Figure:
        """Draw the result; `**options` are those of `hdjax.plots.plot`.

        Args:
            statistic: the name of a statistic; None draws a panel for each scalar statistic.
            **options: as for `hdjax.plots.plot`.

        Returns:
            The `Axes` of one statistic, or the `Figure` of all.
        """
        if statistic is None:
            return plots.plot_all(self.tree, **options)
        return plots.plot(self.tree, statistic, **options)

    def save(self, directory: str | Path, force: bool = False) -> Path:
        """Write `result.nc` and `summary.json` into `directory`, and return the directory.

        Of several processes, the first one alone writes.

        Args:
            directory: the directory, which is made if necessary.
            force: whether a result in the directory may be replaced.

        Raises:
            FileExistsError: the directory holds a result, and `force` is False, or this result was
                interrupted and has fewer runs than that one.
        """
        return store.save_result(self.tree, directory, force) if is_first() else Path(directory)

    def __repr__(self) -> str:
        return describe(self.tree)


def load(path: str | Path) -> Result:
    """Read a saved result.

    Args:
        path: a NetCDF file, or the directory that holds `result.nc`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is no NetCDF file, or holds no result of this package.

    Example:
        >>> result = load("results/phase_retrieval")  # doctest: +SKIP
    """
    return Result(store.load_result(path))


def total_seconds(parts: Iterable[dict[str, float | None]]) -> dict[str, float | None]:
    """The sum of the seconds of several programs, by part; None for a part that is not measured."""
    first, *others = parts
    return {
        name: None if each is None else round(sum((part[name] or 0 for part in others), each), 4)
        for name, each in first.items()
    }


def most_memory(parts: Iterable[dict[str, int | None]]) -> dict[str, int | None]:
    """The most bytes that any of several programs takes, by part; None if it is not measured."""
    found = list(parts)
    measured = {name: [each for part in found if (each := part[name])] for name in found[0]}
    return {name: max(each, default=None) for name, each in measured.items()}


def provenance() -> dict[str, Any]:
    """Versions of packages, device and precision, which become attributes of a result."""
    packages = ("hdjax", "jax", "jaxlib", "equinox", "diffrax", "numpy", "xarray")
    device = jax.devices()[0]
    return {
        "versions": {"python": platform.python_version()} | versions(packages),
        "device": f"{len(jax.devices())} x {device.platform}: {device.device_kind}",
        "precision": precision(),
    }


def versions(packages: Iterable[str]) -> dict[str, str]:
    """The versions of packages, by name."""
    found = {}
    for package in packages:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


def precision() -> str:
    """The precision of the limits: "float64" if JAX's 64-bit numbers are switched on."""
    return "float64" if jax.config.read("jax_enable_x64") else "float32"
