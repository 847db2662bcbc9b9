"""Products for a user's own network against dense autodiff."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from hdjax import curvature
from hdjax.curvature import NetworkMatrix


def loss(network, x, y):
    return jax.nn.logsumexp(network(x)) - network(x)[y]


def first(network):
    return network.layers[0]


def outer(network):
    return network.layers[0].bias, network.layers[1].weight


@pytest.mark.slow
@pytest.mark.long
def test_products_of_a_network():
    with jax.numpy_dtype_promotion("standard"):
        network = eqx.nn.MLP(4, 3, 5, 1, activation=jnp.tanh, key=jax.random.key(0))
    x = jax.random.normal(jax.random.key(1), (12, 4))
    y = jax.random.randint(jax.random.key(2), (12,), 0, 3)

    for where, chunk in ((None, 4), (first, None), (outer, 6)):
        part = network if where is None else where(network)
        arrays, rest = eqx.partition(part, eqx.is_inexact_array)
        flat, unravel = ravel_pytree(arrays)

        def losses(flat):
            part = eqx.combine(unravel(flat), rest)  # noqa: B023
            whole = part if where is None else eqx.tree_at(where, network, part)  # noqa: B023
            return jax.vmap(lambda x, y: loss(whole, x, y))(x, y)

        jacobian = jax.jacobian(losses)(flat)
        dense = {
            "hessian": jax.hessian(lambda flat: losses(flat).mean())(flat),
            "gradient": jnp.dot(jacobian.T, jacobian) / 12,
        }
        for kind, expected in dense.items():
            matrix = NetworkMatrix(loss, network, x, y, kind, where=where, chunk=chunk)
            np.testing.assert_allclose(matrix.dense(), expected, atol=1e-14)
    start = jnp.zeros((matrix.size, 1))
    found = curvature.top_space(matrix.product, start, 2, jax.random.key(3))
    np.testing.assert_allclose(found.values, np.linalg.eigvalsh(expected)[::-1][:2], atol=1e-12)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kind": "fisher"}, "kind: 'fisher'"),
        ({"chunk": 3}, "chunk: 3 with 4 samples"),
        ({"targets": jnp.ones(3)}, "samples; allowed: as many"),
    ],
)
def test_wrong_input(arguments, message):
    data = {"inputs": jnp.ones((4, 2)), "targets": jnp.ones(4)}
    with pytest.raises(ValueError, match=message):
        NetworkMatrix(loss, eqx.nn.Identity(), **(data | arguments))
