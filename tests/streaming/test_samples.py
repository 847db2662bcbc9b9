"""Samples of a run: those on which it trained, their law, what is refused."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hdjax as hd
from hdjax import streaming
from hdjax.streaming import mixtures
from hdjax.streaming.samples import draw_samples
from hdjax.streaming.simulate import Direct


@pytest.mark.slow
def test_samples_are_those_of_the_run():
    """SGD written out on the samples drawn again is the simulator's."""
    d, steps, gamma = 40, 23, 1.3
    system = mixtures.mixture_softmax(d, 3, snr=2.0, learning_rate=gamma, ridge=0.1)
    simulator, key = system.simulator(Direct("float64")), jax.random.key(3)
    state = simulator.init(key)
    end = simulator.advance(state, jnp.asarray(0), jnp.asarray(steps), key)
    samples = streaming.samples.draw_samples(system, key, 0, steps, state.frozen, jnp.float64)
    columns = np.asarray(state.moving)
    for row, c in zip(np.asarray(samples.rows), np.asarray(samples.component), strict=True):
        logits = columns.T @ row
        pi = np.exp(logits) / np.exp(logits).sum()
        columns = columns - gamma / d * (np.outer(row, pi - np.eye(3)[c]) + 0.1 * columns)
    np.testing.assert_allclose(end.moving, columns, atol=1e-12)
    later = streaming.samples.draw_samples(system, key, 7, 5, state.frozen, jnp.float64)
    np.testing.assert_array_equal(later.rows, samples.rows[7:12])


def test_the_law_of_fresh_samples():
    """Second moments of 4000 samples in two groups, and uniform draws of the label noise."""
    law = streaming.GaussianStart()
    model = streaming.OnePassSGD(
        streaming.losses.Logistic("sampled"), hd.spectra.explicit([0.5, 2.0], [3, 2]), 1.0, law, law
    )
    draw = eqx.filter_jit(lambda key: draw_samples(model, key, 10**10, 4000, dtype=jnp.float64))
    samples = draw(jax.random.key(5))
    rows = np.asarray(samples.rows)
    lam = np.repeat([0.5, 2.0], [3, 2])
    error = np.sqrt(np.outer(lam, lam) * (1 + np.eye(5)) / 4000)
    assert np.all(np.abs(rows.T @ rows / 4000 - np.diag(lam)) < 4.5 * error)
    noise = np.asarray(samples.noise)
    assert abs(noise.mean() - 0.5) < 4.5 / np.sqrt(12 * 4000)
    assert set(np.asarray(samples.component).tolist()) == {0}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: mixtures.mixture_softmax(20, 2, snr=1.0, learning_rate=1.0, batch_size=2),
            "batch_size: 2",
        ),
        (
            lambda: streaming.OnePassSGD(
                streaming.losses.LeastSquares(),
                hd.spectra.power_law(200, 0.3).compress(6),
                1.0,
                streaming.GaussianStart(),
                streaming.GaussianStart(),
            ),
            "no coordinates",
        ),
    ],
)
def test_wrong_input(make, message):
    with pytest.raises(ValueError, match=message):
        draw_samples(make(), jax.random.key(0), 0, 4)
