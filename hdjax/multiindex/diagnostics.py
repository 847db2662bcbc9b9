"""Signs that gradient flow fails, as path statistics: functions of (times, values of statistics).

They measure slow growth near a saddle, oscillation, and trapping, the failures that the analysis
of arXiv 2310.19793 leads one to look for.  The engine evaluates them on every run and on the limit
(the argument `paths` of `hdjax.compare`).
"""

import dataclasses
from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from hdjax.checks import checked
from hdjax.registry import NonNegativeFloat, PositiveFloat, register

__all__ = [
    "oscillation",
    "slow_growth",
    "trapped",
]


@register("multiindex.path", "slow_growth")
@checked
@dataclasses.dataclass(frozen=True)
class slow_growth:
    """The longest wait of a scalar statistic at a saddle, as a share of the path's duration.

    A wait is a stretch of records within `tolerance` times the statistic's range of its first
    record, after which the statistic moves on by more than five times as much.  Relaxation to the
    final value is no wait.

    Args:
        statistic: name of the statistic.
        tolerance: relative to the statistic's range on the path.

    Example:
        >>> waiting = slow_growth("loss")
    """

    statistic: str = "loss"
    tolerance: PositiveFloat = 0.02

    def __call__(
        self, times: Float[Array, " times"], values: Mapping[str, Array]
    ) -> Float[Array, ""]:
        curve = values[self.statistic]
        near = self.tolerance * (curve.max() - curve.min())
        index = jnp.arange(len(curve))
        later = index[None, :] > index[:, None]
        moved = jnp.where(later, jnp.abs(curve[None, :] - curve[:, None]), 0)
        # The wait ends at the last record before the curve has left its neighbourhood; there is no
        # wait where the curve never goes far.
        left = jnp.argmax(moved > near, axis=1)
        ends = jnp.where(moved.max(axis=1) > 5 * near, left - 1, index)
        span = jnp.where(times[-1] > times[0], times[-1] - times[0], 1)
        return jnp.max(times[ends] - times) / span


@register("multiindex.path", "oscillation")
@checked
@dataclasses.dataclass(frozen=True)
class oscillation:
    """The largest fall of a statistic that should grow; 0 certifies monotone principal angles.

    Args:
        statistic: name of the statistic; of a vector, the largest fall of its entries counts.

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
@checked
@dataclasses.dataclass(frozen=True)
class trapped:
    """1 where the loss is above `level` and stationary at the end of the path, 0 otherwise.

    Stationary means a change of at most 1 % in the last quarter of the duration.  Degenerate traps
    are approached algebraically, so that the criterion asks for no small velocity.

    Args:
        level: the loss above which the problem counts as unsolved.
        statistic: name of the loss.

    Example:
        >>> stuck = trapped(0.01)
    """

    level: NonNegativeFloat
    statistic: str = "loss"

    def __call__(
        self, times: Float[Array, " times"], values: Mapping[str, Array]
    ) -> Float[Array, ""]:
        curve = values[self.statistic]
        before = jnp.interp(times[0] + 0.75 * (times[-1] - times[0]), times, curve)
        rests = jnp.abs(curve[-1] - before) <= 0.01 * jnp.abs(before)
        return (rests & (curve[-1] > self.level)).astype(curve.dtype)
