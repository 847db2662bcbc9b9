"""Sweeps: programs, axes and their labels, and the points that an interrupt leaves."""

import io
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hdjax as hd
from hdjax.codes import Code
from hdjax.engine import drive
from hdjax.engine.sweep import _labels
from tests.engine.problems import OPTIONS, compare, interrupt, isotropic, least_squares


@pytest.mark.slow
def test_sweep_over_numbers_traces_once(key):
    traces = []

    def spy(system, summary):
        traces.append(1)
        return summary.overlaps[0, 0]

    def make(learning_rate, sigma, exponent):
        return least_squares(learning_rate, sigma, exponent=exponent)

    def run(rates, sigmas, exponents):
        traces.clear()
        grid = {"learning_rate": rates, "sigma": sigmas, "exponent": exponents}
        result = hd.sweep(make, grid, [0.0, 1.0], key=key, runs=3, statistics={"spy": spy})
        return result, len(traces)

    _, first = run([0.3, 0.5], [0.1, 0.2], [0.0001, 0.5])
    result, second = run([0.4, 0.6], [0.3, 0.4], [0.2, 0.9])
    assert result.tree.attrs["programs"] == 1
    # The second sweep of equal shape compiles nothing: only shapes are looked at again.
    assert second <= first // 2
    point = compare(make(0.6, 0.3, 0.9), [0.0, 1.0], key=key, runs=3, statistics={"spy": spy})
    swept = result.runs["spy"].sel(learning_rate=0.6, sigma=0.3, exponent=0.9)
    np.testing.assert_allclose(swept, point.runs["spy"], rtol=2e-5)


@pytest.mark.slow
def test_sweep_loops_only_over_what_changes_shapes(key):
    result = hd.sweep(
        lambda d, rate: least_squares(rate, d=d),
        {"d": [16, 32], "rate": [0.2, 0.4, 0.6]},
        [0.0, 1.0],
        key=key,
        runs=2,
        statistics=["risk"],
    )
    assert result.tree.attrs["programs"] == 2
    assert "spectrum" in result.tree.attrs["reasons"]
    assert result.runs["risk"].dims == ("d", "rate", "run", "time")
    limits = result.limit["risk"].isel(time=-1)
    assert (limits.diff("rate") < 0).all()


@pytest.mark.slow
def test_an_interrupted_sweep_keeps_its_finished_points(key, monkeypatch):
    def run(**options):
        return hd.sweep(
            lambda d, rate: least_squares(rate, d=d),
            {"d": [8, 16], "rate": [0.2, 0.4]},
            [0.0, 1.0],
            key=key,
            runs=2,
            start=None,
            statistics=["risk"],
            chunk=2,  # both points of a d, whatever the number of cores
            **options,
        )

    interrupt(monkeypatch, call=2)
    result = run()
    assert result.tree.attrs["interrupted"] == 1
    assert result.tree.attrs["points"] == 2
    assert np.isfinite(result.runs["risk"].sel(d=8)).all()
    assert np.isnan(result.runs["risk"].sel(d=16)).all()
    assert (result.codes["alive"].sel(d=16) == 0).all()
    assert (result.codes["code"].sel(d=8) == Code.FINE).all()
    assert (result.codes["code"].sel(d=16) == Code.NOT_RUN).all()
    assert "d   rate" in repr(result)
    interrupt(monkeypatch, call=1)
    with pytest.raises(KeyboardInterrupt):
        run()


@pytest.mark.slow
def test_labels_and_figures():
    """Numbers whatever they came in, and an axis that begins like a statistic is no entry of it."""
    rates = jnp.array([0.1, 0.5], jnp.float32)
    levels = [np.array(1.0), jnp.asarray(2.0)]
    grid = {"rate": rates, "risk_level": levels}
    statistics = ["risk", "overlaps"]
    result = hd.sweep(isotropic, grid, statistics=statistics, start=None, **OPTIONS)
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
    result = hd.sweep(isotropic, grid, statistics=statistics, start=None, **OPTIONS)
    np.testing.assert_array_equal(result.runs["risk"][0], result.runs["risk"][1])
    assert repr(result).count("0.25") >= 2
    result.plot("risk").figure.savefig(io.BytesIO())
    result = hd.scaling(lambda d: isotropic(d=d), [8, 8, 32], statistics=statistics, **OPTIONS)
    assert result.sup_error_median["risk"].shape == (3,)
    assert repr(result).count("\n8 ") == 2
    result.plot("risk").figure.savefig(io.BytesIO())


@pytest.mark.parametrize("axis", [1, "", None])
def test_an_axis_that_has_no_name_is_refused_before_the_run(axis, monkeypatch):
    monkeypatch.setattr(sys.modules["hdjax.engine.sweep"], "prepared", None)
    with pytest.raises(ValueError, match=f"grid: {axis!r}; allowed: text"):
        hd.sweep(isotropic, {axis: [0.25, 0.5]}, statistics=["risk"], **OPTIONS)


def test_objects_are_labelled_by_name_or_number():
    labels = _labels
    assert labels([jnp.tanh, jnp.sin]) == ["tanh", "sin"]
    assert labels([lambda x: x, lambda x: -x]) == ["0: <lambda>", "1: <lambda>"]
    assert labels([np.ones(2), np.zeros(2)])[1].startswith("1: array")
    assert labels([True, "a"]) == [True, "a"]


@pytest.mark.parametrize("grid", [{}, {"rate": np.array(0.1)}, {"rate": []}])
def test_what_is_no_grid_is_refused(grid):
    with pytest.raises(ValueError, match=r"grid: .*; allowed: "):
        hd.sweep(isotropic, grid, **OPTIONS)


@pytest.mark.slow
def test_a_program_that_fails_costs_its_own_points(monkeypatch):
    whole = hd.sweep(isotropic, {"d": [8, 9, 10]}, **OPTIONS)
    run = drive.Loop.run

    def failing(self):
        if self.experiment.systems[0].spectrum.size == 9:
            raise jax.errors.JaxRuntimeError("INTERNAL: a kernel failed")
        return run(self)

    monkeypatch.setattr(drive.Loop, "run", failing)
    with pytest.warns(UserWarning, match=r"sweep: 1 of 3 points failed, .*: INTERNAL: a kernel"):
        result = hd.sweep(isotropic, {"d": [8, 9, 10]}, **OPTIONS)
    assert result.tree.attrs["interrupted"] == 0
    assert np.isnan(result.mean["risk"][1]).all()
    np.testing.assert_array_equal(result.mean["risk"][::2], whole.mean["risk"][::2])
    with (
        pytest.warns(UserWarning, match="sweep: 1 of 1 points failed"),
        pytest.raises(jax.errors.JaxRuntimeError, match="a kernel failed"),
    ):
        hd.sweep(isotropic, {"d": [9]}, **OPTIONS)


@pytest.mark.slow
def test_a_point_that_diverges_changes_no_bit_of_its_neighbours():
    """Both sweeps run one program; the steps at rate 50 blow up, and end in NaN."""
    options = OPTIONS | {"ts": [0.0, 1.0, 4.0], "statistics": ["risk"]}
    whole = hd.sweep(isotropic, {"rate": [0.5, 0.6, 0.7]}, **options)
    mixed = hd.sweep(isotropic, {"rate": [0.5, 50.0, 0.7]}, **options)
    assert np.isnan(mixed.runs["risk"][1, :, -1]).all()
    assert (mixed.codes["code"][1] == hd.Code.DIVERGED).all()
    for group in ("runs", "mean", "std", "limit", "sup_error"):
        found, kept = (getattr(one, group)["risk"][::2] for one in (mixed, whole))
        np.testing.assert_array_equal(found, kept)
        assert np.isfinite(found).all()


def test_what_does_not_fit_is_refused_before_anything_is_run(monkeypatch):
    monkeypatch.setattr(drive.Loop, "run", None)
    with pytest.raises(ValueError, match=r"needs .* GiB for a run"):
        hd.sweep(isotropic, {"d": [8, 10**12]}, **OPTIONS)
    with pytest.raises(ValueError, match=r"needs .* GiB for a run"):
        hd.scaling(lambda d: isotropic(d=d), [8, 10**12], **OPTIONS)
