"""The pure core of the engine: many runs of a system, its limit, and their comparison.

`ensemble` is a pure function of arrays: it can be jitted and vmapped over stacked systems, and its
limit can be differentiated.  One program holds simulation and limit together.  The code that reads
values on the host, loops over chunks and shows progress is in `hdjax.engine.drive`.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from hdjax import random
from hdjax.codes import Code
from hdjax.random import Stream
from hdjax.system import NoFluctuationsError, Simulator, System

Named = tuple[tuple[str, Any], ...]
# Arrays are on the device while the program runs, and NumPy arrays after they were collected.
Numbers = Array | np.ndarray
Values = dict[str, Any]


class Plan(eqx.Module):
    """The plan of an experiment: what is run and what is recorded (made by `hdjax.make_plan`).

    The array leaves may differ between the points of a sweep; the static fields belong to the
    compiled program.

    Attributes:
        ticks: (times,) the ticks of the records.
        times: (times,) the recorded times, those of the ticks, at which the limit is evaluated.
        nominal: (times,) the times that the user gave; path statistics and codes use them.
        method: the method of simulation, a pytree; None for the default method of the system.
        statistics: pairs (name, function of (system, summary)), with None in place of the function
            for the system's own statistic of that name.
        probes: pairs (name, function of (simulator, state, key)); the key depends on the run, on
            the position of the probe and on the tick, and the simulator never draws from it.
        paths: pairs (name, function of (times, values)).
        start: where the limit starts: from the "law" of the start or from the "realised" start of
            each run; None for no limit.
        runs: whether runs are simulated.
        fluctuations: whether to predict standard deviations; None: if the theory covers the system.
        mean_correction: whether to predict means to order 1/d.
        horizon: the value of `System.horizon` for the times of the records.
    """

    ticks: Int[Array, " times"]
    times: Float[Array, " times"]
    nominal: Float[Array, " times"]
    method: Any = None
    statistics: Named = eqx.field(static=True, default=())
    probes: Named = eqx.field(static=True, default=())
    paths: Named = eqx.field(static=True, default=())
    start: str | None = eqx.field(static=True, default="law")
    runs: bool = eqx.field(static=True, default=True)
    fluctuations: bool | None = eqx.field(static=True, default=False)
    mean_correction: bool = eqx.field(static=True, default=False)
    horizon: Any = eqx.field(static=True, default=None)

    def evaluate(self, system: System, summary: Any) -> dict[str, Array]:
        """The statistics of the plan, evaluated on one summary of a run or of the limit."""
        own = system.statistics(summary)
        values = {
            name: own[name]
            if function is None
            else _as_array("statistics", name, function(system, summary))
            for name, function in self.statistics
        }
        return {name: value.astype(_inexact(value.dtype)) for name, value in values.items()}


class Curves(eqx.Module):
    """The statistics of a run, or of a limit, along time; `curves[name]` is one of them.

    Attributes:
        values: the curve (times, ...) of each statistic; NaN from the end of the run on, and where
            the statistic is not finite.
        paths: the path statistics by name.
        alive: (times,) whether the run had not ended.
        code: how the run ended, a `hdjax.codes.Code`; a statistic that is not finite does not end
            a run.
        since: the nominal time from which on the code holds; NaN for `Code.FINE`.
    """

    values: Values
    paths: Values
    alive: Numbers
    code: Numbers
    since: Numbers

    def __getitem__(self, name: str) -> Any:
        """The curve (times, ...) of a statistic, with the leading axes of these curves."""
        if name not in self.values:
            raise KeyError(f"{name!r}; allowed: {', '.join(map(repr, self.values))}")
        return self.values[name]


class Ensemble(eqx.Module):
    """The return value of `ensemble`; parts that were not asked for are None or empty.

    Attributes:
        runs: the curves of the runs, with leading axes (runs, times).
        limit: the curves of the limit (times, ...); with realised starts (runs, times, ...).
        sup_error: for each statistic (runs,) the sup over times and entries of |run - limit|.
        predicted_mean: for each statistic (times, ...) its predicted mean.
        predicted_std: for each statistic (times, ...) its predicted standard deviation.
        probes: the probes, with leading axes (runs, times).
    """

    runs: Curves | None
    limit: Curves | None
    sup_error: Values
    predicted_mean: Values | None
    predicted_std: Values | None
    probes: Values


def ensemble(
    system: System,
    plan: Plan,
    key: Key[Array, ""],
    run_ids: Int[Array, " runs"],
    *,
    batch_size: int | None = None,
) -> Ensemble:
    """Simulate the runs `run_ids` of `system`, evaluate its limit, and compare.

    Args:
        system: the system; its leaves may be traced.
        plan: what is run and recorded (`hdjax.make_plan`).
        key: the key of the experiment; run r uses `fold_in(key, r)`, in whatever batch it is.
        run_ids: (runs,) the numbers of the runs.
        batch_size: number of runs that are advanced side by side, one batch after the other; None:
            what the simulator prefers (`Simulator.side_by_side`).  The draws do not depend on it.

    Returns:
        The curves of the runs and of the limit, the sup over time of their distance, the predicted
        means and standard deviations, and the probes.

    Example:
        >>> plan = make_plan(system, ts=[0.0, 1.0])
        >>> out = jax.jit(lambda s: ensemble(s, plan, jax.random.key(0), jnp.arange(8)))(system)
        >>> out.runs["risk"].shape, out.limit["risk"].shape
        ((8, 2), (2,))
    """
    limit = limit_curves(system, plan, None) if plan.start == "law" else None
    if not plan.runs:
        means = predicted_mean(system, plan, limit)
        return Ensemble(None, limit, {}, means, predicted_std(system, plan), {})
    simulator = system.simulator(plan.method, plan.horizon)

    def one(run: Int[Array, ""]) -> tuple[Curves, dict[str, Array], Any]:
        run_key = random.at(key, run)
        start = simulator.summary(simulator.init(run_key)) if plan.start == "realised" else None
        return *trajectory(system, simulator, plan, run_key), start

    batch_size = simulator.side_by_side() if batch_size is None else batch_size
    curves, probes, starts = _map(one, run_ids, batch_size)
    error = {}
    if plan.start == "realised":
        limit = jax.vmap(lambda start: limit_curves(system, plan, start))(starts)
        error = jax.vmap(_sup_error)(curves, limit)
    elif limit is not None:
        error = jax.vmap(_sup_error, in_axes=(0, None))(curves, limit)
    means = predicted_mean(system, plan, limit)
    return Ensemble(curves, limit, error, means, predicted_std(system, plan), probes)


def _map(function: Callable[[Array], Any], run_ids: Array, batch_size: int | None) -> Any:
    """`vmap` over the runs, in batches of equal size.

    A smaller last batch would need another compilation.
    """
    runs = run_ids.shape[0]
    if batch_size is None or runs <= batch_size > 1:
        return jax.vmap(function)(run_ids)
    batch_size = max(size for size in range(1, batch_size + 1) if runs % size == 0)
    # With an axis of length one the program would be twice as slow on a CPU.
    return jax.lax.map(function, run_ids, batch_size=batch_size if batch_size > 1 else None)


def trajectory(
    system: System, simulator: Simulator, plan: Plan, run_key: Key[Array, ""]
) -> tuple[Curves, dict[str, Array]]:
    """The statistics and the probes of one run at the ticks of the plan."""

    def record(carry: tuple[Any, Array], tick: Array) -> tuple[Any, Any]:
        state, last = carry
        state = simulator.advance(state, last, tick, run_key)
        summary = simulator.summary(state)
        probes = {
            name: _as_array(
                "probes",
                name,
                probe(simulator, state, random.at(random.at(probes_key, position), tick)),
            )
            for position, (name, probe) in enumerate(plan.probes)
        }
        return (state, tick), (plan.evaluate(system, summary), system.alive(summary), probes)

    probes_key = random.stream(run_key, Stream.PROBES)
    start = (simulator.init(run_key), jnp.zeros((), plan.ticks.dtype))
    _, (values, alive, probes) = jax.lax.scan(record, start, plan.ticks)
    return _curves(plan, values, alive, jnp.asarray(Code.FINE, jnp.int32)), probes


def limit_curves(system: System, plan: Plan, start: Any) -> Curves:
    """The statistics of the limit at the times of the plan.

    Args:
        system: the system.
        plan: the plan.
        start: the summary from which the limit starts; None: the law of the start.
    """

    def save(summary: Any) -> tuple[dict[str, Array], Array]:
        return plan.evaluate(system, summary), jnp.where(system.alive(summary), 1.0, 0.0)

    found = system.limit(plan.times, start=start, horizon=plan.horizon, save=save)
    values, alive = found.values
    return _curves(plan, values, found.reached & (alive > 0), found.code)


def predicted_mean(system: System, plan: Plan, limit: Curves | None) -> dict[str, Array] | None:
    """The limit of the real statistics plus their corrections; None if the plan does not ask.

    Raises:
        NoMeanCorrectionError: the plan asks for them, and the theory does not cover the system.
    """
    if not plan.mean_correction or limit is None:
        return None
    real = partial(_real, system, plan)
    found = system.mean_correction(plan.times, real, horizon=plan.horizon)
    return {name: limit[name] + correction for name, correction in found.items()}


def _real(system: System, plan: Plan, summary: Any) -> dict[str, Array]:
    """The real statistics of the plan, evaluated on a summary."""
    values = plan.evaluate(system, summary)
    return {name: value for name, value in values.items() if not jnp.iscomplexobj(value)}


def predicted_std(system: System, plan: Plan) -> dict[str, Array] | None:
    """The standard deviations that the theory predicts for the real statistics of the plan.

    None if the plan does not ask for them, or if it leaves the choice to the theory, which does not
    cover the system.

    Raises:
        NoFluctuationsError: the plan asks for them, and the theory does not cover the system.
    """
    if plan.fluctuations is False:
        return None
    real = partial(_real, system, plan)
    start = system.start() if plan.start == "realised" else None
    try:
        return system.fluctuations(plan.times, real, start=start, horizon=plan.horizon)
    except NoFluctuationsError:
        if plan.fluctuations:
            raise
        return None


def _curves(plan: Plan, values: dict[str, Array], alive: Array, code: Array) -> Curves:
    """The curves of a run or limit, with NaN from its end on and where a value is not finite.

    Args:
        plan: the plan.
        values: the curve of each statistic.
        alive: (times,) whether the summary at each time was alive.
        code: the code of the solver of a limit; if it is `Code.FINE`, a run or limit that is not
            alive at the end has diverged.
    """
    alive = jnp.cumprod(alive.astype(jnp.int32)).astype(bool)
    finite = alive
    for value in values.values():
        finite = finite & jnp.isfinite(value.reshape(value.shape[0], -1)).all(axis=1)
    gaps = jnp.where(finite.all(), Code.FINE, Code.NOT_FINITE)
    code = jnp.where(code == Code.FINE, Code.DIVERGED, code)
    code = jnp.where(alive.all(), gaps, code).astype(jnp.int32)
    first = jnp.where(alive.all(), jnp.argmin(finite), jnp.argmin(alive))
    since = jnp.where(code == Code.FINE, jnp.nan, plan.nominal[first])

    def blank(value: Array) -> Array:
        mask = alive.reshape(alive.shape + (1,) * (value.ndim - 1))
        return jnp.where(mask & jnp.isfinite(value), value, jnp.nan)

    values = {name: blank(value) for name, value in values.items()}
    paths = {name: function(plan.nominal, values) for name, function in plan.paths}
    return Curves(values, paths, alive, code, since)


def _sup_error(run: Curves, limit: Curves) -> dict[str, Array]:
    """Sup of |run - limit| over the times and entries at which both are finite.

    The value is NaN if the run or the limit ended early.
    """
    whole = run.alive.all() & limit.alive.all()

    def sup(name: str) -> Array:
        gap = jnp.abs(run.values[name] - limit.values[name])
        found = jnp.isfinite(gap)
        return jnp.where(whole & found.any(), jnp.where(found, gap, 0).max(), jnp.nan)

    return {name: sup(name) for name in run.values}


def _inexact(dtype: Any) -> Any:
    return dtype if jnp.issubdtype(dtype, jnp.inexact) else jnp.result_type(float)


def _as_array(kind: str, name: str, value: Any) -> Array:
    """The return value of a function of the user as an array; refused if it holds no numbers."""
    try:
        array = jnp.asarray(value)
    except (TypeError, ValueError):
        array = None
    if array is None or not array.size or not jnp.issubdtype(array.dtype, np.generic):
        raise TypeError(
            f"{kind}: {name!r} returns {value!r}; allowed: a number or an array with entries"
        )
    return array
