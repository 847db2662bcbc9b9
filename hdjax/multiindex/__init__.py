"""Gaussian multi-index models learnt by gradient flow, from saddle to saddle on the Grassmannian.

Start with `GradientFlow`, the system: it takes the link of the target from `links`, and from
`flows` what the student is.  `FullFlow` runs the flow in R^d and `Reduced` the same law on
overlaps.  The systems `StiefelDescent`, `StiefelSGD`, `FiniteSamples` (with a readout of
`readouts`) and `Anisotropic` are algorithms and data beside the flow, and `SaddleToSaddle` follows
the flow over all its time scales.  `leaps`, `generative`, `traps`, `averaging` and `freezing`
answer questions about a link.  Source: arXiv 2310.19793.
"""

from hdjax.multiindex import (
    averaging,
    descent,
    diagnostics,
    flows,
    freezing,
    generative,
    leaps,
    links,
    readouts,
    starts,
    traps,
)
from hdjax.multiindex.anisotropic import Anisotropic
from hdjax.multiindex.descent import StiefelDescent
from hdjax.multiindex.finite_samples import FiniteSamples
from hdjax.multiindex.model import GradientFlow
from hdjax.multiindex.problem import Direct, OverlapSummary, Problem
from hdjax.multiindex.saddles import SaddleToSaddle
from hdjax.multiindex.simulate import FullFlow, Reduced
from hdjax.multiindex.stiefel_sgd import StiefelSGD

__all__ = [
    "Anisotropic",
    "Direct",
    "FiniteSamples",
    "FullFlow",
    "GradientFlow",
    "OverlapSummary",
    "Problem",
    "Reduced",
    "SaddleToSaddle",
    "StiefelDescent",
    "StiefelSGD",
    "averaging",
    "descent",
    "diagnostics",
    "flows",
    "freezing",
    "generative",
    "leaps",
    "links",
    "readouts",
    "starts",
    "traps",
]
