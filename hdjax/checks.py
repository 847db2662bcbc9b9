"""Checks of the arguments that a user gives to constructors and functions of the package.

A constructor that users call is a `Checked` module, or has the decorator `checked`, as public
functions have: arguments are then checked against the annotations of the parameters.  Only concrete
values are checked: inside jit, vmap and grad a value is traced and cannot be looked at.  Every
message has the form `name: value; allowed: rule`.
"""

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from types import UnionType
from typing import Any, TypeVar, cast, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import AbstractArray

from hdjax.annotations import Kind, is_concrete, kind_of, told

Make = TypeVar("Make", bound=Callable[..., Any])

_ANY = Kind("anything", lambda value: None)


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


class Checked(eqx.Module):
    """A module whose constructor checks its concrete arguments against its annotations (abstract).

    `hdjax.annotations` says what each annotation allows.  The arguments are checked before the
    constructor looks at them.  Modules that JAX takes apart and puts together again are not made
    by a constructor, so that their leaves may be anything.

    Raises:
        ValueError, TypeError: naming the argument, its value and what is allowed.

    Example:
        >>> from hdjax.registry import Positive
        >>> class Ball(Checked):
        ...     radius: Positive
        >>> Ball(-1.0)
        Traceback (most recent call last):
        ValueError: radius: -1.0; allowed: a finite number, above 0
    """

    def __new__(cls, *args: Any, **kwargs: Any):
        check_call(cls, args, kwargs)
        return super().__new__(cls)


def checked(target: Make) -> Make:
    """Let a function check its concrete arguments, or a dataclass those of its constructor.

    `hdjax.annotations` says what each annotation allows.  A list, and an array of the other
    library, becomes the array of JAX or NumPy with which `jaxtyping` annotates the parameter.

    Raises:
        ValueError, TypeError: on a call: naming the argument, its value and what is allowed.

    Example:
        >>> from jaxtyping import Array, Float
        >>> @checked
        ... def total(values: Float[Array, " n"]) -> Float[Array, ""]:
        ...     return values.sum()
        >>> float(total([1, 2, 3]))
        6.0
    """
    is_class = inspect.isclass(target)
    made: Any = target.__init__ if is_class else target

    @functools.wraps(made)
    def checking(*args: Any, **kwargs: Any) -> Any:
        self, own = args[:is_class], args[is_class:]
        bound = check_call(target, own, kwargs)
        if bound is not None:
            own, kwargs = bound.args, bound.kwargs
        return made(*self, *own, **kwargs)

    if is_class:
        target.__init__ = checking
        return cast(Make, target)
    return cast(Make, checking)


def check_call(
    target: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> inspect.BoundArguments | None:
    """Check the concrete arguments of a call against the annotations of the parameters.

    Args:
        target: a class or function.
        args: its positional arguments.
        kwargs: its other arguments.

    Returns:
        The arguments, with arrays in place of lists; None if the function does not take them, as
        Python itself says when it is called.

    Raises:
        ValueError, TypeError: naming the argument, its value and what is allowed.
    """
    signature, kinds, arrays = _parameters(target)
    try:
        bound = signature.bind(*args, **kwargs)
    except TypeError:
        return None
    for name, value in bound.arguments.items():
        if value is signature.parameters[name].default:
            continue
        if name in arrays:
            bound.arguments[name] = value = _as_array(name, value, arrays[name])
        several = signature.parameters[name].kind is inspect.Parameter.VAR_POSITIONAL
        kind = kinds.get(name, _ANY)
        for one in value if several else (value,):
            error = kind.judge(one)
            if error:
                raise error(f"{name}: {told(one)}; allowed: {kind.rule}")
    return bound


@functools.cache
def _parameters(target: Any) -> tuple[inspect.Signature, dict[str, Kind], dict[str, Any]]:
    """The signature of a class or function, the kinds of its parameters, and those for arrays."""
    signature = inspect.signature(target)
    own = signature.parameters.items()
    arrays = {name: _array_type(one.annotation) for name, one in own}
    return (
        signature,
        {name: kind for name, one in own if (kind := kind_of(one.annotation)) is not None},
        {name: kind for name, kind in arrays.items() if kind is not None},
    )


def _array_type(annotation: Any) -> Any:
    """The array of `jaxtyping` that an annotation is, or has in a union; None if there is none."""
    parts = get_args(annotation) if isinstance(annotation, UnionType) else (annotation,)
    for part in parts:
        if inspect.isclass(part) and issubclass(part, AbstractArray):
            return part
    return None


def _as_array(name: str, value: Any, kind: Any) -> Any:
    numbers = int | float | complex | np.generic | np.ndarray | jax.Array | Sequence
    if isinstance(value, kind.array_type) or not isinstance(value, numbers):
        return value
    try:
        array = np.asarray(value) if kind.array_type is np.ndarray else jnp.asarray(value)
    except (TypeError, ValueError):
        raise TypeError(f"{name}: {told(value)}; allowed: an array of numbers") from None
    whole = jnp.issubdtype(array.dtype, jnp.integer)
    return array.astype(jnp.result_type(float)) if whole and "float64" in kind.dtypes else array


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
