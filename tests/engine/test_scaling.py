"""Scalings: exponents, and the dimensions that an interrupt leaves."""

import numpy as np
import pytest

import hdjax as hd
from hdjax.engine.scaling import fit_exponent
from tests.engine.problems import interrupt, least_squares


@pytest.mark.slow
def test_scaling_has_the_exponent_of_the_theory(key):
    result = hd.scaling(
        lambda d: least_squares(d=d, exponent=0.0001),
        [32, 512],
        np.linspace(0, 1, 6),
        key=key,
        runs=48,
        statistics=["risk"],
    )
    slope = float(result.exponent["risk"])
    low, high = result.exponent_interval["risk"].values
    assert low < slope < high
    assert abs(slope + 0.5) < 0.15
    cost = result.tree.attrs["cost"]
    assert all(len(cost[part]) == 2 for part in ("compile", "simulate", "limit"))
    assert min(cost["simulate"]) > 0


@pytest.mark.slow
def test_an_interrupted_scaling_keeps_its_finished_dimensions(key, monkeypatch):
    interrupt(monkeypatch, call=3)
    result = hd.scaling(
        lambda d: least_squares(d=d), [8, 16, 32], [0.0, 1.0], key=key, runs=2, statistics=["risk"]
    )
    assert result.tree.attrs["interrupted"] == 1
    np.testing.assert_array_equal(result.sup_error["dimension"], [8, 16])
    assert "exponent" in repr(result)


@pytest.mark.parametrize("power", [-1.0, -0.5, 0.25])
def test_powers_are_fitted(power):
    """Errors c d^p of all runs: no doubt is left, and a factor does not change the slope."""
    dims = [10, 40, 300]
    errors = 7.0 * np.array(dims, float)[:, None] ** power * np.ones(5)
    slope, (low, high) = fit_exponent(dims, errors)
    np.testing.assert_allclose([slope, low, high], power, rtol=1e-12)


def test_the_exponent_is_that_of_the_medians():
    """One run that is far off moves no median, and the interval covers the slope."""
    rng = np.random.default_rng(1)
    dims = [16, 64, 256, 1024]
    errors = np.array(dims)[:, None] ** -0.5 * rng.lognormal(0.0, 0.2, (4, 41))
    errors[0, 0], errors[1, :2] = 1e9, np.nan
    slope, (low, high) = fit_exponent(dims, errors)
    medians = [np.median(row[np.isfinite(row)]) for row in errors]
    expected = np.polyfit(np.log(dims), np.log(medians), 1)[0]
    np.testing.assert_allclose(slope, expected, rtol=1e-12)
    assert low < -0.5 < high
    assert 0 < high - low < 0.2
    # Where no run is left there is no exponent.
    errors[2] = np.nan
    assert np.isnan([fit_exponent(dims, errors)[0], *fit_exponent(dims, errors)[1]]).all()


@pytest.mark.parametrize("dims", [[8], [8, 8], [8, 0], []])
def test_dimensions_without_a_slope_are_refused(key, dims):
    with pytest.raises(ValueError, match=r"dims: .*; allowed: "):
        hd.scaling(lambda d: least_squares(d=d), dims, [0.0, 1.0], key=key, runs=2)
