"""Scalars of a path, on curves made by hand."""

import jax.numpy as jnp
import numpy as np
import pytest

import hdjax as hd

TIMES = jnp.array([0.0, 1.0, 2.0, 4.0, 5.0])


@pytest.mark.parametrize(
    ("curve", "expected"),
    [
        ([1.0, 0.5, 0.5, 0.5, 0.0], 0.2 + 3.0 + 0.2),  # down, flat, down
        ([0.0, 1.0, 0.0, 0.0, 0.0], 0.2 + 0.2),  # through it and back
        ([1.0, 0.5, jnp.nan, 0.5, 0.5], 0.2 + 1.0),  # intervals that end in a gap do not count
        ([0.4, 0.6, 0.4, 0.6, 0.4], 5.0),  # the levels belong to it
        ([1.0, 1.0, 1.0, 1.0, 1.0], 0.0),
    ],
)
def test_the_time_between_two_levels(curve, expected):
    found = hd.paths.plateau("risk", low=0.4, high=0.6)(TIMES, {"risk": jnp.array(curve)})
    # A line from 1 to 1/2 is between .6 and .4 for a fifth of its time.
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_levels_in_the_wrong_order_are_refused():
    with pytest.raises(ValueError, match=r"low, high: 0.6, 0.4; allowed: low < high"):
        hd.paths.plateau("risk", low=0.6, high=0.4)


@pytest.mark.parametrize(
    "path",
    [hd.paths.hitting_time("v", 0.5), hd.paths.value_at("v", 1.0), hd.paths.first_bad_time("w")],
)
def test_paths_of_what_is_no_scalar_are_refused(path):
    with pytest.raises(ValueError, match=r"statistic: '[vw]'.*; allowed: "):
        path(jnp.array([0.0, 1.0, 2.0]), {"v": jnp.ones((3, 2))})


def test_a_time_that_is_no_number_is_refused():
    with pytest.raises(ValueError, match=r"t: \[0\.3\]; allowed: a finite number"):
        hd.paths.value_at("risk", [0.3])
