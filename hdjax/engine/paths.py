"""Path statistics: scalars of a whole path, such as hitting times, as functions of (times, values).

The engine evaluates path statistics on every run and on the limit.  `times` are the nominal times
of the records, which label the result.  `values` maps the names of statistics to their curves
(times, ...), which hold NaN after a divergence and where the statistic is not finite.  Any function
with this signature is a path statistic.  Those here are frozen dataclasses, so that two equal ones
share a compiled program.  If a path statistic has a method `check(times)`, the engine calls it
before anything is run.
"""

import dataclasses
from collections.abc import Mapping

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from hdjax.checks import checked
from hdjax.registry import Real, register
from hdjax.times import as_time, is_at, record_at


@register("path", "hitting_time")
@checked
@dataclasses.dataclass(frozen=True)
class hitting_time:
    """The first time at which a scalar statistic reaches `level`, from either side; inf if never.

    The curve is linear between neighbouring records with finite values.

    Args:
        statistic: the name of the statistic.
        level: the level.

    Raises:
        ValueError: on evaluation: there is no such statistic, or it is no real scalar.

    Example:
        >>> half = hitting_time("risk", 0.5)
    """

    statistic: str
    level: Real

    def __call__(
        self, times: Float[Array, " times"], values: Mapping[str, Array]
    ) -> Float[Array, ""]:
        gap = _scalar(values, self.statistic) - self.level
        finite = jnp.isfinite(gap)
        first = jnp.argmax(finite)
        crossed = finite & (jnp.sign(gap) != jnp.sign(gap[first]))
        after = jnp.argmax(crossed)
        index = jnp.arange(gap.shape[0])
        before = jnp.max(jnp.where(finite & (index < after), index, 0))
        share = gap[before] / (gap[before] - gap[after])
        inside = times[before] + share * (times[after] - times[before])
        inf = jnp.asarray(jnp.inf, times.dtype)
        reached = jnp.where(crossed.any(), inside.astype(times.dtype), inf)
        return jnp.where(gap[first] == 0, times[first], reached)


@register("path", "value_at")
@checked
@dataclasses.dataclass(frozen=True)
class value_at:
    """The value of a scalar statistic at time `t`: that of the record of this nominal time.

    Between records the curve is linear, and outside of all records the value is NaN.

    Args:
        statistic: the name of the statistic.
        t: the time; an experiment refuses a time before its first or after its last record.

    Raises:
        ValueError: `t` is no number; on evaluation: there is no such statistic, or it is no real
            scalar.

    Example:
        >>> final = value_at("risk", 10.0)
    """

    statistic: str
    t: Real

    def __post_init__(self) -> None:
        # A Python number is static in the program, whatever the type of `t` was.
        object.__setattr__(self, "t", as_time(self.t))

    def check(self, times: Float[np.ndarray, " times"]) -> None:
        """Raise ValueError unless `t` is the time of a record or between the times of two."""
        if not times[0] < self.t < times[-1]:
            record_at(times, self.t)

    def __call__(
        self, times: Float[Array, " times"], values: Mapping[str, Array]
    ) -> Float[Array, ""]:
        curve = _scalar(values, self.statistic)
        between = jnp.interp(self.t, times, curve, left=jnp.nan, right=jnp.nan)
        nearest = jnp.argmin(jnp.abs(times - self.t))
        return jnp.where(is_at(times, self.t)[nearest], curve[nearest], between)


@register("path", "plateau")
@checked
@dataclasses.dataclass(frozen=True)
class plateau:
    """The time that a scalar statistic spends between two levels: the length of a plateau.

    The curve is linear between neighbouring records.  An interval between two records does not
    count if the statistic is not finite at one of them.

    Args:
        statistic: the name of the statistic.
        low: the lower level.
        high: the upper level, above `low`.

    Raises:
        ValueError: `low` is not below `high`; on evaluation: there is no such statistic, or it is
            no real scalar.

    Example:
        >>> stuck = plateau("risk", low=0.2, high=0.3)
    """

    statistic: str
    low: Real
    high: Real

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise ValueError(f"low, high: {self.low}, {self.high}; allowed: low < high")

    def __call__(
        self, times: Float[Array, " times"], values: Mapping[str, Array]
    ) -> Float[Array, ""]:
        curve = _scalar(values, self.statistic)
        inside = jnp.clip(curve, self.low, self.high)
        moved, within = jnp.abs(jnp.diff(curve)), jnp.abs(jnp.diff(inside))
        level = (curve[:-1] == inside[:-1]).astype(curve.dtype)
        share = jnp.where(moved > 0, within / jnp.where(moved > 0, moved, 1), level)
        finite = jnp.isfinite(curve)
        counted = finite[:-1] & finite[1:]
        return jnp.sum(jnp.where(counted, share * jnp.diff(times), 0)).astype(times.dtype)


@register("path", "first_bad_time")
@checked
@dataclasses.dataclass(frozen=True)
class first_bad_time:
    """The first nominal time at which a statistic is not finite; inf if it is finite at all times.

    Args:
        statistic: the name of the statistic, which may be a vector or matrix.

    Raises:
        ValueError: on evaluation: there is no such statistic.

    Example:
        >>> blow_up = first_bad_time("risk")
    """

    statistic: str

    def __call__(
        self, times: Float[Array, " times"], values: Mapping[str, Array]
    ) -> Float[Array, ""]:
        curve = _curve(values, self.statistic)
        bad = ~jnp.isfinite(curve.reshape(curve.shape[0], -1)).all(axis=1)
        inf = jnp.asarray(jnp.inf, times.dtype)
        return jnp.where(bad.any(), times[jnp.argmax(bad)], inf)


def _curve(values: Mapping[str, Array], statistic: str) -> Array:
    if statistic not in values:
        raise ValueError(f"statistic: {statistic!r}; allowed: {', '.join(values)}")
    return values[statistic]


def _scalar(values: Mapping[str, Array], statistic: str) -> Float[Array, " times"]:
    curve = _curve(values, statistic)
    if curve.ndim != 1 or jnp.iscomplexobj(curve):
        raise ValueError(
            f"statistic: {statistic!r} of shape {curve.shape[1:]}, {curve.dtype}; allowed: a real "
            "scalar (give an entry of it as a statistic of its own)"
        )
    return curve
