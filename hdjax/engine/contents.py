"""The contents of a result (`hdjax.layout.Contents`), from the arrays that `drive` collected.

`compare`, `sweep` and `scaling` make the tree of their result from these contents.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Float, Int

from hdjax.engine.collected import KEPT_RUNS, Collected
from hdjax.engine.ensemble import Curves, Ensemble
from hdjax.engine.moments import Moments
from hdjax.engine.plan import Plan
from hdjax.engine.result import QUANTILES, provenance
from hdjax.layout import GROUPS, Arrays, Contents
from hdjax.reductions import skip_nan
from hdjax.system import System


class Records(NamedTuple):
    """The ticks and times of the records of an experiment, on the host in 64 bits.

    Attributes:
        ticks: (times,) the ticks of the simulator's clock.
        nominal: (times,) the times that the user gave, by which the result is labelled.
        recorded: (times,) the times of the ticks, at which the limit is evaluated.
    """

    ticks: Int[np.ndarray, " times"]
    nominal: Float[np.ndarray, " times"]
    recorded: Float[np.ndarray, " times"]


def contents(
    system: System,
    plan: Plan,
    records: Records,
    collected: Collected,
    *,
    kind: str,
    key: Any,
    keep: str,
    point: int = 0,
) -> Contents:
    """The contents of the result at one point of a sweep, or of the only point.

    Args:
        system: the system at this point.
        plan: the plan at this point.
        records: the ticks and times of the plan.
        collected: the arrays that `hdjax.engine.drive` collected at all points.
        kind: "simulate", "limit", "compare" or "sweep".
        key: the key of the experiment, if there are runs.
        keep: as for `compare`.
        point: the position of the point.
    """
    kept = jax.tree.map(lambda x: x[point], collected.kept)
    groups: dict[str, Arrays] = {}
    if kept.runs is not None:
        streamed = jax.tree.map(lambda x: x[point], collected.streamed)
        groups |= _runs(kept, streamed.values)
        groups["codes"] = {
            "alive": np.asarray(streamed.alive.count, np.int64),
            "code": kept.runs.code,
            "since": _since(kept.runs, records),
        }
        if kept.sup_error and keep == "summary":
            errors = streamed.sup_error.items()
            groups["sup_error_mean"] = {name: _mean(moments)[0] for name, moments in errors}
            groups["sup_error_std"] = {name: _std(moments)[0] for name, moments in errors}
    if kept.limit is not None:
        groups |= {"limit": kept.limit.values, "paths_limit": kept.limit.paths}
        groups["codes"] = {
            **groups.get("codes", {}),
            "limit_code": kept.limit.code,
            "limit_since": _since(kept.limit, records),
        }
    groups["predicted_mean"] = kept.predicted_mean or {}
    groups["predicted_std"] = kept.predicted_std or {}

    seconds: dict[str, float | None] = {
        name: round(value, 4) for name, value in collected.seconds.items()
    }
    memory: dict[str, int | None] = dict(collected.memory)
    if kind in ("limit", "simulate"):
        missing = "simulate" if kind == "limit" else "limit"
        seconds[missing] = memory[missing] = None
    attributes = {
        "kind": kind,
        "family": system.family,
        "statistics": [name for name, _ in plan.statistics],
        "paths": [name for name, _ in plan.paths],
        "probes": [name for name, _ in plan.probes],
        "runs": collected.runs,
        "keep": keep,
        "start": plan.start or "",
        "time_label": system.time_label,
        "config": None,
        "expect": [],
        "seed": None if key is None else jax.random.key_data(key).tolist(),
        "seconds": seconds,
        "memory": memory,
        "interrupted": int(collected.interrupted),
        "note": "\n".join(filter(None, _notes(system, plan, records, kept, keep, collected.runs))),
        **provenance(),
    }
    found = {group: groups[group] for group in GROUPS if groups.get(group)}
    return Contents(found, records.nominal, records.recorded, attributes, system.labels)


def _notes(
    system: System, plan: Plan, records: Records, kept: Any, keep: str, runs: int
) -> Iterator[str]:
    """Notes for readers of the result, one line each."""
    if kept.runs is not None and keep == "summary" and runs > KEPT_RUNS:
        yield f"quantiles and single curves from the first {KEPT_RUNS} runs"
    if kept.limit is None:
        return
    about = system.about(plan.horizon)
    yield about.get("limit", "")
    if kept.predicted_std:
        yield about.get("fluctuations", "")
    for name, spread in (kept.predicted_std or {}).items():
        # Times at which the limit has a value and the predicted spread has none.
        finite = np.isfinite(kept.limit[name])
        finite = finite.all(axis=0) if kept.limit.code.ndim else finite
        missing = (finite & ~np.isfinite(spread)).reshape(len(spread), -1).any(axis=1)
        if missing.any():
            first = records.nominal[np.argmax(missing)]
            yield (
                f"no predicted spread of {name} at {missing.sum()} of {len(missing)} times, first "
                f"at t = {first:.4g}: the theory has none there, or its solver gave up (a larger "
                "rtol or max_steps may help)"
            )


def _runs(kept: Ensemble, values: dict[str, Moments]) -> dict[str, Arrays]:
    """The groups of a result that are computed from runs."""
    runs: Any = kept.runs
    groups: dict[str, Arrays] = {"runs": runs.values, "paths": runs.paths, "probes": kept.probes}
    groups["count"] = {
        name: np.asarray(moments.count, np.int64) for name, moments in values.items()
    }
    groups["mean"] = {name: _mean(moments) for name, moments in values.items()}
    groups["std"] = {name: _std(moments) for name, moments in values.items()}
    groups["quantile"] = {
        name: skip_nan(np.nanquantile, curves, q=QUANTILES) for name, curves in runs.values.items()
    }
    groups["sup_error"] = kept.sup_error
    groups["sup_error_count"] = {name: _compared(kept, name) for name in kept.sup_error}
    return groups


def _mean(moments: Moments) -> np.ndarray:
    return np.where(moments.count >= 1, moments.mean, np.nan)


def _std(moments: Moments) -> np.ndarray:
    spread = np.sqrt(moments.squares / np.maximum(moments.count - 1, 1))
    return np.where(moments.count >= 2, spread, np.nan)


def _compared(kept: Any, name: str) -> np.ndarray:
    """(run,) the number of times at which a run and the limit have a finite entry in common."""
    values, limit = kept.runs[name], kept.limit[name]
    found = np.isfinite(values) & np.isfinite(limit if limit.ndim == values.ndim else limit[None])
    return found.reshape(*found.shape[:2], -1).any(axis=2).sum(axis=1)


def _since(curves: Curves, records: Records) -> np.ndarray:
    """The nominal times, in 64 bits, from which on the codes hold; NaN for `Code.FINE`."""
    since = np.asarray(curves.since)[..., None]
    nearest = np.argmin(np.abs(records.nominal - np.where(np.isnan(since), 0, since)), axis=-1)
    return np.where(np.isnan(since[..., 0]), np.nan, records.nominal[nearest])
