"""The linear-noise equation: reference value, and predicted against measured spread."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hdjax as hd
from hdjax.streaming import GaussianStart, GramStart, Integrator, OnePassSGD
from hdjax.streaming.fluctuations import increment_covariance, start_covariance


def two_groups(loss, rate, block, d=100, **options):
    spectrum = hd.spectra.explicit([0.5, 2.0], [6 * d // 10, 4 * d // 10], normalise=False)
    return OnePassSGD(loss, spectrum, rate, GramStart(jnp.asarray(block)), **options)


def test_reference_of_least_squares():
    """sqrt(d) std of the excess risk at t = 1 from a fixed start (math, section 14)."""
    # |X - X*|^2 is .7 and .3 in the two groups; X* = 0 leaves nothing else.
    blocks = np.zeros((2, 2, 2))
    blocks[:, 0, 0] = [0.7, 0.3]
    exact = Integrator(rtol=1e-8, atol=1e-11)
    model = two_groups(hd.streaming.LeastSquares(sigma=0.5), 0.8, blocks, integrator=exact)
    ts = jnp.array([0.0, 1.0])
    risk = lambda summary: model.statistics(summary)["risk"]  # noqa: E731
    std = model.fluctuations(ts, lambda summary: {"risk": risk(summary)})["risk"]
    assert float(std[0]) == 0
    np.testing.assert_allclose(std[1] * 10, 0.3201589864, rtol=2e-4)
    np.testing.assert_allclose(model.limit(ts, save=risk)[1] - 0.125, 0.2477431484, rtol=1e-8)


@pytest.mark.parametrize("loss", [hd.streaming.LeastSquares(sigma=0.3), hd.streaming.Logistic()])
def test_increment_covariance_is_that_of_one_step(loss):
    """Sigma against brute force: one step at large d, 20000 runs, within 5 standard errors."""
    d, runs = 2000, 20_000
    block = np.array([[0.9, 0.3], [0.3, 0.7]])
    model = two_groups(loss, 1.1, np.array([0.4, 0.6])[:, None, None] * block, d)
    sigma = increment_covariance(model.field(), jnp.zeros(()), model.start().blocks)
    # In law: p_i ~ sqrt(lambda_i) V_i^{1/2} xi and |P_i a|^2/d ~ lambda_i w_i.
    key_a, key_b = jax.random.split(jax.random.key(3))
    lam, w = model.spectrum.eigenvalues, model.spectrum.weights
    root = jnp.linalg.cholesky(model.start().blocks)
    xi = jax.random.normal(key_a, (runs, 2, 2))
    p = jnp.einsum("g,gab,rgb->rga", jnp.sqrt(lam), root, xi)
    r = p.sum(1)
    noise = jax.random.normal(key_b, (runs, loss.noise.dim))
    grad = jax.vmap(lambda r, n: loss.gradient(r[:1] + r[1:], r[1:], 0, loss.noise(n), None)[0][0])(
        r, noise
    )
    e = jnp.array([1.0, 0.0])
    up = grad[:, None, None] * p
    xi = -1.1 * (up[..., None] * e[None, None, None] + e[None, None, :, None] * up[:, :, None])
    xi = (
        xi
        + (1.1**2 * (lam * w)[None] * grad[:, None] ** 2)[..., None, None]
        * jnp.outer(e, e)[None, None]
    )
    flat = np.asarray(xi.reshape(runs, -1))
    flat = flat - flat.mean(0)
    products = flat[:, :, None] * flat[:, None, :]
    error = products.std(0) / np.sqrt(runs)
    gap = np.abs(products.mean(0) - np.asarray(sigma).reshape(8, 8))
    assert np.all(gap <= 5 * error + 1e-12)


def test_start_covariance_is_that_of_the_law():
    model = OnePassSGD(
        hd.streaming.least_squares,
        hd.spectra.explicit([0.5, 2.0], [60, 40]),
        0.5,
        GaussianStart(scale=1.2, overlap=0.4),
        np.sin(np.arange(100.0)) / np.sqrt(50),
    )
    simulator = model.simulator()
    blocks = jax.vmap(lambda k: simulator.summary(simulator.init(k)).blocks)(
        jax.random.split(jax.random.key(0), 20_000)
    )
    flat = np.asarray(blocks).reshape(20_000, -1)
    flat = flat - flat.mean(0)
    products = 100 * flat[:, :, None] * flat[:, None, :]
    error = products.std(0) / np.sqrt(len(flat))
    expected = np.asarray(start_covariance(model.columns, model.spectrum)).reshape(8, 8)
    assert np.all(np.abs(products.mean(0) - expected) <= 5 * error + 1e-6)


@pytest.mark.optimised
@pytest.mark.slow
@pytest.mark.parametrize("fixed", [True, False])
@pytest.mark.parametrize(
    ("loss", "rate"),
    [(hd.streaming.LeastSquares(sigma=0.5), 0.8), (hd.streaming.Logistic(), 4.0)],
)
def test_predicted_spread_is_the_measured_one(loss, rate, fixed):
    """At d = 400, 1500 runs (standard error of a std 1.8 %): within 6 %."""
    if fixed:
        weights = np.array([0.6, 0.4])[:, None, None]
        model = two_groups(loss, rate, weights * np.array([[0.6, 0.15], [0.15, 0.9]]), 400)
    else:
        spectrum = hd.spectra.explicit([0.5, 2.0], [240, 160], normalise=False)
        start, target = GaussianStart(scale=0.8, overlap=0.15), GaussianStart()
        model = OnePassSGD(loss, spectrum, rate, start, target)
    result = hd.compare(
        model, [0.0, 0.5, 1.0], key=jax.random.key(1), runs=1500, statistics=["risk", "distance"]
    )
    for name in ("risk", "distance"):
        predicted = result[f"{name}_predicted_std"].values
        measured = result.std(name).values
        np.testing.assert_allclose(predicted[1:], measured[1:], rtol=0.06)
        if not fixed:
            np.testing.assert_allclose(predicted[0], measured[0], rtol=0.06)
    z = result.zscore("risk").isel(time=-1)
    assert abs(float(z.mean())) < 0.2
    assert 0.9 < float(z.std()) < 1.1


@pytest.mark.optimised
@pytest.mark.slow
def test_many_groups_are_compressed_or_refused():
    spectrum = hd.spectra.power_law(300, exponent=0.4)
    start, target = GaussianStart(overlap=0.3), GaussianStart()
    model = OnePassSGD(hd.streaming.LeastSquares(sigma=0.3), spectrum, 0.4, start, target)
    result = hd.compare(model, [0.0, 1.0], key=jax.random.key(2), runs=1000, statistics=["risk"])
    np.testing.assert_allclose(result["risk_predicted_std"], result.std("risk"), rtol=0.08)
    given = OnePassSGD(
        hd.streaming.least_squares, spectrum, 0.4, np.ones(300) / 20, np.ones(300) / 30
    )
    with pytest.raises(hd.NoFluctuationsError, match="300 groups"):
        hd.compare(given, [0.0, 1.0], key=jax.random.key(2), runs=2, fluctuations=True)
    quiet = hd.compare(given, [0.0, 1.0], key=jax.random.key(2), runs=2)
    assert "risk_predicted_std" not in quiet.data
