"""Rates from functions of the user's: of the time t, or of the step k as in Optax."""

import functools
import inspect
import itertools
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.tree_util import Partial
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from hdjax.checks import checked
from hdjax.registry import Positive
from hdjax.schedules.base import Constant, Schedule, as_numbers


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

    def __init__(self, fn: Callable, dimension: Positive):
        self.fn = _as_tree(fn, "schedule", "a function of the step, such as Optax's")
        self.dimension = as_numbers("dimension", dimension, ndim=0)

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


@checked
def from_optax(schedule: Callable, dimension: Positive) -> FunctionOfStep:
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
    return Constant(as_numbers("learning_rate", value, ndim=0))


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
