"""Expectations E[f(z)] over a few standard normals, and factors of covariance matrices.

The losses of the systems depend on data through a few Gaussian projections r = L z with
L L^T = B. This package has the quadrature rules for z, expectations with an error estimate, the
factor L of a covariance that may be singular, and Owen's function.
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
