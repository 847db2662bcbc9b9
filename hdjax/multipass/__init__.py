"""Multi-pass SGD, and SGD with momentum and batches, on a fixed least-squares problem.

Start with `Problem` and `MultiPassSGD`.  `model.py` and `momentum.py` define the systems, and
`least_squares.py` the part that they share.  `simulate.py` runs them at finite size.  `modes.py`,
`flow.py`, `limit.py` and `recursion.py` compute the limit as n and d grow, `fluctuations.py` and
`moments.py` the spread of runs around the limit, and `diagnostics.py` warns of data on which SGD
may leave it.  `analysis.py` and `rates.py` compute stability and rates, `laws.py` spectra of random
matrices.  `problem.py`, `quadratics.py`, `ensembles.py` and `data.py` make problems.
"""

from hdjax.multipass.analysis import (
    critical_learning_rate,
    limit_loss,
    malthusian_exponent,
    max_learning_rate,
    power_exponent,
)
from hdjax.multipass.data import Labelled, Split, binary, digits, load_idx, load_npz, split
from hdjax.multipass.diagnostics import (
    linear_noise_error,
    row_kurtosis,
    row_norms,
)
from hdjax.multipass.ensembles import gaussian_problem, random_features_problem
from hdjax.multipass.laws import MarchenkoPastur, SampleCovariance, SpectralLaw
from hdjax.multipass.limit import BlockODE, Spectral, volterra
from hdjax.multipass.model import MultiPassSGD
from hdjax.multipass.modes import Modes, delocalisation, lanczos_modes, law_modes, svd_modes
from hdjax.multipass.momentum import MomentumSGD
from hdjax.multipass.problem import Problem
from hdjax.multipass.quadratics import Quadratic, QuadraticForm, SampleRisk
from hdjax.multipass.rates import (
    Tuned,
    average_condition_number,
    best_momentum,
    best_plain,
    condition_number,
    implicit_conditioning_ratio,
    is_stable,
    kernel_norm,
    limit_rate,
    near_optimal,
    root_rate,
    saturating_fraction,
)
from hdjax.multipass.recursion import Recursion, Squaring
from hdjax.multipass.simulate import Direct, Homogenised

__all__ = [
    "BlockODE",
    "Direct",
    "Homogenised",
    "Labelled",
    "MarchenkoPastur",
    "Modes",
    "MomentumSGD",
    "MultiPassSGD",
    "Problem",
    "Quadratic",
    "QuadraticForm",
    "Recursion",
    "SampleCovariance",
    "SampleRisk",
    "Spectral",
    "SpectralLaw",
    "Split",
    "Squaring",
    "Tuned",
    "average_condition_number",
    "best_momentum",
    "best_plain",
    "binary",
    "condition_number",
    "critical_learning_rate",
    "delocalisation",
    "digits",
    "gaussian_problem",
    "implicit_conditioning_ratio",
    "is_stable",
    "kernel_norm",
    "lanczos_modes",
    "law_modes",
    "limit_loss",
    "limit_rate",
    "linear_noise_error",
    "load_idx",
    "load_npz",
    "malthusian_exponent",
    "max_learning_rate",
    "near_optimal",
    "power_exponent",
    "random_features_problem",
    "root_rate",
    "row_kurtosis",
    "row_norms",
    "saturating_fraction",
    "split",
    "svd_modes",
    "volterra",
]
