"""Losses of one-pass SGD: closed forms where they are known, any function otherwise."""

from hdjax.streaming.losses.base import (
    ClosedFormLoss,
    FunctionLoss,
    GaussianNoise,
    Loss,
    Noise,
    NoNoise,
    UniformNoise,
)
from hdjax.streaming.losses.least_squares import LeastSquares
from hdjax.streaming.losses.logistic import ComponentLogistic, Logistic
from hdjax.streaming.losses.phase_retrieval import LipschitzPhaseRetrieval, PhaseRetrieval

__all__ = [
    "ClosedFormLoss",
    "ComponentLogistic",
    "FunctionLoss",
    "GaussianNoise",
    "LeastSquares",
    "LipschitzPhaseRetrieval",
    "Logistic",
    "Loss",
    "NoNoise",
    "Noise",
    "PhaseRetrieval",
    "UniformNoise",
]
