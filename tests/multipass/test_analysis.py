"""Stability, rates and the phase transition: closed forms, and what curves do."""

import jax.numpy as jnp
import numpy as np
import pytest

from hdjax.multipass import MultiPassSGD, Spectral
from hdjax.multipass.analysis import (
    limit_loss,
    malthusian_exponent,
    max_learning_rate,
    power_exponent,
    transition_learning_rate,
)
from hdjax.multipass.laws import MarchenkoPastur, SampleCovariance
from hdjax.multipass.modes import Modes, law_modes
from tests.multipass.problems import HALF, reference


def test_stability_of_the_reference(modes):
    np.testing.assert_allclose(max_learning_rate(modes), 2.1490937799, atol=1e-10)
    np.testing.assert_allclose(12 * limit_loss(modes, 0.5), 0.1622085129, atol=1e-10)
    np.testing.assert_allclose(malthusian_exponent(modes, 0.5), 0.1446853843, atol=1e-10)
    assert malthusian_exponent(modes, 2.5) < 0
    assert limit_loss(modes, 2.5) == np.inf
    curve = MultiPassSGD(reference(), 0.5, solver=Spectral()).limit(jnp.array([0.0, 200.0])).values
    np.testing.assert_allclose(curve["loss"][1], limit_loss(modes, 0.5), rtol=1e-12)


def test_the_exponent_is_the_rate_of_the_curve(modes):
    """The slope of log(L - L_inf) over [20, 30] at two learning rates, one of them unstable."""
    for gamma, end in ((1.5, limit_loss(modes, 1.5)), (2.5, 0.0)):
        system = MultiPassSGD(reference(), gamma, solver=Spectral())
        loss = np.asarray(system.limit(jnp.array([0.0, 20.0, 30.0])).values["loss"]) - end
        rate = np.log(loss[1] / loss[2]) / 10
        np.testing.assert_allclose(rate, 2 * gamma * malthusian_exponent(modes, gamma), rtol=1e-3)


@pytest.mark.parametrize(
    ("law", "critical", "exponent", "stieltjes"),
    [
        (MarchenkoPastur(0.5, 2.0), 1.7836116249, 0.1010676315, 0.6666666667),
        (SampleCovariance(0.5, [2.0]), 1.7836116249, 0.1010676315, 0.6666666667),
        (MarchenkoPastur(1.5), 1.9207840751, 0.0188722228, 1.8821424692),
        (SampleCovariance(1.5, [2 / 3]), 1.9207840751, 0.0188722228, 1.8821424692),
    ],
)
def test_reference_values_of_laws(law, critical, exponent, stieltjes):
    np.testing.assert_allclose(transition_learning_rate(law), critical, atol=1e-9)
    gamma = (transition_learning_rate(law) + max_learning_rate(law)) / 2
    np.testing.assert_allclose(malthusian_exponent(law, gamma), exponent, atol=1e-9)
    np.testing.assert_allclose(law.below(-0.3), stieltjes, atol=1e-9)
    assert malthusian_exponent(law, critical / 2) == law.edges[0]


@pytest.mark.parametrize(
    ("factor", "expected"), [(0.5, -1.5), (1.0, -0.5), (1.02, 0.0), (1.04, 0.0)]
)
def test_power_exponents_round_the_critical_rate(factor, expected):
    """The local exponent of L exp(2 gamma lambda* t) over a factor two in time, noiseless."""
    gamma = factor * transition_learning_rate(HALF)
    assert power_exponent(HALF, gamma) == expected
    modes = law_modes(HALF, 1000, points=500)
    system = MultiPassSGD(None, gamma, modes=modes, solver=Spectral())
    ts = np.array([150.0, 300.0])
    loss = np.asarray(system.limit(jnp.asarray(ts)).values["loss"])
    rate = 2 * gamma * malthusian_exponent(HALF, gamma)
    local = (np.log(loss[1] / loss[0]) + rate * 150) / np.log(2)
    np.testing.assert_allclose(local, expected, atol=0.06)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: transition_learning_rate(m), "belongs to a continuous law"),
        (lambda m: transition_learning_rate(np.ones(3)), "belongs to a continuous law"),
        (lambda m: max_learning_rate(np.ones(3)), "spectrum: ndarray"),
        (lambda m: malthusian_exponent(m, -1.0), "learning_rate: -1.0"),
    ],
)
def test_wrong_input_is_refused(call, message, modes):
    with pytest.raises((ValueError, TypeError), match=message):
        call(modes)


def test_a_spectrum_of_zeros_has_no_exponent():
    zero = Modes(*[jnp.zeros(2)] * 4, jnp.ones(()), jnp.ones(()), {})
    with pytest.raises(ValueError, match="no positive eigenvalue"):
        malthusian_exponent(zero, 0.5)
