"""The covariance as a matrix: the accuracy that is asked for, steps of order two when stiff."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import quad_vec
from scipy.linalg import expm

import hdjax as hd
from hdjax.streaming import GaussianStart, OnePassSGD, covariance, losses
from hdjax.streaming.fluctuations import fluctuations
from tests.streaming.models import noise_of_least_squares, risk_of


@eqx.filter_jit
def risk_std(model, ts):
    return model.fluctuations(ts, risk_of(model))["risk"]


@pytest.mark.slow
@pytest.mark.parametrize("solver", [None, hd.streaming.ExponentialMidpoint()])
def test_spread_has_the_accuracy_that_is_asked_for(solver):
    """The tolerances of the system's integrator are those of its error bars."""
    spectrum, ts = hd.spectra.explicit([0.5, 2.0], [60, 40]), np.array([0.3, 1.0, 3.0])
    w = np.asarray(spectrum.weights)
    _, spread = noise_of_least_squares(spectrum, 0.8, 0.5, 2 * w, 8 * w, ts)
    errors = []
    for rtol in (1e-4, 1e-7):
        model = OnePassSGD(
            losses.LeastSquares(sigma=0.5), spectrum, 0.8, GaussianStart(), GaussianStart(),
            integrator=hd.Integrator(solver, rtol=rtol, atol=1e-3 * rtol),
        )  # fmt: skip
        found = risk_std(model, jnp.asarray(ts))
        errors.append(np.abs(found / spread - 1).max())
    assert errors[1] < 1e-6
    assert errors[1] < errors[0] < 1e-3


def broad(**tolerances):
    law, stiff = GaussianStart(), hd.Integrator(hd.streaming.ExponentialMidpoint(), **tolerances)
    # A step takes the cube of the number of nodes: 13 of them are from 0.02 to 20 000 too.
    spectrum = hd.spectra.reduced(hd.spectra.power_law(100_000, 1.2), 0.1).spectrum
    loss = losses.LeastSquares(sigma=0.2)
    return OnePassSGD(loss, spectrum, 0.4, law, law, integrator=stiff)


@pytest.mark.optimised
@pytest.mark.slow
def test_stiff_steps_are_of_order_two_at_late_times():
    """At h lambda from 10^3 to 10^5, where frozen coefficients fall to order one."""
    model = broad(rtol=1e-6)
    near = jax.tree.map(lambda x: x[0], model.limit(jnp.array([100.0])).values)
    expansion = model.expansion(near)

    @eqx.filter_jit
    def std(expansion, steps):
        fixed = eqx.tree_at(
            lambda e: e.integrator.steps, expansion, steps, is_leaf=lambda x: x is None
        )
        return fluctuations(fixed, jnp.array([100.0]), risk_of(model))["risk"][0]

    found = np.array([float(std(expansion, jnp.asarray(n))) for n in (5.0, 10.0, 20.0, 160.0)])
    errors = np.abs(found[:-1] / found[-1] - 1)
    assert np.all(errors[:-1] / errors[1:] > 2.7)
    assert errors[-1] < 1e-6


@pytest.mark.optimised
@pytest.mark.slow
@pytest.mark.long
def test_tight_tolerances_are_met_on_a_broad_spectrum():
    ts = jnp.array([0.01, 1.0, 100.0, 1000.0])
    loose, tight = (risk_std(broad(rtol=rtol), ts) for rtol in (1e-3, 1e-4))
    np.testing.assert_allclose(loose, tight, rtol=1e-4)


def test_a_step_at_frozen_drift_is_the_lyapunov_integral():
    """P(h) = e^{hJ} P e^{hJ^T} + the integral of the noise, which changes linearly in time."""
    jacobian = np.array([[-1.0, 0.4, 0.0], [0.1, -0.3, 0.2], [0.3, 0.0, -4.0]])
    root = np.random.default_rng(0).normal(size=(3, 3))
    first, h = root @ root.T, 0.7
    begun, last = np.diag([1.0, 0.5, 2.0]), np.array([[2.0, 0.3, 0], [0.3, 1, 0.1], [0, 0.1, 3]])
    vector = np.array([0.4, -1.0, 2.0])
    source = np.array([1.0, 0.0, -3.0]), np.array([0.5, 2.0, 1.0])

    @jax.jit
    def step(jacobian, first, last, change, h, *vectors):
        found, moves = covariance._propagated(jacobian, first, last, change, h)
        return found, moves(*vectors)

    arguments = (jacobian, first, last, last - begun, h, vector, source[1], source[1] - source[0])
    found, moved = step(*map(jnp.asarray, arguments))

    def flow(s):
        return expm((h - s) * jacobian)

    def noise(s):
        return flow(s) @ (begun + (last - begun) * s / h) @ flow(s).T

    exact = flow(0) @ first @ flow(0).T + quad_vec(noise, 0, h, epsrel=1e-12)[0]
    # Cayley transforms over 2^-7 of the fastest time.
    np.testing.assert_allclose(found, exact, rtol=1e-4)

    def push(s):
        return flow(s) @ (source[0] + (source[1] - source[0]) * s / h)

    exact = flow(0) @ vector + quad_vec(push, 0, h, epsrel=1e-12)[0]
    np.testing.assert_allclose(moved, exact, rtol=1e-4)


def test_matrices_fit_into_a_cache_of_their_size(monkeypatch):
    """24 matrices of 6 x 6 numbers of 8 bytes, for two groups of two columns."""
    law = GaussianStart()
    spectrum = hd.spectra.explicit([0.5, 2.0], [60, 40])
    expansion = OnePassSGD(losses.LeastSquares(), spectrum, 0.1, law, law).expansion()
    for size, fits in ((24 * 36 * 8, True), (24 * 36 * 8 - 1, False)):
        monkeypatch.setattr(covariance, "_CACHE", size)
        assert covariance.fits(expansion) is fits
