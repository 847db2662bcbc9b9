"""The variance of statistics by adjoint equations: against the covariance, and beyond its size."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hdjax as hd
from hdjax.streaming import GaussianStart, Mixture, OnePassSGD, adjoint, covariance

TIMES = jnp.array([0.0, 0.1, 1.5])
FINE = hd.Integrator(rtol=1e-6, atol=1e-9)
COARSE = hd.Integrator(rtol=1e-4, atol=1e-7)


def gain(x, teacher, component, noise, theta):
    shift = jnp.where(component == 0, 0.0, 1.0).astype(x.dtype)
    return (theta["gain"] * x[0] - teacher[0] - shift) ** 2 / 2


def linear(**options):
    spectrum = hd.spectra.explicit([0.5, 2.0], [60, 40])
    loss, start = hd.streaming.losses.LeastSquares(sigma=0.5), GaussianStart(overlap=0.3)
    return OnePassSGD(loss, spectrum, 0.6, start, GaussianStart(), integrator=FINE, **options)


def parameters():
    """Side parameters, and a mixture whose components have eigenvalues of their own."""
    means = np.stack([np.cos(np.arange(100)), np.sin(np.arange(100) + 1.0)], 1) / 7
    return OnePassSGD(
        hd.streaming.losses.FunctionLoss(gain, smooth=True, rule=hd.gaussian.GaussHermite(6)),
        hd.spectra.explicit([0.5, 2.0], [60, 40]),
        0.4,
        GaussianStart(scale=0.7),
        GaussianStart(),
        mixture=Mixture([0.3, 0.7], means, [[0.1, 0.9], [1.2, 0.3]]),
        theta={"gain": 1.0},
        batch_size=2,
        integrator=COARSE,
    )


def stiff():
    loss, spectrum = hd.streaming.losses.LeastSquares(sigma=0.2), hd.spectra.power_law(2000, 1.5)
    law = GaussianStart()
    return OnePassSGD(loss, spectrum, 0.4, law, law, compression=5e-3, integrator=COARSE)


MODELS = {
    "ridge and batch": lambda: linear(ridge=0.3, batch_size=3),
    "linear memory": lambda: linear(optimiser=hd.streaming.optimisers.Dana(2.0, 0.7), ridge=0.1),
    "side parameters, mixture": parameters,
    "stiff": stiff,
}


def both(model, statistics, ts=TIMES):
    """Variances by the covariance, and by adjoint equations."""

    @eqx.filter_jit
    def program(model):
        expansion = model.expansion()
        spread = model.fluctuations(ts, statistics)
        found = adjoint.variances(expansion, ts, statistics)
        return spread, jax.tree.map(lambda x: jnp.sqrt(x / expansion.dimension), found)

    return program(model)


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_adjoint_equations_have_the_variance_of_the_covariance(name):
    model = MODELS[name]()
    assert covariance.fits(model.expansion())

    def chosen(summary):
        found = model.statistics(summary)
        return {"risk": found["risk"], "overlaps": found["overlaps"][0]}

    by_covariance, by_adjoint = both(model, chosen)
    for key, expected in by_covariance.items():
        assert np.all(np.abs(expected).max(axis=0) > 0)
        # On a stiff spectrum the integral towards a record is a sum over halved steps.
        rtol = 2e-3 if name == "stiff" else 5e-4
        np.testing.assert_allclose(by_adjoint[key], expected, rtol=rtol, atol=1e-7)


def test_what_fits_into_no_memory_is_refused(monkeypatch):
    model = linear()
    monkeypatch.setattr(covariance, "_CACHE", 0)
    monkeypatch.setattr(adjoint, "_BUDGET", 2**16)
    with pytest.raises(hd.NoFluctuationsError, match="a state of 6 numbers"):
        model.fluctuations(jnp.linspace(0, 1, 99), model.statistics)
    with pytest.raises(hd.NoMeanCorrectionError, match="6 numbers in the limit's state"):
        model.mean_correction(TIMES, model.statistics)
