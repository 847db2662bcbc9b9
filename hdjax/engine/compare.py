"""`simulate`, `limit` and `compare`: what a user calls.

All three stand on one jitted program (`hdjax.engine.ensemble`) and return a `Result`.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array, Float, Key

from hdjax.engine.drive import KEPT_RUNS, Collected, drive
from hdjax.engine.ensemble import Named, Plan
from hdjax.engine.result import QUANTILES, Result, provenance
from hdjax.system import System

Statistics = Sequence[str | tuple[str, Callable]] | Mapping[str, Callable | None] | None
Probes = Mapping[str, Callable]
Paths = Mapping[str, Callable]


def simulate(
    system: System,
    ts: Any,
    *,
    key: Key[Array, ""],
    runs: int,
    method: Any = None,
    statistics: Statistics = None,
    probes: Probes | None = None,
    paths: Paths | None = None,
    keep: str = "runs",
    chunk: int | None = None,
    progress: bool = True,
) -> Result:
    """Run `runs` realisations of `system` at finite d.

    Args:
        system: what to run.
        ts: (times,) increasing times of the records, at least 0; k = floor(t d) for one-pass SGD.
        key: key of the experiment; run r draws from `fold_in(key, r)`.
        runs: how many realisations.
        method: how to simulate, e.g. `hd.streaming.Direct(dtype="float64")`; None is the default.
        statistics: names of the system's own statistics, or a mapping from names to functions of
            (system, summary) (None: the system's own of that name); default: all of its own.
        probes: {name: function of (simulator, state, key)} for what no summary holds.
        paths: {name: function of (times, values)}, scalars of a whole path; see `hdjax.paths`.
        keep: "runs" keeps every curve, "summary" streams moments and keeps 1024 runs' curves.
        chunk: runs side by side; None: what the device's memory allows.
        progress: a progress bar per chunk, when standard error is a terminal.

    Raises:
        ValueError, TypeError: naming the argument, its value and what is allowed.

    Example:
        >>> result = simulate(system, [0.0, 1.0], key=jax.random.key(0), runs=8)
        >>> result.mean("risk").shape
        (2,)
    """
    system.validate()
    plan = make_plan(
        system, ts, method=method, statistics=statistics, probes=probes, paths=paths, start=None
    )
    check_run(runs, keep, chunk, key)
    collected = drive([system], [plan], key, runs=runs, keep=keep, chunk=chunk, progress=progress)
    return Result(dataset(system, plan, collected, kind="simulate", key=key, keep=keep))


def limit(
    system: System, ts: Any, *, statistics: Statistics = None, paths: Paths | None = None
) -> Result:
    """The deterministic equivalent of `system` at `ts`, from the law of its start.

    Raises:
        NoLimitError: the system has no limit.
        FloatingPointError: the limit diverges or its solver gave up before the last time.

    Example:
        >>> limit(system, [0.0, 1.0]).limit("risk").shape
        (2,)
    """
    system.validate(compared=True)
    plan = make_plan(system, ts, statistics=statistics, paths=paths, start="law", runs=False)
    collected = drive([system], [plan], jax.random.key(0), runs=0, progress=False)
    data = dataset(system, plan, collected, kind="limit", key=None, keep="runs")
    stopped = float(data["limit_diverged_at"])
    if np.isfinite(stopped):
        raise FloatingPointError(
            f"limit: not finite from t = {stopped:.4g} on: it diverges (a learning rate above "
            "stability?) or its solver gave up (try a larger max_steps or ExponentialMidpoint())"
        )
    return Result(data)


def compare(
    system: System,
    ts: Any,
    *,
    key: Key[Array, ""],
    runs: int,
    start: str = "law",
    method: Any = None,
    statistics: Statistics = None,
    probes: Probes | None = None,
    paths: Paths | None = None,
    fluctuations: bool | None = None,
    keep: str = "runs",
    chunk: int | None = None,
    progress: bool = True,
) -> Result:
    """Simulate, integrate the limit, and compare, in one jitted program.

    Args:
        system: what to run.
        ts: (times,) increasing times of the records; the limit is evaluated at the times that
            the simulator really records (k/d).
        key: key of the experiment.
        runs: how many realisations.
        start: "law": one limit, from the law of the start as d grows; "realised": one limit for
            each run, from its own start (needed where overlaps of order d^-1/2 decide).
        method: how to simulate.
        statistics: as for `simulate`.
        probes: as for `simulate`.
        paths: as for `simulate`; evaluated on the limit too.
        fluctuations: also predict standard deviations; None: where the theory gives them.
        keep: as for `simulate`.
        chunk: as for `simulate`.
        progress: as for `simulate`.

    Raises:
        ValueError, TypeError: naming the argument, its value and what is allowed.
        NoLimitError, NoFluctuationsError: the system does not have what was asked for.

    Example:
        >>> result = compare(system, [0.0, 1.0], key=jax.random.key(0), runs=8)
        >>> float(result.sup_error("risk").median()) < 1
        True
    """
    if start not in ("law", "realised"):
        raise ValueError(f"start: {start!r}; allowed: 'law', 'realised'")
    system.validate(compared=True, realised=start == "realised")
    check_run(runs, keep, chunk, key)
    plan = make_plan(
        system,
        ts,
        method=method,
        statistics=statistics,
        probes=probes,
        paths=paths,
        start=start,
        fluctuations=fluctuations,
    )
    collected = drive([system], [plan], key, runs=runs, keep=keep, chunk=chunk, progress=progress)
    return Result(dataset(system, plan, collected, kind="compare", key=key, keep=keep))


def make_plan(
    system: System,
    ts: Any,
    *,
    method: Any = None,
    statistics: Statistics = None,
    probes: Probes | None = None,
    paths: Paths | None = None,
    start: str | None = "law",
    runs: bool = True,
    fluctuations: bool | None = False,
) -> Plan:
    """The plan of an experiment, with its clock made on the host in 64 bits.

    Raises:
        ValueError: times that do not increase, are negative or not finite; unknown statistics;
            ticks beyond 2^31 without 64-bit integers.
    """
    ts = check_times(ts)
    dtype = jnp.result_type(float)
    horizon = system.horizon(ts, method)
    if runs:
        simulator = system.simulator(method, horizon)
        ticks = np.asarray(simulator.ticks(ts), np.int64)
        times = np.asarray(simulator.times(ticks), np.float64)
        if ticks[-1] >= 2**31 and not jax.config.read("jax_enable_x64"):
            raise ValueError(
                f"ts: the last one is tick {ticks[-1]}, beyond 2^31; allowed: that many steps "
                "with jax.config.update('jax_enable_x64', True)"
            )
    else:
        ticks, times = np.zeros(len(ts), np.int64), ts
    chosen = _statistics(system, statistics)
    return Plan(
        ticks=jnp.asarray(ticks),
        times=jnp.asarray(times, dtype),
        method=method,
        statistics=chosen,
        probes=tuple((probes or {}).items()),
        paths=tuple((paths or {}).items()),
        start=start,
        runs=runs,
        fluctuations=fluctuations,
        horizon=horizon,
    )


def check_times(ts: Any) -> Float[np.ndarray, " times"]:
    """Increasing, finite, non-negative times as float64.

    Raises:
        ValueError: otherwise.
    """
    times = np.asarray(ts, np.float64)
    if times.ndim != 1 or times.size == 0:
        raise ValueError(f"ts: shape {times.shape}; allowed: a list of at least one time")
    if not np.isfinite(times).all() or times[0] < 0 or np.any(np.diff(times) <= 0):
        raise ValueError(f"ts: {ts}; allowed: finite, at least 0 and increasing")
    return times


def check_run(runs: int, keep: str, chunk: int | None, key: Any) -> None:
    """Raise ValueError or TypeError on a bad number of runs, keep, chunk or key."""
    if not isinstance(runs, int | np.integer) or runs < 1:
        raise ValueError(f"runs: {runs!r}; allowed: an integer of at least 1")
    if keep not in ("runs", "summary"):
        raise ValueError(f"keep: {keep!r}; allowed: 'runs', 'summary'")
    if chunk is not None and chunk < 1:
        raise ValueError(f"chunk: {chunk!r}; allowed: None or at least 1")
    if not (isinstance(key, jax.Array) and jnp.issubdtype(key.dtype, jax.dtypes.prng_key)):
        raise TypeError(f"key: {type(key).__name__}; allowed: a typed key, jax.random.key(seed)")


def _statistics(system: System, statistics: Statistics) -> Named:
    own = list(jax.eval_shape(lambda: system.statistics(system.start())))
    if statistics is None:
        return tuple((name, None) for name in own)
    if isinstance(statistics, Mapping):
        pairs: Named = tuple(statistics.items())
    else:
        pairs = tuple((s, None) if isinstance(s, str) else (s[0], s[1]) for s in statistics)
    for name, function in pairs:
        if function is None and name not in own:
            raise ValueError(f"statistics: {name!r}; allowed: {', '.join(own)}, or a function")
    if not pairs:
        raise ValueError("statistics: none; allowed: at least one")
    return pairs


def dataset(
    system: System,
    plan: Plan,
    collected: Collected,
    *,
    kind: str,
    key: Any,
    keep: str,
    point: int = 0,
) -> xr.Dataset:
    """What one point of `collected` measured, as a dataset (see `hdjax.engine.result`)."""
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
        count = streamed.count[f"value {names[0]}"]
        variables["count"] = ("time", count.reshape(len(count), -1)[:, 0].astype(np.int64))
        variables["diverged_at"] = ("run", kept.runs.diverged_at)
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
        variables["limit_diverged_at"] = (lead, kept.limit.diverged_at)
        for name, value in kept.limit.paths.items():
            add(f"path_{name}_limit", lead, value, f"path_{name}")
    for name, value in (kept.predicted_std or {}).items():
        add(f"{name}_predicted_std", ("time",), value, name)

    coords: dict[str, Any] = {"time": np.asarray(plan.times[:])}
    note = ""
    if kept.runs is not None:
        coords["run"] = np.arange(kept.runs.diverged_at.shape[0])
        coords["quantile"] = list(QUANTILES)
        if keep == "summary" and collected.runs > KEPT_RUNS:
            note = f"quantiles and single curves from the first {KEPT_RUNS} runs"
    about = [note]
    if kept.limit is not None:
        about.append(system.about_limit(**plan.duration))
    if kept.predicted_std:
        about.append(system.about_fluctuations(**plan.duration))
    note = "\n".join(filter(None, about))
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
        "note": note,
        **provenance(),
    }
    return xr.Dataset(variables, coords, attrs)


def _add_runs(add: Callable[..., None], name: str, kept: Any, streamed: Any) -> None:
    part = f"value {name}"
    values = kept.runs.values[name]
    add(name, ("run", "time"), values)
    add(f"{name}_mean", ("time",), _where(streamed.count[part], streamed.mean[part], 1), name)
    spread = np.sqrt(streamed.squares[part] / np.maximum(streamed.count[part] - 1, 1))
    add(f"{name}_std", ("time",), _where(streamed.count[part], spread, 2), name)
    with np.errstate(all="ignore"):
        quantiles = _quantiles(values)
    add(f"{name}_quantile", ("quantile", "time"), quantiles, name)
    if name in kept.sup_error:
        add(f"{name}_sup_error", ("run",), kept.sup_error[name], name)


def _where(count: np.ndarray, value: np.ndarray, least: int) -> np.ndarray:
    return np.where(count >= least, value, np.nan)


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
