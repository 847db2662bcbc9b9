"""SGD one step at a time: written out on its samples, in rotated coordinates, from data."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import hdjax as hd
from hdjax.streaming import Direct, GaussianStart, OnePassSGD, losses
from hdjax.streaming.samples import draw_samples
from hdjax.streaming.stepwise import StepwiseSimulator

D, STEPS = 8, 11


def moved(simulator, key):
    """The state at the start of a run, and after its steps."""
    start = eqx.filter_jit(simulator.init)(key)
    advance = eqx.filter_jit(simulator.advance)
    return start, advance(start, jnp.asarray(0), jnp.asarray(STEPS), key)


def test_plain_sgd_is_the_recursion_on_the_samples_of_the_run():
    """X <- X - gamma/d (a g + tau X), with a schedule, a ridge and label noise."""
    rate = hd.schedules.PowerDecay(0.9, 0.5)
    loss, law = losses.LeastSquares(sigma=0.4), GaussianStart()
    spectrum = hd.spectra.explicit([0.5, 2.0], [5, 3])
    model = OnePassSGD(loss, spectrum, rate, law, law, ridge=0.3)
    key = jax.random.key(2)
    start, end = moved(StepwiseSimulator(model, "float64", None), key)
    samples = draw_samples(model, key, 0, STEPS, dtype=jnp.float64)
    x, target = np.asarray(start.moving)[:, 0], np.asarray(start.frozen)[:, 0]
    for tick, (row, noise) in enumerate(zip(samples.rows, samples.noise, strict=True)):
        g = np.asarray(row) @ (x - target) - float(noise[0])
        gamma = float(rate(jnp.asarray(tick / D)))
        x = x - gamma / D * (g * np.asarray(row) + 0.3 * x)
    np.testing.assert_allclose(end.moving[:, 0], x, atol=1e-12)
    np.testing.assert_array_equal(end.frozen, start.frozen)


def test_optax_acts_in_the_coordinates_in_which_the_covariance_is_given():
    """The sign of the gradient in these coordinates, scaled by 1/2."""
    rng = np.random.default_rng(0)
    root = rng.normal(size=(D, D))
    spectrum = hd.spectra.from_covariance(root @ root.T / D)
    start, target = rng.normal(size=(2, D))
    optimiser = optax.chain(optax.scale_by_sign(), optax.scale(0.5))
    arguments = losses.LeastSquares(), spectrum, 0.3, start, target
    model = OnePassSGD(*arguments, optimiser=optimiser)
    key = jax.random.key(3)
    simulator = model.simulator(Direct("float64"))
    _, end = moved(simulator, key)
    samples = draw_samples(OnePassSGD(*arguments), key, 0, STEPS, dtype=jnp.float64)
    basis, x = np.asarray(spectrum.basis), start
    for row in np.asarray(samples.rows) @ basis.T:
        gradient = row * (row @ (x - target))
        x = x - 0.3 / D * 0.5 * np.sign(gradient)
    np.testing.assert_allclose(simulator.iterate(end)[:, 0], x, atol=1e-12)


def test_data_end_the_clock_when_every_row_was_used():
    rows = np.random.default_rng(1).normal(size=(30, D))
    spectrum = hd.spectra.identity(D)
    model = OnePassSGD(
        losses.LeastSquares(), spectrum, 0.3, GaussianStart(), GaussianStart(), batch_size=4
    )
    data = hd.streaming.data.Rows(rows)
    simulator = model.simulator(Direct("float64", data=data))
    # 30 rows make 7 batches of 4.
    assert int(simulator.clock.ticks(np.array([7 / D]))[0]) == 7
    with pytest.raises(ValueError, match="when every row of the data has been used once"):
        simulator.clock.ticks(np.array([8 / D]))
