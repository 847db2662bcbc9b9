"""Functions of rules: the number that each reads off a result, and calls that are refused."""

import numpy as np
import pytest

from hdjax import expect, layout
from hdjax.codes import Code
from tests.expect.results import EMPTY, OPTIONS, RECORDED, SHAPES, TIMES, groups
from tests.trees import codes, made


@pytest.mark.parametrize(
    ("rule", "value", "passed"),
    [
        ("value(risk, t=0.5) < 1.5", 1.0, True),
        ("value(risk, 0.5) > 1.5", 1.0, False),
        ("value(risk) == 0.5", 0.5, True),
        ("limit(risk, t=0.5) == 1.1", 1.1, True),
        ("std(risk, t=0.5) == 0.1", 0.1, True),
        ("predicted_mean(risk, t=0.5) == 1.05", 1.05, True),
        ("predicted_std(risk, t=0.5) == 0.125", 0.125, True),
        ("path_limit(half) == 0.25", 0.25, True),
        ("value('risk', t=0) != 2", 2.0, False),
        ("final(risk) <= 0.5", 0.5, True),
        ("quantile(risk, q=0.25, t=1) >= 5", 5.0, True),
        ("quantile(risk, q=0.5, t=0.5) == 7", 7.0, True),
        ("smallest(risk, t=0.5) == 1", 1.0, True),
        ("largest(risk) == 4", 4.0, True),
        ("quantile(risk, q=0.9) > 3.6", 3.7, True),
        ("rise(risk) < 0", 0.2, False),
        ("sup_error(risk) < 0.3", 0.2, True),
        ("sup_error(overlaps) < 0.3", 0.25, True),
        ("max_sup_error(overlaps) < 0.3", 0.4, False),
        ("diverged() <= 0.25", 0.25, True),
        ("path(half) < 0.36", 0.35, True),
        ("probability(half, k=1) == 0.75", 0.75, True),
        ("probability(half, 0) == 0", 0.0, True),
        ("value(overlaps[1, 0], t=1) == 10", 10.0, True),
        ("value(overlaps[-1, 1], t=0) == 3", 3.0, True),
    ],
)
def test_rules_mean_what_they_say(result, rule, value, passed):
    (outcome,) = expect.evaluate([rule], result)
    assert outcome["rule"] == rule
    assert outcome["value"] == pytest.approx(value)
    assert outcome["passed"] is passed


def test_times_are_rounded_up_to_integers():
    """A run without a number is left out, one that never gets there is not."""
    result = made({"paths": {"half": [2.0, 2.5, 3.0, np.inf, np.nan]}}, TIMES, paths=["half"])
    rules = [f"probability(half, k={k}) == {share}" for k, share in ((2, 0.25), (3, 0.5), (4, 0))]
    assert all(outcome["passed"] for outcome in expect.evaluate(rules, result))
    result = made({"paths": {"half": [2.0, 2.5, np.nan]}}, TIMES, paths=["half"])
    assert expect.evaluate(["path_mean(half) == 2.25"], result)[0]["passed"]


def test_points_that_were_not_run_have_not_diverged_and_not_stayed():
    group = {"code": [[0, 1], [Code.NOT_RUN] * 2], "since": [[np.nan, 0.5], [np.nan] * 2]}
    recorded = np.zeros((2, 3))
    result = made({"codes": group}, TIMES, {"rate": [1, 2]}, recorded, kind="sweep")
    rules = ["diverged() == 0.5", "diverged(rate=1) == 0.5", "diverged(rate=2) == 0"]
    assert [line["passed"] for line in expect.evaluate(rules, result)] == [True, True, False]


def test_realised_limits_are_averaged_over_the_finite_ones():
    limits = np.array([[1.0, 2, 3], [3.0, 4, 5], [2.0, 3, np.nan], [np.nan] * 3])
    result = made({"limit": {"risk": limits}}, TIMES, start="realised")
    outcome = expect.evaluate(["limit(risk, t=0) == 2", "limit(risk) == 4"], result)
    assert [line["passed"] for line in outcome] == [True, True]


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("sup_eror(risk) < 1", "did you mean 'sup_error'"),
        ("sup_error(rsik) < 1", "did you mean 'risk'"),
        ("path(hlaf) < 1", "did you mean 'half'"),
        ("value(risk, t=0.7) < 1", "nearest record is at 0.5"),
        ("value(risk, t=0.496) < 1", "nearest record is at 0.5, the next at 0; allowed"),
        ("value(risk, t='end') < 1", "allowed: a number"),
        ("value(risk, at=1) < 1", "argument 'at'"),
        ("value(risk, 1, 2) < 1", "too many arguments"),
        ("value() < 1", "no statistic"),
        ("quantile(risk, t=1) < 1", "q: None; allowed: the level of the quantile, from 0 to 1"),
        ("quantile(risk, q=1.5) < 1", "q: 1.5; allowed"),
        ("probability(half, k=1.5) < 1", "k: 1.5; allowed: an integer"),
        ("probability(half) < 1", "k: None; allowed: an integer"),
        ("exponent(risk) < 1", "this compare has no exponent; allowed: what it has, runs, mean"),
        ("rise(overlaps) < 1", "rise(overlaps): shape (2, 2); allowed: one entry of it"),
        ("value(overlaps) < 1", "value(overlaps): shape (2, 2); allowed: one entry of it"),
        ("value(overlaps[0, 2]) < 1", "overlaps: [0, 2]; allowed: an entry of shape (2, 2)"),
        ("sup_error(overlaps[0, 0]) < 1", "overlaps: [0, 0]; allowed: an entry of shape ()"),
        ("value(turned) < 1", "value(turned): complex; allowed: real statistics"),
        ("__import__('os') < 1", "function: '__import__'"),
        ("value(risk[x]) < 2", "allowed: a number or a name"),
        ("value(risk['a']) < 2", "integers, such as"),
        ("value(**risk) < 2", "no statistic"),
    ],
)
def test_wrong_rules_are_found_before_the_run(rule, message):
    with pytest.raises(ValueError, match="rule") as caught:
        expect.check([rule], EMPTY)
    assert message in str(caught.value)


def test_a_right_rule_of_every_function_passes_the_check():
    rules = ["rise(risk) < 0", "diverged() == 0", "final(overlaps[0, 1]) > quantile(risk, 0.3)"]
    rules += ["probability(half, 3) < path(half) < path_limit(half) < path_mean(half)"]
    rules += ["smallest(risk) < largest(risk)", "std(risk) < predicted_std(risk)"]
    expect.check(rules, EMPTY)
    # Without numbers no rule holds but that of runs which diverged: there are none.
    passed = [outcome["rule"] for outcome in expect.evaluate(rules, EMPTY) if outcome["passed"]]
    assert passed == ["diverged() == 0"]


def test_a_rise_steps_over_gaps():
    result = made({"limit": {"risk": [1.0, np.nan, 3.0]}}, TIMES)
    assert expect.evaluate(["rise(risk) == 2"], result)[0]["passed"]


def test_what_the_result_does_not_hold_is_an_error(result):
    with pytest.raises(ValueError, match="limit: 'overlaps'; allowed: risk"):
        expect.evaluate(["limit(overlaps[0, 0]) < 1"], result)
    with pytest.raises(ValueError, match="one entry of it"):
        expect.evaluate(["value(overlaps) < 1"], result)
    with pytest.raises(ValueError, match=r"overlaps: \[0, 2\]; allowed: an entry of shape"):
        expect.evaluate(["value(overlaps[0, 2]) < 1"], result)
    with pytest.raises(ValueError, match="this limit has no mean; allowed: what it has, limit"):
        expect.evaluate(["value(risk) < 1"], layout.empty("limit", SHAPES, TIMES))


@pytest.fixture
def swept():
    def stacked(group, name):
        own = [[groups(a * b)[group][name] for a in (1, 2)] for b in (1, 10)]
        return np.array(own)

    points = {
        group: {name: stacked(group, name) for name in variables}
        for group, variables in groups().items()
    }
    axes, recorded = {"loss": ["a", "b"], "rate": [0.1, 0.2]}, np.broadcast_to(RECORDED, (2, 2, 3))
    return made(points, TIMES, axes, recorded, kind="sweep", **OPTIONS)


def test_points_of_a_sweep_are_selected_by_name(swept):
    rules = [
        "value(risk, t=0, rate=0.2, loss='b') == 40",
        "sup_error(overlaps, rate=0.1, loss='b') == 2.5",
        "max_sup_error(overlaps) == 8",
        "max_sup_error(overlaps, loss='a') == 0.8",
        "diverged() == 0.25",
        "diverged(rate=0.1) == 0.25",
    ]
    for outcome in expect.evaluate(rules, swept):
        assert outcome["passed"], outcome


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("value(risk, t=0, rate=0.1) < 1", "loss is missing; allowed: a, b"),
        ("value(risk, t=0, rate=0.15, loss='a') < 1", "rate: 0.15; allowed: 0.1, 0.2"),
        ("value(risk, t=0, rate=0.1, loss='c') < 1", "loss: 'c'"),
        ("value(risk, t=0, raet=0.1, loss='a') < 1", "did you mean 'rate'"),
    ],
)
def test_points_that_were_not_run_are_refused(swept, rule, message):
    with pytest.raises(ValueError, match="rule") as caught:
        expect.evaluate([rule], swept)
    assert message in str(caught.value)


def test_scalings_have_exponents():
    measured = {
        "sup_error": {"risk": [[0.2, 0.4, 0.6], [0.1, 0.2, 0.3]]},
        "exponent": {"risk": -0.5},
        "exponent_interval": {"risk": [-0.6, -0.4]},
        "codes": codes(np.full((2, 3), np.nan)),
    }
    result = made(measured, [], {"dimension": [16, 64]}, kind="scaling")
    rules = [
        "-0.57 <= exponent(risk) <= -0.43",
        "exponent_low(risk) == -0.6",
        "exponent_high(risk) == -0.4",
        "sup_error(risk, dimension=64) == 0.2",
        "diverged() == 0",
    ]
    assert all(outcome["passed"] for outcome in expect.evaluate(rules, result))
    with pytest.raises(ValueError, match="dimension: 32; allowed: 16, 64"):
        expect.evaluate(["sup_error(risk, dimension=32) < 1"], result)
    with pytest.raises(ValueError, match="this scaling has no mean; allowed"):
        expect.evaluate(["value(risk) < 1"], result)
