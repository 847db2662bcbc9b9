"""Gaussian multi-index models by gradient flow, saddle to saddle on the Grassmannian.

Start with `GradientFlow`.
"""

from hdjax.multiindex.averaging import (
    average,
    condition_numbers,
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
from hdjax.multiindex.flows import Joint, Planted, Profiled
from hdjax.multiindex.limit import Integrator
from hdjax.multiindex.links import Link, from_coefficients, from_function, product, ridge
from hdjax.multiindex.model import GradientFlow
from hdjax.multiindex.problem import Overlap
from hdjax.multiindex.simulate import FullFlow, Reduced
from hdjax.multiindex.starts import overlap
