"""Top spaces of layers against dense matrices, and experiments from configs."""

import gzip
import struct

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

import hdjax as hd
from hdjax import config, networks
from hdjax.networks.simulate import TrainingSimulator

X = jax.random.normal(jax.random.key(0), (20, 4))
Y = jax.random.randint(jax.random.key(1), (20,), 0, 3)


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


def experiment(**system):
    raw = {
        "family": "networks",
        "system": {"optimiser": "adam", **system},
        "run": {"times": [0, 2], "runs": 2, "limit": False},
    }
    return config.Experiment.of(raw)


@pytest.mark.slow
def test_a_config_is_the_call_that_it_stands_for():
    made = experiment(
        samples=50, network={"kind": "mlp", "hidden": [8], "activation": "tanh"}, batch=20, seed=3
    )
    found = made.run(progress=False)
    data = hd.datasets.digits()
    chosen = np.random.default_rng(3).permutation(1797)[:50]
    system = networks.Training(
        lambda key: networks.MLP(64, [8], 10, jnp.tanh, key=key),
        networks.cross_entropy,
        data.inputs[chosen],
        data.classes[chosen],
        optax.adam(1e-3),
        batch=20,
    )
    expected = hd.simulate(system, [0, 2], key=jax.random.key(0), runs=2)
    for name in ("cost", "gradient_norm"):
        np.testing.assert_allclose(found.runs[name], expected.runs[name], rtol=1e-5)


def test_images_from_files(tmp_path):
    data = hd.datasets.digits()
    pixels = (data.inputs[:30] * 255).round().astype(np.uint8)
    for name, array in (("images", pixels), ("labels", data.classes[:30].astype(np.uint8))):
        header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
        (tmp_path / f"{name}.gz").write_bytes(gzip.compress(header + array.tobytes()))
    read = hd.datasets.load_idx(tmp_path / "images.gz", tmp_path / "labels.gz")
    np.testing.assert_allclose(read.inputs, data.inputs[:30], atol=1 / 255)
    raw = {
        "family": "networks",
        "system": {
            "optimiser": {"kind": "gradient_descent", "learning_rate": 0.1},
            "data": {"kind": "idx", "inputs": "images.gz", "classes": "labels.gz"},
        },
        "run": {"times": [0], "runs": 1},
    }
    system = config.Experiment.of(raw, tmp_path).system()
    assert system.inputs.shape == (30, 8, 8)
    np.testing.assert_array_equal(np.sort(system.targets), np.sort(data.classes[:30]))


FIT = {"kernel": "matern32", "steps": 5}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fit": FIT}, "fit: with 'adam', which is no gradient span algorithm"),
        ({"samples": 1798}, "samples: 1798; allowed: up to 1797"),
        (
            {"alignment": {"layers": ["frist"]}},
            "alignment.layers: 'frist'; did you mean 'first'",
        ),
        (
            {
                "fit": FIT,
                "optimiser": {"kind": "gradient_descent", "learning_rate": 0.1},
                "alignment": {"layers": ["first"]},
            },
            "fit: given with alignment",
        ),
    ],
)
def test_wrong_configs(change, message):
    with pytest.raises(ValueError, match=message):
        experiment(**change).system()
