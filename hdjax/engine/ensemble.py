"""The pure core of the engine: many runs of a system, its limit, and their comparison.

`ensemble` is a pure function of arrays: it can be jitted and vmapped over stacked systems, and its
limit can be differentiated.  One program holds simulation and limit together.  The code that reads
values on the host, loops over chunks and shows progress is in `hdjax.engine.drive`.
"""

from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, Key

from hdjax.checks import checked
from hdjax.codes import Code
from hdjax.engine.plan import Numbers, Plan, Values, as_array
from hdjax.engine.runs import Stops, advance, blank, shapes
from hdjax.registry import Size
from hdjax.system import NoFluctuationsError, System


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


class Theory(eqx.Module):
    """What the theory says without any run: the limit from the law of the start, and predictions.

    Attributes:
        limit: the curves of the limit (times, ...); None if the limit starts from realised starts.
        predicted_mean: as in `Ensemble`.
        predicted_std: as in `Ensemble`.
    """

    limit: Curves | None
    predicted_mean: Values | None
    predicted_std: Values | None


@checked
def ensemble(
    system: System,
    plan: Plan,
    key: Key[Array, ""],
    run_ids: Int[Array, " runs"],
    *,
    batch_size: Size | None = None,
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
    theory = predict(system, plan)
    if not plan.runs:
        return Ensemble(None, theory.limit, {}, theory.predicted_mean, theory.predicted_std, {})
    records = Stops(plan.ticks, jnp.arange(plan.ticks.shape[0]))
    start = blank(shapes(system, plan, key), key, run_ids.shape)
    stop = plan.ticks.shape[0]
    running = advance(system, plan, key, run_ids, start, records, 0, stop, batch_size=batch_size)
    fine = jnp.full(run_ids.shape, Code.FINE, jnp.int32)
    found = curves(plan, running.values, running.alive, fine)
    found = jax.vmap(partial(with_paths, plan))(found)
    own, error = own_limits(system, plan, running.start), {}
    if (limit := theory.limit if own is None else own) is not None:
        error = sup_errors(
            found, limit if own is not None else jax.tree.map(lambda x: x[None], limit)
        )
    return Ensemble(
        found, limit, error, theory.predicted_mean, theory.predicted_std, running.probes
    )


def predict(system: System, plan: Plan) -> Theory:
    """The limit from the law of the start, the predicted means and standard deviations."""
    limit = limit_curves(system, plan, None) if plan.start == "law" else None
    return Theory(limit, predicted_mean(system, plan, limit), predicted_std(system, plan))


def own_limits(system: System, plan: Plan, starts: Any) -> Curves | None:
    """The limits of runs from their realised starts; None if the plan does not ask for them.

    Args:
        system: the system.
        plan: the plan.
        starts: the summaries of the starts, with a leading axis of runs.
    """
    if plan.start != "realised":
        return None
    return jax.vmap(lambda start: limit_curves(system, plan, start))(starts)


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
    return with_paths(plan, curves(plan, values, found.reached & (alive > 0), found.code))


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


def curves(plan: Plan, values: Values, alive: Any, code: Any) -> Curves:
    """The curves of runs or limits, with NaN from their end on and where a value is not finite.

    Args:
        plan: the plan.
        values: the curve of each statistic, as JAX or as NumPy arrays, with any leading axes.
        alive: (..., times) whether the summary at each time was alive.
        code: (...) the code of the solver of a limit; if it is `Code.FINE`, a run or limit that is
            not alive at the end has diverged.
    """
    xp: Any = alive.__array_namespace__()
    alive = xp.cumulative_prod(xp.astype(alive, xp.int32), axis=-1).astype(bool)
    entries = {name: value.reshape(*alive.shape, -1) for name, value in values.items()}
    finite = alive
    for value in entries.values():
        finite = finite & xp.isfinite(value).all(axis=-1)
    end = alive.all(axis=-1)
    gaps = xp.where(finite.all(axis=-1), Code.FINE.value, Code.NOT_FINITE.value)
    code = xp.where(code == Code.FINE.value, Code.DIVERGED.value, code)
    code = xp.astype(xp.where(end, gaps, code), xp.int32)
    first = xp.where(end, xp.argmin(finite, axis=-1), xp.argmin(alive, axis=-1))
    nominal = xp.asarray(plan.nominal)
    since = xp.where(code == Code.FINE.value, xp.nan, nominal[first])

    def blank(name: str) -> Any:
        value = entries[name]
        good = alive[..., None] & xp.isfinite(value)
        return xp.where(good, value, xp.nan).astype(value.dtype).reshape(values[name].shape)

    return Curves({name: blank(name) for name in values}, {}, alive, code, since)


def with_paths(plan: Plan, found: Curves) -> Curves:
    """Curves with the path statistics of the plan.

    Args:
        plan: the plan.
        found: the curves of one run or limit.
    """
    paths = {
        name: as_array("paths", name, function(plan.nominal, found.values))
        for name, function in plan.paths
    }
    return eqx.tree_at(lambda curves: curves.paths, found, paths)


def sup_errors(runs: Curves, limit: Curves) -> Values:
    """Sup of |run - limit| over the times and entries at which both are finite.

    The value is NaN if the run or the limit ended early.

    Args:
        runs: the curves of runs, as JAX or as NumPy arrays, with any leading axes.
        limit: the curves of a limit, with leading axes that broadcast against those of the runs.
    """
    xp: Any = runs.alive.__array_namespace__()
    whole = runs.alive.all(axis=-1) & limit.alive.all(axis=-1)

    def sup(name: str) -> Any:
        gap = xp.abs(runs.values[name] - limit.values[name]).reshape(*whole.shape, -1)
        found = xp.isfinite(gap)
        most = xp.where(found, gap, 0).max(axis=-1)
        return xp.where(whole & found.any(axis=-1), most, xp.nan).astype(gap.dtype)

    return {name: sup(name) for name in runs.values}
