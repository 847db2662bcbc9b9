"""One-pass (streaming) SGD on high-dimensional projected models, and its deterministic equivalent.

Users start with `OnePassSGD`, the system (`model.py`).  The losses are in `losses/`, the direct
simulation at finite d is in `simulate.py`, the exact sampler on Gram blocks in `sampler.py`, and
the limit as d grows in `limit.py` and `field.py`.

Sources: the slides "Hitting the High-D(imensional) Notes: An ODE for SGD learning dynamics"
(papers: arXiv 2308.08977, 2405.19585); for Gaussian mixtures arXiv 2310.03010 and 2206.04030.
"""

from hdjax.streaming.columns import GaussianStart, GramStart
from hdjax.streaming.data import Data, Rademacher, Rows, Sampler, StudentT, UniformEntries
from hdjax.streaming.diffusions import CorrectedDiffusion, Homogenised
from hdjax.streaming.features import compute_optimal, power_law_features
from hdjax.streaming.field import BlockField, GramSummary
from hdjax.streaming.fluctuations import bias
from hdjax.streaming.learning_rates import (
    critical_learning_rate,
    optimal_schedule,
    stability_threshold,
    strongly_convex_rate,
)
from hdjax.streaming.limit import ExponentialMidpoint, Side
from hdjax.streaming.losses import (
    ACTIVATIONS,
    AbsoluteError,
    ClosedFormLoss,
    Committee,
    ComponentLogistic,
    DiscreteNoise,
    ErfCommittee,
    FunctionLoss,
    GaussianMixtureNoise,
    GaussianNoise,
    Hinge,
    Huber,
    LeastSquares,
    LipschitzPhaseRetrieval,
    LogCosh,
    Logistic,
    Loss,
    MixtureLogistic,
    MixtureSoftmax,
    Noise,
    NoNoise,
    Perceptron,
    PhaseRetrieval,
    ReLUUnit,
    Softmax,
    UniformNoise,
)
from hdjax.streaming.mixtures import (
    columns_with_gram,
    gradient_flow,
    mixture_softmax,
    noise_spectrum,
    orthonormal_means,
    simplex_means,
    three_layers,
    xor,
    xor_means,
    xor_start,
)
from hdjax.streaming.model import Mixture, OnePassSGD
from hdjax.streaming.moments import moments, quadrature_moments
from hdjax.streaming.optimisers import (
    SGD,
    Averaging,
    Dana,
    HeavyBall,
    LinearMemory,
    Momentum,
    Optimiser,
)
from hdjax.streaming.projections import Layout, Memory, Moments, Projections
from hdjax.streaming.resolvent import contour, contour_weights, resolvent
from hdjax.streaming.sampler import GramSampler
from hdjax.streaming.samples import Samples, draw_samples
from hdjax.streaming.simulate import Direct
from hdjax.streaming.state_rates import AdaGradNorm, Greedy, Polyak, StateRate
from hdjax.streaming.steady import SteadyState, stability, steady, steady_state
from hdjax.streaming.transformed import Adam, Clipped, Optax, RMSProp, SignSGD, Transformed

least_squares = LeastSquares()
logistic = Logistic()
phase_retrieval = PhaseRetrieval()
lipschitz_phase_retrieval = LipschitzPhaseRetrieval()

__all__ = [
    "ACTIVATIONS",
    "SGD",
    "AbsoluteError",
    "AdaGradNorm",
    "Adam",
    "Averaging",
    "BlockField",
    "Clipped",
    "ClosedFormLoss",
    "Committee",
    "ComponentLogistic",
    "CorrectedDiffusion",
    "Dana",
    "Data",
    "Direct",
    "DiscreteNoise",
    "ErfCommittee",
    "ExponentialMidpoint",
    "FunctionLoss",
    "GaussianMixtureNoise",
    "GaussianNoise",
    "GaussianStart",
    "GramSampler",
    "GramStart",
    "GramSummary",
    "Greedy",
    "HeavyBall",
    "Hinge",
    "Homogenised",
    "Huber",
    "Layout",
    "LeastSquares",
    "LinearMemory",
    "LipschitzPhaseRetrieval",
    "LogCosh",
    "Logistic",
    "Loss",
    "Memory",
    "Mixture",
    "MixtureLogistic",
    "MixtureSoftmax",
    "Moments",
    "Momentum",
    "NoNoise",
    "Noise",
    "OnePassSGD",
    "Optax",
    "Optimiser",
    "Perceptron",
    "PhaseRetrieval",
    "Polyak",
    "Projections",
    "RMSProp",
    "Rademacher",
    "ReLUUnit",
    "Rows",
    "Sampler",
    "Samples",
    "Side",
    "SignSGD",
    "Softmax",
    "StateRate",
    "SteadyState",
    "StudentT",
    "Transformed",
    "UniformEntries",
    "UniformNoise",
    "bias",
    "columns_with_gram",
    "compute_optimal",
    "contour",
    "contour_weights",
    "critical_learning_rate",
    "draw_samples",
    "gradient_flow",
    "least_squares",
    "lipschitz_phase_retrieval",
    "logistic",
    "mixture_softmax",
    "moments",
    "noise_spectrum",
    "optimal_schedule",
    "orthonormal_means",
    "phase_retrieval",
    "power_law_features",
    "quadrature_moments",
    "resolvent",
    "simplex_means",
    "stability",
    "stability_threshold",
    "steady",
    "steady_state",
    "strongly_convex_rate",
    "three_layers",
    "xor",
    "xor_means",
    "xor_start",
]
