"""Gains, and the files of a tuning."""

import json

import numpy as np
import pytest

from hdjax.forecast.tuned import Choice, Tuning

KNOTS = np.array([0.0, 1.0, 2.0])


def tuning(runs=True):
    """A tuning with made-up numbers."""
    choices = []
    for name, risk in (("default rate", 0.3), ("best constant rate", 0.2), ("best schedule", 0.1)):
        ends = risk + 0.01 * np.array([-1.0, 0.0, 1.0, 2.0]) if runs else None
        choices.append(Choice(name, risk, KNOTS, np.array([0.5, 0.2, 0.1]), runs=ends))
    choices.append(Choice("batch 4 with momentum", 0.2, KNOTS, np.ones(3), batch=4, momentum=0.5))
    return Tuning("a title", choices, 4, 2.0, ("9 samples",), 4 if runs else 0)


def test_gains_are_differences_of_paired_runs():
    gain = tuning().gain("best schedule", "default rate")
    assert gain.predicted == pytest.approx(0.2)
    assert gain.measured == pytest.approx(0.2)
    assert gain.error == pytest.approx(0, abs=1e-12)
    assert tuning(runs=False).gain("best schedule", "default rate").measured is None


def test_text_and_files(tmp_path):
    found = tuning()
    assert "no batch up to 4 loses" in str(found)
    page = found.save(tmp_path / "out").read_text()
    assert "best schedule over default rate: predicted gain 0.2" in page
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["gains"]["best schedule over best constant rate"]["predicted"] == pytest.approx(
        0.1
    )
