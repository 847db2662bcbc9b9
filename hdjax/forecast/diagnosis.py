"""Diagnosis before trust: what the data say on whether SGD will follow its limit.

Each `Verdict` compares one number with two thresholds.  They were calibrated on data sets and
constructions whose outcome was measured by many runs: `benchmarks/forecast.py` makes the table in
docs/predict.md.  "doubtful" says that means may be 10 % off or more, and "fails" that they may be
off by a factor.
"""

from typing import NamedTuple

import numpy as np

from hdjax.forecast.preparation import Prepared
from hdjax.multipass.analysis import max_learning_rate
from hdjax.multipass.modes import Modes

HOLDS, DOUBTFUL, FAILS = "holds", "doubtful", "fails"
_ORDER = (HOLDS, DOUBTFUL, FAILS)


class Verdict(NamedTuple):
    """A verdict on one assumption of the theory.

    Attributes:
        name: the assumption.
        value: the number that was measured.
        verdict: "holds", "doubtful" or "fails".
        reason: the verdict in words.
    """

    name: str
    value: float
    verdict: str
    reason: str


def worst(verdicts: list[Verdict]) -> str:
    """The worst of some verdicts: "holds", "doubtful" or "fails"."""
    return _ORDER[max(_ORDER.index(verdict.verdict) for verdict in verdicts)]


def judged(
    name: str, value: float, doubtful: float, fails: float, told: str, otherwise: str
) -> Verdict:
    """The verdict on a number that should be small.

    Args:
        name: the assumption.
        value: the number.
        doubtful: the number from which on the assumption is doubtful.
        fails: the number from which on it fails.
        told: what the number is, for the reason.
        otherwise: what happens if it is too large.
    """
    if not value >= doubtful:
        return Verdict(name, value, HOLDS, f"{told} {value:.3g}, below {doubtful:g}")
    found = FAILS if value >= fails else DOUBTFUL
    bound = fails if found == FAILS else doubtful
    return Verdict(name, value, found, f"{told} {value:.3g}, above {bound:g}: {otherwise}")


def diagnose(
    data: Prepared, modes: list[Modes], learning_rate: float, batch_fraction: float | None = None
) -> list[Verdict]:
    """The verdicts on several passes of SGD with the squared loss.

    Args:
        data: the samples.
        modes: the spectrum, with the residuals of each column of targets.
        learning_rate: gamma at the start.
        batch_fraction: the samples of a batch over all samples; None: single samples.
    """
    rows = np.sum(data.train**2, axis=1)
    n, d = data.train.shape
    eigenvalues = np.asarray(modes[0].eigenvalues)
    counts = np.asarray(modes[0].multiplicities)
    top = float(eigenvalues.max())
    verdicts = []
    if batch_fraction is None:
        share = learning_rate / max_learning_rate(modes[0])
        verdicts.append(
            judged(
                "learning rate",
                share,
                0.8,
                1.0,
                "gamma over its largest stable value is",
                "single runs differ widely" if share < 1 else "the loss grows",
            )
        )
        verdicts.append(
            judged(
                "row norms",
                learning_rate * float(rows.max()),
                1.5,
                2.6,
                "gamma max |a_i|^2 is",
                f"SGD overshoots on row {int(rows.argmax())} whenever it is drawn; rows of one "
                "norm (standardise='rows') or a lower rate avoid it",
            )
        )
    found = modes[0].delocalisation
    if found is not None:
        verdicts.append(
            judged(
                "delocalisation",
                learning_rate * float(found) / (2 * np.log(max(n, 2))),
                1.1,
                2.2,
                "gamma n max u_ij^2 over the usual value 2 log n is",
                "singular vectors are concentrated on few samples",
            )
        )
    kurtosis = float(np.mean(rows**2) / np.mean(rows) ** 2)
    verdicts.append(
        judged(
            "heavy tails",
            learning_rate * (kurtosis - 1),
            0.18,
            0.5,
            "gamma times the excess kurtosis of the rows is",
            "few long rows carry much of the gradient",
        )
    )
    verdicts.append(
        judged(
            "leading directions",
            learning_rate * top / n if batch_fraction is None else top / n,
            0.3,
            0.7,
            "the step times the leading eigenvalue over n is",
            "one direction holds much of the features, and runs differ widely in it",
        )
    )
    verdicts.append(
        judged(
            "size",
            20 / min(n, d),
            6.0,
            20.0,
            "20 over min(n, d) is",
            f"the theory is for large n and d, and here min(n, d) = {min(n, d)}",
        )
    )
    floor = sum(float(m.floor) for m in modes)
    start = sum(float(m.mean_loss(m.residuals)) for m in modes)
    positive = eigenvalues[(eigenvalues > 1e-10 * top) & (counts > 0)]
    verdicts.append(
        Verdict(
            "label noise",
            floor / start,
            HOLDS,
            f"{d} features cannot fit {100 * floor / start:.3g} % of the loss at the start",
        )
    )
    condition = float(top / positive.min())
    verdicts.append(
        Verdict(
            "conditioning",
            condition,
            HOLDS,
            f"largest over smallest eigenvalue {condition:.3g}: the slowest direction takes some "
            f"{n / (2 * learning_rate * positive.min() * n):.3g} epochs",
        )
    )
    verdicts.append(Verdict("n/d", n / d, HOLDS, f"n/d = {n / d:.3g} (n = {n}, d = {d})"))
    return verdicts
