"""A prediction that needs no computation, for tests of figures and reports."""

import numpy as np

from hdjax.forecast.diagnosis import Verdict
from hdjax.forecast.outcome import Curve, Forecast

TIMES = np.linspace(0, 4, 9)


def forecast(verdict="holds", runs=3):
    """A forecast with the given verdict, with or without runs."""
    curves = {}
    for name in ("train", "test"):
        predicted = np.exp(-TIMES) + 0.1
        own = None if not runs else predicted + 0.01 * np.arange(runs)[:, None]
        spread = 0.02 * np.ones(9) if name == "train" else None
        curves[name] = Curve(name, f"{name} risk", TIMES, predicted, spread, own)
    return Forecast(
        title="SGD on <data>",
        time_label="epochs",
        curves=curves,
        verdicts=[Verdict("size", 1.0, verdict, "because")],
        numbers={"learning rate": 0.5},
        notes=("9 samples",),
        spectrum=(np.array([2.0, 1.0, 0.0]), np.ones(3)),
        settings={"data": "x.csv", "seed": 0},
    )
