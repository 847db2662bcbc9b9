"""Annotations of parameters: the values that each kind allows, and those that it refuses."""

import enum
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array, Bool, Float, Int, Key, PyTree

from hdjax.annotations import kind_of, told
from hdjax.registry import Bounds, Each, FromFile, In, OneOf


class Colour(enum.Enum):
    RED = 1


ONE, TEXT = np.ones(1), "x"
# For each annotation: values that are allowed, of the wrong value, and of the wrong type.
KINDS = [
    (int, [3, np.int32(3), jnp.array(3), -1, 10**30], [np.array([3])], [1.5, True, TEXT, None, 1j]),
    (float, [3, 0.5, np.inf, np.float32(1), jnp.array(0.5)], [np.nan, ONE], [True, TEXT, 1j, None]),
    (bool, [True, np.bool_(False)], [], [0, 1.0, "yes", None]),
    (str, ["", TEXT], [], [3, None, b"x"]),
    (Colour, [Colour.RED], [], [Colour, 1, "RED"]),
    (Colour | None, [Colour.RED, None], [], [Colour, "None"]),
    (Literal["a", 1], ["a", 1], ["b", 2], [1.0, True, None]),
    (type[Exception], [ValueError], [], [ValueError(), int, TEXT]),
    (type[Any], [int], [], [3]),
    (Callable, [len, lambda: 0], [], [int, TEXT, 3]),
    (Callable[[int], int], [len], [], [int, None]),
    (Sequence[int], [[1, 2], (), range(3), np.array([1])], [], [[1.5], TEXT, 3, {1: 2}]),
    (list[str], [["a"], []], [], ["a", ("a",), [1]]),
    (tuple[int, ...], [(1, 2), ()], [], [[1], (1.5,), 1]),
    (tuple[int, str], [(1, "a")], [], [[1, "a"]]),
    (Mapping[str, float], [{"a": 1.0}, {}], [{"a": np.nan}], [{"a": TEXT}, [1], None]),
    (Float[Array, ""], [1.0, 2, jnp.array(1.0)], [jnp.ones(1)], [True, 1j, TEXT, None, float]),
    (Float[Array, "d m"], [np.ones((2, 3)), jnp.ones((1, 1), int)], [ONE], [np.ones((2, 3)) > 0]),
    (Float[Array, "*b d"], [ONE, np.ones((2, 3))], [np.array(1.0)], [ONE * 1j, [1.0]]),
    (Int[Array, " n"], [np.array([1])], [np.array(1)], [ONE]),
    (Bool[Array, " n"], [ONE > 0], [np.array(True)], [ONE]),
    (Key[Array, ""], [jax.random.key(0)], [jax.random.split(jax.random.key(0))], [0, ONE]),
    (Annotated[int, Bounds(least=1)], [1, np.int64(2)], [0, -1], [1.0, True, np.nan, TEXT]),
    (Annotated[Any, Bounds(above=0)], [1, 0.5, jnp.array(2.0)], [0.0, np.nan, np.inf, ONE], [1j]),
    (Annotated[Any, Bounds(least=0, below=1)], [0, 0.5], [1, -0.1], [False, None]),
    (Annotated[Any, Bounds(most=1, infinite=True)], [-np.inf, 1], [np.inf, np.nan], [TEXT]),
    (Annotated[Any, Bounds(whole=True)], [1, 2.0, jnp.array(3.0)], [1.5, np.inf], [True, "1"]),
    (Annotated[Any, Each(Bounds(above=0))], [[1, 2.0], ONE, ()], [[0.0], 1.0, [[1.0]]], [["x"]]),
    (Annotated[Any, Each(Bounds(), True, 1)], [1.0, [1.0]], [[], [np.nan]], [[1j], None]),
    (Annotated[str, OneOf("a", "b")], ["a"], ["c"], [1, None, ["a"]]),
    (Annotated[int, OneOf(1, 2)], [1], [3], [1.0, True]),
    (
        Annotated[Any, FromFile(True)],
        [1.0, [[1, 2]], ONE],
        [[np.inf]],
        [[1j], ["x"], [[1], [1, 2]]],
    ),
    (Annotated[PyTree, FromFile(True)], [{"a": ONE}, 1.0, ()], [{"a": np.nan}], [{"a": "x"}, [1j]]),
    (Annotated[Any, FromFile(False)], ["a.npy", Path("a")], [], [3, None, os]),
    (Annotated[Colour, In("slot")], [Colour.RED], [], [TEXT]),
]


@pytest.mark.parametrize(("annotation", "right", "values", "types"), KINDS)
def test_kinds(annotation, right, values, types):
    kind = kind_of(annotation)
    for verdict, group in ((None, right), (ValueError, values), (TypeError, types)):
        for value in group:
            assert kind.judge(value) is verdict, value


@pytest.mark.parametrize(
    "annotation", [Any, object, PyTree, PyTree[Array], "text", Any | None, Annotated[Any, In("a")]]
)
def test_other_annotations_allow_anything(annotation):
    assert kind_of(annotation) is None


def test_rules_are_told_in_words():
    rules = [
        (Annotated[int, Bounds(least=1)] | None, "an integer, at least 1; or None"),
        (Annotated[Any, Bounds(above=0, most=1)], "a finite number, above 0, at most 1"),
        (Annotated[Any, Bounds(infinite=True, whole=True)], "an integer or infinity"),
        (Float[Array, "d m"], "an array (d, m) of real numbers"),
        (Key[Array, ""], "a typed key, jax.random.key(seed)"),
        (Sequence[Colour], "a sequence of an instance of Colour"),
        (Annotated[Any, Each(Bounds(), True, 2)], "a finite number or a list, each entry a finite"),
    ]
    for annotation, rule in rules:
        assert kind_of(annotation).rule.startswith(rule)


def test_of_traced_values_the_type_is_looked_at():
    found = {}

    def see(x, z, n):
        number, array = kind_of(Annotated[Any, Bounds(above=0)]), kind_of(Float[Array, ""])
        whole = kind_of(int)
        for name, value in (("real", x), ("complex", z), ("integer", n), ("axes", x[None])):
            found[name] = [kind.judge(value) for kind in (number, array, whole)]
        found["list"] = kind_of(Annotated[Any, Each(Bounds(above=0))]).judge([x, -1.0])
        return x

    jax.jit(see)(-1.0, 1j, 2)
    assert found == {
        "real": [None, None, TypeError],
        "complex": [TypeError, TypeError, TypeError],
        "integer": [None, None, None],
        "axes": [ValueError, ValueError, TypeError],
        "list": None,
    }


def test_values_are_told_in_few_words():
    assert told(jnp.array(0.5)) == "0.5"
    assert told(np.array([1.0, np.nan])) == "an array of shape (2,) with the entry nan"
    assert told(np.ones((2, 1))) == "an array of shape (2, 1)"
    assert told(jax.random.key(0)) == "an array of shape () and type key<fry>"
    assert told(Colour) == "the class Colour"
    assert len(told(list(range(1000)))) == 100
