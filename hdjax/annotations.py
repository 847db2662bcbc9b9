"""What the annotation of a parameter says about its values: the kinds of values that it allows.

    annotation                       values
    int, bool, str, None             themselves: 1.5 and True are no int, and 1 is no bool
    float                            a real number that is not NaN, also as an array without axes
    a class                          its instances, and not the class itself
    Float[Array, "d m"], Key, ...    arrays of that type with as many axes
    Callable                         what can be called, except for classes
    Sequence[X], Mapping[K, X]       collections of X; an array is a sequence too
    Annotated[..., mark]             as the marks of `hdjax.registry` say: `Bounds`, `OneOf`, ...
    X | Y                            values of either

Anything is allowed where the annotation is another one, such as Any.  Of a traced array only the
type and the number of axes are known.
"""

import dataclasses
import functools
import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import AbstractArray, PyTree

from hdjax.registry import Bounds, Each, FromFile, OneOf

Verdict = type[Exception] | None


class Kind(NamedTuple):
    """The values that an annotation allows.

    Attributes:
        rule: the rule in words, which end a message.
        judge: maps a value to None if it is allowed, to ValueError if it is of the right type, and
            to TypeError otherwise.
    """

    rule: str
    judge: Callable[[Any], Verdict]


def is_concrete(*leaves: Any) -> bool:
    """Whether all leaves have values that Python can read: False for tracers of jit, vmap, grad.

    Example:
        >>> is_concrete(1.0), bool(jax.jit(lambda x: jnp.array(is_concrete(x)))(1.0))
        (True, False)
    """
    return not any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(leaves))


@functools.cache
def kind_of(annotation: Any) -> Kind | None:
    """The kind of values that an annotation allows; None if anything is allowed.

    Example:
        >>> kind_of(int).rule, kind_of(int).judge(3), kind_of(int).judge(True).__name__
        ('an integer', None, 'TypeError')
    """
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _marked(*inner)
    if origin in (Union, UnionType):
        return _either([kind_of(part) for part in inner])
    if origin is Literal:
        return _one_of(inner)
    if annotation is None or annotation is NoneType:
        return Kind("None", lambda value: None if value is None else TypeError)
    if annotation is int:
        return _integers(Bounds(whole=True))
    if annotation is float:
        return Kind("a number that is not NaN", lambda value: _numbers(value, (0,), _not_nan))
    if annotation is Callable or origin is Callable:
        return Kind("a function", _function)
    if origin is type:
        base = object if inner[0] is Any else inner[0]
        return Kind(f"a subclass of {base.__name__}", functools.partial(_subclass, base))
    if origin is not None:
        return _collection(origin, inner)
    anything = annotation in (Any, object, inspect.Parameter.empty)
    if anything or not inspect.isclass(annotation):
        return None
    if issubclass(annotation, PyTree) or getattr(annotation, "_is_protocol", False):
        return None
    return _array(annotation) if issubclass(annotation, AbstractArray) else _instance(annotation)


def _marked(inner: Any, *marks: Any) -> Kind | None:
    """The kind of `Annotated[inner, *marks]`."""
    kinds = [_of_mark(inner, mark) for mark in marks]
    return next((kind for kind in kinds if kind is not None), kind_of(inner))


def _of_mark(inner: Any, mark: Any) -> Kind | None:
    match mark:
        case Bounds() if inner is int:
            return _integers(dataclasses.replace(mark, whole=True))
        case Bounds():
            return Kind(str(mark), lambda value: _numbers(value, (0,), mark.hold))
        case Each(bounds, alone, shortest):
            ndims = (0, 1) if alone else (1,)
            rule = f"{f'{bounds} or ' * alone}a list, each entry {bounds}"
            rule += f", of length {shortest} or more" if shortest else ""

            def hold(values: np.ndarray) -> bool:
                return bool(values.size >= shortest and bounds.hold(values))

            return Kind(rule, lambda value: _numbers(value, ndims, hold))
        case OneOf(words):
            return _one_of(words)
        case FromFile(True) if inspect.isclass(inner) and issubclass(inner, PyTree):
            return Kind("a pytree of finite real numbers", _tree)
        case FromFile(True):
            return Kind("an array of finite real numbers", lambda v: _numbers(v, None, _finite))
        case FromFile(False):
            return _either([kind_of(str), kind_of(os.PathLike)])
    return None


def _either(kinds: Sequence[Kind | None]) -> Kind | None:
    every = [kind for kind in kinds if kind is not None]
    if len(every) < len(kinds):
        return None

    def judge(value: Any) -> Verdict:
        verdicts = [kind.judge(value) for kind in every]
        if None in verdicts:
            return None
        return ValueError if ValueError in verdicts else TypeError

    *rules, last = dict.fromkeys(kind.rule for kind in every)
    return Kind(f"{'; '.join(rules)}; or {last}" if rules else last, judge)


def _one_of(words: Sequence[Any]) -> Kind:
    types = {type(word) for word in words}

    def judge(value: Any) -> Verdict:
        if type(value) not in types:
            return TypeError
        return None if value in words else ValueError

    return Kind(", ".join(map(str, words)), judge)


def _integers(bounds: Bounds) -> Kind:
    def judge(value: Any) -> Verdict:
        if isinstance(value, bool):
            return TypeError
        whole = isinstance(value, jax.Array | np.ndarray) and jnp.issubdtype(value.dtype, int)
        whole = whole or isinstance(value, int | np.integer)
        return _numbers(value, (0,), bounds.hold) if whole else TypeError

    return Kind(str(bounds), judge)


def _numbers(
    value: Any, ndims: tuple[int, ...] | None, hold: Callable[[np.ndarray], Any]
) -> Verdict:
    """The verdict on real numbers with one of some numbers of axes (None: any number of axes)."""
    if isinstance(value, Tracer):
        values: Any = value
        hold = _anything
    elif not is_concrete(value):
        return None
    else:
        try:
            # A Python integer may have more digits than an integer of NumPy.
            values = np.asarray(float(value) if type(value) is int else value)
        except (TypeError, ValueError, OverflowError):
            return TypeError
    if not (
        jnp.issubdtype(values.dtype, jnp.floating) or jnp.issubdtype(values.dtype, jnp.integer)
    ):
        return TypeError
    return None if (ndims is None or values.ndim in ndims) and hold(values) else ValueError


def _anything(values: Any) -> bool:
    return True


def _finite(values: np.ndarray) -> Any:
    return np.isfinite(values).all()


def _not_nan(values: np.ndarray) -> Any:
    return not np.isnan(values).any()


def _tree(value: Any) -> Verdict:
    verdicts = [_numbers(leaf, None, _finite) for leaf in jax.tree.leaves(value)]
    return TypeError if TypeError in verdicts else ValueError if any(verdicts) else None


def _array(annotation: Any) -> Kind:
    """The kind of an annotation of `jaxtyping`: the type and the number of axes are checked."""
    axes, types = annotation.dim_str.split(), annotation.dtypes
    several = sum(axis == "..." or axis.startswith("*") for axis in axes)
    # Integers become floating-point numbers.
    real, key = "float32" in types, "prng_key" in types

    def judge(value: Any) -> Verdict:
        if isinstance(value, bool | int | float | complex):
            value = np.asarray(value)
        if not isinstance(value, jax.Array | np.ndarray | np.generic):
            return TypeError
        whole = real and jnp.issubdtype(value.dtype, jnp.integer)
        typed = key and jnp.issubdtype(value.dtype, jax.dtypes.prng_key)
        if not (whole or typed or value.dtype.name in types):
            return TypeError
        fixed = len(axes) - several
        fits = value.ndim >= fixed if several else value.ndim == fixed
        return None if fits else ValueError

    if key:
        return Kind("a typed key, jax.random.key(seed)", judge)
    words = {
        "complex64": ("a number", "numbers"),
        "float32": ("a real number", "real numbers"),
        "int32": ("an integer", "integers"),
        "bool": ("a boolean", "booleans"),
    }
    one, many = next((words[name] for name in words if name in types), ("a scalar", "numbers"))
    return Kind(f"an array ({', '.join(axes)}) of {many}" if axes else one, judge)


def _collection(origin: Any, inner: tuple[Any, ...]) -> Kind | None:
    """The kind of `Sequence[X]`, `list[X]`, `tuple[X, ...]` and `Mapping[K, X]`."""
    if not inspect.isclass(origin):
        return None
    if not issubclass(origin, Mapping | Sequence):
        return _instance(origin)
    # A tuple of different types is looked at no further.
    alike = origin is not tuple or inner[1:] == (Ellipsis,)
    mapping = issubclass(origin, Mapping)
    key, entry = (kind_of(part) if alike else None for part in (inner[0], inner[mapping]))

    def judge(value: Any) -> Verdict:
        if origin is Sequence and isinstance(value, jax.Array | np.ndarray) and value.ndim:
            value = list(np.asarray(value)) if is_concrete(value) else []
        if not isinstance(value, origin) or isinstance(value, str | bytes):
            return TypeError
        both = isinstance(value, Mapping)
        pairs = [(key, value), (entry, value.values())] if both else [(entry, value)]
        verdicts = [kind.judge(one) for kind, entries in pairs if kind for one in entries]
        return TypeError if TypeError in verdicts else ValueError if any(verdicts) else None

    name = "a mapping" if mapping else f"a {origin.__name__.lower()}"
    return Kind(f"{name} of {entry.rule}" if entry else name, judge)


def _instance(annotation: type) -> Kind:
    types = (bool, np.bool) if annotation is bool else annotation
    rule = {bool: "True, False", str: "text"}.get(annotation)
    rule = rule or f"an instance of {annotation.__name__}"
    return Kind(rule, lambda value: None if isinstance(value, types) else TypeError)


def _function(value: Any) -> Verdict:
    return None if callable(value) and not isinstance(value, type) else TypeError


def _subclass(kind: Any, value: Any) -> Verdict:
    return None if isinstance(value, type) and issubclass(value, kind) else TypeError


def told(value: Any) -> str:
    """A value as messages show it, in at most a hundred characters.

    Example:
        >>> told(0.5), told(np.ones((3, 2), complex)), told(float)
        ('0.5', 'an array of shape (3, 2) and type complex128', 'the class float')
    """
    if isinstance(value, type):
        return f"the class {value.__name__}"
    if isinstance(value, jax.Array | np.ndarray):
        key = jnp.issubdtype(value.dtype, jax.dtypes.prng_key)
        if value.ndim == 0 and is_concrete(value) and not key:
            return str(value)
        shape = f"an array of shape {value.shape}"
        if jnp.issubdtype(value.dtype, jnp.floating) and is_concrete(value):
            values = np.asarray(value)
            bad = values[~np.isfinite(values)]
            return f"{shape} with the entry {bad[0]}" if bad.size else shape
        return f"{shape} and type {value.dtype}"
    text = " ".join(repr(value).split())
    return text if len(text) <= 100 else f"{text[:97]}..."
