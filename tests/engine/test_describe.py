"""Results as text: headlines, warnings, tables of each kind, and their width."""

import numpy as np
import pytest

from hdjax.engine.describe import describe
from tests.trees import codes, made, moments

NONE = np.full(3, np.nan)


@pytest.fixture(autouse=True)
def wide(monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")


def cells(text):
    return [line.split() for line in text.splitlines()]


def test_a_comparison_has_a_row_for_each_statistic():
    runs = np.array([[2.0, 1.0], [2.0, 4.0], [2.0, 7.0]])
    groups = moments({"risk": runs}) | {
        "limit": {"risk": [2.0, 3.5]},
        "sup_error": {"risk": [0.25, 0.5, 2.0]},
        "codes": codes(NONE, limit=np.nan),
    }
    text = describe(made(groups, note="a first note\nand another"))
    assert text.splitlines()[0] == "compare of streaming: 3 runs, 2 times in [0, 0.5] (t = k/d)"
    assert cells(text)[2] == ["risk", "4", "3", "3.5", "0.5"]
    assert text.splitlines()[-2:] == ["a first note", "and another"]


def test_a_limit_alone_has_no_numbers_of_runs():
    groups = {"limit": {"risk": [2.0, 3.5]}, "codes": codes(limit=np.nan)}
    text = describe(made(groups, kind="limit", runs=0))
    assert cells(text)[2] == ["risk", "-", "-", "3.5", "-"]


def test_predictions_that_were_asked_for_are_shown():
    groups = {
        "limit": {"risk": [2.0, 3.5]},
        "predicted_mean": {"risk": [2.0, 3.25]},
        "predicted_std": {"risk": [0.5, 0.75]},
        "codes": codes(limit=np.nan),
    }
    text = describe(made(groups, kind="limit", runs=0))
    assert "predicted mean (end)  predicted std (end)" in text
    assert cells(text)[2] == ["risk", "-", "-", "3.5", "3.25", "0.75", "-"]


def test_a_matrix_has_a_row_for_each_of_its_first_entries():
    runs = np.broadcast_to(np.arange(16.0).reshape(4, 4), (3, 2, 4, 4))
    groups = moments({"overlaps": runs}) | {"codes": codes(NONE)}
    text = describe(made(groups, statistics=["overlaps"]))
    lines = text.splitlines()
    assert lines[2].split() == ["overlaps", "(4", "x", "4)", "-"]
    entries = [line for line in lines if line.strip().startswith("[")]
    assert len(entries) == 9
    assert entries[-1].split()[:4] == ["[2,", "0]", "8", "0"]
    assert lines[-1].strip() == "and 7 more"


def test_what_diverged_and_what_is_not_finite_is_told():
    runs = np.array([[1.0, np.nan], [1.0, 2.0], [1.0, 2.0]])
    none = np.full(2, np.nan)
    groups = {
        "runs": {"risk": runs, "cosine": np.full((3, 2), np.nan)},
        "mean": {"risk": [1.0, 2.0], "cosine": none},
        "count": {"risk": [3, 2], "cosine": [0, 0]},
        "codes": codes([0.5, np.nan, np.nan]) | {"alive": [3, 2]},
    }
    told = describe(made(groups, statistics=["risk", "cosine"])).splitlines()[1:3]
    assert told == [
        "1 of 3 kept runs diverged, the first at t = 0.5",
        "cosine is not finite at 2 of 2 times (left out there), the first t = 0",
    ]


def test_a_scaling_has_a_row_for_each_dimension_and_the_exponent():
    groups = {
        "sup_error_median": {"risk": [0.5, 0.25]},
        "exponent": {"risk": -0.5},
        "exponent_interval": {"risk": [-0.625, -0.375]},
        "codes": codes(np.full((2, 3), np.nan)),
    }
    cost = {"compile": [1.0, 1.0], "simulate": [0.25, 1.0], "limit": [0.0, 0.0]}
    cost |= {"memory": [2**20, 2**21]}
    power = dict.fromkeys(cost, (1.0, np.nan, np.nan)) | {"memory": (0.5, 0.25, 0.75)}
    own = {"kind": "scaling", "cost": cost, "cost_exponent": power}
    text = describe(made(groups, [], {"dimension": [16, 64]}, **own))
    assert text.splitlines()[0].endswith("3 runs at each d; medians of the sup error")
    assert cells(text)[1:4] == [
        ["d", "risk", "runs", "(s)", "MiB"],
        ["16", "0.5", "0.25", "1"],
        ["64", "0.25", "1", "2"],
    ]
    assert cells(text)[4:] == [
        ["exponent", "-0.500", "1.00", "0.50"],
        ["95", "%", "interval", "-0.625", "to", "-0.375", "-", "0.25", "to", "0.75"],
    ]


def swept():
    mean = np.arange(12.0).reshape(2, 3, 2)
    groups = {
        "mean": {"risk": mean},
        "limit": {"risk": 2 * mean},
        "codes": codes(np.full((2, 3, 3), np.nan)),
    }
    axes = {"rate": [0.1, 0.2], "start": ["law", "far away from it", "zero"]}
    return made(groups, axes=axes, recorded=np.zeros((2, 3, 2)), kind="sweep")


def test_a_sweep_has_a_row_for_each_point():
    lines = describe(swept()).splitlines()
    assert lines[0].endswith("at each point; values at t = 0.5")
    assert [line.split()[-2:] for line in lines[2:]] == [
        [str(n), str(2 * n)] for n in (1, 3, 5, 7, 9, 11)
    ]
    assert lines[3].startswith("0.1   far away from it  3")


@pytest.mark.parametrize("columns", [30, 42])
def test_no_line_is_wider_than_the_terminal(monkeypatch, columns):
    """Columns that do not fit follow below, each block with the axes in front."""
    monkeypatch.setenv("COLUMNS", str(columns))
    lines = describe(swept()).splitlines()
    assert max(map(len, lines)) <= columns
    heads = [line for line in lines if line.startswith("rate")]
    assert len(heads) == 2
    assert heads[1].split()[-1] in ("limit", "l…")
    below = lines[lines.index(heads[1]) + 1 :]
    assert [line.split()[-1] for line in below] == [str(2 * n) for n in (1, 3, 5, 7, 9, 11)]
