"""Learning rates as functions of time, gamma(t), in the time t of a family (t = k/d for streaming).

A schedule is a module whose numbers are array leaves, so that schedules of one kind stack, and a
sweep over their numbers compiles once.  The numbers of a Python closure (a lambda, an Optax
schedule) are constants of the traced program: a closure works, but each new closure is traced
again, and systems with different closures cannot be stacked.  Prefer the modules below, `Table` for
tabulated rates, or a module-level function with its numbers as arguments,
`jax.tree_util.Partial(rate, jnp.array(0.3))`.
"""

import abc
import functools
import inspect
import itertools
from collections.abc import Callable
from typing import Annotated, Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from hdjax.checks import is_concrete
from hdjax.registry import In, NonNegative, Positive, Slot, Values, declare, register

# The slot "schedule" holds functions of time.  The slot "rate" adds rates that a family computes
# from the start, such as multiples of a critical rate.
declare("schedule", Slot(number="constant"))
declare("rate", Slot(number="constant", includes=("schedule",)))

# The arguments of `as_schedule`; in a config a number or a table of the slot "schedule".
ScheduleLike = Annotated[Any, In("schedule")]


class Schedule(eqx.Module):
    """A learning rate gamma(t) = O(1) that is never negative (abstract)."""

    @abc.abstractmethod
    def __call__(self, t: ArrayLike) -> Float[Array, ""]:
        """The rate at time `t` (a scalar)."""


@register("schedule", "constant")
class Constant(Schedule):
    """gamma(t) = value.

    Args:
        value: the rate.

    Raises:
        ValueError: a rate that is negative or not finite.

    Example:
        >>> float(Constant(0.5)(3.0))
        0.5
    """

    value: Float[Array, ""]

    def __init__(self, value: NonNegative):
        self.value = _numbers("value", value, ndim=0)

    def __call__(self, t: ArrayLike) -> Float[Array, ""]:
        """The rate, which does not depend on `t`."""
        return self.value


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
        self.boundaries = _times("boundaries", boundaries)
        self.values = _numbers("values", values, ndim=1)
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
        self.initial = _numbers("initial", initial, ndim=0)
        self.exponent = _numbers("exponent", exponent, ndim=0)
        self.timescale = _positive("timescale", timescale)

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
        self.initial = _numbers("initial", initial, ndim=0)
        self.horizon = _positive("horizon", horizon)
        self.final = _numbers("final", final, ndim=0)

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
        self.times = _times("times", times)
        self.values = _numbers("values", values, ndim=1)
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
        self.duration = _positive("duration", duration)

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
        self.at = _positive("at", at)

    def __call__(self, t: ArrayLike) -> Float[Array, ""]:
        """The rate at time `t`, from the part that contains `t`."""
        t = jnp.asarray(t, self.at.dtype)
        later = jnp.maximum(t - self.at, 0)
        return jnp.where(t < self.at, self.first(t), self.then(later))


@register("rate", "critical")
class Critical(eqx.Module):
    """`factor` times the critical learning rate of the start, which a family computes.

    Args:
        factor: the rate as a multiple of the critical rate.

    Raises:
        ValueError: a factor that is negative or not finite.

    Example:
        >>> float(Critical(0.5).factor)
        0.5
    """

    factor: Float[Array, ""]

    def __init__(self, factor: NonNegative):
        self.factor = _numbers("factor", factor, ndim=0)


class FunctionOfTime(Schedule):
    """gamma(t) = fn(t) for any function that JAX can trace.

    The values of `fn` cannot be checked.  A plain function is a constant of the traced program: see
    the opening of `hdjax.schedules` on closures.

    Args:
        fn: maps a scalar time to a scalar rate.  The arrays of a `jax.tree_util.Partial` or of an
            `equinox.Module` are leaves.

    Raises:
        TypeError: `fn` cannot be called, or is a schedule of Optax, which counts steps.

    Example:
        >>> float(FunctionOfTime(lambda t: 1 / (1 + t))(1.0))
        0.5
    """

    fn: Callable

    def __init__(self, fn: Callable):
        _refuse_optax("fn", fn)
        self.fn = _as_tree(fn, "fn", "a function of time")

    def __call__(self, t: ArrayLike) -> Float[Array, ""]:
        """The value of `fn` at time `t`, in the precision of `t`."""
        t = jnp.asarray(t)
        dtype = t.dtype if jnp.issubdtype(t.dtype, jnp.floating) else jnp.result_type(float)
        return jnp.asarray(self.fn(t.astype(dtype)), dtype)


class FunctionOfStep(Schedule):
    """gamma(t) = fn(t d), for a function of the step k = t d; made by `from_optax`.

    Between two steps, where only the limit evaluates the schedule, the rate is interpolated by a
    monotone cubic.

    Args:
        fn: maps a step, an integer, to a rate.
        dimension: d, the number of steps in a unit of time.

    Raises:
        TypeError: `fn` cannot be called.
        ValueError: `dimension` is not positive.
    """

    fn: Callable
    dimension: Float[Array, ""]

    def __init__(self, fn: Callable, dimension: Any):
        self.fn = _as_tree(fn, "schedule", "a function of the step, such as Optax's")
        self.dimension = _positive("dimension", dimension)

    def __call__(self, t: ArrayLike) -> Float[Array, ""]:
        """The value of `fn` at the step t d, interpolated between integer steps."""
        dtype, t = self.dimension.dtype, jnp.asarray(t)
        given = t.dtype if jnp.issubdtype(t.dtype, jnp.floating) else dtype
        rounding = 4 * float(jnp.finfo(given).eps)
        step = t.astype(dtype) * self.dimension
        # The product of k/d and d may be k - 1e-9, and a schedule that jumps at k needs k itself.
        nearest = jnp.round(step)
        step = jnp.where(jnp.abs(step - nearest) <= rounding * nearest, nearest, step)
        before = jnp.floor(step)
        count = before.astype(jnp.result_type(int))
        # Optax multiplies integers with floats.
        with jax.numpy_dtype_promotion("standard"):
            counts = (jnp.maximum(count - 1, 0), count, count + 1, count + 2)
            rates = [jnp.asarray(self.fn(k), dtype) for k in counts]
        # At an integer step the rate does not depend on later steps, where the schedule may have
        # ended.
        return jnp.where(step > before, _monotone(step - before, *rates), rates[1])


def _monotone(share: Array, *values: Array) -> Float[Array, ""]:
    """Interpolate between the second and the third of four equidistant values without overshoot.

    The interpolant is a cubic whose slope at each value is the harmonic mean of the neighbouring
    differences, or zero at an extremum (F. N. Fritsch, R. E. Carlson, "Monotone piecewise cubic
    interpolation", 1980).

    Args:
        share: the position between the second value (0) and the third value (1).
        *values: the four values.
    """
    before, inside, after = (b - a for a, b in itertools.pairwise(values))

    def slope(p: Array, q: Array) -> Array:
        monotone = p * q > 0
        return jnp.where(monotone, 2 * p * q / jnp.where(monotone, p + q, 1), 0)

    first, last = slope(before, inside), slope(inside, after)
    bend = 3 * inside - 2 * first - last
    return values[1] + share * (first + share * (bend + share * (first + last - 2 * inside)))


def from_optax(schedule: Callable, dimension: Any) -> FunctionOfStep:
    """Convert an Optax schedule, a function of the step k, into a function of t = k/d.

    The schedule is called with integer steps, as in Optax, and may therefore look them up in a
    table.  The simulation uses the rate of step k at time k/d, and the limit interpolates between
    the rates of the neighbouring steps without overshoot.  Rates keep the scaling of hdjax: they
    are O(1), and the step applied is gamma/d.  The schedule is a closure: see the opening of
    `hdjax.schedules`.

    Args:
        schedule: maps a step, an integer, to a rate.
        dimension: d, the number of steps in a unit of time.

    Returns:
        A schedule of hdjax.

    Raises:
        TypeError: `schedule` cannot be called.
        ValueError: `dimension` is not positive.

    Example:
        >>> import optax
        >>> schedule = from_optax(optax.cosine_decay_schedule(0.5, decay_steps=1000), dimension=100)
        >>> round(float(schedule(5.0)), 6)
        0.25
    """
    return FunctionOfStep(schedule, dimension)


def as_schedule(value: Any) -> Schedule:
    """Convert a learning rate that a user gives into a `Schedule`.

    Args:
        value: a number or scalar array (becomes `Constant`), a `Schedule`, or a function of t
            (becomes `FunctionOfTime`).  Optax schedules are functions of the step, and need
            `from_optax`.

    Raises:
        ValueError: an array that is not a scalar, a rate that is negative or not finite.
        TypeError: a schedule of Optax, or a value of any other type.

    Example:
        >>> float(as_schedule(0.5)(1.0)), float(as_schedule(lambda t: 2 * t)(1.0))
        (0.5, 2.0)
    """
    if isinstance(value, Schedule):
        return value
    if callable(value):
        _refuse_optax("learning_rate", value)
        return FunctionOfTime(value)
    return Constant(_numbers("learning_rate", value, ndim=0))


def _refuse_optax(name: str, fn: Any) -> None:
    """Raise TypeError for a schedule of Optax, whose argument is the step and not the time."""
    inner = fn
    while isinstance(inner, functools.partial):
        inner = inner.func
    inner = inspect.unwrap(inner) if callable(inner) else inner
    module = getattr(inner, "__module__", None) or type(inner).__module__
    if str(module).split(".")[0] == "optax":
        called = getattr(inner, "__qualname__", type(inner).__qualname__)
        raise TypeError(
            f"{name}: {module}.{called}, a function of the step; allowed: a function of t = k/d, "
            "which hdjax.schedules.from_optax(schedule, dimension) makes of it"
        )


def _as_tree(fn: Any, name: str, allowed: str) -> Any:
    """A function as a pytree, whose parts other than arrays are static under jit and vmap."""
    if not callable(fn):
        raise TypeError(f"{name}: {fn!r}; allowed: {allowed}")
    return fn if isinstance(fn, Partial | eqx.Module) else Partial(fn)


def _numbers(name: str, value: Any, ndim: int) -> Float[Array, "..."]:
    """`value` as a floating-point array of finite numbers >= 0, which are checked if concrete."""
    if isinstance(value, bool | str) or value is None:
        raise TypeError(f"{name}: {value!r}; allowed: a number, an array, a schedule")
    try:
        array = jnp.asarray(value, jnp.result_type(float))
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name}: {value!r}; allowed: a number, an array, a schedule") from error
    if array.ndim != ndim:
        hint = "; `sweep` takes many rates, `Table` rates that change in time" if ndim == 0 else ""
        kind = ("a scalar", "an array with one axis")[ndim]
        raise ValueError(f"{name}: an array of shape {array.shape}; allowed: {kind}{hint}")
    if is_concrete(array):
        bad = ~(np.isfinite(array) & (np.asarray(array) >= 0))
        if bad.any():
            raise ValueError(
                f"{name}: {np.asarray(array)[bad].ravel()[0]}; allowed: finite, 0 or more"
            )
    return array


def _positive(name: str, value: Any) -> Float[Array, ""]:
    array = _numbers(name, value, ndim=0)
    if is_concrete(array) and float(array) == 0:
        raise ValueError(f"{name}: {value}; allowed: positive")
    return array


def _times(name: str, value: Any) -> Float[Array, " n"]:
    array = _numbers(name, value, ndim=1)
    if is_concrete(array) and np.any(np.diff(np.asarray(array)) <= 0):
        raise ValueError(f"{name}: {np.asarray(array)}; allowed: increasing times")
    return array
