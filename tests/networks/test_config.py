"""Configs of the family: what is written is what is built."""

import gzip
import struct

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import hdjax as hd
from hdjax import config, networks


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
