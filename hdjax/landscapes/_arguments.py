"""Arguments of the constructors of this family as array leaves, checked where they are concrete.

A traced argument cannot be checked; the constructors call these functions on every number.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from jaxtyping import Array, Float

from hdjax.checks import is_concrete

_RULES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "finite": np.isfinite,
    "positive": lambda x: np.isfinite(x) & (x > 0),
    "at least 0": lambda x: np.isfinite(x) & (x >= 0),
    "positive or infinite": lambda x: x > 0,
}


def numbers(name: str, value: Any, rule: str, ndim: int = 0) -> Float[Array, "..."]:
    """`value` as a float array with `ndim` axes.

    Args:
        name: name of the argument, for messages.
        value: a number or nested lists or arrays of numbers.
        rule: the rule for entries: "finite", "positive", "at least 0" or "positive or infinite".
        ndim: the number of axes.

    Raises:
        TypeError: `value` is no array of numbers.
        ValueError: another number of axes, or entries that break the rule.
    """
    allowed = ("a number", "a list of numbers", "a matrix")[ndim]
    try:
        array = jnp.asarray(value, jnp.result_type(float))
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name}: {value!r}; allowed: {allowed}, {rule}") from error
    if array.ndim != ndim:
        raise ValueError(f"{name}: an array of shape {array.shape}; allowed: {allowed}, {rule}")
    check_numbers(name, array, rule)
    return array


def check_numbers(name: str, array: Any, rule: str) -> None:
    """Raise ValueError if an entry of a concrete array breaks the rule (see `numbers`)."""
    if is_concrete(array):
        values = np.asarray(array)
        bad = ~_RULES[rule](values)
        if bad.any():
            raise ValueError(f"{name}: {values[bad].ravel()[0]}; allowed: {rule}")


def as_tree(name: str, fn: Any) -> Any:
    """A function as a pytree, so that modules with the same function can be stacked.

    Args:
        name: name of the argument, for messages.
        fn: a function, or a module that can be called.

    Raises:
        TypeError: `fn` cannot be called.
    """
    if not callable(fn):
        raise TypeError(f"{name}: {fn!r}; allowed: a function")
    return fn if isinstance(fn, Partial | eqx.Module) else Partial(fn)
