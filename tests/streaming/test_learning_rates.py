"""Critical, stable and optimal learning rates have references and keep what they promise."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hdjax as hd
from hdjax.streaming import GaussianStart, GramSampler, GramStart, learning_rates, losses
from hdjax.streaming.optimisers import Greedy, Polyak
from tests.streaming.optimisers.problems import reference, risks


@pytest.mark.slow
def test_critical_rate_of_reference_systems():
    """Logistic regression by the reference (math, section 14); least squares 2/(tr K/d)."""
    system = reference(losses.Logistic(), 3.0)
    np.testing.assert_allclose(
        learning_rates.critical_learning_rate(system), 8.464319089, rtol=1e-8
    )
    quiet = reference(losses.LeastSquares(), 1.0)
    trace = float(quiet.spectrum.trace)
    np.testing.assert_allclose(learning_rates.critical_learning_rate(quiet), 2 / trace, rtol=1e-12)


@pytest.mark.parametrize("exponent", [0.0, 0.5, 1.0, 2.0])
def test_critical_rate_of_the_slides(exponent):
    """|X_0|^2 = 4 orthogonal to |X*|^2 = 1, tr K/d = 1: 11.445034 whatever the spectrum."""
    model = hd.streaming.OnePassSGD(
        losses.Logistic(),
        hd.spectra.powers(1000, exponent),
        1.0,
        GaussianStart(scale=2.0),
        GaussianStart(),
    )
    np.testing.assert_allclose(learning_rates.critical_learning_rate(model), 11.445034, rtol=1e-7)


def test_critical_rate_is_twice_polyaks_also_with_a_ridge():
    system = reference(losses.Logistic(), 1.0, ridge=0.3)
    start = system.start()
    half = Polyak().rate(system.field(), start.state)
    np.testing.assert_allclose(learning_rates.critical_learning_rate(system), 2 * half, rtol=1e-12)


def test_stability_threshold():
    spectrum = hd.spectra.explicit([0.5, 2.0, 7.0], [3, 4, 2])
    d, lam = 9, np.repeat([0.5, 2.0, 7.0], [3, 4, 2])
    for b in (1, 3):
        found = float(learning_rates.stability_threshold(spectrum, batch_size=b, exact=True))

        def growth(gamma, b=b):
            g = gamma / d
            step = np.diag((1 - g * lam) ** 2 + g**2 / b * lam**2) + g**2 / b * np.outer(lam, lam)
            return np.abs(np.linalg.eigvals(step)).max()

        assert growth(found * (1 - 1e-6)) < 1 < growth(found * (1 + 1e-6))
        limit = learning_rates.stability_threshold(spectrum, batch_size=b)
        assert found < limit == pytest.approx(2 * b * d / lam.sum())
    sphere = learning_rates.stability_threshold(hd.spectra.identity(50), exact=True)
    assert float(sphere) == pytest.approx(100 / 52, rel=1e-10)


@pytest.mark.slow
def test_strongly_convex_rate_is_kept_by_sgd():
    spectrum = hd.spectra.explicit([0.5, 1.5], [200, 200])
    gamma, a = learning_rates.strongly_convex_rate(spectrum, 1.0, 2.0)
    system = hd.streaming.OnePassSGD(
        losses.LogCosh(1.0, 2.0),
        spectrum,
        gamma,
        GaussianStart(scale=3.0),
        GaussianStart(),
    )
    ts = np.linspace(0.0, 8.0, 9)
    plan = {"statistics": ["distance"], "method": GramSampler(), "fluctuations": False}
    result = hd.compare(system, ts, key=jax.random.key(0), runs=32, start="law", **plan)
    mean, limit = result.mean["distance"].values, result.limit["distance"].values
    bound = np.exp(-float(a) * ts) * limit[0]
    assert np.all(limit <= bound * (1 + 1e-6))
    assert np.all(mean[1:] < bound[1:])
    with pytest.raises(ValueError, match=r"convexity, smoothness: 3\.0, 2\.0"):
        learning_rates.strongly_convex_rate(spectrum, 3.0, 2.0)
    with pytest.raises(ValueError, match=r"share: 1\.5"):
        learning_rates.strongly_convex_rate(spectrum, 1.0, 2.0, 1.5)


@pytest.fixture
def usual_promotion():
    """Optax's L-BFGS mixes dtypes and ranks."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def excess_system(rate):
    spectrum = hd.spectra.explicit([0.2, 3.0], [700, 300])
    blocks = np.zeros((2, 2, 2))
    blocks[:, 0, 0] = 0.5
    return hd.streaming.OnePassSGD(
        losses.LeastSquares(sigma=0.5), spectrum, rate, GramStart(blocks, students=1)
    )


def excess(system):
    return float(risks(system, jnp.array([0.0, 6.0]))[1]) - 0.125


@pytest.mark.slow
@pytest.mark.usefixtures("usual_promotion")
def test_optimal_schedule_beats_greedy_and_constant():
    greedy = excess(excess_system(Greedy()))
    best = learning_rates.optimal_schedule(excess_system(0.3), 6.0, pieces=1, iterations=10)
    constant = excess(excess_system(best))
    schedule = learning_rates.optimal_schedule(excess_system(0.3), 6.0, iterations=30)
    optimal = excess(excess_system(schedule))
    assert greedy == pytest.approx(0.042674, abs=2e-6)
    # A fine scan has its minimum at .2155; the derivation's .049172 is that of a coarse one.
    assert constant == pytest.approx(0.049152, abs=2e-6)
    assert optimal == pytest.approx(0.038158, abs=6e-6)
    known = [0.649, 0.797, 0.816, 0.770, 0.656, 0.485, 0.344, 0.253, 0.195, 0.158, 0.131, 0.112]
    np.testing.assert_allclose(schedule.values, known, atol=0.01)


@pytest.mark.slow
@pytest.mark.usefixtures("usual_promotion")
def test_optimal_schedule_of_a_family():
    """Two numbers of a power decay, from a rate that follows the state."""

    def family(numbers):
        return hd.schedules.PowerDecay(jnp.exp(numbers[0]), jax.nn.softplus(numbers[1]))

    system = excess_system(Greedy())
    found = learning_rates.optimal_schedule(
        system, 6.0, family=family, parameters=jnp.array([-1.0, 0.0]), iterations=20
    )
    assert 0.038158 < excess(excess_system(found)) < 0.049172
    with pytest.raises(TypeError, match="learning_rate"):
        learning_rates.optimal_schedule(system, 6.0)
    with pytest.raises(ValueError, match="parameters: None"):
        learning_rates.optimal_schedule(system, 6.0, family=family)
    with pytest.raises(ValueError, match="statistic: 'rsk'"):
        learning_rates.optimal_schedule(excess_system(0.3), 6.0, statistic="rsk")
    with pytest.raises(ValueError, match="diverges"):
        learning_rates.optimal_schedule(excess_system(30.0), 6.0, iterations=2)
