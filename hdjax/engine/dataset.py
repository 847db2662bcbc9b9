"""What the engine collected, as a dataset (see `hdjax.engine.result`)."""

import json
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
import xarray as xr
from jaxtyping import Float, Int

from hdjax.engine.drive import KEPT_RUNS, Collected
from hdjax.engine.ensemble import Curves, Plan
from hdjax.engine.result import QUANTILES, provenance
from hdjax.system import System


class Records(NamedTuple):
    """The clock of an experiment on the host, in 64 bits.

    Attributes:
        ticks: (times,) the simulator's clock at the records.
        nominal: (times,) the times that were asked for, which label the result.
        recorded: (times,) the times of the ticks, at which the limit is evaluated.
    """

    ticks: Int[np.ndarray, " times"]
    nominal: Float[np.ndarray, " times"]
    recorded: Float[np.ndarray, " times"]


def dataset(
    system: System,
    plan: Plan,
    records: Records,
    collected: Collected,
    *,
    kind: str,
    key: Any,
    keep: str,
    point: int = 0,
) -> xr.Dataset:
    """What one point of `collected` measured.

    Args:
        system: what was run.
        plan: its plan.
        records: the plan's clock.
        collected: what all points measured.
        kind: "simulate", "limit", "compare" or "sweep".
        key: the experiment's key, if there are runs.
        keep: as for `compare`.
        point: which of the points.
    """
    kept = jax.tree.map(lambda x: x[point], collected.kept)
    variables: dict[str, Any] = {}
    names = [name for name, _ in plan.statistics]

    def add(name: str, dims: tuple[str, ...], value: Any, stem: str | None = None) -> None:
        value = np.asarray(value)
        extra = tuple(f"{stem or name}_{i}" for i in range(value.ndim - len(dims)))
        label = system.labels.get(stem or name, stem or name)
        for part, array in _real_parts(value):
            variables[name + part] = (dims + extra, array, {"long_name": label})

    if kept.runs is not None:
        streamed = jax.tree.map(lambda x: x[point], collected.streamed)
        for name in names:
            _add_runs(add, name, kept, streamed)
        variables["count"] = ("time", streamed.count["alive"].astype(np.int64))
        variables["diverged_at"] = ("run", _end(kept.runs, records))
        for name, value in kept.runs.paths.items():
            add(f"path_{name}", ("run",), value)
        for name, value in kept.probes.items():
            add(f"probe_{name}", ("run", "time"), value)
        if keep == "summary":
            for name in kept.sup_error:
                part = f"sup_error {name}"
                n = streamed.count[part][0]
                variables[f"{name}_sup_error_mean"] = ((), streamed.mean[part][0])
                spread = np.sqrt(streamed.squares[part][0] / np.maximum(n - 1, 1))
                variables[f"{name}_sup_error_std"] = ((), spread)
    if kept.limit is not None:
        lead = ("run",) if kept.limit.diverged_at.ndim else ()
        for name in names:
            add(f"{name}_limit", (*lead, "time"), kept.limit.values[name], name)
        end, gave_up = _end(kept.limit, records), kept.limit.gave_up
        variables["limit_diverged_at"] = (lead, np.where(gave_up, np.nan, end))
        variables["limit_gave_up_at"] = (lead, np.where(gave_up, end, np.nan))
        for name, value in kept.limit.paths.items():
            add(f"path_{name}_limit", lead, value, f"path_{name}")
    for name, value in (kept.predicted_std or {}).items():
        add(f"{name}_predicted_std", ("time",), value, name)

    coords: dict[str, Any] = {"time": records.nominal, "recorded_time": ("time", records.recorded)}
    if kept.runs is not None:
        coords["run"] = np.arange(kept.runs.diverged_at.shape[0])
        coords["quantile"] = list(QUANTILES)
    seconds: dict[str, float | None] = {
        name: round(value, 4) for name, value in collected.seconds.items()
    }
    if kind == "limit":
        seconds = {"compile": seconds["compile"], "simulate": None, "limit": seconds["simulate"]}
    else:
        # Simulation and limit are one program: their time is measured together.
        seconds["limit"] = None
    attrs = {
        "kind": kind,
        "family": system.family,
        "statistics": json.dumps(names),
        "paths": json.dumps([name for name, _ in plan.paths]),
        "probes": json.dumps([name for name, _ in plan.probes]),
        "runs": collected.runs,
        "keep": keep,
        "start": plan.start or "",
        "time_label": system.time_label,
        "config": "",
        "seed": "" if key is None else str(jax.random.key_data(key).tolist()),
        "seconds": json.dumps(seconds),
        "interrupted": int(collected.interrupted),
        "note": "\n".join(filter(None, _notes(system, plan, records, kept, keep, collected.runs))),
        **provenance(),
    }
    return xr.Dataset(variables, coords, attrs)


def _notes(
    system: System, plan: Plan, records: Records, kept: Any, keep: str, runs: int
) -> Iterator[str]:
    """What a reader of the numbers should know, a line each."""
    if kept.runs is not None and keep == "summary" and runs > KEPT_RUNS:
        yield f"quantiles and single curves from the first {KEPT_RUNS} runs"
    if kept.limit is None:
        return
    about = system.about(plan.horizon)
    yield about.get("limit", "")
    if kept.predicted_std:
        yield about.get("fluctuations", "")
    for name, spread in (kept.predicted_std or {}).items():
        # Where the limit has a value and its spread has none.
        finite = np.isfinite(kept.limit.values[name])
        finite = finite.all(axis=0) if kept.limit.diverged_at.ndim else finite
        missing = (finite & ~np.isfinite(spread)).reshape(len(spread), -1).any(axis=1)
        if missing.any():
            first = records.nominal[np.argmax(missing)]
            yield (
                f"no predicted spread of {name} at {missing.sum()} of {len(missing)} times, first "
                f"at t = {first:.4g}: theory has none, or its solver gave up (a larger rtol or "
                "max_steps?)"
            )


def _add_runs(add: Callable[..., None], name: str, kept: Any, streamed: Any) -> None:
    part = f"value {name}"
    values, count = kept.runs.values[name], streamed.count[part]
    add(name, ("run", "time"), values)
    add(f"{name}_count", ("time",), count.astype(np.int64), name)
    add(f"{name}_mean", ("time",), np.where(count >= 1, streamed.mean[part], np.nan), name)
    spread = np.sqrt(streamed.squares[part] / np.maximum(count - 1, 1))
    add(f"{name}_std", ("time",), np.where(count >= 2, spread, np.nan), name)
    with np.errstate(all="ignore"):
        quantiles = _quantiles(values)
    add(f"{name}_quantile", ("quantile", "time"), quantiles, name)
    if name in kept.sup_error:
        add(f"{name}_sup_error", ("run",), kept.sup_error[name], name)
        limit = kept.limit.values[name]
        found = np.isfinite(values) & np.isfinite(
            limit if limit.ndim == values.ndim else limit[None]
        )
        found = found.reshape(*found.shape[:2], -1).any(axis=2).sum(axis=1)
        add(f"{name}_sup_error_count", ("run",), found, name)


def _end(curves: Curves, records: Records) -> np.ndarray:
    """The nominal time from which on a run or a limit has ended; NaN where it has not."""
    alive = np.asarray(curves.alive)
    return np.where(alive.all(axis=-1), np.nan, records.nominal[alive.argmin(axis=-1)])


def _quantiles(values: np.ndarray) -> np.ndarray:
    """Quantiles over the finite runs; NaN where none is left."""
    if np.iscomplexobj(values):
        return _quantiles(np.real(values)) + 1j * _quantiles(np.imag(values))
    safe = np.where(np.isfinite(values).any(axis=0), values, 0.0)
    quantiles = np.nanquantile(safe, QUANTILES, axis=0)
    return np.where(np.isfinite(values).any(axis=0), quantiles, np.nan)


def _real_parts(value: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """NetCDF has no complex numbers: real and imaginary parts are variables of their own."""
    if np.iscomplexobj(value):
        return [("", np.real(value)), ("_imag", np.imag(value))]
    return [("", value)]
