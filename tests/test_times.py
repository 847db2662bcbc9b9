"""Times that came in any dtype: the steps, the labels and the records that they stand for."""

import jax.numpy as jnp
import numpy as np
import pytest

from hdjax.clocks import Steps
from hdjax.times import as_times, nominal, record_at

TENTHS = np.arange(51) / 10


@pytest.mark.parametrize(
    "ts",
    [
        TENTHS,
        TENTHS.tolist(),
        TENTHS.astype(np.float32),
        jnp.arange(0, 5.05, 0.1, dtype=jnp.float32),
        jnp.linspace(0, 5, 51, dtype=jnp.float32),
        jnp.cumsum(jnp.full(51, 0.1, jnp.float32).at[0].set(0.0)),
        [0.0, *np.linspace(0.1, 5, 50, dtype=np.float32)],
        [jnp.asarray(t, jnp.float32) for t in TENTHS],
        jnp.linspace(0, 5, 51),
        TENTHS.astype(np.float16),
        jnp.asarray(TENTHS, jnp.bfloat16),
        jnp.linspace(0, 5, 51, dtype=jnp.float32).tolist(),
        np.asarray(jnp.linspace(0, 5, 51, dtype=jnp.float32), np.float64),
    ],
    ids=range(13),
)
@pytest.mark.parametrize("unit", [10.0, 400.0, 1e9])
def test_tenths_are_whole_steps_in_every_dtype(ts, unit):
    times = as_times(ts)
    np.testing.assert_array_equal(Steps(unit).ticks(times), np.round(TENTHS * unit))
    np.testing.assert_allclose(nominal(times), TENTHS, rtol=1e-15, atol=1e-15)


def test_steps_that_are_no_decimals_are_whole_in_float32():
    n = 768
    ts = as_times((np.arange(3 * n) / n).astype(np.float32))
    np.testing.assert_array_equal(Steps(float(n)).ticks(ts), np.arange(3 * n))


def test_large_steps_that_float32_holds_stay_what_they_are():
    assert Steps(1.0).ticks(as_times([0.0, 16000001.0])).tolist() == [0, 16000001]
    for dtype in (np.float32, np.float64):
        ts = as_times(np.array([0.25, 0.5], dtype))
        assert Steps(999999999.0).ticks(ts).tolist() == [249999999, 499999999]


def test_what_lies_between_steps_is_rounded_down():
    ts = np.array([0.295, 0.2999, 0.30001])
    for dtype in (np.float32, np.float64):
        assert Steps(100.0).ticks(ts.astype(dtype)).tolist() == [29, 29, 30]


def test_nominal_times_in_float64_are_those_given():
    ts = np.array([0.1 + 0.2, 1 / 3, 0.6000001])
    np.testing.assert_array_equal(nominal(as_times(ts)), ts)
    assert nominal(as_times([0, 1, 3])).tolist() == [0.0, 1.0, 3.0]


def test_exact_fractions_in_float32_stay_exact():
    ts = np.arange(2049) / 1024
    np.testing.assert_array_equal(nominal(as_times(ts.astype(np.float32))), ts)


def test_other_numbers_in_float32_are_the_decimals_within_rounding():
    wide = np.geomspace(0.01, 1e4, 300)
    own = nominal(as_times(wide.astype(np.float32)))
    np.testing.assert_allclose(own, wide, rtol=6e-7)
    assert nominal(np.array([0.6000001, 123.45], np.float32)).tolist() == [0.6, 123.45]


@pytest.mark.parametrize(
    ("ts", "message"),
    [
        ([], "at least one time"),
        ([[0.0]], "at least one time"),
        (["a"], "list of numbers"),
        ([0.0, np.nan], "increasing"),
        ([-1.0, 0.0], "increasing"),
        ([0.0, 1.0, 1.0], "increasing"),
        (np.array([1.0, 1 + 1e-7], np.float32), "increasing"),
        ([0.123456789, np.float32(0.2)], "one precision"),
    ],
)
def test_wrong_times(ts, message):
    with pytest.raises(ValueError, match=r"^ts: .*" + message):
        as_times(ts)


def test_records_are_found_by_nominal_time():
    times = np.array([0.0, 0.1, 0.3, 0.5])
    for t, record in ((0, 0), (0.1 + 0.2, 2), (np.float32(0.1), 1), (jnp.asarray(0.5), 3)):
        assert record_at(times, t) == record


@pytest.mark.parametrize("t", [0.2, 0.3001, -0.1, 1.0, 1e-9, np.nan])
def test_other_times_are_refused_with_the_nearest(t):
    with pytest.raises(ValueError, match=r"t: .*nearest record is at .*, the next at "):
        record_at(np.array([0.0, 0.1, 0.3, 0.5]), t)
