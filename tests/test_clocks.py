"""Ticks and times of every clock."""

import numpy as np
import pytest

from hdjax.clocks import Fine, Intervals, Steps, Within


@pytest.mark.parametrize(
    ("clock", "ts", "ticks", "times"),
    [
        (Steps(100), [0.0, 0.29, 0.295, 1.0], [0, 29, 29, 100], [0, 0.29, 0.29, 1.0]),
        (Steps(np.float32(7)), [0.5, 2.0], [3, 14], [3 / 7, 2.0]),
        (Intervals(0.01), [0.0, 0.29, 0.295, 1.0], [0, 29, 29, 100], [0, 0.29, 0.29, 1.0]),
        (Fine(4), [0.0, 0.3, 0.45], [0, 1, 2], [0, 0.25, 0.5]),
    ],
    ids=["steps", "steps of float32", "intervals", "fine"],
)
def test_ticks_and_their_times(clock, ts, ticks, times):
    found = clock.ticks(np.array(ts))
    assert found.dtype == np.int64
    assert found.tolist() == ticks
    assert clock.times(found).dtype == np.float64
    np.testing.assert_array_equal(clock.times(found), times)


def test_ticks_beyond_32_bits():
    assert Steps(1).ticks(np.array([2.0**40 + 1])).tolist() == [2**40 + 1]
    assert Steps(10**9).ticks(np.array([1e3])).tolist() == [10**12]


def test_steps_that_have_to_be_distinct():
    assert Steps(1, distinct=True).ticks(np.array([0.0, 1.0])).tolist() == [0, 1]
    with pytest.raises(ValueError, match="at most once"):
        Steps(1, distinct=True).ticks(np.array([1.0, 1.5]))


def test_a_range_of_ticks():
    clock = Within(Steps(10), first=5, last=20, why="when all is used")
    assert clock.ticks(np.array([0.5, 2.0])).tolist() == [5, 20]
    assert clock.times(np.array([20])).tolist() == [2.0]
    with pytest.raises(ValueError, match=r"from t = 0\.4; allowed: from 0\.5 on, when all is used"):
        clock.ticks(np.array([0.4, 1.0]))
    with pytest.raises(ValueError, match=r"up to t = 2\.1; allowed: up to 2, when all is used"):
        clock.ticks(np.array([1.0, 2.1]))
