"""Gradient span algorithms on Gaussian random functions, and their deterministic limit.

Start with `GradientSpan`.  `kernels.py` and `stationary.py` define the law of the random function,
`algorithms.py` and `rates.py` the algorithms that minimise it.  `sampler.py` and `simulate.py`
sample the exact law of a run at any d, and `explicit.py` runs on vectors of R^d.  `limit.py`
computes the limit as d grows, and `fluctuations.py` the corrections to it at finite d.
`ComponentWise` serves optimisers that look at the entries of a gradient, such as Adam.
"""

from hdjax.landscapes.algorithms import (
    Algorithm,
    BarzilaiBorwein,
    ConjugateGradient,
    GradientDescent,
    HeavyBall,
    LowerTriangular,
    Nesterov,
    SphereDescent,
)
from hdjax.landscapes.componentwise import ComponentWise
from hdjax.landscapes.explicit import Ambient, Explicit, Function
from hdjax.landscapes.fluctuations import (
    Expansion,
    HaltingLaw,
    critical_dimension,
    expansion,
    halting_law,
)
from hdjax.landscapes.frame import (
    ConditionalLaw,
    block_covariance,
    conditional_law,
    previsible_frame,
    rotated_covariance,
)
from hdjax.landscapes.kernels import (
    Amplitude,
    FunctionKernel,
    Jet,
    Kernel,
    Polynomial,
    Product,
    SpinGlass,
    Sum,
)
from hdjax.landscapes.meta import Optimum, algorithm_family, optimise
from hdjax.landscapes.model import GradientSpan
from hdjax.landscapes.observation import NextObservation, Observation
from hdjax.landscapes.optimisers import Adam, Optimiser, RMSProp, SignDescent
from hdjax.landscapes.order import OrderParameters, Overlap
from hdjax.landscapes.rates import (
    Clipped,
    Normalised,
    Polyak,
    RandomFunctionDescent,
    Rate,
    Scheduled,
    Steps,
)
from hdjax.landscapes.simulate import Previsible
from hdjax.landscapes.stationary import (
    Matern32,
    Matern52,
    RationalQuadratic,
    SquaredExponential,
    Stationary,
)

__all__ = [
    "Adam",
    "Algorithm",
    "Ambient",
    "Amplitude",
    "BarzilaiBorwein",
    "Clipped",
    "ComponentWise",
    "ConditionalLaw",
    "ConjugateGradient",
    "Expansion",
    "Explicit",
    "Function",
    "FunctionKernel",
    "GradientDescent",
    "GradientSpan",
    "HaltingLaw",
    "HeavyBall",
    "Jet",
    "Kernel",
    "LowerTriangular",
    "Matern32",
    "Matern52",
    "Nesterov",
    "NextObservation",
    "Normalised",
    "Observation",
    "Optimiser",
    "Optimum",
    "OrderParameters",
    "Overlap",
    "Polyak",
    "Polynomial",
    "Previsible",
    "Product",
    "RMSProp",
    "RandomFunctionDescent",
    "Rate",
    "RationalQuadratic",
    "Scheduled",
    "SignDescent",
    "SphereDescent",
    "SpinGlass",
    "SquaredExponential",
    "Stationary",
    "Steps",
    "Sum",
    "algorithm_family",
    "block_covariance",
    "conditional_law",
    "critical_dimension",
    "expansion",
    "halting_law",
    "optimise",
    "previsible_frame",
    "rotated_covariance",
]
