"""A name for an experiment, by which a later process knows that a checkpoint belongs to it.

The name is a hash of the numbers and the structure of a pytree.  A function counts by its code and
by what it refers to, not by its address, so that the same script gives the same name again.
"""

import functools
import hashlib
import types
from collections.abc import Iterator, Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np


def identity(value: Any) -> str:
    """The name of a value: equal in every process for equal numbers, structure and code.

    Args:
        value: a pytree of arrays, numbers, text, functions and modules.

    Returns:
        64 hexadecimal digits.

    Raises:
        TypeError: a part that has no content which could be read, such as an open file.

    Example:
        >>> identity({"a": 1.0}) == identity({"a": 1.0}), identity(1.0) == identity(2.0)
        (True, False)
    """
    found = hashlib.sha256()
    for part in _parts(value, ()):
        found.update(len(part).to_bytes(8, "little"))
        found.update(part)
    return found.hexdigest()


def _parts(value: Any, above: tuple[int, ...]) -> Iterator[bytes]:
    """The content of a value, piece by piece; `above` are the objects that contain it."""
    if id(value) in above:
        # A function that refers to itself.
        yield b"above"
        return
    above = (*above, id(value))
    if isinstance(value, jax.Array) and jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
        yield str(value.dtype).encode()
        value = jax.random.key_data(value)
    if value is None or isinstance(value, bool | int | float | complex | str | bytes):
        yield f"{type(value).__name__} {value!r}".encode()
    elif isinstance(value, jax.Array | np.ndarray | np.generic):
        array = np.asarray(value)
        yield f"array {array.dtype} {array.shape}".encode()
        yield array.tobytes()
    elif isinstance(value, type | types.ModuleType | types.BuiltinFunctionType | np.ufunc):
        yield f"name {getattr(value, '__module__', '')} {_name(value)}".encode()
    elif isinstance(value, types.CodeType):
        yield value.co_code
        yield repr(value.co_names).encode()
        yield from _parts(value.co_consts, above)
    else:
        yield f"{type(value).__module__} {_name(type(value))}".encode()
        for part in _inside(value):
            yield from _parts(part, above)


def _inside(value: Any) -> Iterator[Any]:
    """The parts of a composed value."""
    if isinstance(value, Mapping):
        yield from value.items()
    elif isinstance(value, list | tuple):
        yield from value
    elif isinstance(value, set | frozenset):
        yield from sorted(value, key=repr)
    elif isinstance(value, types.MethodType):
        yield from (value.__func__, value.__self__)
    elif isinstance(value, types.FunctionType):
        cells = [cell.cell_contents for cell in value.__closure__ or ()]
        yield from (value.__code__, value.__defaults__, value.__kwdefaults__, *cells)
    elif isinstance(value, functools.partial):
        yield from (value.func, value.args, value.keywords)
    elif hasattr(value, "__wrapped__"):
        # A function within `jax.jit`, `functools.wraps` and the like.
        yield value.__wrapped__
    elif isinstance(value, eqx.Module) or hasattr(value, "__dict__"):
        yield from sorted(vars(value).items())
    elif isinstance(value, np.dtype):
        yield str(value)
    else:
        raise TypeError(
            f"checkpoint: a {type(value).__name__} in the experiment; allowed: arrays, numbers, "
            "text, functions and modules"
        )


def _name(value: Any) -> str:
    return getattr(value, "__qualname__", None) or value.__name__
