"""First order in 1/d: reference values, and against runs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hdjax as hd
from hdjax.landscapes import GradientSpan
from hdjax.landscapes.algorithms import GradientDescent
from hdjax.landscapes.fluctuations import critical_dimension, expansion, halting_law
from hdjax.landscapes.kernels import SquaredExponential

SYSTEM = GradientSpan(SquaredExponential(), GradientDescent(0.5), 100)


@pytest.fixture(scope="module")
def first_order():
    return expansion(SYSTEM, np.arange(5.0))


@pytest.mark.slow
def test_reference_values(first_order):
    variance = first_order.variance
    expected = [1, 1.103434, 1.014450, 0.916965, 0.834069]
    np.testing.assert_allclose(variance["value"], expected, atol=1e-6)
    expected = [2, 1.189432, 0.658206, 0.399638, 0.263195]
    np.testing.assert_allclose(variance["gradient_norm"], expected, atol=1e-6)
    # value at 0, ..., 4, then gradient_norm.
    found = [first_order.covariance[i, j] for i, j in ((0, 1), (3, 4), (1, 5))]
    np.testing.assert_allclose(found, [0.882497, 0.834503, -0.772185], atol=1e-6)
    expected = [0, 0.10342, 0.25200, 0.39739, 0.53788]
    np.testing.assert_allclose(first_order.bias["value"], expected, atol=1e-5)
    expected = [0, -0.24033, -0.26302, -0.27051, -0.26277]
    np.testing.assert_allclose(first_order.bias["gradient_norm"], expected, atol=1e-5)
    assert first_order.source == "derivatives"


@pytest.mark.slow
def test_error_bars_and_bias_of_runs(first_order):
    """At d = 100: standard deviations to 5 %, means at limit + b/d."""
    times, runs, d = np.arange(5.0), 20_000, 100
    names = ["value", "gradient_norm"]
    result = hd.compare(SYSTEM, times, key=jax.random.key(0), runs=runs, statistics=names)
    assert "predicted std: derivatives of the sampler" in " ".join(str(result).split())
    for name in names:
        std, shift = result.std[name].values, np.asarray(first_order.bias[name]) / d
        np.testing.assert_allclose(std, result.predicted_std[name].values, rtol=0.05)
        gap = (result.mean[name] - result.limit[name]).values
        error = std / np.sqrt(runs)
        assert np.all(np.abs(gap - shift) < 4 * error + 3 / d**2)
        # The bias is seen: without it the means are off.
        assert np.abs(shift / error).max() > 4


@pytest.mark.slow
def test_longer_expansions_come_from_runs(monkeypatch):
    monkeypatch.setattr("hdjax.landscapes.fluctuations.MOST_EXACT", 4)
    times = np.arange(6.0)
    found = expansion(SYSTEM, times, ["value"])
    assert found.source == "500 runs"
    about = SYSTEM.about(SYSTEM.horizon(times))["fluctuations"]
    assert about == "predicted std: 500 runs of the sampler at d = 1e10, to about 3 %"
    assert found.bias is None
    exact = [1, 1.103434, 1.014450, 0.916965, 0.834069]
    np.testing.assert_allclose(found.variance["value"][:5], exact, rtol=0.2)
    with pytest.raises(hd.NoFluctuationsError, match="33 observations"):
        expansion(SYSTEM, np.arange(33.0))


def test_critical_dimension(first_order):
    d = critical_dimension(SYSTEM, np.arange(5.0), 0.05, 0.95)
    np.testing.assert_allclose(d, 1.959964**2 * 2 / 0.05**2, rtol=1e-5)
    coarse = critical_dimension(SYSTEM, np.arange(5.0), 100.0, 0.95)
    np.testing.assert_allclose(coarse, 0.53788 / 100, rtol=1e-4)


@pytest.mark.slow
def test_halting_law():
    """SE, rate 0.5, |g|^2 <= 0.5: 2 steps in the limit, and as runs spread at d = 100."""
    steps, threshold = 5, 0.5

    def make(d):
        return GradientSpan(SquaredExponential(), GradientDescent(0.5), d)

    wide, narrow = (halting_law(make(d), threshold, steps, jax.random.key(0)) for d in (100, 10**6))
    assert int(wide.limit) == int(narrow.limit) == 2
    assert narrow.probabilities[2] > 0.999
    np.testing.assert_allclose(wide.probabilities.sum(), 1.0)
    result = hd.simulate(
        make(100), np.arange(float(steps)), key=jax.random.key(1), runs=4000,
        statistics=["gradient_norm"],
    )  # fmt: skip
    reached = result.runs["gradient_norm"].values <= threshold
    times = np.where(reached.any(axis=1), reached.argmax(axis=1), steps)
    observed = np.bincount(times, minlength=steps + 1) / 4000
    assert observed.max() < 0.9
    np.testing.assert_allclose(observed, wide.probabilities, atol=0.04)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: expansion(SYSTEM, [0.0], ["risk"]), "statistics: 'risk'; allowed: gradient_norm"),
        (lambda: critical_dimension(SYSTEM, [0.0], -1.0), r"tolerance: -1\.0"),
        (lambda: critical_dimension(SYSTEM, [0.0], 0.1, 1.5), r"confidence: 1\.5"),
        (lambda: halting_law(SYSTEM, 0.0, 3, jax.random.key(0)), r"threshold: 0\.0"),
        (lambda: halting_law(SYSTEM, 0.1, 0, jax.random.key(0)), "steps: 0"),
    ],
)
def test_wrong_arguments(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_float32_has_no_error_bars():
    with jax.enable_x64(False):
        system = GradientSpan(SquaredExponential(), GradientDescent(0.5), 100)
        with pytest.raises(hd.NoFluctuationsError, match="float64"):
            system.fluctuations(jnp.arange(3.0), system.statistics)


def test_the_covariance_is_in_the_order_asked(first_order):
    """The first order is that of value at steps 0, ..., 4, then gradient_norm."""
    variance = first_order.variance
    np.testing.assert_allclose(jnp.diagonal(first_order.covariance)[:5], variance["value"])
    asked = np.ix_([5, 6, 0, 1], [5, 6, 0, 1])
    expected = np.asarray(first_order.covariance)[asked]
    second = expansion(SYSTEM, [0, 1], ["gradient_norm", "value"])
    np.testing.assert_allclose(second.covariance, expected, rtol=1e-9, atol=1e-12)
    third = expansion(SYSTEM, [0, 1], lambda order: {"z": order.value, "a": 2 * order.value})
    np.testing.assert_allclose(third.variance["a"], 4 * variance["value"][:2], rtol=1e-9)
    np.testing.assert_allclose(jnp.diagonal(third.covariance)[:2], variance["value"][:2], rtol=1e-9)
    assert third.names == ("z", "a")
