"""The pure core of the engine: many runs of a system, its limit, and their comparison.

`ensemble` is a function of arrays: it jits, it vmaps over stacked systems, and its `limit` part
differentiates.  One program holds simulation and limit together.  Everything that looks at values
on the host, loops over chunks or draws a progress bar is in `hdjax.engine.drive`.
"""

from collections.abc import Callable
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
# On the device while the program runs, NumPy once collected.
Numbers = Array | np.ndarray
Values = dict[str, Any]


class Plan(eqx.Module):
    """What to run and what to look at.

    Array leaves may differ from point to point of a sweep; everything static belongs to the
    program.

    Attributes:
        ticks: (times,) the clock at the records.
        times: (times,) the recorded times, which belong to these ticks; the limit is evaluated
            there.
        nominal: (times,) the times that were asked for; paths and codes are told in them.
        method: how to simulate (a pytree, None for the family's default).
        statistics: pairs (name, function of (system, summary)), None for the system's own of that
            name.
        probes: pairs (name, function of (simulator, state, key)); the key depends on the run, on
            the probe's position and on the tick, and no draw of the simulator has it.
        paths: pairs (name, function of (times, values)).
        start: where the limit starts: the "law" of the start or each run's "realised" one; None
            for no limit.
        runs: whether to simulate at all.
        fluctuations: whether to predict standard deviations; None: where the theory gives them.
        horizon: what the system asks to know of the duration (`System.horizon`).
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
    horizon: Any = eqx.field(static=True, default=None)

    def evaluate(self, system: System, summary: Any) -> dict[str, Array]:
        """The chosen statistics of one summary."""
        own = system.statistics(summary)
        values = {
            name: own[name]
            if function is None
            else _as_array("statistics", name, function(system, summary))
            for name, function in self.statistics
        }
        return {name: value.astype(_inexact(value.dtype)) for name, value in values.items()}


class Curves(eqx.Module):
    """Statistics along time.

    Attributes:
        values: by name, (times, ...); NaN from the end of the run on, and where the statistic
            itself is not finite.
        paths: path statistics by name.
        alive: (times,) whether the run had not ended.
        code: how it ended, a `hdjax.codes.Code`; a statistic that is not finite does not end it.
        since: the nominal time from which on the code holds; NaN where all is fine.
    """

    values: Values
    paths: Values
    alive: Numbers
    code: Numbers
    since: Numbers


class Ensemble(eqx.Module):
    """What `ensemble` returns: arrays with leading axes runs, times.

    `limit` has a leading axis of runs for realised starts; `predicted_std` is in the layout of
    one limit curve.  Parts that were not asked for are None or empty.
    """

    runs: Curves | None
    limit: Curves | None
    sup_error: Values
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
        system: the system (traced leaves are fine).
        plan: what to run and record.
        key: the experiment's key; run r uses `fold_in(key, r)`, whoever shares its batch.
        run_ids: (runs,) which runs.
        batch_size: how many runs to advance side by side, the others in their turn (None: what
            the simulator likes best); the numbers drawn do not depend on it.

    Returns:
        Curves of all runs and of the limit, and sup over time of their distance.

    Example:
        >>> plan = make_plan(system, ts=[0.0, 1.0])
        >>> out = jax.jit(lambda s: ensemble(s, plan, jax.random.key(0), jnp.arange(8)))(system)
    """
    limit = limit_curves(system, plan, None) if plan.start == "law" else None
    if not plan.runs:
        return Ensemble(None, limit, {}, predicted_std(system, plan), {})
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
    return Ensemble(curves, limit, error, predicted_std(system, plan), probes)


def _map(function: Callable[[Array], Any], run_ids: Array, batch_size: int | None) -> Any:
    """`vmap` over the runs, in groups of equal size (a smaller last one would compile twice)."""
    runs = run_ids.shape[0]
    if batch_size is None or runs <= batch_size > 1:
        return jax.vmap(function)(run_ids)
    batch_size = max(size for size in range(1, batch_size + 1) if runs % size == 0)
    # A batch of one would be compiled as a batch, twice slower on a CPU.
    return jax.lax.map(function, run_ids, batch_size=batch_size if batch_size > 1 else None)


def trajectory(
    system: System, simulator: Simulator, plan: Plan, run_key: Key[Array, ""]
) -> tuple[Curves, dict[str, Array]]:
    """One run: its statistics and probes at the plan's ticks."""

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
    """The limit's statistics at the plan's times, from `start` (None: the law's)."""

    def save(summary: Any) -> tuple[dict[str, Array], Array]:
        return plan.evaluate(system, summary), jnp.where(system.alive(summary), 1.0, 0.0)

    found = system.limit(plan.times, start=start, horizon=plan.horizon, save=save)
    values, alive = found.values
    return _curves(plan, values, found.reached & (alive > 0), found.code)


def predicted_std(system: System, plan: Plan) -> dict[str, Array] | None:
    """Standard deviations that the theory predicts for the plan's real statistics, if wanted."""
    if plan.fluctuations is False:
        return None

    def real(summary: Any) -> dict[str, Array]:
        values = plan.evaluate(system, summary)
        return {name: value for name, value in values.items() if not jnp.iscomplexobj(value)}

    start = system.start() if plan.start == "realised" else None
    try:
        return system.fluctuations(plan.times, real, start=start, horizon=plan.horizon)
    except NoFluctuationsError:
        if plan.fluctuations:
            raise
        return None


def _curves(plan: Plan, values: dict[str, Array], alive: Array, code: Array) -> Curves:
    """Blank everything from the end of the run on, and what is not finite before it.

    `code` is that of a solver which stopped before; otherwise, what is not alive has diverged.
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
    """Sup over the times and entries at which both are finite; NaN where either side ended."""
    whole = run.alive.all() & limit.alive.all()

    def sup(name: str) -> Array:
        gap = jnp.abs(run.values[name] - limit.values[name])
        found = jnp.isfinite(gap)
        return jnp.where(whole & found.any(), jnp.where(found, gap, 0).max(), jnp.nan)

    return {name: sup(name) for name in run.values}


def _inexact(dtype: Any) -> Any:
    return dtype if jnp.issubdtype(dtype, jnp.inexact) else jnp.result_type(float)


def _as_array(kind: str, name: str, value: Any) -> Array:
    """What a function of the user's returned; anything but numbers fails before the run."""
    try:
        array = jnp.asarray(value)
    except (TypeError, ValueError):
        array = None
    if array is None or not array.size or not jnp.issubdtype(array.dtype, np.generic):
        raise TypeError(
            f"{kind}: {name!r} returns {value!r}; allowed: a number or an array with entries"
        )
    return array
