"""Trainings against a plain loop."""

import equinox as eqx
import jax
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

import hdjax as hd
from hdjax import networks
from hdjax.networks import simulate
from hdjax.random import Stream, at, stream
from tests.networks.problems import Scaled, X, Y, training


def plain(optimiser, batch, steps, key):
    """Costs, batch costs, squared gradient norms and distances by a loop over steps."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        network = Scaled(stream(key, Stream.START))
        parameters, rest = eqx.partition(network, eqx.is_inexact_array)

        @jax.jit
        def cost(parameters, chosen):
            network = eqx.combine(parameters, rest)
            losses = jax.vmap(lambda i: networks.cross_entropy(network, X[i], Y[i]))(chosen)
            return losses.mean()

        slope = jax.jit(jax.value_and_grad(cost))
        start, memory, rows = parameters, optimiser.init(parameters), []
        for k in range(steps + 1):
            order = jax.random.permutation(at(stream(key, Stream.STEPS), k // (20 // batch)), 20)
            piece = k % (20 // batch)
            chosen = np.asarray(order)[piece * batch : (piece + 1) * batch]
            seen, gradient = slope(parameters, chosen)
            square = (ravel_pytree(gradient)[0] ** 2).sum()
            moved = ravel_pytree(parameters)[0] - ravel_pytree(start)[0]
            rows.append([cost(parameters, np.arange(20)), seen, square, (moved**2).sum()])
            updates, memory = optimiser.update(gradient, memory, parameters)
            parameters = optax.apply_updates(parameters, updates)
        return np.asarray(rows)


@pytest.mark.slow
@pytest.mark.parametrize("batch", [8, None])
def test_a_training_is_that_of_a_plain_loop(batch, monkeypatch):
    # Chunks of 7, 7 and 6: the last one is filled up.
    monkeypatch.setattr(simulate, "_CHUNK", 7)
    optimiser = optax.adam(0.05)
    method = networks.Direct("float64")
    names = "cost", "batch_cost", "gradient_norm", "distance"
    system = training(optimiser, batch=batch)
    runs = hd.simulate(system, [0, 1, 2, 3, 4], key=jax.random.key(3), runs=2, method=method)
    expected = plain(optimiser, batch or 20, 4, jax.random.fold_in(jax.random.key(3), 1))
    found = np.stack([runs.runs[name][1].values for name in names], axis=1)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-15)
    # Where records fall does not matter; float32 is near.
    later = hd.simulate(system, [3], key=jax.random.key(3), runs=2)
    np.testing.assert_allclose(later.runs["cost"][:, 0], runs.runs["cost"][:, 3], rtol=1e-5)


def test_optimisers_that_ask_for_the_value():
    system = training(optax.polyak_sgd(max_learning_rate=10.0))
    result = hd.simulate(system, [0, 1], key=jax.random.key(0), runs=1)
    # From the cost alone: the rate is cost/|g|^2, the way cost^2/|g|^2.
    cost, square = result.runs["cost"][0, 0], result.runs["gradient_norm"][0, 0]
    np.testing.assert_allclose(result.runs["distance"][0, 1], cost**2 / square, rtol=1e-4)


def halves(system):
    return system.simulator().clock.ticks(np.array([0.0, 0.5]))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: networks.Direct("float16"), "dtype: 'float16'"),
        (lambda: halves(training(optax.sgd(0.1))), "at most once"),
    ],
)
def test_wrong_parts(make, message):
    with pytest.raises(ValueError, match=message):
        make()
