"""Checks of arguments: concrete numbers and words against their bounds, and traced ones left be."""

from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hdjax.checks import check_arguments, check_dtype, check_leaves, is_concrete
from hdjax.registry import Bounds, OneOf, Positive


def test_traced_values_are_not_concrete():
    found = []

    def see(x):
        found.append((is_concrete(x), is_concrete(1.0, {"a": [np.ones(2), x]}), is_concrete("a")))
        return x

    jax.jit(see)(1.0)
    jax.vmap(see)(jnp.ones(2))
    jax.grad(see)(1.0)
    assert found == [(False, False, True)] * 3
    assert is_concrete(jnp.ones(2), None, "a")


def test_numbers_of_a_tree_are_bounded():
    tree = {"a": jnp.array([0.5, 2.0]), "n": jnp.array([-7]), "name": "x", "none": None}
    check_leaves("ridge", tree, 0.5)
    with pytest.raises(ValueError, match=r"^ridge: 0\.5; allowed: finite and at least 1\.0$"):
        check_leaves("ridge", tree, 1.0)
    for wrong in (np.nan, np.inf, -np.inf):
        with pytest.raises(ValueError, match=rf"^x: {wrong}; allowed: finite$"):
            check_leaves("x", [tree, jnp.array([1.0, wrong])], -np.inf)
    # A traced number is not looked at.
    jax.jit(lambda x: check_leaves("x", x, 0.0))(jnp.array(-1.0))


def ball(
    radius: Positive,
    share: Annotated[float, Bounds(least=0, below=1)] | None = None,
    word: Annotated[str, OneOf("a", "b")] | float = "a",
    free: float = 0.0,
): ...


@pytest.mark.parametrize(
    "arguments",
    [{"radius": 0.5, "free": -1.0}, {"radius": np.array([0.1, 2.0])}, {"share": 0.0, "word": 3.0}],
)
def test_arguments_within_their_annotations_pass(arguments):
    check_arguments(ball, **arguments)
    jax.jit(lambda x: check_arguments(ball, radius=x))(-1.0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"radius": 0.0}, r"^radius: 0\.0; allowed: "),
        ({"radius": np.nan}, "^radius: nan; allowed: "),
        ({"radius": 1.0, "share": 1.0}, r"^share: 1\.0; allowed: "),
        ({"word": "c"}, "^word: 'c'; allowed: a, b$"),
    ],
)
def test_arguments_outside_of_their_annotations_are_told(arguments, message):
    with pytest.raises(ValueError, match=message):
        check_arguments(ball, **arguments)


def test_precisions_are_those_that_are_switched_on():
    check_dtype("float32")
    check_dtype("float64")
    with pytest.raises(ValueError, match="dtype: 'float16'; allowed: 'float32', 'float64'"):
        check_dtype("float16")
    with jax.enable_x64(False):
        check_dtype("float32")
        with pytest.raises(ValueError, match=r"allowed after jax.config.update\('jax_enable_x64'"):
            check_dtype("float64")
