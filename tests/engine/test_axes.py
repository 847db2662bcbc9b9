"""Axes of a sweep: their labels, and names and values that run into each other."""

import io
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hdjax as hd
from hdjax.engine.sweep import _labels

st = hd.streaming
OPTIONS = {"ts": [0.0, 1.0], "key": jax.random.key(0), "runs": 2}


def least_squares(rate=0.5, d=8, **ignored):
    law = st.GaussianStart()
    return st.OnePassSGD(st.losses.LeastSquares(), hd.spectra.identity(d), rate, law, law)


@pytest.mark.slow
def test_labels_and_figures():
    """Numbers whatever they came in, and an axis that begins like a statistic is no entry of it."""
    rates = jnp.array([0.1, 0.5], jnp.float32)
    levels = [np.array(1.0), jnp.asarray(2.0)]
    grid = {"rate": rates, "risk_level": levels}
    statistics = ["risk", "overlaps"]
    result = hd.sweep(least_squares, grid, statistics=statistics, start=None, **OPTIONS)
    assert result.runs["rate"].values.tolist() == [0.1, 0.5]
    assert result.runs["risk_level"].values.tolist() == [1.0, 2.0]
    one = result.mean["risk"].sel(rate=0.5, risk_level=2.0).values
    np.testing.assert_array_equal(one, result.mean["risk"].values[1, 1])
    result.plot("risk", select={"rate": 0.5}).figure.savefig(io.BytesIO())
    result.plot("overlaps", index=(0, 1)).figure.savefig(io.BytesIO())
    assert result.plot("risk", time=1.0).get_title(loc="left") == ""
    with pytest.raises(ValueError, match=r"time: 0\.4; the nearest record is at 0"):
        result.plot("risk", time=0.4)


@pytest.mark.slow
def test_a_value_that_is_given_twice_is_run_twice():
    grid, statistics = {"rate": [0.25, 0.25, 0.5]}, ["risk"]
    result = hd.sweep(least_squares, grid, statistics=statistics, start=None, **OPTIONS)
    np.testing.assert_array_equal(result.runs["risk"][0], result.runs["risk"][1])
    assert repr(result).count("0.25") >= 2
    result.plot("risk").figure.savefig(io.BytesIO())
    result = hd.scaling(lambda d: least_squares(d=d), [8, 8, 32], statistics=statistics, **OPTIONS)
    assert result.sup_error_median["risk"].shape == (3,)
    assert repr(result).count("\n8 ") == 2
    result.plot("risk").figure.savefig(io.BytesIO())


@pytest.mark.parametrize("axis", [1, "", None])
def test_an_axis_that_has_no_name_is_refused_before_the_run(axis, monkeypatch):
    monkeypatch.setattr(sys.modules["hdjax.engine.sweep"], "drive", None)
    with pytest.raises(ValueError, match=f"grid: {axis!r}; allowed: text"):
        hd.sweep(least_squares, {axis: [0.25, 0.5]}, statistics=["risk"], **OPTIONS)


@pytest.mark.parametrize(
    ("statistics", "message"),
    [
        (["risk", "risk"], "statistics: 'risk' is given twice; allowed: different names"),
        (["risk", "time"], "statistics: 'time'; allowed: other names than those of the coord"),
    ],
)
def test_statistics_that_a_result_cannot_hold_are_refused(statistics, message):
    pairs = [(name, lambda system, summary: summary.overlaps[0, 0]) for name in statistics]
    with pytest.raises(ValueError, match=message):
        hd.simulate(least_squares(), statistics=pairs, **OPTIONS)


def test_objects_are_labelled_by_name_or_number():
    labels = _labels
    assert labels([jnp.tanh, jnp.sin]) == ["tanh", "sin"]
    assert labels([lambda x: x, lambda x: -x]) == ["0: <lambda>", "1: <lambda>"]
    assert labels([np.ones(2), np.zeros(2)])[1].startswith("1: array")
    assert labels([True, "a"]) == [True, "a"]


@pytest.mark.parametrize("grid", [{}, {"rate": np.array(0.1)}, {"rate": []}])
def test_what_is_no_grid_is_refused(grid):
    with pytest.raises(ValueError, match=r"grid: .*; allowed: "):
        hd.sweep(least_squares, grid, **OPTIONS)
