"""The verdicts, on data whose outcome is known."""

import numpy as np
import pytest

from hdjax.forecast import diagnosis, squares
from hdjax.forecast.preparation import prepare
from hdjax.forecast.tables import as_table

RNG = np.random.default_rng(0)


def verdicts(features, rate, how="none"):
    labels = np.arange(len(features)) % 2
    data = prepare(as_table(features, labels), standardise=how)
    modes = squares.problems(data)[1]
    return {v.name: v for v in diagnosis.diagnose(data, modes, rate)}


def normal(n=200, d=40):
    return RNG.standard_normal((n, d))


def heavy():
    """Rows of very different lengths."""
    return normal() * np.exp(RNG.standard_normal((200, 1)))


def single():
    """Features that are each present in one sample alone."""
    return np.eye(200)[:, :40] * np.linspace(1, 2, 40) + 0.001 * normal()


@pytest.mark.parametrize(
    ("features", "rate", "name", "verdict"),
    [
        (normal(), 0.5, "row norms", "holds"),
        (normal(), 0.5, "delocalisation", "holds"),
        (normal(), 1.7, "learning rate", "doubtful"),
        (heavy(), 0.5, "row norms", "fails"),
        (heavy(), 0.5, "heavy tails", "fails"),
        (single(), 0.4, "delocalisation", "fails"),
        (1 + normal() / 10, 0.9, "leading directions", "fails"),
        (normal(d=3), 0.5, "size", "doubtful"),
    ],
)
def test_verdicts_on_known_data(features, rate, name, verdict):
    found = verdicts(features, rate)[name]
    assert found.verdict == verdict, found.reason


def test_rows_of_one_norm_are_the_remedy():
    assert verdicts(heavy(), 0.5, "rows")["row norms"].verdict == "holds"


def test_the_worst_verdict_counts():
    parts = [diagnosis.Verdict("a", 0.0, verdict, "") for verdict in ("holds", "fails", "doubtful")]
    assert diagnosis.worst(parts) == "fails"
    assert diagnosis.worst(parts[:1]) == "holds"
