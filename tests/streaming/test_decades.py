"""Spectra over many decades: risk and spread of least squares against exact exponentials."""

import jax.numpy as jnp
import numpy as np
import pytest

import hdjax as hd
from hdjax.streaming import ExponentialMidpoint, GaussianStart, OnePassSGD

GAMMA, SIGMA = 0.4, 0.2
TIMES = np.array([0.01, 0.1, 1.0, 10.0, 100.0, 1000.0])
_NODES, _SHARES = np.polynomial.legendre.leggauss(4)


def exact(spectrum, ts):
    """Risk and its standard deviation from random columns, by the eigenvectors of J.

    With y_i = |P_i(X - X*)|^2 and beta = w lambda the limit is dy/dt = J y + gamma^2 sigma^2 beta,
    J = -2 gamma Lambda + gamma^2 beta lambda^T, symmetric after a division by sqrt(w).  The
    variance of the risk at t is the integral of g^T Sigma g with g = exp((t - s) J)^T lambda/2
    (math, section 5).
    """
    lam, w = (np.asarray(x, float) for x in (spectrum.eigenvalues, spectrum.weights))
    beta, root = lam * w, np.sqrt(w)
    values, vectors = np.linalg.eigh(
        GAMMA**2 * np.outer(root * lam, root * lam) - 2 * GAMMA * np.diag(lam)
    )
    fixed = -vectors @ ((vectors.T @ (GAMMA**2 * SIGMA**2 * beta / root)) / values)

    def state(s):
        moved = np.exp(np.outer(s, values)) * (vectors.T @ (2 * root - fixed))
        return root * (moved @ vectors.T + fixed)

    def gradient(tau):
        moved = np.exp(np.outer(tau, values)) * (vectors.T @ (root * lam / 2))
        return (moved @ vectors.T) / root

    def noise(t, s):
        y, g = state(s) * lam, gradient(t - s)
        e2, along, spread = y.sum(1) + SIGMA**2, (y * g).sum(1), g @ beta
        own = 4 * GAMMA**2 * (e2 * (y * g**2).sum(1) + along**2)
        return own - 8 * GAMMA**3 * e2 * along * spread + 2 * GAMMA**4 * e2**2 * spread**2

    variances = []
    for t in ts:
        # Panels that halve towards both ends of [0, t].
        ends = t / 2 * np.concatenate([[0], 0.5 ** np.arange(36, -1, -1)])
        s = (ends[:-1, None] + np.diff(ends)[:, None] * (1 + _NODES) / 2).ravel()
        share = (np.diff(ends)[:, None] * _SHARES / 2).ravel()
        total = share @ (noise(t, s) + noise(t, t - s))
        variances.append(total + 8 * w @ gradient(np.array([t]))[0] ** 2)
    risk = (state(ts) @ lam + SIGMA**2) / 2
    return risk, np.sqrt(np.array(variances) / float(spectrum.dimension))


def system(spectrum, compression):
    law, stiff = GaussianStart(), hd.Integrator(ExponentialMidpoint())
    loss = hd.streaming.losses.LeastSquares(sigma=SIGMA)
    return OnePassSGD(loss, spectrum, GAMMA, law, law, compression=compression, integrator=stiff)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("d", "exponent"), [(1000, 0.0), (1000, 1.5), (100_000, 1.2), (1_000_000, 2.0)]
)
def test_risk_and_spread_are_right_to_half_a_percent(d, exponent):
    """At the default tolerances and a cost free of d; by logarithmic cells where d is large."""
    spectrum = hd.spectra.power_law(d, exponent) if exponent else hd.spectra.identity(d)
    model = system(spectrum, 1e-3 if exponent else None)
    cells = spectrum if d <= 1000 else spectrum.binned(1000)[0]
    risk, spread = exact(cells, TIMES)

    def chosen(summary):
        return {"risk": model.statistics(summary)["risk"]}

    found = model.limit(jnp.asarray(TIMES), save=chosen).values["risk"]
    np.testing.assert_allclose(found, risk, rtol=5e-3)
    predicted = model.fluctuations(jnp.asarray(TIMES), chosen)["risk"]
    np.testing.assert_allclose(predicted, spread, rtol=5e-3)
