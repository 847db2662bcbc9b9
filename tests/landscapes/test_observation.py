"""The law of the next observation along runs, against what is then drawn."""

import jax
import numpy as np
import pytest

import hdjax as hd
from hdjax.landscapes import Ambient, GradientSpan, NextObservation
from hdjax.landscapes.algorithms import GradientDescent
from hdjax.landscapes.kernels import Amplitude, Matern52, SpinGlass, SquaredExponential

SYSTEM = GradientSpan(SquaredExponential(), GradientDescent(0.5), 50)
TIMES = np.arange(4.0)


@pytest.mark.slow
@pytest.mark.optimised
def test_what_is_drawn_has_the_conditional_law():
    """By a direct solve, of which the sampler knows nothing; d = 50."""
    runs, d, times = 2000, 50, TIMES[:3]
    names = ["surprise", "variance", "expected", "expected_gradient", "gradient_norm"]
    result = hd.compare(
        NextObservation(SYSTEM), times, key=jax.random.key(0), runs=runs, statistics=names
    )
    surprise, expected = result.runs["surprise"].values, result.runs["expected"].values
    square = result.runs["gradient_norm"].values - result.runs["expected_gradient"].values
    error = 4 / np.sqrt(runs)
    for none in (surprise, surprise**2 - result.runs["variance"].values / d, square):
        assert np.all(np.abs(none.mean(0)) < error * none.std(0))
    # What was known of the value says nothing of the surprise.
    for k in range(1, len(times)):
        assert abs(np.corrcoef(surprise[:, k], expected[:, k])[0, 1]) < error
    # The conditional mean tends to the limit of the value.
    value = SYSTEM.limit(times, save=lambda order: order.value).values
    np.testing.assert_allclose(result.limit["expected"], value, atol=1e-8)


@pytest.mark.slow
def test_blocks_of_a_trajectory_in_all_coordinates():
    kernel = Amplitude([1, 0.3]) * Matern52() + SpinGlass([0, 0.2, 0.1])
    watched = NextObservation(GradientSpan(kernel, GradientDescent(0.3), 8, mean=[0, 1]))
    result = hd.simulate(
        watched, TIMES, key=jax.random.key(5), runs=24, method=Ambient(),
        statistics=["coupling", "mismatch", "unseen_variance"],
    )  # fmt: skip
    assert np.all(result.runs["coupling"] < 1e-13)
    assert np.all(result.runs["mismatch"] < 1e-13)
    # s_k^2 is less than kappa_3, by the zeros that earlier gradients have along a new direction.
    unseen = result.runs["unseen_variance"].values
    assert np.all(unseen[:2, 1:] < 0.5 * unseen[:2, :1])
    assert np.all(unseen[:, 1:] < 0.75 * unseen[:, :1])
    assert np.all(unseen[:, 1:].mean(0) < 0.5 * unseen[:, :1].mean(0))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: NextObservation(
                GradientSpan(SquaredExponential(), SYSTEM.algorithm, 5, noise=SpinGlass([0, 1]))
            ),
            "noise: given; allowed with NextObservation: None",
        ),
        (
            lambda: hd.simulate(
                NextObservation(GradientSpan(SquaredExponential(), SYSTEM.algorithm, 4)),
                TIMES, key=jax.random.key(0), runs=1, method=Ambient(),
            ),
            "dimension: 4; allowed with 4 observations",
        ),
    ],
)  # fmt: skip
def test_wrong_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()
