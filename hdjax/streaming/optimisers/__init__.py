"""Optimisers of one-pass SGD, given as the `optimiser` or the `learning_rate` of a `OnePassSGD`.

`linear.py` has those that are linear in the gradients: SGD, momentum, averaging.  `transformed.py`
has those that are not: clipping, signs, Adam.  `state_rates.py` has learning rates that follow the
state of a run: AdaGrad-Norm, Polyak.
"""

from hdjax.streaming.optimisers.linear import (
    SGD,
    Averaging,
    Dana,
    HeavyBall,
    LinearMemory,
    Momentum,
    Optimiser,
)
from hdjax.streaming.optimisers.state_rates import AdaGradNorm, Greedy, Polyak, StateRate
from hdjax.streaming.optimisers.transformed import (
    Adam,
    Clipped,
    Optax,
    RMSProp,
    SignSGD,
    Transformed,
)

__all__ = [
    "SGD",
    "AdaGradNorm",
    "Adam",
    "Averaging",
    "Clipped",
    "Dana",
    "Greedy",
    "HeavyBall",
    "LinearMemory",
    "Momentum",
    "Optax",
    "Optimiser",
    "Polyak",
    "RMSProp",
    "SignSGD",
    "StateRate",
    "Transformed",
]
