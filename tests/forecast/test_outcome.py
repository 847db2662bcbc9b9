"""Curves, summaries and files of a prediction."""

import json

import numpy as np
import pytest

from tests.forecast.examples import forecast


def test_moments_of_the_runs():
    curve = forecast().curves["test"]
    np.testing.assert_allclose(curve.mean, curve.predicted + 0.01)
    np.testing.assert_allclose(curve.std, 0.01)
    np.testing.assert_allclose(curve.error, 0.01 / 3**0.5)
    assert curve.at(4.0) == curve.predicted[-1]
    assert np.isnan(forecast(runs=1).curves["test"].std).all()


def test_files(tmp_path):
    found = forecast("doubtful")
    assert found.doubtful
    assert found.save(tmp_path / "a" / "b").name == "report.html"
    summary = json.loads((tmp_path / "a" / "b" / "summary.json").read_text())
    assert summary["verdict"] == "doubtful"
    assert summary["curves"]["test"]["runs"] == 3
    rows = np.genfromtxt(tmp_path / "a" / "b" / "table.csv", delimiter=",", names=True)
    np.testing.assert_allclose(rows["test_mean"], found.curves["test"].mean)


@pytest.mark.parametrize("runs", [0, 3])
def test_the_text_has_a_row_for_each_of_some_times(runs):
    lines = forecast(runs=runs).rows()
    assert len(lines) == 7
    assert ("mean of runs" in lines[0]) == bool(runs)
