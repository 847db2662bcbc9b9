"""Gradient span algorithms on Gaussian random functions, and their deterministic limit.

Start with `GradientSpan`, the system: it takes the law of the random function from `kernels`, an
algorithm from `algorithms` and its step lengths from `rates`.  The method `Previsible` samples the
exact law of a run at any d; `Explicit` draws a function of `functions` in each run, and `Function`
runs on one fixed function.  `ComponentWise` is the system of the `optimisers` that look at the
entries of a gradient, such as Adam.  `fluctuations` has corrections to the limit at finite d,
`frame` the law of single observations, and `meta` optimises algorithms through the limit.
"""

from hdjax.landscapes import (
    algorithms,
    fluctuations,
    frame,
    functions,
    kernels,
    meta,
    optimisers,
    rates,
)
from hdjax.landscapes.componentwise import ComponentWise
from hdjax.landscapes.explicit import Ambient, Explicit, Function
from hdjax.landscapes.model import GradientSpan
from hdjax.landscapes.observation import NextObservation, Observation
from hdjax.landscapes.order import OrderParameters, OverlapWithStep
from hdjax.landscapes.simulate import Previsible

__all__ = [
    "Ambient",
    "ComponentWise",
    "Explicit",
    "Function",
    "GradientSpan",
    "NextObservation",
    "Observation",
    "OrderParameters",
    "OverlapWithStep",
    "Previsible",
    "algorithms",
    "fluctuations",
    "frame",
    "functions",
    "kernels",
    "meta",
    "optimisers",
    "rates",
]
