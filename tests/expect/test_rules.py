"""Rules: what they mean, which are refused before the run, and that nothing passes by accident."""

import json

import numpy as np
import pytest

from hdjax import expect
from tests.expect.results import EMPTY


@pytest.mark.parametrize(
    "rule",
    [
        "std(risk, t=1) < 1",
        "std(risk, t=1) != 1",
        "max_sup_error(risk) < 10",
        "path_mean(half) > 0",
        "value(risk, t=0) / 0 > 1",
        "sqrt(-1) < 1",
        "1 < 2 < log(0) + 5",
        "0 ** -1 > 0",
        "10 ** 400 > 1",
    ],
)
def test_what_is_not_finite_never_passes(result, rule):
    (outcome,) = expect.evaluate([rule], result)
    assert outcome["passed"] is False
    json.dumps(outcome, allow_nan=False)


def test_every_wrong_rule_has_a_line():
    with pytest.raises(ValueError, match="rule") as caught:
        expect.check(["rsik < 1", "sup_error(risk) < 1", "value(risk, t=3) < 1"], EMPTY)
    assert len(str(caught.value).splitlines()) == 2


@pytest.mark.parametrize(
    ("rule", "value", "passed"),
    [
        ("-2 ** 2 + 3 * (1 - 0.5) < runs", 4.0, True),
        ("min(runs, sqrt(dimension)) == 4", 4.0, True),
        ("max(1, log(exp(2)), runs) == 4", 4.0, True),
        ("3.14 < pi < 3.15", np.pi, True),
        ("value(risk, t=0.5) > 3 * std(risk, t=0.5) / sqrt(runs)", 1.0, True),
        ("0.9 <= limit(risk, t=0.5) <= 1.2", 1.1, True),
        ("1.2 <= limit(risk, t=0.5) <= 1.5", 1.1, False),
        ("std(risk, t=0.5) / predicted_std(risk, t=0.5) > 0.7", 0.8, True),
        ("abs(path(half) - path_limit(half)) < 0.2", 0.1, True),
    ],
)
def test_rules_mean_what_they_say(result, rule, value, passed):
    (outcome,) = expect.evaluate([rule], result)
    assert outcome["rule"] == rule
    assert outcome["value"] == pytest.approx(value)
    assert outcome["passed"] is passed


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("sup_error(risk)", "compares nothing"),
        ("sup_error(risk) <", "invalid syntax"),
        ("sup_error(risk < 1", "was never closed"),
        ("", "invalid syntax"),
        ("sup_error(risk) is 1", "none of <"),
        ("sup_error(risk) in (1, 2)", "none of <"),
        ("risk < 1", "'risk'"),
        ("dimension < 1", "dimension"),
        ("abs() < 1", "abs"),
        ("sqrt(1, 2) < 1", "sqrt"),
        ("True < 2", "'True'"),
        ("'a' < 'b'", "allowed: numbers"),
        ("risk.__class__ < 1", "allowed: numbers"),
        ("(lambda: 1)() < 2", "allowed: numbers"),
        ("[1][0] < 2", "allowed: numbers"),
        ("1 if 1 else 2 < 3", "compares nothing"),
        ("(" * 500 + "1" + ")" * 500 + " < 2", "nested"),
    ],
)
def test_wrong_rules_are_found_before_the_run(rule, message):
    with pytest.raises(ValueError, match="rule") as caught:
        expect.check([rule], EMPTY)
    assert message in str(caught.value)
