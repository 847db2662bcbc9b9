"""Multi-pass SGD, and SGD with momentum and batches, on a fixed least-squares problem.

Start with `Problem` and the systems `MultiPassSGD` and `MomentumSGD`.  `gaussian_problem` and
`random_features_problem` draw problems, and `data` makes them of data sets.  The solvers of the
limit are `BlockODE` and `Spectral`, with momentum `Recursion` and `Squaring`; `volterra` and
`discrete_volterra` are the limit as one equation of the loss alone.  The limit depends on the
eigenvalues of a problem through its `modes`, and in the mean on the `laws` of random matrices.
`analysis` and `rates` compute stability and rates of convergence, and `diagnostics` warns of data
on which SGD may leave its limit.
"""

from hdjax.multipass import analysis, data, diagnostics, laws, modes, rates
from hdjax.multipass.ensembles import gaussian_problem, random_features_problem
from hdjax.multipass.limit import BlockODE, Spectral, volterra
from hdjax.multipass.model import MultiPassSGD
from hdjax.multipass.momentum import MomentumSGD
from hdjax.multipass.problem import Problem
from hdjax.multipass.quadratics import Quadratic, QuadraticForm, SampleRisk
from hdjax.multipass.recursion import Recursion, Squaring, discrete_volterra
from hdjax.multipass.simulate import Direct, Homogenised

__all__ = [
    "BlockODE",
    "Direct",
    "Homogenised",
    "MomentumSGD",
    "MultiPassSGD",
    "Problem",
    "Quadratic",
    "QuadraticForm",
    "Recursion",
    "SampleRisk",
    "Spectral",
    "Squaring",
    "analysis",
    "data",
    "diagnostics",
    "discrete_volterra",
    "gaussian_problem",
    "laws",
    "modes",
    "random_features_problem",
    "rates",
    "volterra",
]
