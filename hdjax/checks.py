"""Checks of the arguments that a user gives to constructors and functions of the package.

Only concrete values are checked: inside jit, vmap and grad a value is traced and cannot be looked
at.  Every message has the form `name: value; allowed: rule`.
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
    """Whether all leaves have values that Python can read: False for tracers of jit, vmap, grad.

    Example:
        >>> is_concrete(1.0), bool(jax.jit(lambda x: jnp.array(is_concrete(x)))(1.0))
        (True, False)
    """
    return not any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(leaves))


def check_leaves(name: str, tree: Any, least: float) -> None:
    """Check that the concrete floating-point numbers of a pytree are finite and at least `least`.

    Args:
        name: what the message calls the tree.
        tree: a pytree; leaves that are traced, or no floating-point arrays, are not checked.
        least: the lower bound, which is allowed itself; -inf for none.

    Raises:
        ValueError: a number that is not finite, or is below `least`.

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
    """Check concrete numbers and words against the annotations of a constructor's parameters.

    Args:
        constructor: a class or function whose parameters have annotations of `hdjax.registry`.
        **values: arguments of the constructor by name, or some of them; None is not checked.

    Raises:
        ValueError: a number outside of its `Bounds`, or a word that its `OneOf` does not list.

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
    """The metadata of every `Annotated` in an annotation, also inside unions."""
    for part in get_args(annotation):
        yield part
        yield from _marks(part)


def check_dtype(dtype: str) -> None:
    """Check the name of a precision in which runs are simulated.

    Args:
        dtype: "float32", or "float64" if JAX's 64-bit numbers are switched on.

    Raises:
        ValueError: another name, or "float64" while 64-bit numbers are switched off.

    Example:
        >>> check_dtype("float32")
    """
    if dtype not in ("float32", "float64"):
        raise ValueError(f"dtype: {dtype!r}; allowed: 'float32', 'float64'")
    if dtype == "float64" and not jax.config.read("jax_enable_x64"):
        raise ValueError(
            "dtype: 'float64'; allowed after jax.config.update('jax_enable_x64', True)"
        )
