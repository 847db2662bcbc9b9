"""How the distance to the limit shrinks with d: sup over time of |run - limit|, fitted by d^p."""

import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Array, Float, Key

from hdjax import random
from hdjax.engine.compare import compare
from hdjax.engine.result import Result, total_seconds
from hdjax.random import Stream
from hdjax.system import System

_RESAMPLES = 2000


def scaling(
    make_system: Callable[[int], System],
    dims: Sequence[int],
    ts: Any,
    *,
    key: Key[Array, ""],
    runs: int,
    start: str = "law",
    statistics: Any = None,
    **options: Any,
) -> Result:
    """Error against d, with the fitted exponent and a bootstrap interval.

    At each d the median over runs of sup_t |run - limit|; its logarithm is fitted by a straight
    line in log d.  The interval (2.5 % to 97.5 %) resamples runs within each d.  Runs that
    diverged are left out of the medians; how many is in `diverged_at`.  Records at which a
    statistic is not finite are left out of its sup; how many are left is in `s_sup_error_count`.

    Args:
        make_system: the system at dimension d.
        dims: (dimension,) at least two different dimensions; one given twice is run twice.
        ts: times of the records, as for `compare`.
        key: key of the experiment; every d has its own.
        runs: runs at each d.
        start: as for `compare`.
        statistics: as for `compare`.
        **options: further options of `compare`.

    Raises:
        ValueError: fewer than two different dimensions, or one that is no positive integer.

    Example:
        >>> result = scaling(make_system, [32, 128], [0.0, 1.0], key=jax.random.key(0), runs=16)
        >>> float(result["risk_exponent"]) < 0
        True
    """
    try:
        sizes = [int(d) for d in dims]
    except (TypeError, ValueError):
        raise ValueError(f"dims: {dims!r}; allowed: a list of integers") from None
    if len(set(sizes)) < 2 or min(sizes) < 1 or sizes != [float(d) for d in dims]:
        raise ValueError(f"dims: {list(dims)}; allowed: at least two different positive integers")
    parts = []
    for index, d in enumerate(sizes):
        try:
            part = compare(
                make_system(d),
                ts,
                key=random.at(random.stream(key, Stream.SIZES), index),
                runs=runs,
                start=start,
                statistics=statistics,
                fluctuations=False,
                **options,
            ).data
        except KeyboardInterrupt:
            break
        if part.attrs["interrupted"]:
            break
        parts.append(part)
    # What an interrupt leaves: the dimensions that were finished, if a slope goes through them.
    if len(parts) < 2:
        raise KeyboardInterrupt
    data = _combine(parts, sizes[: len(parts)])
    data.attrs["interrupted"] = int(len(parts) < len(sizes))
    return Result(data)


def fit_exponent(
    dims: Sequence[int], errors: Float[np.ndarray, "dimension runs"], seed: int = 0
) -> tuple[float, tuple[float, float]]:
    """The slope of log median error against log d, and its bootstrap interval over runs.

    Args:
        dims: dimensions.
        errors: one row of errors for each dimension; NaN are left out.
        seed: seed of the resampling.

    Example:
        >>> slope, _ = fit_exponent([10, 1000], np.array([[1.0, 1.0], [0.1, 0.1]]))
        >>> round(slope, 3)
        -0.5
    """
    x = np.log(np.asarray(dims, float))
    rows = [row[np.isfinite(row)] for row in errors]
    if min(len(row) for row in rows) == 0:
        return np.nan, (np.nan, np.nan)
    rng = np.random.default_rng(seed)
    medians = np.array([np.median(rng.choice(row, (_RESAMPLES, len(row))), axis=1) for row in rows])
    with np.errstate(divide="ignore", invalid="ignore"):
        slopes = _slope(x, np.log(medians))
        slope = _slope(x, np.log([[np.median(row)] for row in rows]))[0]
    low, high = np.quantile(slopes, [0.025, 0.975])
    return float(slope), (float(low), float(high))


def _slope(x: np.ndarray, y: Any) -> np.ndarray:
    centred = x - x.mean()
    return centred @ (np.asarray(y) - np.mean(y, axis=0)) / (centred @ centred)


def _combine(parts: list[xr.Dataset], dims: list[int]) -> xr.Dataset:
    names = json.loads(parts[0].attrs["statistics"])
    variables: dict[str, Any] = {}
    for name in names:
        errors = np.stack([part[f"{name}_sup_error"].values for part in parts])
        counts = np.stack([part[f"{name}_sup_error_count"].values for part in parts])
        slope, interval = fit_exponent(dims, errors)
        label = {"long_name": parts[0][f"{name}_sup_error"].attrs["long_name"]}
        variables[f"{name}_sup_error"] = (("dimension", "run"), errors, label)
        variables[f"{name}_sup_error_count"] = (("dimension", "run"), counts, label)
        finite = [row[np.isfinite(row)] for row in errors]
        medians = [np.median(row) if row.size else np.nan for row in finite]
        variables[f"{name}_median"] = ("dimension", medians, label)
        variables[f"{name}_exponent"] = ((), slope)
        variables[f"{name}_exponent_interval"] = ("bound", np.array(interval))
    variables["diverged_at"] = (
        ("dimension", "run"),
        np.stack([part["diverged_at"].values for part in parts]),
    )
    attrs = {**parts[0].attrs, "kind": "scaling", "seconds": total_seconds(parts)}
    coords = {"dimension": dims, "run": parts[0]["run"].values, "bound": ["low", "high"]}
    return xr.Dataset(variables, coords, attrs)
