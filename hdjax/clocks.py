"""Clocks: how the integer ticks of a simulator correspond to times.

Every `Simulator` has a clock, and the engine alone reads it, on the host and in 64 bits.  `ticks`
turns the times that a user asks for into ticks, and allows for the rounding of the dtype in which
these times came.  `times` gives the times at which the ticks lie, where the limit is evaluated.

    Steps(unit)          k = floor(t unit),        t = k/unit
    Intervals(length)    k = floor(t/length),      t = k length
    Fine(resolution)     k = round(t resolution),  t = k/resolution
    Within(clock, ...)   the ticks of another clock, from a first to a last allowed one
"""

import abc

import equinox as eqx
import numpy as np
from jaxtyping import Float, Int

from hdjax.times import nominal, rounding


class Clock(eqx.Module):
    """The correspondence between the ticks of a simulator and times (abstract)."""

    @abc.abstractmethod
    def ticks(self, ts: Float[np.ndarray, " times"]) -> Int[np.ndarray, " times"]:
        """The ticks at which the times `ts` are recorded.

        Args:
            ts: (times,) increasing times, in the dtype in which the user gave them
                (`hdjax.times.as_times`).

        Raises:
            ValueError: times that the simulator cannot record.
        """

    @abc.abstractmethod
    def times(self, ticks: Int[np.ndarray, " times"]) -> Float[np.ndarray, " times"]:
        """The times at which the ticks lie, in float64."""


class Steps(Clock):
    """The clock of an algorithm that takes `unit` steps in a unit of time.

    The tick of t is k = floor(t unit), and the time of k is k/unit.  A product t unit that is an
    integer up to rounding counts as that integer: 0.29 * 100 is 28.999999999999996 in float64.

    Args:
        unit: steps in a unit of time, such as the dimension d; 1 where time is the step itself.
        distinct: whether `ticks` refuses two times that fall into the same step.

    Raises:
        ValueError: from `ticks`, on two times in the same step if `distinct` is set.

    Example:
        >>> Steps(100).ticks(np.array([0.29, 0.295])).tolist()
        [29, 29]
    """

    unit: float = eqx.field(converter=float)
    distinct: bool = False

    def ticks(self, ts: Float[np.ndarray, " times"]) -> Int[np.ndarray, " times"]:
        ticks = _whole(ts, self.unit)
        if self.distinct and np.any(np.diff(ticks) <= 0):
            raise ValueError(f"ts: {ts}; allowed: step numbers, each at most once")
        return ticks

    def times(self, ticks: Int[np.ndarray, " times"]) -> Float[np.ndarray, " times"]:
        return np.asarray(ticks, np.float64) / self.unit


class Intervals(Clock):
    """The clock of a scheme whose time steps have one length: k = floor(t/length), t = k length.

    Args:
        length: the length of a time step.

    Example:
        >>> Intervals(0.01).times(np.array([29])).tolist()
        [0.29]
    """

    length: float = eqx.field(converter=float)

    def ticks(self, ts: Float[np.ndarray, " times"]) -> Int[np.ndarray, " times"]:
        return _whole(ts, 1 / self.length)

    def times(self, ticks: Int[np.ndarray, " times"]) -> Float[np.ndarray, " times"]:
        return np.asarray(ticks, np.float64) * self.length


class Fine(Clock):
    """The clock of a continuous time, such as the time of a gradient flow or its logarithm.

    The tick of t is the integer nearest to t resolution.

    Args:
        resolution: ticks in a unit of time; a power of two, so that the times of ticks are exact.

    Example:
        >>> Fine(2**20).ticks(np.array([0.5])).tolist()
        [524288]
    """

    resolution: int

    def ticks(self, ts: Float[np.ndarray, " times"]) -> Int[np.ndarray, " times"]:
        return np.round(nominal(ts) * self.resolution).astype(np.int64)

    def times(self, ticks: Int[np.ndarray, " times"]) -> Float[np.ndarray, " times"]:
        return np.asarray(ticks, np.float64) / self.resolution


class Within(Clock):
    """Another clock, restricted to the ticks from `first` to `last`.

    Args:
        clock: the clock that is restricted.
        first: the first allowed tick.
        last: the last allowed tick; None: no tick is too late.
        why: the reason for the restriction, which ends the message, such as "when every row has
            been used once".

    Raises:
        ValueError: from `ticks`, on times before tick `first` or after tick `last`.

    Example:
        >>> once = Within(Steps(10), last=10, why="when every sample has been used once")
        >>> once.ticks(np.array([0.5, 1.0])).tolist()
        [5, 10]
    """

    clock: Clock
    first: int = 0
    last: int | None = None
    why: str = ""

    def ticks(self, ts: Float[np.ndarray, " times"]) -> Int[np.ndarray, " times"]:
        ticks = self.clock.ticks(ts)
        bounds = np.array([self.first, 0 if self.last is None else self.last])
        first, last = self.clock.times(bounds)
        if ticks.min() < self.first:
            raise ValueError(f"ts: from t = {ts[0]:.6g}; allowed: from {first:.6g} on, {self.why}")
        if self.last is not None and ticks.max() > self.last:
            raise ValueError(f"ts: up to t = {ts[-1]:.6g}; allowed: up to {last:.6g}, {self.why}")
        return ticks

    def times(self, ticks: Int[np.ndarray, " times"]) -> Float[np.ndarray, " times"]:
        return self.clock.times(ticks)


def _whole(ts: Float[np.ndarray, " times"], unit: float) -> Int[np.ndarray, " times"]:
    """floor(t unit), where a product that is an integer up to the rounding of `ts` is not lowered.

    The rounding is that of the dtype in which the times came (`hdjax.times.rounding`).
    """
    steps = nominal(ts) * unit
    nearest = np.round(steps)
    near = np.abs(steps - nearest) <= rounding(ts) * np.abs(steps)
    return np.where(near, nearest, np.floor(steps)).astype(np.int64)
