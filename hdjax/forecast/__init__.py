"""Predictions for a user's own data: the curves of SGD before training, and the best numbers.

Start with `predict`.  It reads a table (`tables`), splits and standardises it (`preparation`), says
whether the theory holds for it (`diagnosis`), predicts the curves, checks them by some runs, and
writes a report (`Forecast.save`).
"""

from hdjax.forecast.diagnosis import Verdict
from hdjax.forecast.outcome import Curve, Forecast
from hdjax.forecast.prediction import predict
from hdjax.forecast.preparation import Prepared, prepare
from hdjax.forecast.tables import Table, as_table

__all__ = ["Curve", "Forecast", "Prepared", "Table", "Verdict", "as_table", "predict", "prepare"]
