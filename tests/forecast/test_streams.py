"""Gaussian models of data, and random orders of the data themselves."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hdjax import random
from hdjax.forecast import streams
from hdjax.forecast.preparation import prepare
from hdjax.forecast.tables import as_table

RNG = np.random.default_rng(0)
CLASSES = np.arange(400) % 2
FEATURES = RNG.standard_normal((400, 20)) * np.where(CLASSES, 1.5, 1.0)[:, None]
FEATURES[:, 0] += 2 * CLASSES
NUMBERS = FEATURES @ RNG.standard_normal(20) + 0.5 * RNG.standard_normal(400)
OUTLIERS = NUMBERS + 30 * (np.arange(400) % 10 == 0) * RNG.standard_normal(400)


def model(labels, loss, share=0.5):
    return streams.model(prepare(as_table(FEATURES, labels)), loss, 0.2, share)


def test_the_mixture_has_the_moments_of_the_classes():
    found = model(CLASSES, "logistic")
    data = prepare(as_table(FEATURES, CLASSES))
    rows, labels = data.train[:160] * 20**0.5, data.train_labels[:160]
    system = found.system
    np.testing.assert_allclose(system.probabilities, np.bincount(labels) / 160)
    basis = np.asarray(system.spectrum.basis)
    for c in (0, 1):
        own = rows[labels == c]
        diagonal = np.diag(basis.T @ np.cov(own.T) @ basis)
        np.testing.assert_allclose(system.eigenvalues[c], diagonal, rtol=1e-6)
    assert 0.5 < found.commuting <= 1


def test_the_regression_ignores_outliers():
    truth, robust, plain = (
        np.asarray(model(labels, loss).teacher[:, 0])
        for labels, loss in ((NUMBERS, "squared"), (OUTLIERS, "huber"), (OUTLIERS, "squared"))
    )

    def angle(a, b):
        return a @ b / np.linalg.norm(a) / np.linalg.norm(b)

    assert angle(robust, truth) > 0.98
    assert angle(plain, truth) < angle(robust, truth)


def test_orders_are_sgd_on_the_rows():
    """One order, computed by a loop."""
    found = model(NUMBERS, "squared")
    rows, (n, d) = np.asarray(found.streamed.rows), found.streamed.rows.shape
    target = np.asarray(found.teacher[:, 0])
    noise = np.asarray(found.streamed.noise[:, 0])
    ticks = jnp.array([0, 5, n])
    key = jax.random.key(3)
    risks = streams.orders(found, ticks, key, 2)
    order = np.asarray(
        jax.random.permutation(random.stream(random.at(key, 1), random.Stream.ORDER), n)
    )
    x = np.zeros(d)
    for k, i in enumerate(order):
        if k == 5:
            early = risk(found, x)
        x = x - 0.2 / d * rows[i] * (rows[i] @ (x - target) - noise[i])
    np.testing.assert_allclose(risks[1], [risk(found, np.zeros(d)), early, risk(found, x)])


def risk(found, x):
    gap = np.asarray(found.test.rows) @ (x - np.asarray(found.teacher[:, 0]))
    return np.mean((gap - np.asarray(found.test.noise[:, 0])) ** 2) / 2


@pytest.mark.parametrize(
    ("labels", "loss", "share", "message"),
    [
        (CLASSES, "huber", 0.5, "'huber' with labels that are classes"),
        (NUMBERS, "softmax", 0.5, "'softmax' with labels that are numbers"),
        (np.arange(400) % 3, "logistic", 0.5, "'logistic' with 3 classes"),
        (CLASSES, "logistic", 1.0, "measure_share: 1.0"),
        (CLASSES, "logistic", 0.001, "0 samples"),
        (np.arange(400) % 17, "softmax", 0.03, "class .* samples to measure it on"),
    ],
)
def test_what_does_not_suit_is_refused(labels, loss, share, message):
    with pytest.raises(ValueError, match=message):
        model(labels, loss, share)
