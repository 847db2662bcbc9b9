"""The predicted spread of one-pass SGD on the Stiefel manifold has closed forms."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest
import scipy

import hdjax as hd
from hdjax import multiindex
from hdjax.multiindex import FiniteSamples, StiefelDescent, StiefelSGD, links
from hdjax.multiindex.fluctuations import increment_covariance
from tests.multiindex.problems import A


def line(sigma, **options):
    """SGD on a linear link with a planted student: u - z - sigma zeta is all that it sees."""
    return StiefelSGD(links.hermite_polynomial(1), 400, 0.3, noise=sigma, **options)


def velocity_and_noise(m, sigma, gamma=0.3):
    """dM/dt, its derivative in M and Var(B) of a linear link, by Isserlis' theorem."""
    square, rest = 2 - 2 * m + sigma**2, 1 - m**2
    velocity = 2 * gamma * rest - 2 * gamma**2 * square * m
    slope = -4 * gamma * m - 2 * gamma**2 * (2 - 4 * m + sigma**2)
    # With a = u - z - sigma zeta and b = z - m u: B = -2 gamma a b - 2 gamma^2 m a^2.
    noise = 4 * gamma**2 * (square * rest + rest**2) - 16 * gamma**3 * m * square * rest
    return velocity, slope, noise + 8 * gamma**4 * m**2 * square**2


def test_increment_of_a_linear_link_has_the_variance_of_isserlis():
    covariance = eqx.filter_jit(increment_covariance)
    for m, sigma in ((0.4, 0.7), (0.9, 0.0)):
        found = covariance(line(sigma), jnp.array([[m]]))
        np.testing.assert_allclose(found, [[velocity_and_noise(m, sigma)[2]]], rtol=1e-12)


@pytest.mark.slow
def test_spread_of_a_linear_link_is_that_of_its_equations():
    """By a solver of SciPy, from a given start, which has no variance."""

    def rate(t, y):
        velocity, slope, noise = velocity_and_noise(y[0], 0.7)
        return velocity, 2 * slope * y[1] + noise

    ts = np.array([0.0, 0.5, 2.0])
    exact = scipy.integrate.solve_ivp(rate, (0, 2), (0.3, 0.0), t_eval=ts, rtol=1e-9, atol=1e-12)
    system = line(0.7, start=[[0.3]])
    statistics = lambda summary: {"squared": summary.matrix[0, 0] ** 2}  # noqa: E731
    found = system.fluctuations(jnp.asarray(ts), statistics)["squared"]
    np.testing.assert_allclose(found, 2 * exact.y[0] * np.sqrt(exact.y[1] / 400), rtol=1e-3)
    assert found[2] > 0.01


@pytest.mark.slow
def test_what_predicts_no_fluctuations_says_why():
    flow = multiindex.GradientFlow(A, 40)
    for system, why in (
        (flow, "deterministic given its start"),
        (StiefelDescent(A, 40, 0.1), "deterministic given its start"),
        (FiniteSamples(A, 40, 100), "same n samples"),
    ):
        with pytest.raises(hd.NoFluctuationsError, match=why):
            system.fluctuations(jnp.array([1.0]), flow.statistics)
    # Of a Haar start of SGD: entries of variance 1/d.
    sgd, overlaps = StiefelSGD(A, 400, 0.1), lambda summary: {"overlaps": summary.matrix}
    spread = eqx.filter_jit(lambda system: system.fluctuations(jnp.array([0.0]), overlaps))(sgd)
    np.testing.assert_allclose(spread["overlaps"][0], np.full((2, 2), 1 / 20), rtol=1e-12)
