"""Scalars of a whole path, such as hitting times: functions of (times, values).

`values` maps the names of statistics to their curves (times, ...); after a divergence they hold
NaN.  Any function with this signature serves; those here are frozen, so that using one twice does
not compile twice.  The engine evaluates them on every run and on the limit.
"""

import dataclasses
from collections.abc import Mapping

import jax.numpy as jnp
from jaxtyping import Array, Float


@dataclasses.dataclass(frozen=True)
class hitting_time:
    """The first time at which a scalar statistic reaches `level`, from either side; inf if never.

    Between records the curve is taken as linear.

    Args:
        statistic: its name.
        level: the level.

    Example:
        >>> half = hitting_time("risk", 0.5)
    """

    statistic: str
    level: float

    def __call__(
        self, times: Float[Array, " times"], values: Mapping[str, Array]
    ) -> Float[Array, ""]:
        gap = values[self.statistic] - self.level
        crossed = jnp.sign(gap[1:]) != jnp.sign(gap[0])
        crossed = crossed & jnp.isfinite(gap[1:])
        after = jnp.argmax(crossed) + 1
        share = gap[after - 1] / (gap[after - 1] - gap[after])
        inside = times[after - 1] + share * (times[after] - times[after - 1])
        inf = jnp.asarray(jnp.inf, times.dtype)
        reached = jnp.where(crossed.any(), inside.astype(times.dtype), inf)
        return jnp.where(gap[0] == 0, times[0], reached)


@dataclasses.dataclass(frozen=True)
class value_at:
    """The value of a scalar statistic at time `t`, linear between records.

    Args:
        statistic: its name.
        t: the time, within the recorded range (NaN outside).

    Example:
        >>> final = value_at("risk", 10.0)
    """

    statistic: str
    t: float

    def __call__(
        self, times: Float[Array, " times"], values: Mapping[str, Array]
    ) -> Float[Array, ""]:
        return jnp.interp(self.t, times, values[self.statistic], left=jnp.nan, right=jnp.nan)


@dataclasses.dataclass(frozen=True)
class first_bad_time:
    """The first recorded time at which a statistic is not finite; inf if it always is.

    Args:
        statistic: its name.

    Example:
        >>> blow_up = first_bad_time("risk")
    """

    statistic: str

    def __call__(
        self, times: Float[Array, " times"], values: Mapping[str, Array]
    ) -> Float[Array, ""]:
        curve = values[self.statistic]
        bad = ~jnp.isfinite(curve.reshape(curve.shape[0], -1)).all(axis=1)
        inf = jnp.asarray(jnp.inf, times.dtype)
        return jnp.where(bad.any(), times[jnp.argmax(bad)], inf)
