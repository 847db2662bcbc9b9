"""One-pass (streaming) SGD on high-dimensional projected models, and its deterministic equivalent.

Start with `OnePassSGD`, the system: it takes a loss of `losses`, an optimiser of `optimisers`, data
of `data`, and a start.  `mixtures` makes whole systems on Gaussian mixtures, and `features` those
of random features.  At finite d the methods `Direct`, `GramSampler`, `Homogenised` and
`CorrectedDiffusion` run a system; `ExponentialMidpoint` is a solver of its limit.
`learning_rates`, `steady_states` and `resolvents` answer questions about the limit.

Sources: the slides "Hitting the High-D(imensional) Notes: An ODE for SGD learning dynamics"
(papers: arXiv 2308.08977, 2405.19585); for Gaussian mixtures arXiv 2310.03010 and 2206.04030.
"""

from hdjax.streaming import (
    data,
    features,
    learning_rates,
    losses,
    mixtures,
    optimisers,
    projections,
    resolvents,
    samples,
    steady_states,
)
from hdjax.streaming.diffusions import CorrectedDiffusion, Homogenised
from hdjax.streaming.field import GramSummary
from hdjax.streaming.limit import ExponentialMidpoint
from hdjax.streaming.model import Mixture, OnePassSGD
from hdjax.streaming.moments import moments
from hdjax.streaming.sampler import GramSampler
from hdjax.streaming.simulate import Direct
from hdjax.streaming.starts import GaussianStart, GramStart

__all__ = [
    "CorrectedDiffusion",
    "Direct",
    "ExponentialMidpoint",
    "GaussianStart",
    "GramSampler",
    "GramStart",
    "GramSummary",
    "Homogenised",
    "Mixture",
    "OnePassSGD",
    "data",
    "features",
    "learning_rates",
    "losses",
    "mixtures",
    "moments",
    "optimisers",
    "projections",
    "resolvents",
    "samples",
    "steady_states",
]
