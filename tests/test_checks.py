"""Checks of arguments: concrete ones against their annotations, and traced ones left be."""

import copy
import dataclasses
import pickle
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array, Float, Int

import hdjax as hd
from hdjax.checks import Checked, check_dtype, check_leaves, checked, is_concrete
from hdjax.registry import Positive, Size


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


class Ball(Checked):
    radius: Array
    size: Any

    def __init__(self, radius: Positive, size: Size = 1):
        self.radius, self.size = jnp.asarray(radius, float), size


@checked
@dataclasses.dataclass(frozen=True)
class Interval:
    low: float
    high: Positive = 1.0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Ball(0.0), "radius: 0.0; allowed: a finite number, above 0"),
        (lambda: Ball(size=2, radius=1j), "radius: 1j; allowed: a finite number, above 0"),
        (lambda: Ball(1.0, True), "size: True; allowed: an integer, at least 1"),
        (lambda: Interval("x"), "low: 'x'; allowed: a number that is not NaN"),
        (lambda: Interval(0.0, high=-1.0), "high: -1.0; allowed: a finite number, above 0"),
        (
            lambda: scaled([1j]),
            "values: an array of shape (1,) and type complex128; allowed: an ar",
        ),
        (lambda: scaled(["x"]), "values: ['x']; allowed: an array of numbers"),
        (
            lambda: scaled([[1.0]]),
            "values: an array of shape (1, 1); allowed: an array (n) of real",
        ),
    ],
)
def test_arguments_that_break_their_annotations_are_told(call, message):
    with pytest.raises((ValueError, TypeError)) as caught:
        call()
    assert str(caught.value).startswith(message)


def test_python_says_which_arguments_are_missing_or_unknown():
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'radius'"):
        Ball()
    with pytest.raises(TypeError, match="unexpected keyword argument 'raduis'"):
        Ball(raduis=1.0)


def test_modules_without_a_constructor_call_hold_anything():
    ball = Ball(2.0)
    assert jax.tree.map(lambda leaf: -leaf, ball).radius == -2.0
    assert jax.tree.map(lambda leaf: "leaf", ball).radius == "leaf"
    assert pickle.loads(pickle.dumps(ball)).radius == copy.copy(ball).radius == 2.0
    with pytest.raises(dataclasses.FrozenInstanceError):
        ball.radius = 1.0


def test_traced_arguments_pass():
    assert jax.jit(lambda x: Ball(x).radius)(-1.0) == -1.0
    assert jax.vmap(lambda x: Ball(x).radius)(jnp.array([-1.0, 1.0])).tolist() == [-1.0, 1.0]
    assert jax.grad(lambda x: Ball(x).radius ** 2)(3.0) == 6.0
    assert jax.jit(lambda x: scaled([x, -x])[0])(1.0).tolist() == [2.0, -2.0]
    with pytest.raises(TypeError, match=r"radius: .*; allowed: a finite number"):
        jax.jit(lambda x: Ball(x).radius)(1j)


def test_precisions_are_those_that_are_switched_on():
    check_dtype("float32")
    check_dtype("float64")
    with pytest.raises(ValueError, match="dtype: 'float16'; allowed: 'float32', 'float64'"):
        check_dtype("float16")
    with jax.enable_x64(False):
        check_dtype("float32")
        with pytest.raises(ValueError, match=r"allowed after jax.config.update\('jax_enable_x64'"):
            check_dtype("float64")


@checked
def scaled(values: Float[Array, " n"], steps: Int[Array, " n"] | None = None, *, factor=2):
    return factor * values, steps


def test_lists_become_arrays_where_an_array_is_annotated():
    for given in ([1, 2], (1.0, 2.0), np.array([1, 2]), range(1, 3), jnp.array([1.0, 2.0])):
        values, steps = scaled(given)
        assert values.dtype == jnp.result_type(float)
        np.testing.assert_array_equal(values, [2.0, 4.0])
        assert steps is None
    single = np.array([1.0, 2.0], np.float32)
    assert scaled(single)[0].dtype == jnp.float32
    _, steps = scaled([1.0, 2.0], steps=[3, 4], factor=3)
    assert jnp.issubdtype(steps.dtype, jnp.integer)
    np.testing.assert_array_equal(jax.jit(lambda x: scaled(x)[0])([1.0, 2.0]), [2.0, 4.0])


COLUMNS = [[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]], [[1.0, 0.0], [1.0, 1.0], [0.0, 1.0]]
MATRIX = [[0.1, 0.2], [0.0, 0.1]]
LINK = hd.multiindex.links.from_coefficients({(1, 0): 0.8, (1, 1): 0.6})
LISTS = {
    "overlap": (hd.curvature.alignment.overlap, COLUMNS),
    "principal cosines": (hd.curvature.alignment.principal_cosines, COLUMNS),
    "share": (hd.curvature.alignment.share, ([1.0, 2.0, 3.0], COLUMNS[1])),
    "energy": (lambda m: hd.multiindex.averaging.energy(LINK, m), (MATRIX,)),
    "slope": (lambda m: hd.multiindex.averaging.energy_gradient(LINK, m), (MATRIX,)),
    "odds": (hd.multiindex.flows.to_odds, (MATRIX,)),
    "cosines": (lambda m: hd.multiindex.OverlapSummary.of(m).cosines, (MATRIX,)),
    "frame": (
        hd.landscapes.frame.previsible_frame,
        ([1.0, 0.0, 0.0], [[0.0, 1.0, 0.0], [0.0, 1.0, 2.0]]),
    ),
}


@pytest.mark.parametrize("name", LISTS)
def test_public_functions_take_lists(name):
    function, lists = LISTS[name]
    expected = function(*(jnp.asarray(values) for values in lists))
    np.testing.assert_allclose(function(*lists), expected, rtol=1e-12)


def test_the_limit_of_a_system_takes_a_list_of_times():
    law = hd.streaming.GaussianStart()
    system = hd.streaming.OnePassSGD(
        hd.streaming.losses.LeastSquares(), hd.spectra.identity(20), 0.5, law, law
    )
    found, expected = (system.limit(ts).values.blocks for ts in ([0, 1], jnp.array([0.0, 1.0])))
    np.testing.assert_array_equal(found, expected)
