"""Expectations E[f(z)] over a few standard normals, and factors of their covariance.

Losses see data only through a handful of Gaussian projections r = L z with L L^T = B. This package
has the rules that integrate over z, the expectations themselves with an error estimate, the
factor L for covariances that may be singular, and Owen's function.
"""

from hdjax.gaussian.expectations import expectation, expectation_with_error
from hdjax.gaussian.factors import factor, safe_sqrt, solve_transpose, without_rounding
from hdjax.gaussian.owen import owens_t
from hdjax.gaussian.rules import QMC, GaussHermite, Rule, Trapezoid, default_rule

__all__ = [
    "QMC",
    "GaussHermite",
    "Rule",
    "Trapezoid",
    "default_rule",
    "expectation",
    "expectation_with_error",
    "factor",
    "owens_t",
    "safe_sqrt",
    "solve_transpose",
    "without_rounding",
]
