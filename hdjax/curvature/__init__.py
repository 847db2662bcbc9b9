"""Spectra of Hessian and gradient covariance along training, and the theory that predicts them.

Start with `Alignment`.  `matrices.py` has the empirical matrices as products, and `solvers.py`
their top spaces and densities.  `theory.py` predicts bulk, edges, outliers and eigenvectors at
finite n/d from the limit alone.  `alignment.py` has the measures of alignment, and
`classifiers.py` the classifiers that a two-layer network reaches on XOR.  Source: "Spectral
alignment of SGD" (arXiv 2310.03010).
"""

from hdjax.curvature.alignment import (
    orthonormal,
    overlap,
    principal_cosines,
    principal_sines,
    random_overlap,
    share,
    share_in_means,
)
from hdjax.curvature.blocks import Block, measured, predicted
from hdjax.curvature.classifiers import (
    fixed_point_output,
    learned_means,
    softmax_fixed_point,
    success_probability,
    taken_means,
)
from hdjax.curvature.commuting import CommutingTheory, commuting_theory
from hdjax.curvature.emergence import OutlierCount, emergence_map
from hdjax.curvature.full_theory import FullSpectrum, FullTheory, full_theory
from hdjax.curvature.law import Quadrature, quadrature
from hdjax.curvature.matrices import (
    CurvatureMatrix,
    SampleMatrix,
    StreamedMatrix,
    dual_gram,
    empirical,
)
from hdjax.curvature.network import NetworkMatrix
from hdjax.curvature.projected import ProjectedSGD
from hdjax.curvature.solvers import SpectralMeasure, TopSpace, spectral_measure, top_space
from hdjax.curvature.system import Alignment, AlignmentSummary
from hdjax.curvature.theory import BlockSpectrum, BlockTheory, block_theory
from hdjax.curvature.train import (
    TrainingSamples,
    training_loss,
    training_samples,
)

__all__ = [
    "Alignment",
    "AlignmentSummary",
    "Block",
    "BlockSpectrum",
    "BlockTheory",
    "CommutingTheory",
    "CurvatureMatrix",
    "FullSpectrum",
    "FullTheory",
    "NetworkMatrix",
    "OutlierCount",
    "ProjectedSGD",
    "Quadrature",
    "SampleMatrix",
    "SpectralMeasure",
    "StreamedMatrix",
    "TopSpace",
    "TrainingSamples",
    "block_theory",
    "commuting_theory",
    "dual_gram",
    "emergence_map",
    "empirical",
    "fixed_point_output",
    "full_theory",
    "learned_means",
    "measured",
    "orthonormal",
    "overlap",
    "predicted",
    "principal_cosines",
    "principal_sines",
    "quadrature",
    "random_overlap",
    "share",
    "share_in_means",
    "softmax_fixed_point",
    "spectral_measure",
    "success_probability",
    "taken_means",
    "top_space",
    "training_loss",
    "training_samples",
]
