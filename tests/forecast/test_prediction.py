"""Predictions of several passes, against many runs on the same data."""

import json

import numpy as np
import pytest

import hdjax as hd
from hdjax.forecast import Forecast

RNG = np.random.default_rng(0)
FEATURES = RNG.standard_normal((260, 40))
NUMBERS = FEATURES @ RNG.standard_normal(40) + 2 * RNG.standard_normal(260)


def disagreement(forecast):
    """The largest |predicted mean - mean of runs| in standard errors, over curves and times."""
    found = [
        np.abs(curve.predicted - curve.mean)[1:] / (curve.error[1:] + 0.01 * curve.mean[1:])
        for curve in forecast.curves.values()
    ]
    return max(map(np.max, found))


@pytest.fixture(scope="module")
def regression():
    return hd.predict(FEATURES, NUMBERS, epochs=4.0, runs=60)


def test_means_of_runs_are_predicted(regression):
    assert disagreement(regression) < 3.5
    assert regression.verdict == "holds"
    spread = regression.curves["train"].spread
    ratio = spread[10:] / regression.curves["train"].std[10:]
    assert 0.6 < ratio.min() < ratio.max() < 1.6


def test_files_stand_alone(regression, tmp_path):
    page = regression.save(tmp_path / "out").read_text()
    assert "data:image/png;base64" in page
    assert 'src="http' not in page
    for verdict in regression.verdicts:
        assert verdict.name in page
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["curves"]["test"]["predicted"][-1] == regression.curves["test"].predicted[-1]
    header, *rows = (tmp_path / "out" / "table.csv").read_text().splitlines()
    assert header.startswith("time,train_predicted,train_predicted_std,train_mean")
    assert len(rows) == len(regression.curves["test"].times)
    assert "mean of runs" in str(regression)


@pytest.mark.slow
def test_classes_are_columns_that_draw_the_same_samples():
    labels = np.argmax(FEATURES @ RNG.standard_normal((40, 3)), axis=1)
    forecast = hd.predict(FEATURES, labels, epochs=4.0, runs=60)
    assert disagreement(forecast) < 3.5


@pytest.mark.slow
def test_batches_and_momentum():
    forecast = hd.predict(
        FEATURES, NUMBERS, algorithm="momentum", batch=20, momentum=0.5, epochs=4.0, runs=40
    )
    assert disagreement(forecast) < 3.5
    assert forecast.curves["train"].times[-1] == pytest.approx(4, abs=0.1)


@pytest.mark.slow
def test_nothing_is_simulated_without_runs():
    forecast = hd.predict(FEATURES, NUMBERS, epochs=4.0, runs=0)
    assert isinstance(forecast, Forecast)
    assert forecast.curves["train"].runs is None
    assert "mean of runs" not in str(forecast)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"learning_rate": 2.5}, r"learning_rate: 2.5; allowed: below 2"),
        ({"epochs": 0.0}, "epochs: 0.0"),
        ({"batch": 1000}, "batch: 1000; allowed: 1 to n = 208"),
        ({"loss": "cubic"}, "loss: 'cubic'"),
        ({"batch": 20, "learning_rate": 9.0}, "learning_rate: 9; allowed: below"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        hd.predict(FEATURES, NUMBERS, **options)
