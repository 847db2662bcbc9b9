"""Tuned choices: they are minima, and runs confirm their gains."""

import jax.numpy as jnp
import numpy as np
import pytest

import hdjax as hd
from hdjax.forecast import tuning

RNG = np.random.default_rng(0)
FEATURES = RNG.standard_normal((200, 30))
NUMBERS = FEATURES @ RNG.standard_normal(30) + 4 * RNG.standard_normal(200)


def test_descent_stays_within_its_bounds():
    def risk(x):
        return float(np.sum((x - 2) ** 2)), 2 * (x - 2)

    found, value = tuning.descend(risk, np.zeros(3), [-1.0, 1.5])
    np.testing.assert_allclose(found, 1.5)
    assert value == pytest.approx(0.75)


def test_descent_avoids_where_the_risk_is_not_finite():
    def risk(x):
        return (float(x[0] - np.log(x[0])), 1 - 1 / x) if x[0] < 3 else (np.inf, np.nan * x)

    found, _ = tuning.descend(risk, np.array([0.01]), [0.001, 50.0])
    np.testing.assert_allclose(found, 1.0, rtol=1e-3)


@pytest.fixture(scope="module")
def tuned():
    return hd.tune(FEATURES, NUMBERS, epochs=4.0, pieces=3, batches=[1, 16, 80], runs=200)


@pytest.mark.slow
def test_runs_confirm_the_gains(tuned):
    for gain in tuned.gains().values():
        assert gain.predicted > 0
        assert abs(gain.measured - gain.predicted) < 4 * gain.error + 0.1 * gain.predicted


@pytest.mark.slow
def test_the_best_constant_rate_is_a_minimum(tuned):
    best = tuned["best constant rate"]
    problem, modes = risks(FEATURES, NUMBERS)
    values = [
        float(
            hd.multipass.MultiPassSGD(problem, factor * best.rates[0], modes=modes)
            .limit(jnp.array([0.0, 4.0]))
            .values["test"][-1]
        )
        for factor in (0.8, 1.0, 1.25)
    ]
    assert values[1] == pytest.approx(best.risk, rel=1e-4)
    assert values[1] < min(values[0], values[2])


@pytest.mark.slow
def test_batches_with_momentum(tuned):
    risks = [choice.risk for choice in tuned.choices if choice.momentum > 0]
    assert len(risks) == 3
    assert risks[0] <= 1.02 * tuned["best constant rate"].risk
    assert tuned.saturating_batch in (1, 16, 80)


def risks(features, numbers):
    """The problem and the modes that `tune` uses."""
    data = hd.forecast.prepare(hd.forecast.as_table(features, numbers))
    problems, modes = hd.forecast.squares.problems(data)
    return problems[0], modes[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [({"objective": "best"}, "objective: 'best'"), ({"pieces": 0}, "pieces: 0")],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        hd.tune(FEATURES, NUMBERS, **options)
