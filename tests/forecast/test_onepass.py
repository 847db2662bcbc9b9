"""Predictions of one pass, against many orders of the same data."""

import numpy as np
import pytest

import hdjax as hd

RNG = np.random.default_rng(0)
FEATURES = RNG.standard_normal((2400, 30))
NUMBERS = FEATURES @ RNG.standard_normal(30) + 3 * RNG.standard_normal(2400)
CLASSES = np.arange(2400) % 2


@pytest.mark.slow
def test_huber_on_a_table_with_outliers():
    outliers = NUMBERS + 60 * (RNG.random(2400) < 0.1) * RNG.standard_normal(2400)
    found = hd.predict(FEATURES, outliers, loss="huber", learning_rate=0.3, test_share=0.4, runs=30)
    curve = found.curves["test"]
    # The share of outliers among the test samples differs from that of the model.
    assert np.abs(curve.predicted / curve.mean - 1).max() < 0.1
    assert found.verdict == "holds"


@pytest.mark.slow
def test_logistic_on_two_classes_of_one_covariance():
    features = FEATURES[:, :12] + CLASSES[:, None] * np.linspace(0, 1.2, 12)
    found = hd.predict(features, CLASSES, loss="logistic", learning_rate=0.3, runs=30)
    curve = found.curves["test"]
    assert np.abs(curve.predicted / curve.mean - 1).max() < 0.1
    assert curve.mean[-1] < 0.8 * curve.mean[0]
    ratio = curve.spread[12:] / curve.std[12:]
    assert 0.5 < np.median(ratio) < 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loss": "huber", "algorithm": "sgd"}, "algorithm: 'sgd' with loss='huber'"),
        ({"loss": "huber", "epochs": 3.0}, "epochs: given; allowed with several passes"),
        ({"algorithm": "one-pass", "batch": 4}, "batch: given"),
        ({"algorithm": "one-pass", "learning_rate": -1.0}, "learning_rate: -1.0"),
    ],
)
def test_options_of_several_passes_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        hd.predict(FEATURES, NUMBERS, **options)
