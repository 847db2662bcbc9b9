"""The system of gradient span algorithms: anisotropic functions, and what is refused."""

import jax
import numpy as np
import pytest

import hdjax as hd
from hdjax.landscapes import GradientSpan
from hdjax.landscapes.algorithms import GradientDescent
from hdjax.landscapes.kernels import SpinGlass
from hdjax.landscapes.kernels import SquaredExponential as SE
from hdjax.landscapes.optimisers import Adam
from tests.landscapes.problems import curve

SPLIT = hd.spectra.explicit([0.5, 1.0, 1.5], [100, 100, 100])


def test_anisotropic_reference_values(problem):
    system = problem(
        SE(), GradientDescent(0.5), dimension=300, spectrum=SPLIT, shares=[0.2, 0.3, 0.5]
    )
    value, square = system.limit(np.arange(5.0), save=curve).values
    expected = [0, -0.432150871, -0.707528171, -0.891282388, -1.022969168]
    np.testing.assert_allclose(value, expected, atol=1e-9)
    expected = [1, 0.634272682, 0.410576384, 0.287918502, 0.214313001]
    np.testing.assert_allclose(square, expected, atol=1e-9)


@pytest.mark.slow
@pytest.mark.optimised
def test_anisotropic_runs_follow_their_own_limit(problem):
    """Linear and quadratic with a ridge: within 4 s.e. (and a bias of order 1/d) at d = 300."""
    system = problem(
        SpinGlass([0, 0.3, 0.2]),
        hd.landscapes.algorithms.HeavyBall(0.2, 0.3),
        [0, 2],
        dimension=300,
        spectrum=SPLIT,
        shares=[0.2, 0.3, 0.5],
    )
    runs = 400
    result = hd.compare(
        system, np.arange(5.0), key=jax.random.key(0), runs=runs,
        method=hd.landscapes.Explicit(), statistics=["value", "gradient_norm"],
    )  # fmt: skip
    isotropic = problem(SpinGlass([0, 0.3, 0.2]), system.algorithm, [0, 2])
    other = isotropic.limit(np.arange(5.0), save=curve).values
    for name, wrong in zip(result.statistics, other, strict=True):
        error = 4 * result.std[name].values / np.sqrt(runs) + 1 / 300
        mean = result.mean[name].values
        assert np.all(np.abs(mean - result.limit[name].values) < error)
        assert np.any(np.abs(mean - wrong) > 2 * error)


@pytest.mark.slow
def test_predicted_means_are_those_of_many_runs(problem):
    """At d = 20 the mean of 20 000 runs is within 4 s.e., and 15 % of the correction, of it."""
    system, runs = problem(SE(), GradientDescent(0.5), dimension=20), 20_000
    plan = {"statistics": ["value", "gradient_norm"], "mean_correction": True, "keep": "summary"}
    result = hd.compare(system, np.arange(3.0), key=jax.random.key(0), runs=runs, **plan)
    clear = 0
    for name in ("value", "gradient_norm"):
        mean, predicted = result.mean[name].values, result.predicted_mean[name].values
        shift, error = predicted - result.limit[name].values, result.std[name].values / runs**0.5
        assert np.all(np.abs(mean - predicted) < 4 * error + 0.15 * np.abs(shift))
        clear += np.sum(np.abs(shift) > 8 * error)
    assert clear >= 1
    with pytest.raises(hd.NoMeanCorrectionError, match="17 observations; allowed"):
        hd.limit(system, np.arange(17.0), mean_correction=True)
    split = problem(SE(), GradientDescent(0.5), dimension=300, spectrum=SPLIT)
    with pytest.raises(hd.NoMeanCorrectionError, match="spectrum: given"):
        hd.limit(split, [0.0, 1.0], mean_correction=True)


GD, FOUR = GradientDescent(0.5), hd.spectra.explicit([0.5, 1.5], [2, 2])


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (
            lambda: GradientSpan(SE(), GD, 0),
            ValueError,
            "dimension: 0; allowed: an integer or infinity, at least 1",
        ),
        (lambda: GradientSpan(SE(), GD, np.nan), ValueError, "dimension: nan"),
        (lambda: GradientSpan(SE(), GD, 5, radius=-1.0), ValueError, r"radius: -1\.0"),
        (
            lambda: GradientSpan(SpinGlass([0, 0, 1]), GD, 5, radius=0.0),
            ValueError,
            "nothing moves",
        ),
        (
            lambda: GradientSpan(SE(), GD, 5, spectrum=FOUR),
            ValueError,
            "allowed: that of the spect",
        ),
        (lambda: GradientSpan(SE(), GD, 5, shares=[1.0]), ValueError, "shares: given"),
        (
            lambda: GradientSpan(SE(), GD, 4, spectrum=FOUR, shares=[1.0]),
            ValueError,
            "shares: shap",
        ),
        (
            lambda: GradientSpan(SE(), GD, 4, spectrum=FOUR, shares=[0.5, 1]),
            ValueError,
            "sum 1.5",
        ),
        (lambda: GradientSpan(SE(), Adam(0.1), 5), TypeError, "Adam"),
    ],
)
def test_wrong_arguments(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_other_methods_are_refused():
    with pytest.raises(TypeError, match="method: 'direct'"):
        hd.simulate(
            GradientSpan(SE(), GD, 5), [0, 1], key=jax.random.key(0), runs=1, method="direct"
        )
