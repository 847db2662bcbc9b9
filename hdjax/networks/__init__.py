"""Repeated training of networks, and Gaussian random functions that may stand for them.

Start with `Training`.  `architectures.py` has the small networks of the experiments (any Equinox
module serves as well), and `simulate.py` runs one training.  `kernel_fit.py` fits a Gaussian random
function of `hdjax.landscapes` to trainings, and `layers.py` measures the curvature of layers with
`hdjax.curvature`.  Source: arXiv 2410.09973, figure 1.
"""

from hdjax.networks.architectures import CNN, MLP, Dense, cross_entropy, squared_error
from hdjax.networks.kernel_fit import Fitted, KernelFit, fit_kernel
from hdjax.networks.layers import LayerAlignment, LayerSummary
from hdjax.networks.model import Training
from hdjax.networks.simulate import Direct, TrainingState, TrainingSummary
from hdjax.networks.spread import relative_spread

__all__ = [
    "CNN",
    "MLP",
    "Dense",
    "Direct",
    "Fitted",
    "KernelFit",
    "LayerAlignment",
    "LayerSummary",
    "Training",
    "TrainingState",
    "TrainingSummary",
    "cross_entropy",
    "fit_kernel",
    "relative_spread",
    "squared_error",
]
