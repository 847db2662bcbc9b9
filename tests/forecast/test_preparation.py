"""Groups of classes, splits, standardised features, and the scale of rows."""

import numpy as np
import pytest

from hdjax.forecast.preparation import prepare
from hdjax.forecast.tables import as_table

RNG = np.random.default_rng(0)
FEATURES = 3 + RNG.standard_normal((60, 5)) * [1, 2, 3, 4, 5]


def table(labels=None):
    return as_table(FEATURES, np.arange(60) % 3 if labels is None else labels)


@pytest.mark.parametrize("how", ["columns", "rows", "centre", "none"])
def test_rows_have_mean_squared_norm_one(how):
    data = prepare(table(), standardise=how)
    norms = np.sum(data.train**2, axis=1)
    assert norms.mean() == pytest.approx(1)
    assert len(data.train) == 48
    assert len(data.test) == 12
    if how == "columns":
        np.testing.assert_allclose(data.train.std(axis=0), 5**-0.5)
    if how == "rows":
        np.testing.assert_allclose(norms, 1)
    if how != "none":
        shift = data.train.mean(axis=0) if how != "rows" else 0
        np.testing.assert_allclose(shift, 0, atol=1e-12)


def test_training_statistics_standardise_the_test_samples():
    whole, part = prepare(table(), test_share=0.25), prepare(table(), test_share=0.25, samples=10)
    assert not np.allclose(whole.test, part.test)
    assert part.train.shape == (10, 5)
    np.testing.assert_allclose(part.train.mean(axis=0), 0, atol=1e-12)


def test_classes_become_columns_and_groups_become_two():
    many = prepare(table())
    assert many.classes == ("0", "1", "2")
    np.testing.assert_allclose(many.train_targets.mean(axis=0), 0, atol=1e-12)
    assert many.train_targets.shape[1] == 3
    two = prepare(table(), classes=[["0", "2"], ["1"]])
    assert two.classes == ("0+2", "1")
    assert sorted(set(two.train_targets[:, 0] - two.train_targets.min())) == [0, 2]
    left = prepare(table(), classes=["0", "1"])
    assert len(left.train) + len(left.test) == 40


def test_numbers_are_standardised():
    data = prepare(table(np.linspace(0, 7, 60)))
    assert data.classes == ()
    assert data.train_targets.std() == pytest.approx(1)


def test_constant_columns_are_left_out_and_named():
    features = np.concatenate([FEATURES, np.ones((60, 1))], axis=1)
    data = prepare(as_table(features, np.arange(60) % 2))
    assert data.train.shape[1] == 5
    assert "constant columns are left out: 5" in data.notes


def test_random_features_have_rows_of_one_norm():
    data = prepare(table(), random_features=40)
    np.testing.assert_allclose(np.sum(data.train**2, axis=1), 1)
    assert data.train.shape == (48, 40)


def with_zero_row():
    features = FEATURES.copy()
    features[7] = 0
    return as_table(features, np.arange(60) % 2)


@pytest.mark.parametrize(
    ("data", "options", "message"),
    [
        (table(np.zeros(60)), {}, "labels: one class, 0.0"),
        (table(np.arange(60).astype(str)), {}, "60 classes for 60 samples"),
        (as_table(np.ones((60, 2)), np.arange(60) % 2), {}, "all columns are constant"),
        (with_zero_row(), {"random_features": 4}, "row 7: all zero"),
        (table(), {"standardise": "best"}, "standardise: 'best'"),
        (table(), {"standardise": "columns", "random_features": 4}, "allowed: 'rows'"),
        (table(), {"test_share": 1.0}, "test_share: 1.0"),
        (table(), {"samples": 59}, "59 to train on and 12 to test with"),
        (table(), {"classes": ["0", "5"]}, r"of 0, 1, 2"),
        (table(np.linspace(0, 7, 60)), {"classes": ["0", "1"]}, "60 different labels"),
    ],
)
def test_data_that_do_not_allow_it(data, options, message):
    with pytest.raises(ValueError, match=message):
        prepare(data, **options)
