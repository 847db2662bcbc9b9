"""Gaussian multi-index models learnt by gradient flow, from saddle to saddle on the Grassmannian.

Start with `GradientFlow`.  A target is described in `links.py`, the flow of its overlaps in
`flows.py` and the flow in R^d in `simulate.py`.  The algorithms beside the flow are in
`descent.py`, `finite_samples.py` and `stiefel_sgd.py`; `saddles.py` follows the flow over all its
time scales.  Source: arXiv 2310.19793.
"""

from hdjax.multiindex.anisotropic import Anisotropic, anisotropic_overlap
from hdjax.multiindex.averaging import (
    average,
    conditioning,
    energy,
    energy_gradient,
    planted_loss,
    profiled_loss,
)
from hdjax.multiindex.closed_forms import (
    cosine,
    erf,
    exponential,
    hermite_polynomial,
    relu,
    sign,
    sine,
)
from hdjax.multiindex.descent import Adaptive, Constant, GradientDescent
from hdjax.multiindex.diagnostics import oscillation, slow_growth, trapped
from hdjax.multiindex.finite_samples import FiniteSamples
from hdjax.multiindex.flows import Joint, Planted, Profiled, from_odds, to_odds
from hdjax.multiindex.freezing import escape_times
from hdjax.multiindex.generative import generative, generative_exponent, generative_spectrum
from hdjax.multiindex.leaps import Leap, exponents, leaps
from hdjax.multiindex.links import Link, from_coefficients, from_function, product, ridge, ridge_sum
from hdjax.multiindex.model import GradientFlow
from hdjax.multiindex.problem import Direct, Overlap, Problem
from hdjax.multiindex.readouts import (
    Fixed,
    HermiteRidge,
    KernelRidge,
    Network,
    RandomFeatures,
    Readout,
)
from hdjax.multiindex.saddles import SaddleToSaddle
from hdjax.multiindex.simulate import FullFlow, Reduced
from hdjax.multiindex.starts import haar_odds, haar_overlap, lift, overlap
from hdjax.multiindex.stiefel_sgd import StiefelSGD
from hdjax.multiindex.traps import (
    basin_probability,
    cubics_probability,
    radial_harmonics,
    single_probability,
)

__all__ = [
    "Adaptive",
    "Anisotropic",
    "Constant",
    "Direct",
    "FiniteSamples",
    "Fixed",
    "FullFlow",
    "GradientDescent",
    "GradientFlow",
    "HermiteRidge",
    "Joint",
    "KernelRidge",
    "Leap",
    "Link",
    "Network",
    "Overlap",
    "Planted",
    "Problem",
    "Profiled",
    "RandomFeatures",
    "Readout",
    "Reduced",
    "SaddleToSaddle",
    "StiefelSGD",
    "anisotropic_overlap",
    "average",
    "basin_probability",
    "conditioning",
    "cosine",
    "cubics_probability",
    "energy",
    "energy_gradient",
    "erf",
    "escape_times",
    "exponential",
    "exponents",
    "from_coefficients",
    "from_function",
    "from_odds",
    "generative",
    "generative_exponent",
    "generative_spectrum",
    "haar_odds",
    "haar_overlap",
    "hermite_polynomial",
    "leaps",
    "lift",
    "oscillation",
    "overlap",
    "planted_loss",
    "product",
    "profiled_loss",
    "radial_harmonics",
    "relu",
    "ridge",
    "ridge_sum",
    "sign",
    "sine",
    "single_probability",
    "slow_growth",
    "to_odds",
    "trapped",
]
