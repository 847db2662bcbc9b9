"""Names of experiments: equal for equal content in every process, different otherwise."""

import functools
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hdjax as hd
from hdjax.engine.identity import identity
from tests.engine.problems import least_squares


def scaled(factor):
    def loss(x, teacher, component, noise, theta):
        return factor * (x[0] - teacher[0]) ** 2

    return hd.streaming.losses.FunctionLoss(loss)


FACTOR = {"value": 1.0}


def uses_a_global(x):
    return FACTOR["value"] * x


class Scaled:
    def __init__(self, factor):
        self.factor = factor

    def __call__(self, x):
        return self.factor * x


class Doubled(Scaled):
    def __call__(self, x):
        return 2 * self.factor * x


DIFFERENT = {
    "a list in a list": lambda: [[1], 2],
    "a longer list in a list": lambda: [[1, 2]],
    "an ellipsis": lambda: lambda x: x[..., 0],
    "a slice": lambda: slice(1, 2),
    "another slice": lambda: slice(1, 3),
    "a range": lambda: range(3),
    "an object of a class": lambda: Scaled(1.0),
    "another object": lambda: Scaled(2.0),
    "an object of another class": lambda: Doubled(1.0),
    "a function of a global": lambda: uses_a_global,
    "a number": lambda: least_squares(rate=0.7),
    "another number": lambda: least_squares(rate=0.8),
    "a shape": lambda: least_squares(d=41),
    "a function": lambda: scaled(1.0),
    "what a function refers to": lambda: scaled(2.0),
    "the code of a function": lambda: lambda x: x + 1,
    "other code": lambda: lambda x: x - 1,
    "a constant in code": lambda: lambda x: x + 2,
    "a jitted function": lambda: jax.jit(lambda x: x + 3),
    "a function of JAX": lambda: jax.nn.relu,
    "another function of JAX": lambda: jnp.tanh,
    "a partial function": lambda: functools.partial(np.add, 1),
    "another partial function": lambda: functools.partial(np.add, 2),
    "a partial function of JAX": lambda: jax.tree_util.Partial(np.add, 1),
    "a key": lambda: jax.random.key(0),
    "another key": lambda: jax.random.key(1),
    "a dtype": lambda: np.zeros(2, np.float32),
    "another dtype": lambda: np.zeros(2, np.float64),
    "text": lambda: {"a": "b"},
    "a nested list": lambda: [[[1]], 2],
    "another nesting": lambda: [1, [2]],
    "an optimiser": lambda: __import__("optax").adam(1e-3),
    "another optimiser": lambda: __import__("optax").adam(2e-3),
}


def test_different_experiments_have_different_names():
    names = {what: identity(make()) for what, make in DIFFERENT.items()}
    assert len(set(names.values())) == len(names)
    assert names == {what: identity(make()) for what, make in DIFFERENT.items()}


def test_every_process_gives_the_same_name():
    code = """if True:
        import jax
        jax.config.update("jax_enable_x64", True)
        from hdjax.engine.identity import identity
        from tests.engine.test_identity import DIFFERENT
        print(*[identity(make()) for make in DIFFERENT.values()])
    """
    output = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout
    assert output.split() == [identity(make()) for make in DIFFERENT.values()]


def test_globals_and_methods_count(monkeypatch):
    before = identity(uses_a_global), identity(Scaled(1.0)), identity(Doubled(1.0))
    monkeypatch.setitem(FACTOR, "value", 3.0)
    monkeypatch.setattr(Scaled, "__call__", lambda self, x: 3 * self.factor * x)
    after = identity(uses_a_global), identity(Scaled(1.0)), identity(Doubled(1.0))
    assert not set(before) & set(after)


def test_a_function_that_refers_to_itself_has_a_name():
    def again(x):
        return again(x - 1) if x else 0

    assert identity(again) == identity(again)


def test_what_has_no_content_is_refused():
    with pytest.raises(TypeError, match=r"checkpoint: a generator in the experiment; allowed"):
        identity(iter(x for x in [1]))
