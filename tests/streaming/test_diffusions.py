"""Homogenised SGD and the corrected diffusion: means of SGD; the spread of one, or of SGD."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hdjax as hd
from hdjax.streaming import CorrectedDiffusion, GramSampler, GramStart, Homogenised, OnePassSGD


def least_squares(d, **options):
    blocks = np.zeros((2, 2, 2))
    blocks[:, 0, 0] = [0.7, 0.3]
    spectrum = hd.spectra.explicit([0.5, 2.0], [6 * d // 10, 4 * d // 10])
    loss = hd.streaming.losses.LeastSquares(sigma=0.5)
    return OnePassSGD(loss, spectrum, 0.8, GramStart(blocks), **options)


@pytest.mark.slow
@pytest.mark.optimised
@pytest.mark.parametrize(
    ("method", "std"), [(CorrectedDiffusion(0.02), 0.3201589864), (Homogenised(0.02), 0.4503172584)]
)
def test_spread_of_least_squares(method, std):
    """sqrt(d) std of the risk at t = 1 (math, section 14); the limit is the mean of both."""
    d, runs = 10_000, 4000
    result = hd.simulate(
        least_squares(d), [1.0], key=jax.random.key(0), runs=runs, method=method,
        statistics=["risk"],
    )  # fmt: skip
    # The standard error of a standard deviation is 1.1 %.
    np.testing.assert_allclose(float(result.std["risk"][0]) * np.sqrt(d), std, rtol=0.045)
    error = float(result.std["risk"][0]) / np.sqrt(runs)
    assert abs(float(result.mean["risk"][0]) - (0.2477431484 + 0.125)) < 4 * error + 1 / d


@pytest.mark.slow
@pytest.mark.optimised
@pytest.mark.parametrize(("d", "end"), [(1000, 1.0), (100_000, 0.1)])
@pytest.mark.long
def test_corrected_diffusion_against_the_exact_sampler(d, end):
    """Mean and standard deviation of the distance, of 1500 runs of each."""
    block = np.array([[0.6, 0.15], [0.15, 0.9]])
    spectrum = hd.spectra.explicit([0.5, 2.0], [6 * d // 10, 4 * d // 10])
    start = GramStart(np.array([0.6, 0.4])[:, None, None] * block)
    model = OnePassSGD(hd.streaming.losses.LeastSquares(0.3), spectrum, 1.0, start, ridge=0.2)
    runs = 1500
    sampled, diffused = (
        hd.simulate(
            model, [end], key=jax.random.key(i), runs=runs, method=method,
            statistics=["distance", "risk"],
        )
        for i, method in enumerate([GramSampler("float64"), CorrectedDiffusion(end / 50)])
    )  # fmt: skip
    for name in ("distance", "risk"):
        a, b = float(sampled.std[name][0]), float(diffused.std[name][0])
        assert abs(a / b - 1) < 4 / np.sqrt(runs)
        gap = abs(float(sampled.mean[name][0]) - float(diffused.mean[name][0]))
        # Means differ by O(1/d) besides.
        assert gap < 4 * np.sqrt((a**2 + b**2) / runs) + 2 / d


@pytest.mark.slow
def test_small_groups_and_several_columns_of_homogenised_sgd():
    """Two columns, a group of one coordinate: the mean follows the limit at d = 400."""
    law = hd.streaming.GaussianStart(columns=2)
    model = OnePassSGD(
        hd.streaming.losses.LeastSquares(0.3, columns=2), hd.spectra.explicit([1.0, 2.0], [399, 1]),
        0.7, hd.streaming.GaussianStart(columns=2, overlap=0.3), law, ridge=0.1,
    )  # fmt: skip
    result = hd.compare(
        model, [0.0, 0.5], key=jax.random.key(0), runs=500, method=Homogenised(0.05),
        statistics=["overlaps"], fluctuations=False,
    )  # fmt: skip
    gap = (result.mean["overlaps"] - result.limit["overlaps"]).values
    error = result.std["overlaps"].values / np.sqrt(500)
    assert np.all(np.abs(gap) < 4 * error + 4 / 400)


@pytest.mark.slow
@pytest.mark.parametrize("method", [CorrectedDiffusion(0.1), Homogenised(0.1)])
def test_draws_do_not_depend_on_the_interval(method):
    model, key = least_squares(50), jax.random.key(3)
    simulator = model.simulator(method)
    advance = eqx.filter_jit(simulator.advance)
    zero, middle, end = (jnp.asarray(k) for k in (0, 3, 8))
    start = simulator.init(key)
    whole = advance(start, zero, end, key)
    parts = advance(advance(start, zero, middle, key), middle, end, key)
    jax.tree.map(np.testing.assert_array_equal, whole, parts)


def test_clock():
    simulator = least_squares(50).simulator(Homogenised(0.01))
    ticks = simulator.clock.ticks(np.array([0.0, 0.29, 0.295, 1.0]))
    np.testing.assert_array_equal(ticks, [0, 29, 29, 100])
    np.testing.assert_allclose(simulator.clock.times(ticks), [0, 0.29, 0.29, 1.0])


@pytest.mark.parametrize("dt", [0.0, -1.0, np.nan])
def test_wrong_arguments(dt):
    with pytest.raises(ValueError, match="dt: "):
        Homogenised(dt)


@pytest.mark.parametrize(
    "method", [hd.streaming.Homogenised(0.1), hd.streaming.CorrectedDiffusion(0.1)]
)
def test_means_of_the_algorithm_are_not_predicted_for_a_diffusion(method):
    law = hd.streaming.GaussianStart()
    system = OnePassSGD(
        hd.streaming.losses.LeastSquares(0.5), hd.spectra.identity(50), 0.5, law, law
    )
    plan = {"key": jax.random.key(0), "runs": 2, "method": method, "mean_correction": True}
    with pytest.raises(ValueError, match=f"True with {type(method).__name__}, whose means differ"):
        hd.compare(system, [0.0, 1.0], **plan)
