"""Networks: frozen features, the tangent kernel, and the linearised training curve."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hdjax as hd
from hdjax.forecast.outcome import Curve
from hdjax.forecast.tangent import Tangent, held

RNG = np.random.default_rng(0)
INPUTS = RNG.standard_normal((60, 6))
NUMBERS = np.tanh(INPUTS @ RNG.standard_normal(6)) + 0.3 * RNG.standard_normal(60)


def mlp(width, key=0):
    return eqx.nn.MLP(6, "scalar", width, 1, key=jax.random.key(key))


def test_the_kernel_is_the_gram_matrix_of_the_gradients():
    network = mlp(8)
    tangent = Tangent.of(network, (6,))
    rows = jnp.asarray(INPUTS[:5])

    def flat(row):
        slope = jax.grad(tangent.output)(tangent.parameters, row)
        return jnp.concatenate([leaf.ravel() for leaf in jax.tree.leaves(slope)])

    jacobian = jax.vmap(flat)(rows)
    np.testing.assert_allclose(tangent.kernel(rows, rows), jacobian @ jacobian.T, rtol=1e-6)


@pytest.mark.slow
def test_a_wide_network_is_linear_for_longer_than_a_narrow_one():
    narrow, wide = (
        hd.predict(
            network=mlp(width),
            inputs=INPUTS,
            labels=NUMBERS,
            learning_rate=0.3,
            epochs=8.0,
            runs=30,
        )
        for width in (4, 1024)
    )
    name = "epochs for which the prediction holds"
    assert wide.numbers[name] > narrow.numbers[name]
    assert np.abs(wide.curves["test"].predicted / wide.curves["test"].mean - 1).max() < 0.15


def test_frozen_features_are_a_table():
    network = mlp(16)

    def layer(network, x):
        return jax.nn.relu(network.layers[0](x))

    given = hd.predict(
        network=network, inputs=INPUTS, layer=layer, labels=NUMBERS, epochs=1.0, runs=0
    )
    features = jax.vmap(lambda x: layer(network, x))(jnp.asarray(INPUTS))
    plain = hd.predict(features, NUMBERS, epochs=1.0, runs=0)
    np.testing.assert_array_equal(given.curves["test"].predicted, plain.curves["test"].predicted)


def test_the_time_for_which_a_prediction_holds():
    times, predicted = np.arange(4.0), np.ones(4)
    runs = np.array([[1.0, 1.05, 1.2, 1.3]])
    assert held(Curve("train", "", times, predicted, None, runs)) == 1.0
    assert held(Curve("train", "", times, predicted, None, np.ones((1, 4)))) == 3.0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"network": mlp(4)}, "inputs: None"),
        ({}, "features: None"),
        ({"network": mlp(4), "inputs": INPUTS, "batch": 4}, "plain SGD"),
        ({"network": mlp(4), "inputs": INPUTS, "standardise": "rows"}, "standardise: 'rows'"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        hd.predict(labels=NUMBERS, **options)
