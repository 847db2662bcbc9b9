"""The prediction of one pass over a user's data: limit, spread, runs and verdicts.

The thresholds of its verdicts were set by the few cases that docs/predict.md lists.
"""

import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hdjax.engine import limit
from hdjax.forecast import streams
from hdjax.forecast.diagnosis import Verdict, judged
from hdjax.forecast.outcome import Curve, Forecast
from hdjax.forecast.preparation import Prepared
from hdjax.schedules import as_schedule
from hdjax.system import NoFluctuationsError

# The state of the limit's spread has some columns^2 d numbers, a tolerable number for one column.
_MOST_COLUMNS = 2


def one_pass(data: Prepared, settings: dict[str, Any], learning_rate: Any) -> Forecast:
    """The prediction of one pass with any loss.

    Args:
        data: the samples.
        settings: the arguments of `predict`.
        learning_rate: gamma, or None.
    """
    _, d = data.train.shape
    heaviest = float(np.sum(data.train**2, axis=1).max())
    rate = 0.25 / heaviest if learning_rate is None else learning_rate
    model = streams.model(data, settings["loss"], rate, settings["measure_share"])
    system, count = model.system, len(model.streamed.rows)
    ticks = np.unique(np.round(count * np.linspace(0, 1, 25) ** 2)).astype(int)
    ts = ticks / d
    spread = system.layout.students < _MOST_COLUMNS
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        try:
            found = limit(system, ts, statistics=["risk"], fluctuations=spread)
        except NoFluctuationsError:
            spread, found = False, limit(system, ts, statistics=["risk"])
    runs = settings["runs"]
    simulated = None
    if runs:
        key = jax.random.key(settings["seed"])
        simulated = np.asarray(streams.orders(model, jnp.asarray(ticks), key, runs))
    own = found.predicted_std["risk"].values if spread else None
    curve = Curve("test", "test risk", ts, found.limit["risk"].values, own, simulated)
    first = float(as_schedule(rate)(0.0))
    notes = (
        f"{len(data.train)} samples of {d} features",
        *data.notes,
        f"the model was measured on {model.measured} samples, and the other {count} are streamed",
        "rows have mean squared norm d, and the step is gamma/d",
    )
    return Forecast(
        title=f"One pass of SGD with the {settings['loss']} loss on {data.source}",
        time_label="t = k/d",
        curves={"test": curve},
        verdicts=diagnose(model, first, heaviest),
        numbers={
            "learning rate": first,
            "the same rate for the standardised features": first / data.scale,
            "test risk at the end": float(curve.predicted[-1]),
        },
        notes=notes,
        spectrum=(
            np.asarray(system.spectrum.eigenvalues),
            np.asarray(system.spectrum.multiplicities),
        ),
        settings=settings | {"learning_rate": first},
    )


def diagnose(model: streams.Model, learning_rate: float, heaviest: float) -> list[Verdict]:
    """The verdicts on one pass.

    Args:
        model: the Gaussian model of the data.
        learning_rate: gamma at the start.
        heaviest: the largest |a_i|^2 over its mean.
    """
    d, system = model.streamed.rows.shape[1], model.system
    verdicts = [
        judged(
            "row norms",
            learning_rate * heaviest,
            1.0,
            2.0,
            "gamma max |a_i|^2/d is",
            "SGD overshoots on long rows; rows of one norm or a lower rate avoid it",
        ),
        judged("size", 20 / d, 1.0, 10.0, "20/d is", f"the limit is for large d, and d = {d}"),
    ]
    counts = np.asarray(system.probabilities) * model.measured
    verdicts.append(
        judged(
            "measured part",
            d / float(counts.min()),
            2.0,
            20.0,
            "features over samples of the smallest class measured is",
            "its mean and covariance are known badly; a larger measure_share helps",
        )
    )
    if len(counts) > 1:
        verdicts.append(
            judged(
                "commuting covariances",
                1 - model.commuting,
                0.5,
                0.9,
                "the share of the class covariances off the common axes is",
                "the classes differ in the directions in which they spread",
            )
        )
    heavy = np.asarray(model.streamed.rows)
    leading = heavy @ np.asarray(system.spectrum.basis)[:, np.argmax(system.spectrum.eigenvalues)]
    kurtosis = float(np.mean((leading - leading.mean()) ** 4) / leading.var() ** 2 - 3)
    verdicts.append(
        judged(
            "Gaussian projections",
            abs(kurtosis),
            3.0,
            30.0,
            "the excess kurtosis along the leading direction is",
            "projections of the features are not Gaussian",
        )
    )
    return verdicts
