"""Clocks: how a simulator's integer ticks belong to times.

A clock is made and read on the host, in 64 bits.  `ticks` turns the times that a user asks for into
ticks, and allows for the rounding of the dtype in which these times came; `times` says at which
times the ticks really lie, and there the limit is evaluated.

    Steps(unit)          k = floor(t unit),      t = k/unit
    Intervals(length)    k = floor(t/length),    t = k length
    Fine(resolution)     the tick nearest to t resolution, of a continuous time
    Within(clock, ...)   another clock, of which some ticks alone are allowed
"""

import abc

import equinox as eqx
import numpy as np
from jaxtyping import Float, Int

from hdjax.times import nominal, rounding


class Clock(eqx.Module):
    """The ticks of a simulator, and their times."""

    @abc.abstractmethod
    def ticks(self, ts: Float[np.ndarray, " times"]) -> Int[np.ndarray, " times"]:
        """The ticks of times.

        Args:
            ts: (times,) in the dtype in which they came (`hdjax.times.as_times`).
        """

    @abc.abstractmethod
    def times(self, ticks: Int[np.ndarray, " times"]) -> Float[np.ndarray, " times"]:
        """The times at which ticks lie, in float64."""


class Steps(Clock):
    """The clock of an algorithm that takes `unit` steps in a unit of time.

    The tick of t is k = floor(t unit), where a product within rounding of an integer is that
    integer: 0.29 * 100 is 28.999999999999996 in float64.  Its time is k/unit.

    Args:
        unit: steps in a unit of time, such as the dimension d; 1 where time is the step itself.
        distinct: whether two times in one step are refused.

    Raises:
        ValueError: from `ticks`, on two times in one step if they have to be distinct.

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
    """The clock of a scheme with time steps of one length; t = k length.

    Args:
        length: of a time step.

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
    """The clock of a continuous time, such as a flow's, or the logarithm of one.

    Args:
        resolution: ticks in a unit of time; a power of two, so that times of ticks are exact.

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
    """Another clock, some of whose ticks alone are allowed.

    Args:
        clock: the other one.
        first: the first allowed tick.
        last: the last allowed tick; None: no tick is too late.
        why: what happens there, for the message: "when every row has been used once".

    Raises:
        ValueError: from `ticks`, on times before `first` or after `last`.

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
    """floor(t unit), where a product within the rounding of the times' dtype is an integer."""
    steps = nominal(ts) * unit
    nearest = np.round(steps)
    near = np.abs(steps - nearest) <= rounding(ts) * np.abs(steps)
    return np.where(near, nearest, np.floor(steps)).astype(np.int64)
