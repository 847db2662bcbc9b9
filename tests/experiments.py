"""A small experiment, and what tests of configs share."""

import jax
import numpy as np
import pytest

from hdjax import config

LEAST_SQUARES = """
family = "streaming"

[system]
dimension = 10
loss = { kind = "least_squares", sigma = 0.5 }
learning_rate = 0.3
start = {}
target = {}

[run]
times = [0.0, 0.5, 1.0]
runs = 3
seed = 7
statistics = ["risk"]
"""


@pytest.fixture
def write(tmp_path):
    def to_file(text=LEAST_SQUARES, extra=""):
        path = tmp_path / "experiment.toml"
        path.write_text(text + extra)
        return path

    return to_file


def assert_same(system, other):
    """Equal structure and equal leaves."""
    leaves, structure = jax.tree.flatten(system)
    others, other_structure = jax.tree.flatten(other)
    assert structure == other_structure
    for a, b in zip(leaves, others, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)


def told(path, *overrides):
    """The one line that is told of a config with a mistake."""
    with pytest.raises(config.ConfigError) as caught:
        config.load(path, overrides)
    (line,) = str(caught.value).splitlines()
    return line
