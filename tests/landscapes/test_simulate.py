"""The sampler as a method: one program, its random numbers, and what is refused."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import hdjax as hd
from hdjax.landscapes import GradientSpan, Previsible
from hdjax.landscapes.algorithms import GradientDescent
from hdjax.landscapes.kernels import Matern32, SquaredExponential
from hdjax.landscapes.simulate import _PROPOSED, _chi_squared, draw

GD = GradientDescent(0.5)


def test_dimension_is_a_number_in_the_program():
    """From 1 to 10^12 without a second compilation."""
    traces = []

    def make(d):
        return GradientSpan(SquaredExponential(), GD, d)

    horizon = make(2).horizon(np.arange(4.0))
    limit = make(2).limit(np.arange(4.0), save=lambda order: order.value).values[-1]

    @eqx.filter_jit
    def value(system, key):
        traces.append(1)
        simulator = system.simulator(Previsible(), horizon)
        zero = jnp.zeros((), int)
        state = simulator.advance(simulator.init(key), zero, zero + 3, key)
        return simulator.summary(state).value

    gaps = [abs(float(value(make(d), jax.random.key(0)) - limit)) for d in (1, 10**6, 10**12)]
    assert len(traces) == 1
    assert gaps[0] > 1e-2 > gaps[1] > 1e-5 > gaps[2]


@pytest.mark.slow
def test_draws_do_not_depend_on_interval_or_horizon():
    system = GradientSpan(SquaredExponential(), GD, 30)
    key = jax.random.key(3)

    def curve(times):
        result = hd.simulate(system, times, key=key, runs=2, statistics=["value"])
        return result.runs["value"].values

    whole = curve(np.arange(6.0))
    np.testing.assert_allclose(curve([2.0, 3.0, 5.0]), whole[:, [2, 3, 5]], rtol=1e-12)
    np.testing.assert_allclose(curve([0.0, 2.0]), whole[:, [0, 2]], rtol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("freedom", [1.0, 2.0, 3.0, 40.0, 1e6])
def test_chi_squared_without_a_loop(freedom):
    normals = jax.random.normal(jax.random.key(1), (50_000, _PROPOSED))
    drawn = jax.vmap(lambda z: _chi_squared(z, jnp.asarray(freedom)))(normals)
    assert stats.kstest(np.asarray(drawn), stats.chi2(freedom).cdf).pvalue > 1e-3


def test_infinite_dimension_draws_nothing():
    made = jax.jit(draw, static_argnums=2)
    draws = made(jax.random.key(0), jnp.asarray(2), 5, jnp.asarray(jnp.inf))
    assert np.all(np.asarray(draws.innovations) == 0)
    assert draws.length == 1


@pytest.mark.slow
def test_runs_may_be_longer_than_there_are_dimensions():
    system = GradientSpan(SquaredExponential(), GD, 2)
    result = hd.simulate(system, np.arange(9.0), key=jax.random.key(0), runs=4)
    assert np.isfinite(result.runs["value"].values).all()


def test_a_spectrum_is_refused():
    split = hd.spectra.explicit([0.5, 1.5], [2, 2])
    system = GradientSpan(SquaredExponential(), GD, 4, spectrum=split)
    with pytest.raises(ValueError, match="method: Previsible; allowed"):
        hd.simulate(system, [0, 1], key=jax.random.key(0), runs=1)


def test_float32_is_refused():
    with jax.enable_x64(False):
        system = GradientSpan(SquaredExponential(), GD, 100)
        with pytest.raises(ValueError, match="Previsible in float32"):
            hd.simulate(system, [0, 1], key=jax.random.key(0), runs=1)


def test_a_nugget_is_not_negative():
    with pytest.raises(ValueError, match=r"nugget: -1\.0"):
        Previsible(nugget=-1.0)


SE = SquaredExponential()


def test_a_nugget_that_is_too_small_is_named():
    """Smooth kernels need one, kernels with two derivatives do not."""
    for nugget in (0.0, 1e-14, 1e-12):
        system = GradientSpan(SE, GradientDescent(0.5), 100)
        with pytest.raises(ValueError, match=r"nugget: .* of observation .* at least 1e-11"):
            hd.simulate(system, range(9), key=jax.random.key(0), runs=2, method=Previsible(nugget))
    rough = GradientSpan(Matern32(), GradientDescent(0.3), 100)
    result = hd.simulate(rough, range(8), key=jax.random.key(0), runs=2, method=Previsible(0.0))
    assert np.isfinite(result.runs["value"].values).all()
