"""The function `scaling`: how error, time and memory change with the dimension d.

The error is the median over runs of sup_t |run - limit|.  Each quantity is fitted by a power d^p.
"""

import contextlib
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
import scipy.stats
from jax.sharding import Mesh
from jaxtyping import Array, Float, Key

from hdjax import random
from hdjax.checks import checked
from hdjax.engine.checkpoint import Kept, as_checkpoint, opened
from hdjax.engine.chunks import DoesNotFitError, check_memory
from hdjax.engine.compare import Start, Statistics, compare, limit, prepare
from hdjax.engine.identity import identity
from hdjax.engine.result import Result, most_memory, total_seconds
from hdjax.engine.runs import shapes
from hdjax.layout import Contents, tree
from hdjax.random import Stream
from hdjax.reductions import skip_nan
from hdjax.registry import Count, Size
from hdjax.system import System

_RESAMPLES = 2000


@checked
def scaling(
    make_system: Callable[[int], System] | type[Any],
    dims: Sequence[Size],
    ts: Any,
    *,
    key: Key[Array, ""],
    runs: Count,
    start: Start = "law",
    statistics: Statistics = None,
    checkpoint: Kept | None = None,
    devices: Sequence[Size] = (),
    **options: Any,
) -> Result:
    """Measure error, time and memory at several d, and fit each of them by a power of d.

    At each d the error is the median over runs of sup_t |run - limit|, and its logarithm is fitted
    by a straight line in log d.  The interval of the exponent (2.5 % to 97.5 %) is a bootstrap over
    the runs at each d.  Runs that diverged are left out of the medians and counted in `codes`.
    Records at which a statistic is not finite are left out of its supremum, and `sup_error_count`
    is the number of records that remain.

    The seconds of runs, limit and compilation are measured apart.  The bytes are those that the
    larger program, of a chunk of runs or of the limit, takes on each device.  The intervals of
    these exponents are those of the regression (Student's t), and need three dimensions.

    Args:
        make_system: maps a dimension d to the system.
        dims: (dimension,) at least two different dimensions; a dimension that is given twice is run
            twice.
        ts: times of the records, as for `compare`.
        key: key of the experiment; each dimension has a key of its own.
        runs: number of runs at each dimension; 0: time and memory of the limit alone.
        start: as for `compare`.
        statistics: as for `compare`.
        checkpoint: as for `compare`.
        devices: numbers of devices; the runs at the last dimension are repeated on each of them.
        **options: further options of `compare`; none of them applies to the limit alone.

    Returns:
        A `Result` with the groups `sup_error`, `sup_error_count`, `sup_error_median`, `exponent`,
        `exponent_interval` and `codes`; for the limit alone with the last one.  The attribute
        `cost` of its tree has a list over the dimensions for each of "compile", "simulate" and
        "limit" (seconds) and for "memory" (bytes); `cost_exponent` has the exponent of each, and
        the bounds of its interval.  With `devices` the attribute `efficiency` has lists of
        "devices", "seconds" of the runs, and "efficiency": the seconds times the devices in the
        first case over those in each case.  After an interrupt they have the finished
        dimensions.  A dimension that fails, or does not fit into the memory of the device, is left
        out with a warning.

    Raises:
        ValueError: fewer than two different dimensions; a dimension that is no positive integer or
            obviously does not fit into the memory; more devices than there are.
        KeyboardInterrupt: an interrupt came before two dimensions were finished.

    Example:
        >>> result = scaling(make_system, [32, 128], [0.0, 1.0], key=jax.random.key(0), runs=16)
        >>> float(result.exponent["risk"]) < 0
        True
        >>> len(result.tree.attrs["cost"]["memory"])
        2
    """
    sizes = [int(d) for d in dims]
    if len(set(sizes)) < 2:
        raise ValueError(f"dims: {sizes}; allowed: at least two different ones")
    if options and not runs:
        raise ValueError(f"runs: 0 with {', '.join(options)}; allowed: none of these options")
    _check_devices(devices, runs, options)
    systems = [make_system(d) for d in sizes]
    for system in systems if runs else []:
        plan, _ = prepare(system, ts, method=options.get("method"), start=None)
        check_memory(system, plan, shapes(system, plan, key))
    kept = as_checkpoint(checkpoint)

    def measured(index: int, **more: Any) -> Result:
        if not runs:
            return limit(systems[index], ts, statistics=statistics)
        own: dict[str, Any] = {"checkpoint": kept and kept.part(f"dimension-{index}")}
        return compare(
            systems[index],
            ts,
            key=random.at(random.stream(key, Stream.SIZES), index),
            runs=runs,
            start=start,
            statistics=statistics,
            fluctuations=False,
            **(own | options | more),
        )

    with contextlib.ExitStack() as open_:
        if kept is not None:
            whole = {"systems": systems, "times": ts, "key": key, "runs": runs, "start": start}
            names = {name: identity(part) for name, part in whole.items()}
            open_.enter_context(opened(kept, names))
        parts, interrupted = _finished(measured, sizes)
        last, seconds = max(parts), []
        for count in devices if not interrupted else ():
            mesh = Mesh(np.array(jax.devices()[:count]), ("runs",))
            part = measured(last, mesh=mesh, checkpoint=None)
            seconds.append(part.tree.attrs["seconds"]["simulate"])
    result = _combine(list(parts.values()), [sizes[index] for index in parts], interrupted)
    if seconds:
        work = np.array(seconds) * np.array(devices)
        efficiency = (work[0] / work).tolist()
        result.tree.attrs["efficiency"] = {
            "devices": [int(count) for count in devices],
            "seconds": seconds,
            "efficiency": efficiency,
        }
    return result


def _check_devices(devices: Sequence[Size], runs: int, options: dict[str, Any]) -> None:
    if not devices:
        return
    count = jax.device_count()
    if max(devices) > count:
        raise ValueError(
            f"devices: {list(devices)}; allowed: at most {count}, those that there are"
        )
    if not runs or options.get("mesh") is not None:
        raise ValueError(f"devices: {list(devices)}; allowed with runs and without a mesh")


def _finished(
    measured: Callable[[int], Result], sizes: list[int]
) -> tuple[dict[int, Result], bool]:
    """The result at each dimension by position, and whether an interrupt came.

    A dimension that fails is left out with a warning, as long as two others remain for a slope.
    """
    parts: dict[int, Result] = {}
    interrupted, failure = False, None
    for index, d in enumerate(sizes):
        try:
            part = measured(index)
        except KeyboardInterrupt:
            interrupted = True
            break
        except (jax.errors.JaxRuntimeError, MemoryError, DoesNotFitError) as error:
            failure, told = error, " ".join(str(error).split())[:200]
            warnings.warn(f"scaling: d = {d} is left out: {told}", stacklevel=3)
            continue
        if part.tree.attrs["interrupted"]:
            interrupted = True
            break
        parts[index] = part
    if len(parts) < 2:
        raise KeyboardInterrupt if interrupted or failure is None else failure
    return parts, interrupted


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


def fit_power(
    dims: Sequence[int], values: Float[np.ndarray, " dimension"]
) -> tuple[float, float, float]:
    """The slope of the logarithm of positive values against log d, and its 95 % interval.

    The interval is that of a linear regression, by Student's t; it is NaN with fewer than three
    different dimensions, and all is NaN if a value is not positive.

    Args:
        dims: (dimension,) the dimensions.
        values: (dimension,) a value at each of them.

    Example:
        >>> slope, low, high = fit_power([10, 100, 1000], np.array([1.0, 10.0, 100.0]))
        >>> round(slope, 3)
        1.0
    """
    if not (values > 0).all():
        return np.nan, np.nan, np.nan
    found: Any = scipy.stats.linregress(np.log(np.asarray(dims, float)), np.log(values))
    free = len(dims) - 2
    wide = scipy.stats.t.ppf(0.975, free) * found.stderr if free else np.nan
    return float(found.slope), float(found.slope - wide), float(found.slope + wide)


def _slope(x: np.ndarray, y: Any) -> np.ndarray:
    centred = x - x.mean()
    return centred @ (np.asarray(y) - np.mean(y, axis=0)) / (centred @ centred)


def _combine(parts: list[Result], dims: list[int], interrupted: bool) -> Result:
    attributes = {str(name): value for name, value in parts[0].tree.attrs.items()}
    # The curves of the limit alone are not kept: their entries may depend on d.
    names = attributes["statistics"] if attributes["runs"] else []
    groups: dict[str, Any] = _errors(parts, dims, names) if names else {}
    groups["codes"] = {
        name: np.stack([part.codes[name].values for part in parts])
        for name in (("code", "since") if names else ("limit_code", "limit_since"))
    }
    own = [part.tree.attrs for part in parts]
    cost = {
        part: [one["seconds"][part] or 0.0 for one in own]
        for part in ("compile", "simulate", "limit")
    }
    cost["memory"] = [max(filter(None, one["memory"].values()), default=0) for one in own]
    attributes |= {
        "kind": "scaling",
        "statistics": names,
        "paths": [],
        "seconds": total_seconds(one["seconds"] for one in own),
        "memory": most_memory(one["memory"] for one in own),
        "points": len(dims),
        "interrupted": int(interrupted),
        "cost": cost,
        "cost_exponent": {
            name: fit_power(dims, np.array(each, float)) for name, each in cost.items()
        },
    }
    labels = {name: parts[0].sup_error[name].attrs["long_name"] for name in names}
    none = np.zeros(0)
    measured = Contents(groups, none, none, attributes, labels)
    return Result(tree(measured, {"dimension": dims}))


def _errors(parts: list[Result], dims: list[int], names: list[str]) -> dict[str, Any]:
    """The groups of a scaling that say how far runs are from their limit."""
    groups: dict[str, Any] = {
        group: {
            name: np.stack([getattr(part, group)[name].values for part in parts]) for name in names
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
    return groups
