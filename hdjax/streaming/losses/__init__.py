"""Losses of one-pass SGD, given as the `loss` of a `OnePassSGD`.

Their moments (risk, H and C) are in closed form if it is known, and computed by quadrature
otherwise; `FunctionLoss` makes a loss of any function.
"""

from hdjax.streaming.losses.base import (
    ClosedFormLoss,
    DiscreteNoise,
    FunctionLoss,
    GaussianMixtureNoise,
    GaussianNoise,
    Loss,
    MomentsLoss,
    Noise,
    NoNoise,
    UniformNoise,
)
from hdjax.streaming.losses.classification import (
    ACTIVATIONS,
    MixtureLogistic,
    MixtureSoftmax,
    Perceptron,
)
from hdjax.streaming.losses.committee import Committee, ErfCommittee
from hdjax.streaming.losses.hinge import Hinge
from hdjax.streaming.losses.least_squares import LeastSquares
from hdjax.streaming.losses.logistic import ComponentLogistic, Logistic
from hdjax.streaming.losses.phase_retrieval import LipschitzPhaseRetrieval, PhaseRetrieval
from hdjax.streaming.losses.relu import ReLUUnit
from hdjax.streaming.losses.robust import AbsoluteError, Huber, LogCosh
from hdjax.streaming.losses.softmax import Softmax

__all__ = [
    "ACTIVATIONS",
    "AbsoluteError",
    "ClosedFormLoss",
    "Committee",
    "ComponentLogistic",
    "DiscreteNoise",
    "ErfCommittee",
    "FunctionLoss",
    "GaussianMixtureNoise",
    "GaussianNoise",
    "Hinge",
    "Huber",
    "LeastSquares",
    "LipschitzPhaseRetrieval",
    "LogCosh",
    "Logistic",
    "Loss",
    "MixtureLogistic",
    "MixtureSoftmax",
    "MomentsLoss",
    "NoNoise",
    "Noise",
    "Perceptron",
    "PhaseRetrieval",
    "ReLUUnit",
    "Softmax",
    "UniformNoise",
]
