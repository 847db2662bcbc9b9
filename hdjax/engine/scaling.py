"""How the distance to the limit shrinks with d: sup over time of |run - limit|, fitted by d^p."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Array, Float, Key

from hdjax import random
from hdjax.engine.compare import compare
from hdjax.engine.result import Result, total_seconds
from hdjax.layout import Contents, skip_nan, tree
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
    diverged are left out of the medians; how many is in `codes`.  Records at which a
    statistic is not finite are left out of its sup; how many are left is in `sup_error_count`.

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
        >>> float(result.exponent["risk"]) < 0
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
            )
        except KeyboardInterrupt:
            break
        if part.tree.attrs["interrupted"]:
            break
        parts.append(part)
    # What an interrupt leaves: the dimensions that were finished, if a slope goes through them.
    if len(parts) < 2:
        raise KeyboardInterrupt
    return _combine(parts, sizes[: len(parts)], interrupted=len(parts) < len(sizes))


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


def _combine(parts: list[Result], dims: list[int], interrupted: bool) -> Result:
    attributes = {str(name): value for name, value in parts[0].tree.attrs.items()}
    groups: dict[str, Any] = {
        group: {
            name: np.stack([getattr(part, group)[name].values for part in parts])
            for name in attributes["statistics"]
        }
        for group in ("sup_error", "sup_error_count")
    }
    errors = groups["sup_error"]
    groups["sup_error_median"] = {
        name: skip_nan(np.nanmedian, rows, axis=1) for name, rows in errors.items()
    }
    fits = {name: fit_exponent(dims, rows) for name, rows in errors.items()}
    groups["exponent"] = {name: slope for name, (slope, _) in fits.items()}
    groups["exponent_interval"] = {name: interval for name, (_, interval) in fits.items()}
    groups["codes"] = {
        name: np.stack([part.codes[name].values for part in parts]) for name in ("code", "since")
    }
    seconds = total_seconds(part.tree.attrs["seconds"] for part in parts)
    attributes = attributes | {
        "kind": "scaling",
        "seconds": seconds,
        "points": len(dims),
        "interrupted": int(interrupted),
    }
    labels = {
        name: parts[0].sup_error[name].attrs["long_name"] for name in attributes["statistics"]
    }
    none = np.zeros(0)
    measured = Contents(groups, none, none, attributes, labels)
    return Result(tree(measured, {"dimension": dims}))
