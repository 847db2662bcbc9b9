"""Trainings against a plain loop, networks against XLA's own operations, sweeps, wrong input."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree
from jax.tree_util import Partial

import hdjax as hd
from hdjax import networks
from hdjax.networks import simulate
from hdjax.random import Stream, at, stream

X = jax.random.normal(jax.random.key(0), (20, 4))
Y = jax.random.randint(jax.random.key(1), (20,), 0, 3)


class Scaled(eqx.Module):
    """A user's network: parameters, an array that is not trained, a function, a string."""

    inner: eqx.nn.MLP
    shift: jax.Array
    name: str

    def __init__(self, key):
        self.inner = eqx.nn.MLP(4, 3, 6, 1, activation=jnp.tanh, key=key)
        self.shift, self.name = jnp.arange(3), "mine"

    def __call__(self, x):
        return self.inner(x) + self.shift


def halves(system):
    return system.simulator().clock.ticks(np.array([0.0, 0.5]))


def training(optimiser, **options):
    return networks.Training(Scaled, networks.cross_entropy, X, Y, optimiser, **options)


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


@pytest.mark.slow
def test_the_numbers_of_an_optimiser_are_swept_in_one_program():
    result = hd.sweep(
        lambda rate: training(Partial(optax.sgd, rate), batch=8),
        {"rate": [0.0, 0.1, 0.5]},
        ts=[0, 5],
        key=jax.random.key(0),
        runs=3,
        start=None,
    )
    assert result.tree.attrs["programs"] == 1
    assert (result.mean["distance"].sel(rate=0.0) == 0).all()
    means = result.mean["cost"].sel(time=5).values
    assert means[0] > means[1] > means[2]
    spread = networks.relative_spread(result)
    np.testing.assert_allclose(spread[1, 1], result.runs["cost"][1, :, 1].std(ddof=1) / means[1])
    reached = networks.relative_spread(result, level=(means[1] + means[2]) / 2)
    np.testing.assert_array_equal(np.isnan(reached), [True, True, False])
    np.testing.assert_array_equal(reached[2], spread[2, 1])
    with pytest.raises(ValueError, match="statistic: 'risk'; allowed: batch_cost, cost"):
        networks.relative_spread(result, "risk")


def test_optimisers_that_ask_for_the_value():
    system = training(optax.polyak_sgd(max_learning_rate=10.0))
    result = hd.simulate(system, [0, 1], key=jax.random.key(0), runs=1)
    # From the cost alone: the rate is cost/|g|^2, the way cost^2/|g|^2.
    cost, square = result.runs["cost"][0, 0], result.runs["gradient_norm"][0, 0]
    np.testing.assert_allclose(result.runs["distance"][0, 1], cost**2 / square, rtol=1e-4)


def test_convolutions_are_those_of_xla():
    images = jax.random.normal(jax.random.key(0), (3, 7, 8, 2))
    network = networks.CNN((7, 8, 2), 4, width=0.25, key=jax.random.key(1))
    network = eqx.tree_at(
        lambda network: (network.first.bias, network.second.bias),
        network,
        (jnp.linspace(-1, 1, 4), jnp.linspace(-1, 1, 8)),
    )
    x = images
    for layer in (network.first, network.second):
        kernel = layer.weight.reshape(3, 3, -1, layer.weight.shape[1])
        x = jax.lax.conv_general_dilated(
            x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        x = jax.nn.relu(x + layer.bias[None, None, None])
        x = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
    expected = jnp.dot(x.reshape(3, -1), network.last.weight)
    np.testing.assert_allclose(jax.vmap(network)(images), expected, atol=1e-13)


def test_weights_are_glorots():
    network = networks.CNN((28, 28), width=4.0, key=jax.random.key(0))
    fans = {"first": (9, 9 * 64), "second": (9 * 64, 9 * 128), "last": (49 * 128, 10)}
    for name, (fan_in, fan_out) in fans.items():
        layer = getattr(network, name)
        bound = (6 / (fan_in + fan_out)) ** 0.5
        n = layer.weight.size
        assert jnp.abs(layer.weight).max() <= bound
        # Four standard errors of the second moment of a uniform variable.
        second = float((layer.weight**2).mean()) / bound**2
        assert abs(second - 1 / 3) < 4 * (4 / 45 / n) ** 0.5
        assert (layer.bias == 0).all()
    network = networks.MLP(64, [], 10, key=jax.random.key(0))
    assert [layer.weight.shape for layer in network.layers] == [(64, 10)]


def test_a_network_has_no_limit_of_its_own():
    with pytest.raises(hd.NoLimitError, match="none is known of a network's training"):
        hd.compare(training(optax.sgd(0.1)), [0, 1], key=jax.random.key(0), runs=1)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"inputs": X[:5]}, ValueError, r"inputs, targets: \[5, 20\] samples"),
        ({"batch": 21}, ValueError, "batch: 21; allowed: None or 1 to 20"),
        ({"optimiser": 0.1}, TypeError, "optimiser: 0.1"),
        ({"network": 3}, TypeError, "network: 3"),
        ({"network": Scaled(jax.random.key(0))}, TypeError, "network, loss: .* fails .* of a key"),
        ({"network": lambda key: Scaled}, TypeError, "network, loss: .* fails"),
        ({"inputs": X[:, :3]}, TypeError, "network, loss: .* fails"),
        ({"inputs": X.at[3, 1].set(jnp.nan)}, ValueError, "inputs: nan or inf; allowed: finite"),
        ({"targets": Y + 1}, ValueError, "targets: classes from 1 to 3; allowed: 0 to 2"),
        ({"loss": lambda network, x, y: network(x)}, ValueError, "loss: .* a floating scalar"),
        ({"theory": "kernel"}, TypeError, "theory: 'kernel'"),
    ],
)
def test_wrong_systems(change, error, message):
    arguments = {"network": Scaled, "loss": networks.cross_entropy, "inputs": X, "targets": Y}
    with pytest.raises(error, match=message):
        networks.Training(**(arguments | {"optimiser": optax.sgd(0.1)} | change))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: networks.Direct("float16"), "dtype: 'float16'"),
        (lambda: networks.CNN((3, 8), key=jax.random.key(0)), r"shape: \(3, 8\)"),
        (lambda: networks.CNN((8, 8), 0, key=jax.random.key(0)), "classes: 0"),
        (lambda: networks.CNN((8, 8), width=0.01, key=jax.random.key(0)), "width: 0.01"),
        (lambda: networks.MLP(4, [0], key=jax.random.key(0)), "allowed: at least 1 each"),
        (lambda: halves(training(optax.sgd(0.1))), "at most once"),
    ],
)
def test_wrong_parts(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def small_network(key):
    return hd.networks.MLP(2, [4], 3, key=key)


def test_nested_lists_are_samples():
    lists = [[1.0, 2.0], [3.0, 4.0]], [1, 2]
    arrays = [np.asarray(x) for x in lists]
    costs = [
        hd.simulate(
            hd.networks.Training(small_network, hd.networks.cross_entropy, *data, optax.sgd(0.1)),
            range(3),
            key=jax.random.key(0),
            runs=2,
        )
        .runs["cost"]
        .values
        for data in (lists, arrays)
    ]
    np.testing.assert_array_equal(*costs)
    with pytest.raises(ValueError, match=r"inputs: .* allowed: lists of equal lengths"):
        hd.networks.Training(
            small_network, hd.networks.cross_entropy, [[1.0, 2.0], [3.0]], [1, 2], optax.sgd(0.1)
        )


def test_squared_error_of_other_shapes_is_refused():
    with pytest.raises(ValueError, match=r"y: shape \(\); allowed: \(3,\)"):
        hd.networks.squared_error(lambda x: x, jnp.ones(3), jnp.zeros(()))
    with pytest.raises(TypeError, match=r"y: shape \(\); allowed: \(3,\)"):
        hd.networks.Training(
            small_network, hd.networks.squared_error, [[1.0, 2.0]], [1.0], optax.sgd(0.1)
        )
