"""Named signs of failure, as path statistics: functions of (times, values).

What arXiv 2310.19793 warns of: slow growth near a saddle, oscillation, and being trapped.  The
engine evaluates them on every run and on the limit (`paths=`).
"""

import dataclasses
from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from hdjax.checks import check_arguments
from hdjax.registry import NonNegativeFloat, PositiveFloat, register


@register("multiindex.path", "slow_growth")
@dataclasses.dataclass(frozen=True)
class slow_growth:
    """The longest share of the path that a scalar statistic waits at a saddle before it moves on.

    A wait is a stretch of records within `tolerance` (times the whole range of the statistic) of
    its first one, from which the statistic moves on by five times as much afterwards: relaxing to
    the end is none.

    Args:
        statistic: its name.
        tolerance: relative to the range.

    Example:
        >>> waiting = slow_growth("loss")
    """

    statistic: str = "loss"
    tolerance: PositiveFloat = 0.02

    def __post_init__(self) -> None:
        check_arguments(slow_growth, **vars(self))

    def __call__(
        self, times: Float[Array, " times"], values: Mapping[str, Array]
    ) -> Float[Array, ""]:
        curve = values[self.statistic]
        near = self.tolerance * (curve.max() - curve.min())
        index = jnp.arange(len(curve))
        later = index[None, :] > index[:, None]
        moved = jnp.where(later, jnp.abs(curve[None, :] - curve[:, None]), 0)
        # The last record before the curve is away from where it was; no wait if it never goes far.
        left = jnp.argmax(moved > near, axis=1)
        ends = jnp.where(moved.max(axis=1) > 5 * near, left - 1, index)
        span = jnp.where(times[-1] > times[0], times[-1] - times[0], 1)
        return jnp.max(times[ends] - times) / span


@register("multiindex.path", "oscillation")
@dataclasses.dataclass(frozen=True)
class oscillation:
    """The largest fall of a statistic that should grow: 0 certifies monotone principal angles.

    Args:
        statistic: its name; of a vector, the largest over its entries.

    Example:
        >>> certificate = oscillation("cosines")
    """

    statistic: str = "cosines"

    def __call__(
        self, times: Float[Array, " times"], values: Mapping[str, Array]
    ) -> Float[Array, ""]:
        curve = values[self.statistic]
        return jnp.max(jax.lax.cummax(curve, axis=0) - curve)


@register("multiindex.path", "trapped")
@dataclasses.dataclass(frozen=True)
class trapped:
    """1 where the loss rests above `level` at the end: it changed by less than 1 % since 3/4 of it.

    Degenerate traps are approached algebraically, so that no tiny velocity is asked for.

    Args:
        level: of the loss, above which it is not solved.
        statistic: its name.

    Example:
        >>> stuck = trapped(0.01)
    """

    level: NonNegativeFloat
    statistic: str = "loss"

    def __post_init__(self) -> None:
        check_arguments(trapped, **vars(self))

    def __call__(
        self, times: Float[Array, " times"], values: Mapping[str, Array]
    ) -> Float[Array, ""]:
        curve = values[self.statistic]
        before = jnp.interp(times[0] + 0.75 * (times[-1] - times[0]), times, curve)
        rests = jnp.abs(curve[-1] - before) <= 0.01 * jnp.abs(before)
        return (rests & (curve[-1] > self.level)).astype(curve.dtype)
