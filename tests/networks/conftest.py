"""A training whose theory is a kernel that is fitted to another optimiser's curves."""

import jax
import optax
import pytest

from hdjax import networks
from hdjax.landscapes.algorithms import GradientDescent, HeavyBall
from hdjax.landscapes.kernels import Matern32
from tests.networks.problems import X, Y, network


@pytest.fixture(scope="session")
def fitted():
    parts = network, networks.cross_entropy, X, Y
    theory = networks.Fitted(
        Matern32(),
        networks.Training(*parts, optax.sgd(0.05)),
        GradientDescent(0.05),
        HeavyBall(0.02, 0.5),
        steps=6,
        runs=3,
        key=jax.random.key(5),
    )
    return networks.Training(*parts, optax.sgd(0.02, momentum=0.5), theory=theory)
