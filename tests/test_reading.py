"""Reading of results: variables by the user's names, times, ends of runs, and parts of a sweep."""

import numpy as np
import pytest

from hdjax import reading
from hdjax.codes import Code
from tests.trees import codes, made, moments

TIMES = [0.0, 0.5, 1.0]
RUNS = np.arange(36.0).reshape(2, 2, 3, 3)


def swept():
    """Axes of rates and losses, three runs, three times; a statistic whose name is no word."""
    groups = moments({"risk": RUNS, "a/b": -RUNS}, axis=2) | {
        "codes": codes(np.full((2, 2, 3), np.nan)),
    }
    recorded = np.broadcast_to([0.0, 0.4, 1.0], (2, 2, 3))
    axes = {"rate": [0.1, 0.2], "loss/kind": ["hinge", "logistic"]}
    return made(groups, TIMES, axes, recorded, kind="sweep", statistics=["risk", "a/b"])


def test_axes_and_times_have_the_names_of_the_user():
    result = swept()
    assert list(reading.axes(result)) == ["rate", "loss/kind"]
    assert reading.labels(result, "rate").tolist() == [0.1, 0.2]
    assert reading.labels(result, "loss/kind").tolist() == ["hinge", "logistic"]
    np.testing.assert_array_equal(reading.times(result), TIMES)
    np.testing.assert_array_equal(reading.recorded_times(result)[1, 1], [0, 0.4, 1])
    scaling = made({"exponent": {"risk": -0.5}}, [], {"dimension": [8, 16]}, kind="scaling")
    assert reading.times(scaling).size == reading.recorded_times(scaling).size == 0


def test_variables_are_found_by_any_name():
    result = swept()
    assert reading.has(result, "mean", "a/b")
    assert not reading.has(result, "mean", "a")
    assert not reading.has(result, "limit", "risk")
    found = reading.variable(result, "mean", "a/b")
    np.testing.assert_allclose(found, -RUNS.mean(2))
    for group, name in (("mean", "a"), ("limit", "risk")):
        with pytest.raises(KeyError, match=f"name: '{name}'; allowed: a variable of the group"):
            reading.variable(result, group, name)


def test_a_dataset_has_the_names_of_the_user():
    found = reading.dataset(swept(), "mean")
    assert set(found.data_vars) == {"risk", "a/b"}
    assert found["a/b"].dims == ("rate", "loss/kind", "time")
    assert float(found["a/b"].sel({"rate": 0.2, "loss/kind": "hinge", "time": 0.5})) == -22


def test_gaps_are_no_ends():
    """A run with a gap, or none at all, has not ended; one that diverged or lost its solver has."""
    code = [Code.FINE, Code.DIVERGED, Code.NOT_FINITE, Code.NOT_RUN, Code.STEPS_EXHAUSTED]
    since = [np.nan, 0.5, 0.0, np.nan, 1.0]
    result = made({"codes": {"code": [int(c) for c in code], "since": since}}, TIMES)
    np.testing.assert_array_equal(reading.ended(result), [np.nan, 0.5, np.nan, np.nan, 1.0])
    assert reading.ended(made({"limit": {"risk": [1.0] * 3}}, TIMES, kind="limit")).size == 0


def test_entries_are_what_remains_of_the_dimensions():
    matrices = np.zeros((3, 3, 2, 5))
    groups = moments({"overlaps": matrices, "risk": matrices[..., 0, 0]})
    result = made(groups, TIMES, statistics=["overlaps", "risk"])
    for group in ("runs", "mean", "quantile"):
        values = reading.variable(result, group, "overlaps")
        dims = reading.entries(result, values)
        assert [values.sizes[dim] for dim in dims] == [2, 5]
        assert reading.entries(result, reading.variable(result, group, "risk")) == []


def test_points_of_a_sweep_lose_their_axes():
    result = swept()
    part = reading.select(result, {"loss/kind": 1})
    assert list(reading.axes(part)) == ["rate"]
    np.testing.assert_array_equal(reading.variable(part, "runs", "risk"), RUNS[:, 1])
    point = reading.select(part, {"rate": 0})
    assert reading.axes(point) == {}
    np.testing.assert_array_equal(reading.variable(point, "runs", "risk"), RUNS[0, 1])
    # The whole is as it was.
    assert list(reading.axes(result)) == ["rate", "loss/kind"]


def test_an_axis_gets_other_labels():
    result = swept()
    part = reading.relabel(result, "loss/kind", [1], "size", [7])
    assert list(reading.axes(part)) == ["size"]
    assert reading.labels(part, "size").tolist() == [7]
    np.testing.assert_array_equal(reading.variable(part, "runs", "risk"), RUNS[:, 1:])
    assert reading.labels(result, "loss/kind").tolist() == ["hinge", "logistic"]
