"""The effective process of component-wise optimisers, against closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hdjax.landscapes import ComponentWise, GradientSpan
from hdjax.landscapes.algorithms import HeavyBall
from hdjax.landscapes.kernels import Amplitude, Matern52, SpinGlass, SquaredExponential
from hdjax.landscapes.optimisers import Adam, Optimiser, RMSProp, SignDescent

SE = SquaredExponential()
TIMES = np.arange(6.0)


class Linear(Optimiser):
    """The heavy ball, entry by entry."""

    def init(self, x):
        return x

    def update(self, state, k, x, g):
        return x - 0.3 * g + 0.4 * (x - state), x


@pytest.mark.slow
def test_linear_updates_have_the_limit_of_gradient_span_algorithms():
    """Without sampling error, however few the sites: every order parameter, noise included."""
    kernel = Amplitude([1, 0.3]) * Matern52() + SpinGlass([0, 0.1, 0.1])
    options = {"mean": [0.5, 0.1], "noise": SpinGlass([0, 0.2])}
    own = ComponentWise(kernel, Linear(), jnp.inf, sites=50, **options).limit(TIMES).values
    other = GradientSpan(kernel, HeavyBall(0.3, 0.4), jnp.inf, **options).limit(TIMES).values
    for one, two in zip(jax.tree.leaves(own), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(one, two, atol=1e-12)


@pytest.mark.slow
def test_first_steps_in_closed_form():
    """Adam's first step is a sign; E|u| = (2/pi)^(1/2), and the response of a sign is as much."""
    eta, sites = 0.5, 40_000
    exact = -eta * np.sqrt(2 / np.pi) * np.exp(-(eta**2) / 2)
    for optimiser in (Adam(eta), SignDescent(eta), RMSProp(eta * np.sqrt(0.1), decay=0.9)):
        system = ComponentWise(SE, optimiser, jnp.inf, sites=sites)
        value = system.limit(TIMES[:2], save=lambda order: order.value).values
        np.testing.assert_allclose(value[1], exact, atol=2 / np.sqrt(sites))
