"""Small networks against XLA's own operations, laws of weights, and losses."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import hdjax as hd
from hdjax import networks
from tests.networks.problems import small_network


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


def test_losses_are_plain_sums():
    logits, y = np.array([0.3, -1.0, 2.0]), np.array([0.5, 1.0, -1.0])
    found = networks.cross_entropy(lambda x: x, jnp.asarray(logits), jnp.asarray(1))
    np.testing.assert_allclose(found, -np.log(np.exp(-1.0) / np.exp(logits).sum()), rtol=1e-13)
    found = networks.squared_error(lambda x: x, jnp.asarray(logits), jnp.asarray(y))
    np.testing.assert_allclose(found, 6.52, rtol=1e-13)


def test_squared_error_of_other_shapes_is_refused():
    with pytest.raises(ValueError, match=r"y: shape \(\); allowed: \(3,\)"):
        hd.networks.squared_error(lambda x: x, jnp.ones(3), jnp.zeros(()))
    with pytest.raises(TypeError, match=r"y: shape \(\); allowed: \(3,\)"):
        hd.networks.Training(
            small_network, hd.networks.squared_error, [[1.0, 2.0]], [1.0], optax.sgd(0.1)
        )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: networks.CNN((3, 8), key=jax.random.key(0)), r"shape: \(3, 8\)"),
        (lambda: networks.CNN((8, 8), 0, key=jax.random.key(0)), "classes: 0"),
        (lambda: networks.CNN((8, 8), width=0.01, key=jax.random.key(0)), "width: 0.01"),
        (
            lambda: networks.MLP(4, [0], key=jax.random.key(0)),
            r"hidden: \[0\]; allowed: a sequence of an integer, at least 1",
        ),
    ],
)
def test_wrong_parts(make, message):
    with pytest.raises(ValueError, match=message):
        make()
