"""Roots of scalar functions in a bracket, for the exponents and rates of the family."""

from collections.abc import Callable
from typing import Any

import scipy


def find_root(function: Callable[[float], Any], low: float, high: float) -> float:
    """The root of `function` in [low, high], to rounding; the signs at both ends differ."""
    # The type is `Any`, as SciPy's stubs do not know the arguments xtol and rtol.
    brentq: Any = scipy.optimize.brentq
    return float(brentq(function, low, high, xtol=1e-300, rtol=1e-14))
