"""Rates of a given shape: steps, decays, tables, warm-ups, and one schedule after another."""

import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from hdjax.registry import NonNegative, Positive, Values, register
from hdjax.schedules.base import Schedule, ScheduleLike, as_increasing, as_numbers
from hdjax.schedules.functions import as_schedule


@register("schedule", "piecewise_constant")
class PiecewiseConstant(Schedule):
    """gamma(t) = values[i] for boundaries[i - 1] <= t < boundaries[i].

    Args:
        boundaries: (n,) increasing times.
        values: (n + 1,) rates.

    Raises:
        ValueError: rates that are negative or not finite, times that are negative or do not
            increase, lengths that do not match.

    Example:
        >>> schedule = PiecewiseConstant(boundaries=[1.0], values=[0.5, 0.125])
        >>> float(schedule(0.9)), float(schedule(1.0))
        (0.5, 0.125)
    """

    boundaries: Float[Array, " n"]
    values: Float[Array, " n+1"]

    def __init__(self, boundaries: Values, values: Values):
        self.boundaries = as_increasing("boundaries", boundaries)
        self.values = as_numbers("values", values, ndim=1)
        n, given = self.boundaries.shape[0], self.values.shape[0]
        if given != n + 1:
            raise ValueError(f"values: {given} rates; allowed with {n} boundaries: {n + 1}")

    def __call__(self, t: ArrayLike) -> Float[Array, ""]:
        """The rate of the interval that contains `t`."""
        passed = jnp.asarray(t, self.boundaries.dtype) >= self.boundaries
        return self.values[passed.sum()]


@register("schedule", "power_decay")
class PowerDecay(Schedule):
    """gamma(t) = initial (1 + t / timescale)^(-exponent).

    Args:
        initial: the rate at t = 0.
        exponent: at least 0; 0 is a constant rate, 1/2 and 1 are the usual decays.
        timescale: positive; the time at which the decay sets in.

    Raises:
        ValueError: arguments outside of these ranges or not finite.

    Example:
        >>> float(PowerDecay(initial=1.0, exponent=0.5, timescale=2.0)(6.0))
        0.5
    """

    initial: Float[Array, ""]
    exponent: Float[Array, ""]
    timescale: Float[Array, ""]

    def __init__(self, initial: NonNegative, exponent: NonNegative, timescale: Positive = 1.0):
        self.initial = as_numbers("initial", initial, ndim=0)
        self.exponent = as_numbers("exponent", exponent, ndim=0)
        self.timescale = as_numbers("timescale", timescale, ndim=0)

    def __call__(self, t: ArrayLike) -> Float[Array, ""]:
        """The rate at time `t`."""
        t = jnp.asarray(t, self.initial.dtype)
        return self.initial * (1 + t / self.timescale) ** -self.exponent


@register("schedule", "cosine")
class Cosine(Schedule):
    """From `initial` to `final` along half a cosine of duration `horizon`, and `final` after it.

    Args:
        initial: the rate at t = 0.
        horizon: positive time at which the rate becomes `final`.
        final: the last rate.

    Raises:
        ValueError: arguments outside of these ranges, negative or not finite.

    Example:
        >>> schedule = Cosine(initial=1.0, horizon=10.0)
        >>> round(float(schedule(5.0)), 6), round(float(schedule(20.0)), 6)
        (0.5, 0.0)
    """

    initial: Float[Array, ""]
    horizon: Float[Array, ""]
    final: Float[Array, ""]

    def __init__(self, initial: NonNegative, horizon: Positive, final: NonNegative = 0.0):
        self.initial = as_numbers("initial", initial, ndim=0)
        self.horizon = as_numbers("horizon", horizon, ndim=0)
        self.final = as_numbers("final", final, ndim=0)

    def __call__(self, t: ArrayLike) -> Float[Array, ""]:
        """The rate at time `t`."""
        phase = jnp.clip(jnp.asarray(t, self.initial.dtype) / self.horizon, 0, 1)
        return self.final + (self.initial - self.final) * (1 + jnp.cos(jnp.pi * phase)) / 2


@register("schedule", "table")
class Table(Schedule):
    """Linear interpolation of tabulated rates, constant outside of the table.

    Args:
        times: (n,) increasing times.
        values: (n,) rates at these times.

    Raises:
        ValueError: rates that are negative or not finite, times that are negative or do not
            increase, lengths that do not match.

    Example:
        >>> float(Table(times=[0.0, 2.0], values=[1.0, 0.0])(0.5))
        0.75
    """

    times: Float[Array, " n"]
    values: Float[Array, " n"]

    def __init__(self, times: Values, values: Values):
        self.times = as_increasing("times", times)
        self.values = as_numbers("values", values, ndim=1)
        n, given = self.times.shape[0], self.values.shape[0]
        if given != n or n == 0:
            raise ValueError(f"values: {given} rates; allowed: as many as times ({n}), at least 1")

    def __call__(self, t: ArrayLike) -> Float[Array, ""]:
        """The interpolated rate at time `t`."""
        return jnp.interp(jnp.asarray(t, self.times.dtype), self.times, self.values)


@register("schedule", "warmup")
class Warmup(Schedule):
    """gamma(t) = schedule(t) min(t/duration, 1): a schedule with a linear warm-up from 0.

    Args:
        schedule: the rate after the warm-up, a number or a schedule.
        duration: positive length of the warm-up.

    Raises:
        ValueError: a duration that is not positive.

    Example:
        >>> schedule = Warmup(0.5, duration=2.0)
        >>> float(schedule(1.0)), float(schedule(3.0))
        (0.25, 0.5)
    """

    schedule: Schedule
    duration: Float[Array, ""]

    def __init__(self, schedule: ScheduleLike, duration: Positive):
        self.schedule = as_schedule(schedule)
        self.duration = as_numbers("duration", duration, ndim=0)

    def __call__(self, t: ArrayLike) -> Float[Array, ""]:
        """The rate at time `t`."""
        return self.schedule(t) * jnp.clip(
            jnp.asarray(t, self.duration.dtype) / self.duration, 0, 1
        )


@register("schedule", "joined")
class Joined(Schedule):
    """gamma(t) = first(t) for t < at, and then(t - at) for t >= at.

    Args:
        first: the rate before the change, a number or a schedule.
        at: positive time of the change.
        then: the rate after the change, a number or a schedule, whose time begins at the change.

    Raises:
        ValueError: a time that is not positive.

    Example:
        >>> schedule = Joined(Warmup(0.5, duration=1.0), 1.0, Cosine(0.5, horizon=4.0))
        >>> float(schedule(0.5)), float(schedule(1.0)), float(schedule(5.0))
        (0.25, 0.5, 0.0)
    """

    first: Schedule
    at: Float[Array, ""]
    then: Schedule

    def __init__(self, first: ScheduleLike, at: Positive, then: ScheduleLike):
        self.first, self.then = as_schedule(first), as_schedule(then)
        self.at = as_numbers("at", at, ndim=0)

    def __call__(self, t: ArrayLike) -> Float[Array, ""]:
        """The rate at time `t`, from the part that contains `t`."""
        t = jnp.asarray(t, self.at.dtype)
        later = jnp.maximum(t - self.at, 0)
        return jnp.where(t < self.at, self.first(t), self.then(later))
