"""Times as a user writes them: their rounding, their nominal values, and the records at them.

The clock of an algorithm counts integer steps, and a time in float32 has a relative error of up to
1e-7: 0.6 is 0.60000002, and 400 times a number just below 0.6 is less than 240.  Times therefore
keep the dtype in which they came until a clock turns them into ticks (`hdjax.clocks`).  Results are
labelled by the *nominal* times, the decimals that the user meant, and `record_at` finds the record
of a nominal time.
"""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

Numbers = Float[Array | np.ndarray, "*times"]

# The error, in units in the last place, of a time that comes from a grid, a sum or a product.
_ULPS = 8
# The relative error within which two times are equal: either of them may have come in float32.
_SAME = _ULPS * float(np.finfo(np.float32).eps)


def as_times(ts: Any) -> np.ndarray:
    """Check increasing times, and return them as an array in the precision in which they came.

    Python numbers and integers are float64.  A list with entries of lower precision has the lowest
    precision among them.  Times in float64 that include fractions, and that float32 holds exactly,
    count as float32: they were converted from it, as those of `jnp.linspace(0, 10, 51).tolist()`.

    Args:
        ts: (times,) a list, a NumPy array or a JAX array.

    Returns:
        (times,) a NumPy array in float64, or in the lower precision in which the times came.

    Raises:
        ValueError: times that are not finite, are negative, or do not increase by more than their
            rounding; a list of mixed precision whose finer entries the lowest precision cannot
            hold.

    Example:
        >>> as_times(np.array([0.0, 0.5], np.float32)).dtype
        dtype('float32')
    """
    try:
        given = np.asarray(ts)
        if given.dtype.kind in "bcSU":
            raise TypeError
        wide = given.astype(np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"ts: {ts!r}; allowed: a list of numbers") from None
    if wide.ndim != 1 or wide.size == 0:
        raise ValueError(f"ts: shape {wide.shape}; allowed: a list of at least one time")
    if not np.isfinite(wide).all() or wide[0] < 0:
        raise ValueError(f"ts: {ts}; allowed: finite, at least 0 and increasing")
    each = [_precision(t) for t in ts] if isinstance(ts, list | tuple) else [_precision(ts)]
    lowest = max(each, key=_eps)
    if lowest == np.float64 and np.any(wide % 1) and np.all(wide == wide.astype(np.float32)):
        # The last 29 bits of fractions are not all zero by chance: the times came through float32.
        lowest, each = np.dtype(np.float32), [np.dtype(np.float32)]
    own = wide.astype(lowest)
    meant = nominal(own)
    exact = np.array([_eps(dtype) < _eps(lowest) for dtype in each])
    if np.any(exact & (meant != wide)):
        raise ValueError(f"ts: entries of {lowest} among finer ones; allowed: one precision")
    if np.any(np.diff(meant) <= 0):
        raise ValueError(f"ts: {ts}; allowed: finite, at least 0 and increasing")
    return own


def rounding(ts: np.ndarray) -> Float[np.ndarray, "*shape"]:
    """The relative error of each time, from the dtype in which the times came.

    A time of lower precision that was meant exactly (k/1024, say) has the error of float64.

    Example:
        >>> third, half = rounding(np.array([1 / 3, 1 / 2], np.float32))
        >>> bool(third > 1e7 * half)
        True
    """
    exact = nominal(ts) == np.asarray(ts, np.float64)
    return _ULPS * np.where(exact, _eps(np.dtype(np.float64)), _eps(_precision(ts)))


def nominal(ts: np.ndarray) -> Float[np.ndarray, "*shape"]:
    """The nominal times, those that were meant, in float64.

    Times in float64 stay as they are, and so do times of lower precision that need only half of its
    bits, such as k/1024.  Any other time is replaced by the shortest decimal that rounds to it, or
    by a much shorter decimal that is a few units in the last place away.

    Example:
        >>> nominal(np.array([0.2, 0.6000001], np.float32)).tolist()
        [0.2, 0.6]
    """
    ts = np.asarray(ts)
    if _precision(ts) == np.float64:
        return ts.astype(np.float64)
    return np.array([_decimal(t) for t in ts.ravel()], np.float64).reshape(ts.shape)


def is_at(times: Numbers, t: Any) -> Bool[Array | np.ndarray, "*times"]:
    """Whether each nominal time equals `t` up to the rounding of float32 (NumPy or JAX arrays).

    Example:
        >>> is_at(np.array([0.1, 0.3]), 0.1 + 0.2).tolist()
        [False, True]
    """
    return abs(times - t) <= _SAME * abs(t)


def as_time(t: Any, name: str = "t") -> float:
    """The nominal value of a single time, in float64.

    Args:
        t: a number, in any precision.
        name: what the message calls the time.

    Raises:
        ValueError: `t` is no number.

    Example:
        >>> as_time(np.float32(0.1))
        0.1
    """
    try:
        return float(nominal(np.asarray(t)))
    except (TypeError, ValueError):
        raise ValueError(f"{name}: {t!r}; allowed: a number") from None


def record_at(times: Sequence[float] | Float[np.ndarray, " times"], t: Any, name: str = "t") -> int:
    """The position of the record with nominal time `t`.

    Args:
        times: (times,) nominal times of the records.
        t: the time of a record, up to the rounding of float32.
        name: what the message calls the time.

    Raises:
        ValueError: no record has that time; the message gives the times of the nearest records.

    Example:
        >>> record_at(np.array([0.0, 0.1, 0.3]), 0.1 + 0.2)
        2
    """
    records, wanted = np.asarray(times, np.float64), as_time(t, name)
    order = np.argsort(np.abs(records - wanted), kind="stable")
    if not is_at(records, wanted)[order[0]]:
        near = [f"{t:.10g}" for t in records[order[:2]]]
        raise ValueError(
            f"{name}: {wanted:.10g}; the nearest record is at {', the next at '.join(near)}; "
            "allowed: the time of a record"
        )
    return int(order[0])


def _precision(value: Any) -> np.dtype:
    """The dtype of `value` if it is a floating-point type of less than 64 bits; else float64."""
    dtype = getattr(value, "dtype", None)
    low = dtype is not None and jnp.issubdtype(dtype, jnp.floating) and dtype.itemsize < 8
    return np.dtype(dtype) if low else np.dtype(np.float64)


def _eps(dtype: np.dtype) -> float:
    return float(jnp.finfo(dtype).eps)


def _decimal(value: Any) -> float:
    exact, eps = float(value), _eps(value.dtype)
    # A number that needs half of the bits only, such as a multiple of 1/1024, was meant exactly:
    # few decimals have that property.
    half = 2.0 ** (int(-np.log2(eps)) // 2)
    if not np.isfinite(exact) or (half * np.frexp(exact)[0]).is_integer():
        return exact
    # A random number is that near to a decimal of so few digits with probability 1/16 at most.
    few = int(-np.log10(64 * eps))
    for digits in range(1, 18):
        decimal = float(f"{exact:.{digits - 1}e}")
        near = digits <= few and abs(decimal - exact) <= _ULPS / 2 * eps * exact
        if near or value.dtype.type(decimal) == value:
            return decimal
    return exact
