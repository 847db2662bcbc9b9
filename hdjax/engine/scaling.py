"""The function `scaling`: how the distance between runs and limit shrinks with the dimension d.

The median over runs of sup_t |run - limit| at several d is fitted by a power d^p.
"""

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Array, Float, Key

from hdjax import random
from hdjax.checks import checked
from hdjax.engine.checkpoint import Kept, as_checkpoint, opened
from hdjax.engine.chunks import check_memory
from hdjax.engine.compare import Start, Statistics, compare, prepare
from hdjax.engine.identity import identity
from hdjax.engine.result import Result, total_seconds
from hdjax.engine.runs import shapes
from hdjax.layout import Contents, tree
from hdjax.random import Stream
from hdjax.reductions import skip_nan
from hdjax.registry import Runs, Size
from hdjax.system import System

_RESAMPLES = 2000


@checked
def scaling(
    make_system: Callable[[int], System] | type[Any],
    dims: Sequence[Size],
    ts: Any,
    *,
    key: Key[Array, ""],
    runs: Runs,
    start: Start = "law",
    statistics: Statistics = None,
    checkpoint: Kept | None = None,
    **options: Any,
) -> Result:
    """Measure the distance between runs and limit at several d, and fit it by a power of d.

    At each d the error is the median over runs of sup_t |run - limit|, and its logarithm is fitted
    by a straight line in log d.  The interval of the exponent (2.5 % to 97.5 %) is a bootstrap over
    the runs at each d.  Runs that diverged are left out of the medians and counted in `codes`.
    Records at which a statistic is not finite are left out of its supremum, and `sup_error_count`
    is the number of records that remain.

    Args:
        make_system: maps a dimension d to the system.
        dims: (dimension,) at least two different dimensions; a dimension that is given twice is run
            twice.
        ts: times of the records, as for `compare`.
        key: key of the experiment; each dimension has a key of its own.
        runs: number of runs at each dimension.
        start: as for `compare`.
        statistics: as for `compare`.
        checkpoint: as for `compare`.
        **options: further options of `compare`.

    Returns:
        A `Result` with the groups `sup_error`, `sup_error_count`, `sup_error_median`, `exponent`,
        `exponent_interval` and `codes`, and the seconds of each dimension in the attribute `cost`
        of its tree.  After an interrupt it has the finished dimensions.

    Raises:
        ValueError: fewer than two different dimensions, or a dimension that is no positive integer.
        KeyboardInterrupt: an interrupt came before two dimensions were finished.

    Example:
        >>> result = scaling(make_system, [32, 128], [0.0, 1.0], key=jax.random.key(0), runs=16)
        >>> float(result.exponent["risk"]) < 0
        True
    """
    sizes = [int(d) for d in dims]
    if len(set(sizes)) < 2:
        raise ValueError(f"dims: {sizes}; allowed: at least two different ones")
    systems = [make_system(d) for d in sizes]
    for system in systems:
        plan, _ = prepare(system, ts, method=options.get("method"), start=None)
        check_memory(system, plan, shapes(system, plan, key))
    kept, parts = as_checkpoint(checkpoint), []
    with contextlib.ExitStack() as open_:
        if kept is not None:
            whole = {"systems": systems, "times": ts, "key": key, "runs": runs, "start": start}
            names = {name: identity(part) for name, part in whole.items()}
            open_.enter_context(opened(kept, names))
        for index, system in enumerate(systems):
            try:
                part = compare(
                    system,
                    ts,
                    key=random.at(random.stream(key, Stream.SIZES), index),
                    runs=runs,
                    start=start,
                    statistics=statistics,
                    fluctuations=False,
                    checkpoint=kept and kept.part(f"dimension-{index}"),
                    **options,
                )
            except KeyboardInterrupt:
                break
            if part.tree.attrs["interrupted"]:
                break
            parts.append(part)
    # After an interrupt the finished dimensions are kept, if there are two of them for a slope.
    if len(parts) < 2:
        raise KeyboardInterrupt
    return _combine(parts, sizes[: len(parts)], interrupted=len(parts) < len(sizes))


def fit_exponent(
    dims: Sequence[int], errors: Float[np.ndarray, "dimension runs"], seed: int = 0
) -> tuple[float, tuple[float, float]]:
    """The slope of the logarithm of the median error against log d, with a bootstrap interval.

    Args:
        dims: (dimension,) the dimensions.
        errors: (dimension, runs) the error of each run; NaN are left out.
        seed: seed of the resampling.

    Returns:
        The slope, and the quantiles 2.5 % and 97.5 % of the slopes of resampled runs.

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
        "cost": {
            name: [part.tree.attrs["seconds"][name] for part in parts]
            for name in ("compile", "simulate", "limit")
        },
    }
    labels = {
        name: parts[0].sup_error[name].attrs["long_name"] for name in attributes["statistics"]
    }
    none = np.zeros(0)
    measured = Contents(groups, none, none, attributes, labels)
    return Result(tree(measured, {"dimension": dims}))
