"""The plan of an experiment: what is run and what is recorded."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from hdjax.system import System

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
            else as_array("statistics", name, function(system, summary))
            for name, function in self.statistics
        }
        return {name: value.astype(_inexact(value.dtype)) for name, value in values.items()}


def _inexact(dtype: Any) -> Any:
    return dtype if jnp.issubdtype(dtype, jnp.inexact) else jnp.result_type(float)


def as_array(kind: str, name: str, value: Any) -> Array:
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
