"""`predict`: the training and test curves of SGD on a user's data, before training."""

import warnings
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np

from hdjax.checks import checked
from hdjax.engine import Result, limit, sweep
from hdjax.forecast import diagnosis, squares
from hdjax.forecast.onepass import one_pass
from hdjax.forecast.outcome import Curve, Forecast
from hdjax.forecast.preparation import Prepared, prepare
from hdjax.forecast.tables import as_table
from hdjax.forecast.tangent import of_network
from hdjax.multipass import analysis, rates
from hdjax.registry import Count, NonNegativeFloat, OneOf, PositiveFloat, Size
from hdjax.system import NoFluctuationsError

__all__ = ["ALGORITHMS", "LOSSES", "predict"]

LOSSES = ("squared", "logistic", "softmax", "huber")
ALGORITHMS = ("sgd", "momentum", "one-pass")
_LABELS = {"train": "training loss per sample", "test": "test risk"}


@checked
def predict(
    features: Any = None,
    labels: Any = None,
    *,
    network: Any = None,
    inputs: Any = None,
    layer: Callable | None = None,
    loss: Annotated[str, OneOf(*LOSSES)] = "squared",
    algorithm: Annotated[str, OneOf(*ALGORITHMS)] | None = None,
    learning_rate: Any = None,
    epochs: PositiveFloat | None = None,
    batch: Size = 1,
    momentum: NonNegativeFloat = 0.0,
    ridge: NonNegativeFloat | None = None,
    measure_share: float = 0.5,
    test_share: float = 0.2,
    samples: Size | None = None,
    standardise: str | None = None,
    random_features: Size | None = None,
    classes: Sequence[Any] | None = None,
    runs: Count = 8,
    seed: Count = 0,
) -> Forecast:
    """Predict the curves of SGD on given data, diagnose the prediction, and check it by some runs.

    Args:
        features: an array (n, ...), a data frame, a path, or the name of a shipped data set.
        labels: an array (n,), or where the labels are: see `hdjax.forecast.tables.as_table`.
        network: instead of `features`, a function of one input, such as an Equinox module.
        inputs: the inputs (n, ...) of the network.
        layer: `layer(network, x)` gives the features of an input, such as the activations of the
            last hidden layer, which are frozen; None: the whole network is trained, its output is a
            scalar, and the prediction is that of its linearisation at the start.
        loss: "squared"; for one pass also "softmax", "logistic" (two classes) and "huber".
        algorithm: "sgd" (several passes), "momentum" (several passes, with momentum), "one-pass";
            None: "sgd" for the squared loss, "one-pass" for others.
        learning_rate: gamma, a number or a schedule.  Several passes: for rows of mean squared norm
            1; None: half of the largest stable rate, at most 1 over the largest |a_i|^2.  One pass:
            the step is gamma/d for rows of mean squared norm d; None: d/4 over the largest.
        epochs: how long several passes last; None: 10.
        batch: the number of samples of a batch, over which gradients are summed.
        momentum: Delta in [0, 1).
        ridge: delta of the penalty delta/2 |X|^2 on the sum of losses; None: none.
        measure_share: for one pass, the share of the training samples on which the Gaussian model
            is measured; the others are streamed.
        test_share: the share of the samples that SGD does not train on.
        samples: as for `hdjax.forecast.preparation.prepare`.
        standardise: likewise.
        random_features: likewise.
        classes: likewise.
        runs: the number of runs that are simulated; 0: none.
        seed: seed of the split, of the random features and of the runs.

    Raises:
        ValueError, TypeError: what is wrong, with its argument, column or row.

    Example:
        >>> forecast = hd.predict("wine", epochs=2.0, runs=0)
        >>> sorted(forecast.curves)
        ['test', 'train']
    """
    whole = network is not None and layer is None
    if network is not None:
        if features is not None or inputs is None:
            raise ValueError("inputs: None, or features given too; allowed with a network: inputs")
        inputs = jnp.asarray(inputs)
        features = inputs if layer is None else jax.vmap(lambda x: layer(network, x))(inputs)
    elif features is None:
        raise ValueError("features: None; allowed without a network: an array, a table or a path")
    if whole and standardise not in (None, "none"):
        raise ValueError(f"standardise: {standardise!r}; allowed with a whole network: 'none'")
    table = as_table(features, labels)
    data = prepare(
        table,
        test_share=test_share,
        samples=samples,
        standardise="none" if whole else standardise,
        random_features=random_features,
        classes=classes,
        seed=seed,
    )
    algorithm = algorithm or ("sgd" if loss == "squared" else "one-pass")
    if loss != "squared" and algorithm != "one-pass":
        raise ValueError(f"algorithm: {algorithm!r} with loss={loss!r}; allowed: 'one-pass'")
    if algorithm == "one-pass":
        several = {"epochs": epochs, "batch": batch - 1, "momentum": momentum, "ridge": ridge}
        given = [name for name, value in several.items() if value]
        if given:
            raise ValueError(f"{given[0]}: given; allowed with several passes, not with 'one-pass'")
    epochs = 10.0 if epochs is None else epochs
    settings = {
        "data": data.source,
        "target": labels if isinstance(labels, str) else None,
        "loss": loss,
        "algorithm": algorithm,
        "epochs": epochs,
        "batch": batch,
        "momentum": momentum,
        "ridge": ridge,
        "measure_share": measure_share,
        "test_share": test_share,
        "samples": samples,
        "standardise": standardise,
        "random_features": random_features,
        "classes": None if classes is None else [str(group) for group in classes],
        "runs": runs,
        "seed": seed,
    }
    if whole:
        if algorithm != "sgd" or batch != 1 or ridge is not None:
            raise ValueError("algorithm, batch, ridge: allowed with a whole network: plain SGD")
        settings["learning_rate"] = learning_rate
        return of_network(network, inputs.shape[1:], data, settings, records(epochs))
    if algorithm == "one-pass":
        return one_pass(data, settings, learning_rate)
    return squared(data, settings, learning_rate)


def squared(data: Prepared, settings: dict[str, Any], learning_rate: Any) -> Forecast:
    """The prediction of several passes with the squared loss.

    Args:
        data: the samples.
        settings: the arguments of `predict`.
        learning_rate: gamma, or None.
    """
    batch, momentum = settings["batch"], settings["momentum"]
    if momentum and settings["algorithm"] != "momentum":
        raise ValueError(f"momentum: {momentum}; allowed with algorithm='momentum'")
    n = len(data.train)
    if not 1 <= batch <= n:
        raise ValueError(f"batch: {batch}; allowed: 1 to n = {n}")
    problems, modes = squares.problems(data)
    plain = batch == 1 and momentum == 0
    largest = _largest(modes[0], batch, momentum)
    heaviest = float(np.max(np.sum(data.train**2, axis=1)))
    if learning_rate is None:
        learning_rate = min(largest / 2, 1 / heaviest) if plain else largest / 2
    systems = [
        squares.system(
            problem,
            own,
            learning_rate,
            batch=batch,
            momentum=momentum,
            ridge=settings["ridge"],
        )
        for problem, own in zip(problems, modes, strict=True)
    ]
    first = float(systems[0].learning_rate(0.0))
    if first >= largest and settings["ridge"] is None:
        raise ValueError(
            f"learning_rate: {first:.4g}; allowed: below {largest:.4g}, where the loss grows"
        )
    verdicts = diagnosis.diagnose(data, modes, first, None if plain else batch / n)
    epochs = records(settings["epochs"])
    ts = epochs if plain else np.unique(np.round(epochs * n / batch))
    curves = _curves(systems, ts, settings, 1.0 if plain else batch / n)
    numbers = {
        "learning rate": first,
        "largest stable learning rate": largest,
        "the same rate for the standardised features": first / data.scale,
        "test risk at the end": float(curves["test"].predicted[-1]),
    }
    positive = modes[0].eigenvalues > 1e-10 * modes[0].eigenvalues.max()
    if bool(positive.all()):
        numbers["batch at which larger ones gain nothing"] = max(
            1.0, round(n * rates.saturating_fraction(modes[0]))
        )
    return Forecast(
        title=f"Least squares by {'SGD' if plain else 'SGD with momentum'} on {data.source}",
        time_label="epochs",
        curves=curves,
        verdicts=verdicts,
        numbers=numbers,
        notes=(f"{n} samples of {data.train.shape[1]} features", *data.notes),
        spectrum=(np.asarray(modes[0].eigenvalues), np.asarray(modes[0].multiplicities)),
        settings=settings | {"learning_rate": first},
    )


def records(epochs: float) -> np.ndarray:
    """The times of the records: denser at the beginning, where curves are steep."""
    whole = [t for t in (1.0, 2.0, 5.0, 10.0) if t <= epochs]
    return np.unique(np.concatenate([epochs * np.linspace(0, 1, 33) ** 2, whole]).round(6))


def _largest(modes: Any, batch: int, momentum: float) -> float:
    """The largest stable learning rate, by bisection where momentum or batches matter."""
    if batch == 1 and momentum == 0:
        return analysis.max_learning_rate(modes)
    fraction = batch / float(modes.samples)
    low, high = 0.0, 2 * (1 + momentum) / (fraction * float(modes.eigenvalues.max()))
    for _ in range(40):
        middle = (low + high) / 2
        stable = rates.is_stable(modes, middle, fraction, momentum)
        low, high = (middle, high) if stable else (low, middle)
    return low


def _curves(
    systems: list, ts: np.ndarray, settings: dict[str, Any], unit: float
) -> dict[str, Curve]:
    """The curves of the sums over columns of targets; `unit` is the number of epochs of a time."""
    runs, single = settings["runs"], len(systems) == 1
    with warnings.catch_warnings():
        # The verdicts say the same, with their reasons.
        warnings.simplefilter("ignore", UserWarning)
        if runs:
            found = sweep(
                lambda column: systems[column],
                {"column": list(range(len(systems)))},
                ts,
                key=jax.random.key(settings["seed"]),
                runs=runs,
                fluctuations=None if single else False,
                progress=False,
            )
            parts = [found]
        else:
            parts = [_limit(system, ts, single) for system in systems]

    def summed(group: str, name: str) -> np.ndarray | None:
        arrays = [getattr(part, group)[name].values for part in parts if _has(part, group)]
        if not arrays:
            return None
        return arrays[0].sum(axis=0) if runs else np.sum(arrays, axis=0)

    def curve(name: str, own: str) -> Curve:
        spread = summed("predicted_std", own) if single else None
        spread = None if spread is None or not np.isfinite(spread[1:]).any() else spread
        predicted, simulated = summed("limit", own), summed("runs", own)
        assert predicted is not None
        return Curve(name, _LABELS[name], ts * unit, predicted, spread, simulated)

    return {"train": curve("train", "loss"), "test": curve("test", "test")}


def _limit(system: Any, ts: np.ndarray, spread: bool) -> Result:
    try:
        return limit(system, ts, fluctuations=spread)
    except NoFluctuationsError:
        return limit(system, ts)


def _has(result: Result, group: str) -> bool:
    return group in result.tree.children
