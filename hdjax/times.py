"""Times as the user wrote them: their rounding, the decimals that were meant, and their records.

An algorithm's clock is an integer, and a time that came in float32 is off by up to 1e-7 of itself:
0.6 is 0.60000002, and 400 times a number just below 0.6 is not 240.  Times therefore keep the dtype
in which they came until the clock is made (`hdjax.clocks`).  Results are labelled by the
*nominal* times, and whoever asks for a time finds the record of that nominal time here.
"""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

Numbers = Float[Array | np.ndarray, "*times"]

# Units in the last place that a step of a grid, a sum or a product may be off by.
_ULPS = 8
# Relative: the time asked for, or those of the records, may have come in float32.
_SAME = _ULPS * float(np.finfo(np.float32).eps)


def as_times(ts: Any) -> np.ndarray:
    """Increasing times on the host, in the dtype in which they came.

    Python numbers and integers are float64.  A list with entries of a lower precision has the
    lowest of them, and fractions in float64 that float32 holds were converted from it, as those of
    `jnp.linspace(0, 10, 51).tolist()` were.

    Args:
        ts: (times,) a list, a NumPy array or a JAX array.

    Returns:
        (times,) in float64, or in the lower precision in which they came.

    Raises:
        ValueError: times that are not finite, are negative or do not increase (by more than their
            rounding); a list whose lowest precision does not hold its other entries.

    Example:
        >>> as_times(np.array([0.0, 0.5], np.float32)).dtype
        dtype('float32')
    """
    try:
        wide = np.asarray(ts, np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"ts: {ts!r}; allowed: a list of numbers") from None
    if wide.ndim != 1 or wide.size == 0:
        raise ValueError(f"ts: shape {wide.shape}; allowed: a list of at least one time")
    if not np.isfinite(wide).all() or wide[0] < 0:
        raise ValueError(f"ts: {ts}; allowed: finite, at least 0 and increasing")
    each = [_precision(t) for t in ts] if isinstance(ts, list | tuple) else [_precision(ts)]
    lowest = max(each, key=_eps)
    if lowest == np.float64 and np.any(wide % 1) and np.all(wide == wide.astype(np.float32)):
        # Chance does not leave the last 29 bits of fractions zero: they came through float32.
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
    """The relative error that each time may have, by the dtype in which it came.

    Numbers of a lower precision that were meant as they are (k/1024, say) err as in float64.

    Example:
        >>> third, half = rounding(np.array([1 / 3, 1 / 2], np.float32))
        >>> bool(third > 1e7 * half)
        True
    """
    exact = nominal(ts) == np.asarray(ts, np.float64)
    return _ULPS * np.where(exact, _eps(np.dtype(np.float64)), _eps(_precision(ts)))


def nominal(ts: np.ndarray) -> Float[np.ndarray, "*shape"]:
    """The times that were meant, in float64.

    Numbers in float64 are themselves, and so are those of a lower precision that need half its
    bits, such as k/1024.  Others are the shortest decimals that round to them, or that lie a few
    units in the last place away and are much shorter.

    Example:
        >>> nominal(np.array([0.2, 0.6000001], np.float32)).tolist()
        [0.2, 0.6]
    """
    ts = np.asarray(ts)
    if _precision(ts) == np.float64:
        return ts.astype(np.float64)
    return np.array([_decimal(t) for t in ts.ravel()], np.float64).reshape(ts.shape)


def is_at(times: Numbers, t: Any) -> Bool[Array | np.ndarray, "*times"]:
    """Which nominal times are `t`, but for rounding (NumPy or JAX arrays).

    Example:
        >>> is_at(np.array([0.1, 0.3]), 0.1 + 0.2).tolist()
        [False, True]
    """
    return abs(times - t) <= _SAME * abs(t)


def as_time(t: Any, name: str = "t") -> float:
    """One nominal time.

    Args:
        t: a number, in any precision.
        name: what the message calls it.

    Raises:
        ValueError: no number.

    Example:
        >>> as_time(np.float32(0.1))
        0.1
    """
    try:
        return float(nominal(np.asarray(t)))
    except (TypeError, ValueError):
        raise ValueError(f"{name}: {t!r}; allowed: a number") from None


def record_at(times: Sequence[float] | Float[np.ndarray, " times"], t: Any, name: str = "t") -> int:
    """The record of nominal time `t`.

    Args:
        times: (times,) nominal times of the records.
        t: the time asked for; rounding of float32 is allowed for.
        name: what the message calls it.

    Raises:
        ValueError: no record has that time; the message has the nearest ones.

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
    """The dtype of floating-point numbers of less than 64 bits, float64 for all others."""
    dtype = getattr(value, "dtype", None)
    low = dtype is not None and jnp.issubdtype(dtype, jnp.floating) and dtype.itemsize < 8
    return np.dtype(dtype) if low else np.dtype(np.float64)


def _eps(dtype: np.dtype) -> float:
    return float(jnp.finfo(dtype).eps)


def _decimal(value: Any) -> float:
    exact, eps = float(value), _eps(value.dtype)
    # Few decimals need half the bits only: such a number is a multiple of 1/1024, say.
    half = 2.0 ** (int(-np.log2(eps)) // 2)
    if not np.isfinite(exact) or (half * np.frexp(exact)[0]).is_integer():
        return exact
    # By chance a number is that near to a decimal of so few digits once in 16 times at most.
    few = int(-np.log10(64 * eps))
    for digits in range(1, 18):
        decimal = float(f"{exact:.{digits - 1}e}")
        near = digits <= few and abs(decimal - exact) <= _ULPS / 2 * eps * exact
        if near or value.dtype.type(decimal) == value:
            return decimal
    return exact
