"""Conversions and checks of the arguments of spectra, for the constructors in `laws.py`.

Checks raise ValueError for concrete values; traced values are not checked.
"""

from collections.abc import Sequence
from typing import Annotated, Any

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from hdjax.checks import is_concrete
from hdjax.registry import Bounds, FromFile

Dimension = Annotated[ArrayLike, Bounds(least=1, whole=True)]
Numbers = ArrayLike | Sequence[Any]  # values that NumPy converts to an array
Exponent = Annotated[Numbers, Bounds()]
NonNegative = Annotated[ArrayLike, Bounds(least=0)]
Positive = Annotated[ArrayLike, Bounds(above=0)]
Entries = Annotated[Numbers, FromFile(array=True)]


def as_float(values: Any) -> Float[Array, "..."]:
    return jnp.asarray(values, jnp.result_type(float))


def as_parameter(name: str, value: Numbers) -> Float[Array, ""]:
    array = as_float(value)
    if array.ndim != 0:
        raise ValueError(f"{name}: shape {array.shape}; allowed: a scalar")
    if is_concrete(array) and not np.isfinite(array):
        raise ValueError(f"{name}: {float(array)}; allowed: finite")
    return array


def as_dimension(d: ArrayLike) -> tuple[int | None, Float[Array, ""]]:
    """The dimension as a Python integer (None if it was given as an array) and as a leaf."""
    if isinstance(d, int | np.integer):
        check_dimension(np.asarray(d))
        return int(d), as_float(int(d))
    if isinstance(d, float):
        raise ValueError(f"d: {d}; allowed: an integer, or a scalar array")
    dimension = as_parameter("d", d)
    if is_concrete(dimension):
        check_dimension(np.asarray(dimension))
    return None, dimension


def as_integer_dimension(d: Any) -> int:
    size, _ = as_dimension(d)
    if size is None:
        raise ValueError(f"d: {d!r}; allowed: a Python integer, which becomes a shape")
    return size


def check_dimension(d: np.ndarray) -> None:
    if not np.all(d >= 1):
        raise ValueError(f"d: {d.min()}; allowed: at least 1")


def check_eigenvalues(eigenvalues: Array) -> None:
    if not is_concrete(eigenvalues):
        return
    values = np.asarray(eigenvalues)
    bad = values[~(np.isfinite(values) & (values >= 0))]
    if bad.size:
        raise ValueError(f"eigenvalues: {bad.ravel()[0]}; allowed: finite, 0 or more")


def check_multiplicities(counts: np.ndarray) -> np.ndarray:
    whole = np.round(counts)
    if not (np.isfinite(counts).all() and (whole == counts).all() and (whole >= 1).all()):
        raise ValueError(f"multiplicities: {counts}; allowed: positive integers")
    return whole.astype(np.int64)
