"""Spectra of Hessian and gradient covariance along training, and the theory that predicts them.

Start with `Alignment`, the system: a training whose curvature is measured and predicted on each
`Block`.  `empirical` is the matrix of given samples, `top_space` and `spectral_measure` its top
space and density.  `block_theory`, `commuting_theory` and `full_theory` predict bulk, edges,
outliers and eigenvectors at finite n/d from the limit alone.  `alignment` has the measures of
alignment, and `classifiers` the classifiers that a two-layer network reaches on XOR.  Source:
"Spectral alignment of SGD" (arXiv 2310.03010).
"""

from hdjax.curvature import alignment, blocks, classifiers, matrices
from hdjax.curvature.blocks import Block
from hdjax.curvature.commuting import commuting_theory
from hdjax.curvature.emergence import OutlierCount, emergence_map
from hdjax.curvature.full_theory import full_theory
from hdjax.curvature.law import quadrature
from hdjax.curvature.matrices import empirical
from hdjax.curvature.network import NetworkMatrix
from hdjax.curvature.projected import ProjectedSGD
from hdjax.curvature.solvers import spectral_measure, top_space
from hdjax.curvature.system import Alignment, AlignmentSummary
from hdjax.curvature.theory import block_theory
from hdjax.curvature.train import training_loss, training_samples

__all__ = [
    "Alignment",
    "AlignmentSummary",
    "Block",
    "NetworkMatrix",
    "OutlierCount",
    "ProjectedSGD",
    "alignment",
    "block_theory",
    "blocks",
    "classifiers",
    "commuting_theory",
    "emergence_map",
    "empirical",
    "full_theory",
    "matrices",
    "quadrature",
    "spectral_measure",
    "top_space",
    "training_loss",
    "training_samples",
]
