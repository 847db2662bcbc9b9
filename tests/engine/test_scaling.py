"""Scalings: exponents, and the dimensions that an interrupt leaves."""

import numpy as np
import pytest

import hdjax as hd
from hdjax.engine.chunks import DoesNotFitError
from hdjax.engine.result import Result
from hdjax.engine.scaling import _finished, fit_exponent, fit_power
from tests.engine.problems import OPTIONS, interrupt, isotropic, least_squares
from tests.trees import made


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
    # A student and a teacher in float32 are the least.
    assert all(2 * 4 * d * 48 < size for d, size in zip([32, 512], cost["memory"], strict=True))
    assert 0.5 < result.tree.attrs["cost_exponent"]["memory"][0] < 1.1


@pytest.mark.slow
def test_the_last_dimension_is_repeated_on_each_number_of_devices(tmp_path, key):
    result = hd.scaling(
        lambda d: least_squares(d=d),
        [8, 16],
        [0.0, 1.0],
        key=key,
        runs=4,
        statistics=["risk"],
        devices=[1, 1],
    )
    found = result.tree.attrs["efficiency"]
    seconds = np.array(found["seconds"])
    np.testing.assert_allclose(found["efficiency"], seconds[0] / seconds)
    assert "efficiency at the last d, by number of devices: 1.00 on 1" in repr(result)
    result.save(tmp_path / "result.nc")
    assert hd.load(tmp_path / "result.nc").tree.attrs["efficiency"] == found


@pytest.mark.parametrize("changes", [{"devices": [99]}, {"runs": 0}, {"devices": [0]}], ids=str)
def test_devices_that_cannot_be_compared_are_refused(changes, key):
    given = {"runs": 2, "devices": [1]} | changes
    with pytest.raises(ValueError, match=r"devices: .*; allowed"):
        hd.scaling(lambda d: least_squares(d=d), [8, 16], [0.0, 1.0], key=key, **given)


@pytest.mark.slow
def test_an_interrupted_scaling_keeps_its_finished_dimensions(key, monkeypatch):
    interrupt(monkeypatch, call=3)
    result = hd.scaling(
        lambda d: least_squares(d=d), [8, 16, 32], [0.0, 1.0], key=key, runs=2, statistics=["risk"]
    )
    assert result.tree.attrs["interrupted"] == 1
    np.testing.assert_array_equal(result.sup_error["dimension"], [8, 16])
    assert "exponent" in repr(result)


def measuring(fails=None, stops=None):
    """A measurement that fails at a position, or is interrupted there."""

    def measured(index):
        if index == fails:
            raise DoesNotFitError("method: Direct needs 9 GiB for a run; allowed: 8 GiB")
        return Result(made({}, interrupted=int(index == stops)))

    return measured


def test_a_dimension_that_fails_is_left_out():
    with pytest.warns(UserWarning, match=r"scaling: d = 9 is left out: method: Direct needs"):
        parts, interrupted = _finished(measuring(fails=1), [8, 9, 10])
    assert (list(parts), interrupted) == ([0, 2], False)
    with pytest.warns(UserWarning, match="d = 9"), pytest.raises(DoesNotFitError, match="9 GiB"):
        _finished(measuring(fails=1), [8, 9])
    parts, interrupted = _finished(measuring(stops=2), [8, 9, 10])
    assert (list(parts), interrupted) == ([0, 1], True)
    with pytest.raises(KeyboardInterrupt):
        _finished(measuring(stops=1), [8, 9, 10])


@pytest.mark.slow
def test_the_limit_alone_has_time_and_memory(tmp_path):
    dims, options = [8, 64, 512], OPTIONS | {"runs": 0}
    found = hd.scaling(lambda d: least_squares(d=d), dims, **options)
    cost = found.tree.attrs["cost"]
    assert min(cost["limit"]) > 0
    assert cost["memory"] == sorted(cost["memory"])
    slope, low, high = found.tree.attrs["cost_exponent"]["memory"]
    assert low < slope < high
    again = hd.load(found.save(tmp_path))
    assert again.tree.attrs["cost"] == cost
    assert "scaling of streaming: the limit at each d" in repr(again)
    assert len(again.plot().axes) == 2


def test_options_of_runs_are_refused_without_runs(key):
    with pytest.raises(ValueError, match=r"runs: 0 with chunk, keep; allowed: none"):
        hd.scaling(isotropic, [8, 9], [0.0, 1.0], key=key, runs=0, chunk=2, keep="runs")


def test_the_interval_of_a_power_is_that_of_the_regression():
    """95 of 100 intervals contain the true power, and two points have none."""
    rng, dims = np.random.default_rng(0), [10, 20, 40, 80, 160]
    values = 3 * np.array(dims) ** 1.5 * rng.lognormal(0, 0.3, (2000, 5))
    inside = [low < 1.5 < high for _, low, high in (fit_power(dims, row) for row in values)]
    assert abs(np.mean(inside) - 0.95) < 4 * (0.95 * 0.05 / 2000) ** 0.5
    slope, *bounds = fit_power([10, 1000], np.array([1.0, 100.0]))
    np.testing.assert_allclose(slope, 1)
    assert np.isnan(bounds).all()
    assert np.isnan(fit_power(dims, np.zeros(5))).all()


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
