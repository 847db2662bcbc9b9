"""Covariance kernels of Gaussian random functions, given as the `kernel` of a `GradientSpan`.

`stationary.py` has the kernels of the distance |x - y|, `base.py` kernels of inner products, sums,
products, and kernels of any function.
"""

from hdjax.landscapes.kernels.base import (
    Amplitude,
    FunctionKernel,
    Jet,
    Kernel,
    Polynomial,
    Product,
    SpinGlass,
    Sum,
)
from hdjax.landscapes.kernels.stationary import (
    Matern32,
    Matern52,
    RationalQuadratic,
    SquaredExponential,
    Stationary,
)

__all__ = [
    "Amplitude",
    "FunctionKernel",
    "Jet",
    "Kernel",
    "Matern32",
    "Matern52",
    "Polynomial",
    "Product",
    "RationalQuadratic",
    "SpinGlass",
    "SquaredExponential",
    "Stationary",
    "Sum",
]
