"""Power-law random features against the inputs that they are made of."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hdjax as hd
from hdjax.streaming import Direct
from hdjax.streaming.data import Sampler
from hdjax.streaming.features import compute_optimal, power_law_features

FEATURES, INPUTS, ALPHA, BETA, STEP = 12, 48, 1.0, 0.7, 0.2


def make():
    return power_law_features(
        jax.random.key(1), FEATURES, INPUTS, alpha=ALPHA, beta=BETA, step=STEP
    )


@pytest.mark.slow
def test_least_squares_on_features_is_that_on_inputs():
    """Covariance, solution and noise against the definition, with F drawn from the same key."""
    system = make()
    draw = np.asarray(jax.random.normal(jax.random.key(1), (INPUTS, FEATURES))) / FEATURES**0.5
    j = np.arange(1.0, INPUTS + 1)
    inputs, target = np.diag(j ** (-2 * ALPHA)), j**-BETA
    covariance = draw.T @ inputs @ draw
    basis = np.asarray(system.spectrum.basis)
    eigenvalues = np.asarray(system.spectrum.eigenvalues)
    np.testing.assert_allclose((basis * eigenvalues) @ basis.T, covariance)
    solution = np.linalg.solve(covariance, draw.T @ inputs @ target)
    noise = target @ inputs @ target - target @ inputs @ draw @ solution
    np.testing.assert_allclose(system.loss.sigma**2, noise)
    start = system.statistics(system.start())
    np.testing.assert_allclose(start["risk"], target @ inputs @ target / 2)
    np.testing.assert_allclose(start["distance"], solution @ solution, rtol=1e-6)


def exact_risks(system, steps):
    """E risk by the second moments of each eigenvalue's coordinate."""
    lam, sigma = np.asarray(system.spectrum.eigenvalues), float(system.loss.sigma)
    v = np.asarray(system.start().blocks[:, 0, 0])
    risks = [(lam @ v + sigma**2) / 2]
    for _ in range(steps):
        noise = STEP**2 * lam * (lam @ v + sigma**2)
        v = v * (1 - 2 * STEP * lam + 2 * STEP**2 * lam**2) + noise
        risks.append((lam @ v + sigma**2) / 2)
    return np.array(risks)


@pytest.mark.slow
@pytest.mark.optimised
def test_simulation_has_the_exact_mean():
    system, ts = make(), np.array([1.0, 3.0, 8.0])
    plan = {"key": jax.random.key(0), "runs": 1000, "statistics": ["risk"], "keep": "summary"}
    plan |= {"method": Direct("float64"), "fluctuations": False}
    result = hd.compare(system, ts, **plan)
    exact = exact_risks(system, 8 * FEATURES)[(ts * FEATURES).astype(int)]
    error = result.std["risk"].values / 1000**0.5
    assert np.all(np.abs(result.mean["risk"].values - exact) < 4 * error)
    # The limit drops terms of relative order step: it is near, and not exact.
    np.testing.assert_allclose(result.limit["risk"], exact, rtol=0.15)


@pytest.mark.optimised
def test_steps_on_features_made_of_inputs():
    """Samples F^T x from draws of x give the same mean risk as the Gaussian model."""
    system = make()
    draw = jax.random.normal(jax.random.key(1), (INPUTS, FEATURES)) / FEATURES**0.5
    deviation = jnp.arange(1.0, INPUTS + 1) ** -ALPHA

    def features(key):
        x = deviation * jax.random.normal(key, (INPUTS,), deviation.dtype)
        return jnp.dot(draw.T, x, precision="highest")

    plan = {"key": jax.random.key(3), "runs": 1000, "statistics": ["risk"], "keep": "summary"}
    result = hd.simulate(system, [5.0], method=Direct(data=Sampler(features)), **plan)
    exact = exact_risks(system, 5 * FEATURES)[-1]
    assert abs(float(result.mean["risk"][0]) - exact) < 4 * float(result.std["risk"][0]) / 1000**0.5


def test_compute_optimal_of_a_known_law():
    dims, ts = np.geomspace(10, 1000, 9), np.geomspace(1e-3, 1e4, 200)
    risks = dims[:, None] ** -1.0 + (dims[:, None] * ts[None]) ** -0.5
    spent, least, best, exponent = compute_optimal(dims, ts, risks)
    # Least where d^-1 = (C/d)^-1/2 / 2, d = (4 C)^(1/3): the risk falls like C^-1/3.
    assert exponent == pytest.approx(-1 / 3, abs=0.02)
    assert np.all(np.diff(best) >= 0)
    assert np.all(np.abs(np.log(best / (4 * spent) ** (1 / 3))) < 0.4)
    np.testing.assert_allclose(least, 3 * (4 * spent) ** (-1 / 3), rtol=0.05)
    with pytest.raises(ValueError, match="risks: shape"):
        compute_optimal(dims, ts, risks.T)
    with pytest.raises(ValueError, match="dims: the best is the smallest or the largest"):
        compute_optimal(dims, ts, np.ones_like(risks) / dims[:, None])


def test_wrong_features():
    with pytest.raises(ValueError, match="features: 9; allowed: 1 to 8"):
        power_law_features(jax.random.key(0), 9, 8, alpha=1.0, beta=1.0, step=0.1)
    with pytest.raises(ValueError, match="step"):
        power_law_features(jax.random.key(0), 4, 8, alpha=1.0, beta=1.0, step=-0.1)
