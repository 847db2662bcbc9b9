"""What schedules share: their base class, a constant rate, and the numbers that users give."""

import abc
from collections.abc import Callable
from typing import Annotated, Any

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from hdjax.checks import Checked, is_concrete
from hdjax.registry import In, NonNegative, Slot, declare, register

declare("schedule", Slot(number="constant"))


class Schedule(Checked):
    """A learning rate gamma(t) = O(1) that is never negative (abstract)."""

    @abc.abstractmethod
    def __call__(self, t: ArrayLike) -> Float[Array, ""]:
        """The rate at time `t` (a scalar)."""


# The arguments of `as_schedule`; in a config a number or a table of the slot "schedule".
ScheduleLike = Annotated[NonNegative | Schedule | Callable, In("schedule")]


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
        self.value = as_numbers("value", value, ndim=0)

    def __call__(self, t: ArrayLike) -> Float[Array, ""]:
        """The rate, which does not depend on `t`."""
        return self.value


class Multiple(Checked):
    """A learning rate that a config gives as a multiple of a rate that depends on the system.

    A family registers a subclass for each such rate, and computes the rate when it makes a system.

    Args:
        factor: the learning rate as a multiple of that rate.

    Raises:
        ValueError: a factor that is negative or not finite.
    """

    factor: Float[Array, ""]

    def __init__(self, factor: NonNegative):
        self.factor = as_numbers("factor", factor, ndim=0)


def as_numbers(name: str, value: Any, ndim: int) -> Float[Array, "..."]:
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


def as_increasing(name: str, value: Any) -> Float[Array, " n"]:
    """`value` as an increasing array of times, which is checked if it is concrete."""
    array = as_numbers(name, value, ndim=1)
    if is_concrete(array) and np.any(np.diff(np.asarray(array)) <= 0):
        raise ValueError(f"{name}: {np.asarray(array)}; allowed: increasing times")
    return array
