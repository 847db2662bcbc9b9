"""Top spaces of layers against those of dense matrices."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

import hdjax as hd
from hdjax import networks
from hdjax.networks.simulate import TrainingSimulator
from tests.networks.problems import X, Y


def network(key):
    return networks.MLP(4, [5], 3, jnp.tanh, key=key)


def second(network):
    return network.layers[1]


def training():
    return networks.Training(network, networks.cross_entropy, X, Y, optax.sgd(0.5), batch=8)


@pytest.mark.slow
def test_top_spaces_are_those_of_dense_matrices():
    system = networks.LayerAlignment(training(), {"second": second}, rank=2, samples=12)
    method, key = networks.Direct("float64"), jax.random.key(3)
    found = hd.simulate(system, [0, 3], key=key, runs=1, method=method)

    simulator = TrainingSimulator(training(), method.dtype)
    run = jax.random.fold_in(key, 0)
    state = simulator.advance(simulator.init(run), jnp.asarray(0), jnp.asarray(3), run)
    whole = simulator.network(state)
    theta, unravel = ravel_pytree(second(whole))

    def losses(theta):
        changed = eqx.tree_at(second, whole, unravel(theta))
        one = jax.vmap(networks.cross_entropy, in_axes=(None, 0, 0))
        return one(changed, X[:12], Y[:12])

    jacobian = jax.jacobian(losses)(theta)
    dense = {
        "hessian": jax.hessian(lambda theta: losses(theta).mean())(theta),
        "gradient": jacobian.T @ jacobian / 12,
    }
    start = second(simulator.first(state))
    vectors = {
        "parameters": theta,
        "distance": theta - ravel_pytree(start)[0],
        "step": ravel_pytree(second(simulator.slope(state)))[0],
    }
    spaces = {}
    for kind, matrix in dense.items():
        values, directions = np.linalg.eigh(matrix)
        space = spaces[kind] = directions[:, -2:]
        name = f"second_{kind}"
        np.testing.assert_allclose(found.runs[f"{name}_values"][0, 1], values[:-4:-1], rtol=1e-4)
        gap = (values[-2] - values[-3]) / values[-3]
        np.testing.assert_allclose(found.runs[f"{name}_gap"][0, 1], gap, rtol=1e-2)
        for vector, value in vectors.items():
            share = np.linalg.norm(space.T @ value) / np.linalg.norm(value)
            np.testing.assert_allclose(found.runs[f"{name}_{vector}"][0, 1], share, atol=1e-2)
        assert found.runs[f"{name}_distance"][0, 0] == 0
    overlap = ((spaces["hessian"].T @ spaces["gradient"]) ** 2).sum() / 2
    np.testing.assert_allclose(found.runs["second_overlap"][0, 1], overlap, atol=1e-2)
    # The training is that without being looked at.
    plain = hd.simulate(training(), [0, 3], key=key, runs=1, method=method)
    np.testing.assert_allclose(found.runs["cost"], plain.runs["cost"], rtol=1e-13)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layers": {}}, "layers: none"),
        ({"rank": 16}, "rank: 16 with layer 'second' of 18 parameters; allowed: 1 to 15"),
        ({"samples": 21}, "samples: 21; allowed: None or 1 to 20"),
    ],
)
def test_wrong_layers(change, message):
    arguments = {"layers": {"second": second}, "rank": 2} | change
    with pytest.raises(ValueError, match=message):
        networks.LayerAlignment(training(), **arguments)
