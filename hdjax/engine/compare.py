"""The functions `simulate`, `limit` and `compare`, which a user calls with a system and times.

All three use the same loop over jitted programs (`hdjax.engine.drive`) and return a `Result`.
`prepare` makes the plan of these programs, also for `hdjax.sweep`.
"""

import contextlib
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Key

from hdjax.checks import checked
from hdjax.codes import Code
from hdjax.engine.checkpoint import Kept, as_checkpoint
from hdjax.engine.collected import Collected
from hdjax.engine.contents import Records, contents
from hdjax.engine.drive import Experiment, prepared
from hdjax.engine.plan import Named, Plan
from hdjax.engine.progress import Progress
from hdjax.engine.result import QUANTILES, Result
from hdjax.layout import Contents, check_names, tree
from hdjax.registry import OneOf, Runs, Size
from hdjax.system import Method, System
from hdjax.times import as_times, nominal

Statistics = Sequence[str | tuple[str, Callable | None]] | Mapping[str, Callable | None] | None
Probes = Mapping[str, Callable]
Paths = Mapping[str, Callable]
Start = Annotated[str, OneOf("law", "realised")]
Keep = Annotated[str, OneOf("runs", "summary")]


@checked
def simulate(
    system: System,
    ts: Any,
    *,
    key: Key[Array, ""],
    runs: Runs,
    method: Any = None,
    statistics: Statistics = None,
    probes: Probes | None = None,
    paths: Paths | None = None,
    keep: Keep = "runs",
    chunk: Size | None = None,
    progress: bool | Callable = True,
    checkpoint: Kept | None = None,
    mesh: Mesh | None = None,
) -> Result:
    """Simulate `runs` realisations of `system` at finite d.

    Args:
        system: the system.
        ts: (times,) increasing times of the records, at least 0; the result is labelled by them.
            One-pass SGD records step k = floor(t d), up to the rounding of the dtype of `ts`.
        key: key of the experiment; run r draws from `fold_in(key, r)`.
        runs: number of realisations.
        method: how to simulate, e.g. `hd.streaming.Direct(dtype="float64")`; None: the default
            method of the system.
        statistics: names of statistics of the system, or a mapping from names to functions of
            (system, summary), where None stands for the system's own statistic of that name; by
            default all statistics of the system.
        probes: {name: function of (simulator, state, key)}, for quantities that no summary holds.
        paths: {name: function of (times, values)}, scalars of a whole path; see `hdjax.paths`.
        keep: "runs" keeps the curves of all runs; "summary" streams moments over all runs and keeps
            the curves of 1024 runs.
        chunk: number of runs that are computed side by side; None: as many as memory allows.
        progress: whether to show a progress bar over steps, if standard error is a terminal; or a
            function, which is called with what is done and left, as `hdjax.engine.progress` says.
        checkpoint: a directory, or a `Checkpoint`, in which finished chunks are kept while the
            experiment runs; the same call in another process goes on from there.
        mesh: the devices, a `jax.sharding.Mesh` with the axis "runs", over which the runs of a
            chunk are divided, and for a sweep the axis "points"; None: all devices of all
            processes, or on a CPU a single one if there is little to compute.

    Returns:
        A `Result` with the groups of runs (see `Result`).

    Raises:
        ValueError, TypeError: naming the argument, its value and what is allowed.

    Example:
        >>> result = simulate(system, [0.0, 1.0], key=jax.random.key(0), runs=8)
        >>> result.mean["risk"].shape
        (2,)
    """
    system.validate()
    plan, records = prepare(
        system, ts, method=method, statistics=statistics, probes=probes, paths=paths, start=None
    )
    collected = _driven(
        system,
        plan,
        key,
        runs,
        keep=keep,
        chunk=chunk,
        progress=progress,
        checkpoint=checkpoint,
        mesh=mesh,
    )
    measured = contents(system, plan, records, collected, kind="simulate", key=key, keep=keep)
    return Result(tree(measured, levels=QUANTILES))


@checked
def limit(
    system: System,
    ts: Any,
    *,
    statistics: Statistics = None,
    paths: Paths | None = None,
    fluctuations: bool = False,
    mean_correction: bool = False,
) -> Result:
    """Compute the deterministic equivalent of `system` at `ts`, from the law of its start.

    A statistic that is not finite at some records is NaN there, and a warning says so.

    Args:
        system: the system.
        ts: (times,) increasing times, at least 0.
        statistics: as for `simulate`.
        paths: as for `simulate`, evaluated on the limit.
        fluctuations: whether to predict the standard deviations of runs, without simulating any.
        mean_correction: whether to predict the means of runs to order 1/d.

    Returns:
        A `Result` with the groups `limit`, `paths_limit`, `codes` and, if they are asked for,
        `predicted_std` and `predicted_mean`.

    Raises:
        ValueError, TypeError: naming the argument, its value and what is allowed.
        NoLimitError: the system has no limit.
        NoFluctuationsError: `fluctuations` is True, and the theory does not cover the system.
        NoMeanCorrectionError: the same of `mean_correction`.
        FloatingPointError: the limit diverges, or its solver gives up, before the last time.

    Example:
        >>> limit(system, [0.0, 1.0]).limit["risk"].shape
        (2,)
    """
    system.validate(compared=True)
    plan, records = prepare(
        system,
        ts,
        statistics=statistics,
        paths=paths,
        runs=False,
        fluctuations=fluctuations,
        mean_correction=mean_correction,
    )
    collected = _driven(system, plan, jax.random.key(0), runs=0)
    measured = contents(system, plan, records, collected, kind="limit", key=None, keep="runs")
    _judge(measured)
    return Result(tree(measured))


@checked
def compare(
    system: System,
    ts: Any,
    *,
    key: Key[Array, ""],
    runs: Runs,
    start: Start = "law",
    method: Any = None,
    statistics: Statistics = None,
    probes: Probes | None = None,
    paths: Paths | None = None,
    fluctuations: bool | None = None,
    mean_correction: bool = False,
    keep: Keep = "runs",
    chunk: Size | None = None,
    progress: bool | Callable = True,
    checkpoint: Kept | None = None,
    mesh: Mesh | None = None,
) -> Result:
    """Simulate realisations, integrate the limit, and compare.

    Args:
        system: the system.
        ts: (times,) increasing times of the records; the limit is evaluated at the times that
            the simulator really records (k/d, `recorded_time` in the result).
        key: key of the experiment; run r draws from `fold_in(key, r)`.
        runs: number of realisations.
        start: "law": one limit, from the law of the start as d grows; "realised": one limit for
            each run, from the realised start of that run (needed where overlaps of order d^{-1/2}
            matter).
        method: as for `simulate`.
        statistics: as for `simulate`.
        probes: as for `simulate`.
        paths: as for `simulate`, evaluated on the limit too.
        fluctuations: whether to predict standard deviations; None: if the theory covers the system.
        mean_correction: whether to predict means to order 1/d, for a limit from the law of the
            start.
        keep: as for `simulate`.
        chunk: as for `simulate`.
        progress: as for `simulate`.
        checkpoint: as for `simulate`.
        mesh: as for `simulate`.

    Returns:
        A `Result` with the groups of runs, of the limit and of their distance (see `Result`).

    Raises:
        ValueError, TypeError: naming the argument, its value and what is allowed.
        NoLimitError: the system has no limit.
        NoFluctuationsError: `fluctuations` is True, and the theory does not cover the system.
        NoMeanCorrectionError: the same of `mean_correction`.

    Example:
        >>> result = compare(system, [0.0, 1.0], key=jax.random.key(0), runs=8)
        >>> float(result.sup_error["risk"].median()) < 1
        True
    """
    system.validate(compared=True, realised=start == "realised")
    plan, records = prepare(
        system,
        ts,
        method=method,
        statistics=statistics,
        probes=probes,
        paths=paths,
        start=start,
        fluctuations=fluctuations,
        mean_correction=mean_correction,
    )
    collected = _driven(
        system,
        plan,
        key,
        runs,
        keep=keep,
        chunk=chunk,
        progress=progress,
        checkpoint=checkpoint,
        mesh=mesh,
    )
    measured = contents(system, plan, records, collected, kind="compare", key=key, keep=keep)
    return Result(tree(measured, levels=QUANTILES))


def _driven(
    system: System,
    plan: Plan,
    key: Key[Array, ""],
    runs: int,
    *,
    keep: str = "runs",
    chunk: int | None = None,
    progress: bool | Callable = False,
    checkpoint: Kept | None = None,
    mesh: Mesh | None = None,
) -> Collected:
    """The loop over chunks for a single system."""
    experiment = Experiment([system], [plan], key, runs, keep)
    with (
        contextlib.closing(Progress(progress, experiment.steps, runs)) as counted,
        prepared(
            experiment,
            chunk=chunk,
            progress=counted,
            checkpoint=as_checkpoint(checkpoint),
            mesh=mesh,
        ) as loop,
    ):
        return loop.run()


@checked
def make_plan(system: System, ts: Any, **options: Any) -> Plan:
    """The plan of an experiment, which `hdjax.ensemble` takes.

    The ticks and times of the records are computed on the host in 64 bits.

    Args:
        system: the system.
        ts: (times,) increasing times of the records.
        **options: `method`, `statistics`, `probes`, `paths`, `fluctuations` and `mean_correction`
            as for `compare`; `start` as for `compare`, or None for no limit; `runs=False` for the
            limit alone.

    Raises:
        ValueError: times that do not increase, are negative or not finite; a path at a time that no
            record reaches; unknown statistics; names that are given twice or are no text; ticks
            beyond 2^31 without 64-bit integers.

    Example:
        >>> make_plan(system, [0.0, 1.0]).times.shape
        (2,)
    """
    return prepare(system, ts, **options)[0]


@checked
def prepare(
    system: System,
    ts: Any,
    *,
    method: Any = None,
    statistics: Statistics = None,
    probes: Probes | None = None,
    paths: Paths | None = None,
    start: Start | None = "law",
    runs: bool = True,
    fluctuations: bool | None = False,
    mean_correction: bool = False,
) -> tuple[Plan, Records]:
    """The plan of an experiment as in `make_plan`, and its ticks and times in 64 bits."""
    if mean_correction and isinstance(method, Method) and not method.exact:
        raise ValueError(
            f"mean_correction: True with {type(method).__name__}, whose means differ from those of "
            "the algorithm at order 1/d; allowed: a method that runs the algorithm itself"
        )
    if mean_correction and start != "law":
        raise ValueError(
            f"mean_correction: True with start={start!r}; allowed with start='law', because it is "
            "the mean over random starts"
        )
    ts = as_times(ts)
    horizon = system.horizon(ts, method)
    asked = nominal(ts)
    records = Records(np.zeros(len(ts), np.int64), asked, asked)
    if runs:
        simulator = system.simulator(method, horizon)
        ticks = simulator.clock.ticks(ts)
        records = Records(ticks, asked, simulator.clock.times(ticks))
        if ticks[-1] >= 2**31 and not jax.config.read("jax_enable_x64"):
            raise ValueError(
                f"ts: the last time is tick {ticks[-1]}; allowed: less than 2^31 ticks, or more "
                "after jax.config.update('jax_enable_x64', True)"
            )
    chosen = _statistics(system, statistics)
    paths, probes = paths or {}, probes or {}
    check_names(statistics=[name for name, _ in chosen], paths=paths, probes=probes)
    for path in paths.values():
        if hasattr(path, "check"):
            path.check(asked)
    if start is not None:
        system.review(records.recorded)
    dtype = jnp.result_type(float)
    plan = Plan(
        ticks=jnp.asarray(records.ticks),
        times=jnp.asarray(records.recorded, dtype),
        nominal=jnp.asarray(records.nominal, dtype),
        method=method,
        statistics=chosen,
        probes=tuple(probes.items()),
        paths=tuple(paths.items()),
        start=start,
        runs=runs,
        fluctuations=fluctuations,
        mean_correction=mean_correction,
        horizon=horizon,
    )
    return plan, records


def _judge(measured: Contents) -> None:
    """Raise FloatingPointError if a limit ended early, and warn of statistics with gaps."""
    codes = measured.groups["codes"]
    code = Code(int(codes["limit_code"]))
    if code not in (Code.FINE, Code.NOT_FINITE):
        since = float(codes["limit_since"])
        raise FloatingPointError(f"limit: not finite from t = {since:.4g} on: {code.advice}")
    for name in measured.attributes["statistics"]:
        gaps = np.isnan(measured.groups["limit"][name])
        gaps = gaps.reshape(len(gaps), -1).any(axis=1)
        if gaps.any():
            first = measured.times[gaps.argmax()]
            warnings.warn(
                f"statistics: {name!r} is not finite at {gaps.sum()} of {gaps.size} times of "
                f"the limit, the first t = {first:.4g}; it is NaN there",
                stacklevel=3,
            )


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
