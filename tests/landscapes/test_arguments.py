"""Arguments of constructors: which numbers pass, and what is said of others."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from hdjax.landscapes._arguments import as_tree, check_numbers, numbers


@pytest.mark.parametrize(
    ("rule", "good", "bad"),
    [
        ("finite", [-1.0, 0.0, 2.0], [np.nan, np.inf]),
        ("positive", [1e-300, 2.0], [0.0, -1.0, np.nan, np.inf]),
        ("at least 0", [0.0, 2.0], [-1e-300, np.nan, np.inf]),
        ("positive or infinite", [1.0, np.inf], [0.0, -np.inf, np.nan]),
    ],
)
def test_rules(rule, good, bad):
    for value in good:
        found = numbers("x", value, rule)
        assert found.shape == ()
        assert float(found) == value
    for value in bad:
        with pytest.raises(ValueError, match=f"x: {value}; allowed: {rule}"):
            numbers("x", value, rule)
    # One bad entry among good ones is named.
    with pytest.raises(ValueError, match=f"x: {bad[0]}; allowed: {rule}"):
        numbers("x", [*good, bad[0]], rule, ndim=1)


@pytest.mark.parametrize(
    ("value", "ndim", "error", "message"),
    [
        ([1.0], 0, ValueError, r"x: an array of shape \(1,\); allowed: a number, finite"),
        (1.0, 1, ValueError, r"x: an array of shape \(\); allowed: a list of numbers, finite"),
        ([1.0], 2, ValueError, r"x: an array of shape \(1,\); allowed: a matrix, finite"),
        ("one", 0, TypeError, "x: 'one'; allowed: a number, finite"),
        ([[1.0], [1.0, 2.0]], 2, TypeError, "x: .*; allowed: a matrix, finite"),
    ],
)
def test_other_shapes_and_types_are_refused(value, ndim, error, message):
    with pytest.raises(error, match=message):
        numbers("x", value, "finite", ndim)


def test_traced_numbers_are_not_checked():
    assert float(jax.jit(lambda x: numbers("x", x, "positive"))(-1.0)) == -1
    with pytest.raises(ValueError, match=r"x: -1\.0"):
        check_numbers("x", jnp.asarray([2.0, -1.0]), "positive")


def test_functions_become_pytrees():
    """Modules with the same function have the same structure; a module and a Partial stay."""
    one, other = as_tree("fn", np.sin), as_tree("fn", np.sin)
    assert jax.tree.structure(one) == jax.tree.structure(other)
    assert one(0.5) == np.sin(0.5)
    held = Partial(np.multiply, 3.0)
    assert as_tree("fn", held) is held
    with pytest.raises(TypeError, match=r"fn: 3\.0; allowed: a function"):
        as_tree("fn", 3.0)
