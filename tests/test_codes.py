"""Codes of how runs and limits ended: the numbers of files, and words for readers."""

import pytest

from hdjax.codes import Code


def test_numbers_are_those_of_files():
    """Files hold them: a code may be added, and none may change."""
    expected = {
        "NOT_RUN": -1,
        "FINE": 0,
        "DIVERGED": 1,
        "STEPS_EXHAUSTED": 2,
        "STEP_TOO_SMALL": 3,
        "NO_ROOT": 4,
        "NOT_FINITE": 5,
    }
    assert {code.name: int(code) for code in Code} == expected


@pytest.mark.parametrize("code", Code)
def test_every_code_has_words_and_advice(code):
    assert code.words.replace(" ", "_").upper() == code.name
    assert code.advice.startswith(("it ", "its ", "a statistic of it"))
    assert [other for other in Code if other.advice == code.advice] == [code]


def test_failures_of_solvers_say_what_to_try():
    for code in (Code.DIVERGED, Code.STEPS_EXHAUSTED, Code.STEP_TOO_SMALL, Code.NO_ROOT):
        assert "; try " in code.advice
    assert "max_steps" in Code.STEPS_EXHAUSTED.advice
    assert "learning rate" in Code.DIVERGED.advice
