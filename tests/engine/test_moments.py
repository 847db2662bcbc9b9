"""Moments over the finite runs of chunks, and of all chunks together."""

import jax
import numpy as np
import pytest

from hdjax.codes import Code
from hdjax.engine.ensemble import Curves
from hdjax.engine.moments import merge, moments_of


def chunk(values):
    """Runs (points, runs, times) of one statistic, whose errors are their first values."""
    alive = np.isfinite(values).cumprod(-1).astype(bool)
    fine = np.full(values.shape[:2], Code.FINE, np.int32)
    none = np.full(values.shape[:2], np.nan)
    return moments_of(Curves({"a": values}, {}, alive, fine, none), {"a": values[..., 0]})


@pytest.mark.parametrize("gaps", [False, True])
def test_moments_of_two_chunks_are_those_of_all_runs(gaps):
    """Of complex numbers too, and where one chunk has no finite run at all."""
    rng = np.random.default_rng(0)
    values = rng.normal(5.0, 1.0, (2, 9, 4)) + 1j * rng.normal(size=(2, 9, 4))
    if gaps:
        values[:, :4, 0], values[:, :, 1], values[:, 4:, 2] = np.nan, np.nan, np.nan
    merged, whole = merge(chunk(values[:, :4]), chunk(values[:, 4:])), chunk(values)
    for found, expected in zip(jax.tree.leaves(merged), jax.tree.leaves(whole), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-13, atol=1e-14)


def test_moments_are_those_of_numpy():
    values = np.random.default_rng(1).normal(5.0, 1.0, (1, 9, 4)).astype(np.float32)
    values[0, 2, 1:] = np.nan
    found = chunk(values)
    wide = values.astype(float)[0]
    np.testing.assert_array_equal(found.values["a"].count[0], [9, 8, 8, 8])
    np.testing.assert_array_equal(found.alive.count[0], [9, 8, 8, 8])
    np.testing.assert_allclose(found.values["a"].mean[0], np.nanmean(wide, 0), rtol=1e-14)
    spread = found.values["a"].squares[0] / (found.values["a"].count[0] - 1)
    np.testing.assert_allclose(spread, np.nanvar(wide, 0, ddof=1), rtol=1e-13)
    np.testing.assert_allclose(found.sup_error["a"].mean[0, 0], wide[:, 0].mean(), rtol=1e-14)
