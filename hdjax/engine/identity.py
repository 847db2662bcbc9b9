"""A name for an experiment, by which a later process knows that a checkpoint belongs to it.

The name is a hash of the numbers and the structure of a pytree.  A function counts by its code and
by what it refers to, not by its address, so that the same script gives the same name again; the
same holds of the methods of a class.  What belongs to a library counts by its name.
"""

import hashlib
import sys
import types
from collections.abc import Iterator, Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

# Packages whose versions are recorded with a checkpoint, so that their code need not be read.
LIBRARIES = {
    "beartype",
    "diffrax",
    "equinox",
    "hdjax",
    "jax",
    "jaxlib",
    "jaxtyping",
    "lineax",
    "numpy",
    "optax",
    "optimistix",
    "scipy",
}


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
    else:
        yield f"{_module(type(value))} {_name(type(value))}".encode()
        for part in _inside(value):
            yield from _parts(part, above)
        yield b"end"


def _inside(value: Any) -> Iterator[Any]:
    """The parts of a composed value."""
    if isinstance(value, Mapping):
        yield from value.items()
    elif isinstance(value, list | tuple):
        yield from value
    elif isinstance(value, set | frozenset):
        yield from sorted(value, key=repr)
    elif isinstance(value, types.CodeType):
        yield from (value.co_code, value.co_names, value.co_consts)
    elif isinstance(value, types.MethodType):
        yield from (value.__func__, value.__self__)
    elif isinstance(value, types.FunctionType):
        yield from (value.__code__, value.__defaults__, value.__kwdefaults__)
        yield from map(_cell, value.__closure__ or ())
        if not _is_library(value):
            yield from sorted(_globals(value).items())
    elif isinstance(value, type) and not _is_library(value):
        yield _name(value)
        yield from value.__mro__[1:]
        own = sorted(vars(value).items())
        yield from [(name, part) for name, part in own if isinstance(part, types.FunctionType)]
    elif isinstance(value, type | types.ModuleType | types.BuiltinFunctionType | np.ufunc):
        yield from (_module(value), _name(value))
    elif hasattr(value, "__wrapped__"):
        # A function within `jax.jit`, `functools.wraps` and the like.
        yield value.__wrapped__
    else:
        if not _is_library(type(value)):
            yield type(value)
        is_module = isinstance(value, eqx.Module)
        yield from sorted(vars(value).items()) if is_module else _reduced(value)


def _reduced(value: Any) -> Iterator[Any]:
    """The parts of which `pickle` would make a value again."""
    try:
        found = value.__reduce_ex__(4)
    except TypeError:
        raise TypeError(
            f"checkpoint: a {type(value).__name__} in the experiment; allowed: arrays, numbers, "
            "text, functions and modules"
        ) from None
    yield from (found,) if isinstance(found, str) else found


def _globals(function: types.FunctionType) -> dict[str, Any]:
    """The global values to which the code of a function refers, those of libraries by name."""
    names, codes = set(), [function.__code__]
    while codes:
        code = codes.pop()
        names.update(code.co_names)
        codes += [part for part in code.co_consts if isinstance(part, types.CodeType)]
    return {name: function.__globals__[name] for name in names & set(function.__globals__)}


def _cell(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:
        return "empty"


def _is_library(value: Any) -> bool:
    """Whether a function or class belongs to Python or to a package whose version is recorded."""
    top = _module(value).partition(".")[0]
    return top in LIBRARIES or top in sys.stdlib_module_names


def _module(value: Any) -> str:
    return getattr(value, "__module__", None) or ""


def _name(value: Any) -> str:
    return getattr(value, "__qualname__", None) or value.__name__
