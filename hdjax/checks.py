"""Checks of what a user gives: concrete values alone, since traced ones cannot be looked at.

Every message has the form `name: value; allowed: rule`.
"""

import inspect
from collections.abc import Callable, Iterator
from typing import Any, get_args

import equinox as eqx
import jax
import numpy as np
from jax.core import Tracer

from hdjax.registry import Bounds, OneOf


def is_concrete(*leaves: Any) -> bool:
    """Whether values can be looked at: False inside jit, vmap and grad."""
    return not any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(leaves))


def check_leaves(name: str, tree: Any, least: float) -> None:
    """Raise ValueError if concrete numbers of a tree are not finite, or below `least`.

    Example:
        >>> check_leaves("ridge", jnp.array(0.5), 0.0)
    """
    for leaf in jax.tree.leaves(tree):
        if not eqx.is_inexact_array(leaf) or not is_concrete(leaf):
            continue
        values = np.asarray(leaf)
        good = np.isfinite(values) & (values >= least)
        if not np.all(good):
            rule = "finite" if least == -np.inf else f"finite and at least {least}"
            raise ValueError(f"{name}: {values[~good].ravel()[0]}; allowed: {rule}")


def check_arguments(constructor: Callable[..., Any], **values: Any) -> None:
    """Raise ValueError where a concrete number or word is not what its annotation allows.

    Args:
        constructor: whose parameters have annotations of `hdjax.registry`.
        **values: its arguments, or some of them; None is not looked at.

    Example:
        >>> from hdjax.registry import Positive
        >>> def ball(radius: Positive): ...
        >>> check_arguments(ball, radius=1.0)
    """
    for name, parameter in inspect.signature(constructor).parameters.items():
        value = values.get(name)
        if value is None or not is_concrete(value):
            continue
        for mark in _marks(parameter.annotation):
            if isinstance(mark, Bounds) and not mark.hold(value):
                raise ValueError(f"{name}: {value}; allowed: {mark}")
            if isinstance(mark, OneOf) and isinstance(value, str) and value not in mark.words:
                raise ValueError(f"{name}: {value!r}; allowed: {', '.join(mark.words)}")


def _marks(annotation: Any) -> Iterator[Any]:
    """What stands beside the type in an `Annotated`, in unions too."""
    for part in get_args(annotation):
        yield part
        yield from _marks(part)


def check_dtype(dtype: str) -> None:
    """Raise ValueError on a precision of runs other than float32 and, where it is on, float64.

    Example:
        >>> check_dtype("float32")
    """
    if dtype not in ("float32", "float64"):
        raise ValueError(f"dtype: {dtype!r}; allowed: 'float32', 'float64'")
    if dtype == "float64" and not jax.config.read("jax_enable_x64"):
        raise ValueError(
            "dtype: 'float64'; allowed after jax.config.update('jax_enable_x64', True)"
        )
