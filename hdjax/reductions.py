"""Reductions that skip NaN.

In a result NaN stands for a number that does not exist: a run had ended, or a statistic of it was
not finite.
"""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import xarray as xr


def skip_nan(
    reduction: Callable[..., Any], values: Any, axis: int | None = 0, **options: Any
) -> np.ndarray:
    """Reduce over the entries of `values` that are not NaN; the result is NaN where all are NaN.

    Args:
        reduction: `np.nanmean`, `np.nanmedian`, `np.nanquantile`, ...; the real and the imaginary
            part of complex numbers are reduced separately.
        values: any array.
        axis: the axis that is reduced; None: all.
        **options: further arguments of the reduction.

    Example:
        >>> skip_nan(np.nanmean, np.array([[1.0, np.nan], [3.0, np.nan]])).tolist()
        [2.0, nan]
    """
    values = np.asarray(values)
    if np.iscomplexobj(values):
        parts = [skip_nan(reduction, part, axis, **options) for part in (values.real, values.imag)]
        return parts[0] + 1j * parts[1]
    some = ~np.isnan(values).all(axis=axis)
    safe = np.where(some if axis is None else np.expand_dims(some, axis), values, 0.0)
    # The hitting time of a level that some runs never reach is infinite, and so is its mean; and
    # NumPy warns of the standard deviation of a single number.
    with np.errstate(invalid="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return np.where(some, reduction(safe, axis=axis, **options), np.nan)


def over_runs(
    values: xr.DataArray, reduction: Callable[..., Any] = np.nanmedian, **options: Any
) -> xr.DataArray:
    """Reduce a variable over its dimension `run`, if it has one, as `skip_nan` does."""
    if "run" not in values.dims:
        return values
    return values.reduce(lambda array, axis: skip_nan(reduction, array, axis, **options), "run")
