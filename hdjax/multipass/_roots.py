"""Roots in a bracket."""

from collections.abc import Callable
from typing import Any

import scipy


def find_root(function: Callable[[float], Any], low: float, high: float) -> float:
    """The root of `function` in [low, high], to rounding."""
    # SciPy's stubs know of neither precision.
    brentq: Any = scipy.optimize.brentq
    return float(brentq(function, low, high, xtol=1e-300, rtol=1e-14))
