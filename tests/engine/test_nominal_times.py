"""Results are labelled by the times that were asked for, and these find their records."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import hdjax as hd

st = hd.streaming
THIRDS = np.array([0.0, 0.3, 0.6, 0.9, 1.2])


def least_squares(d=7, rate=0.5):
    law = st.GaussianStart()
    return st.OnePassSGD(st.losses.LeastSquares(), hd.spectra.identity(d), rate, law, law)


def problem(n=10):
    matrix = np.random.default_rng(0).standard_normal((n, 4))
    return hd.multipass.Problem(matrix, np.ones(n))


def training():
    inputs = np.random.default_rng(0).standard_normal((10, 6))
    return hd.networks.Training(
        lambda key: hd.networks.MLP(6, [], 3, key=key),
        hd.networks.cross_entropy,
        inputs,
        np.arange(10) % 3,
        optax.sgd(0.1),
    )


def simulator(system, ts, method=None):
    return system.simulator(method, system.horizon(ts, method))


def clocks():
    """Each family's clock: how to make it, its steps in a unit of time, and a unit of its times."""
    link = hd.multiindex.links.from_coefficients({(1,): 0.8, (2,): 0.6})
    landscape = hd.landscapes.GradientSpan(
        hd.landscapes.kernels.SquaredExponential(),
        hd.landscapes.algorithms.GradientDescent(0.5),
        50,
    )
    momentum = hd.multipass.MomentumSGD(problem(), 0.1, batch_fraction=0.5, momentum=0.5)
    return {
        "direct": (least_squares(400), None, 400, 0.1),
        "gram_sampler": (least_squares(400), st.GramSampler(), 400, 0.1),
        "homogenised": (least_squares(400), st.Homogenised(dt=0.01), 100, 0.1),
        "multipass": (hd.multipass.MultiPassSGD(problem(1000), 0.1), None, 1000, 0.1),
        "multipass_homogenised": (
            hd.multipass.MultiPassSGD(problem(), 0.1),
            hd.multipass.Homogenised(dt=0.01),
            100,
            0.1,
        ),
        "momentum": (momentum, None, 1, 1.0),
        "landscapes": (landscape, None, 1, 1.0),
        "networks": (training(), None, 1, 1.0),
        "flow": (hd.multiindex.GradientFlow(link, 50), None, 2**20, 0.1),
        "stiefel_sgd": (hd.multiindex.StiefelSGD(link, 400, 0.1), None, 400, 0.1),
        "descent": (hd.multiindex.StiefelDescent(link, 50, 0.1), None, 1, 1.0),
    }


@pytest.mark.parametrize("name", clocks())
def test_every_clock_allows_for_float32(name):
    system, method, unit, step = clocks()[name]
    wide = step * np.arange(41)
    own = jnp.linspace(0, 40 * np.float32(step), 41, dtype=jnp.float32)
    for ts in (np.asarray(own), np.asarray(own).astype(np.float64).round(6)):
        found = simulator(system, ts, method).clock.ticks(ts)
        np.testing.assert_array_equal(found, np.round(wide * unit))


@pytest.mark.slow
@pytest.mark.parametrize("d", [7, 101])
def test_values_are_found_by_nominal_time(d):
    """K/d is below t for most of these: nothing is extrapolated or lost."""
    ts = np.asarray(THIRDS, np.float32)
    asked = {"end": 1.2, "sum": 0.1 + 0.2, "narrow": np.float32(0.6), "between": 0.45}
    result = hd.compare(
        least_squares(d),
        jnp.asarray(ts),
        key=jax.random.key(0),
        runs=3,
        statistics=["risk"],
        fluctuations=False,
        paths={name: hd.paths.value_at("risk", t) for name, t in asked.items()},
    )
    np.testing.assert_allclose(result.times, THIRDS, rtol=1e-15)
    np.testing.assert_allclose(result.runs["recorded_time"], np.floor(THIRDS * d + 1e-9) / d)
    for name, record in (("end", 4), ("sum", 1), ("narrow", 2)):
        np.testing.assert_array_equal(result.paths[name], result.runs["risk"][:, record])
        np.testing.assert_array_equal(result.paths_limit[name], result.limit["risk"][record])
        np.testing.assert_array_equal(
            result.at(asked[name])["runs/risk"], result.runs["risk"][:, record]
        )
    middle = result.runs["risk"][:, 1:3].mean("time")
    np.testing.assert_allclose(result.paths["between"], middle, rtol=1e-12)
    assert float(result.mean["risk"].sel(time=0.6)) == float(result.mean["risk"][2])
    with pytest.raises(ValueError, match=r"t: 0.45; the nearest record is at 0\.[36]"):
        result.at(0.45)


@pytest.mark.parametrize("t", [-0.1, 1.3])
def test_values_outside_of_the_records_are_refused_before_the_run(t):
    with pytest.raises(ValueError, match="nearest record"):
        hd.make_plan(least_squares(), THIRDS, paths={"v": hd.paths.value_at("risk", t)})


@pytest.mark.slow
def test_a_sweep_over_dimensions_has_the_recorded_times_of_each_point(tmp_path):
    result = hd.sweep(
        least_squares,
        {"d": [7, 10]},
        [0.0, 0.5],
        key=jax.random.key(0),
        runs=2,
        statistics=["risk"],
        paths={"v": hd.paths.value_at("risk", 0.5)},
    )
    np.testing.assert_array_equal(result.times, [0, 0.5])
    np.testing.assert_allclose(result.runs["recorded_time"].sel(d=7), [0, 3 / 7])
    np.testing.assert_allclose(result.runs["recorded_time"].sel(d=10), [0, 0.5])
    np.testing.assert_array_equal(result.paths["v"], result.runs["risk"].sel(time=0.5))
    loaded = hd.load(result.save(tmp_path))
    np.testing.assert_array_equal(loaded.runs["recorded_time"], result.runs["recorded_time"])
