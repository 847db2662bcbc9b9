"""Predictions for a user's own data: the curves of SGD before training, and the best numbers.

Start with `predict`.  It reads a table (`tables`), splits and standardises it (`preparation`), says
whether the theory holds for it (`diagnosis`), predicts the curves, checks them by some runs, and
writes a report (`Forecast.save`).  `tune` finds the best rate, schedule, momentum and batch.
"""

from hdjax.forecast.diagnosis import Verdict
from hdjax.forecast.outcome import Curve, Forecast
from hdjax.forecast.prediction import predict
from hdjax.forecast.preparation import Prepared, prepare
from hdjax.forecast.tables import Table, as_table
from hdjax.forecast.tuned import Choice, Tuning
from hdjax.forecast.tuning import tune

__all__ = [
    "Choice",
    "Curve",
    "Forecast",
    "Prepared",
    "Table",
    "Tuning",
    "Verdict",
    "as_table",
    "predict",
    "prepare",
    "tune",
]
