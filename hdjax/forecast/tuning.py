"""`tune`: the best rate, schedule, momentum and batch for a user's data, by gradients of limits.

The risk at the end of a budget is a function of the learning rates, whose gradient is that of the
limit.  L-BFGS descends in the logarithms of the rates.  Rates are kept below 1.4 over the largest
|a_i|^2 and 0.9 of the largest stable rate, where the limit describes SGD.  Its gains are predicted,
and then verified by runs that draw the same samples.
"""

import warnings
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import scipy
from jaxtyping import Array, Float

from hdjax.checks import checked
from hdjax.engine import sweep
from hdjax.forecast import squares
from hdjax.forecast.preparation import prepare
from hdjax.forecast.tables import as_table
from hdjax.forecast.tuned import Choice, Tuning
from hdjax.multipass import MomentumSGD, MultiPassSGD, analysis
from hdjax.multipass.modes import Modes
from hdjax.registry import Count, OneOf, PositiveFloat, Size
from hdjax.schedules import Table

__all__ = ["tune"]

_STATISTICS = {"train": "loss", "test": "test"}
# The shares of the largest stable rate, and of 1 over the heaviest row, that rates stay below.
_STABLE, _HEAVIEST = 0.9, 1.4
# A batch saturates where the best risk at the same number of samples is worse by this factor.
_SATURATED = 1.05
_ITERATIONS = 60


@checked
def tune(
    features: Any,
    labels: Any = None,
    *,
    epochs: PositiveFloat = 10.0,
    objective: Annotated[str, OneOf(*_STATISTICS)] = "test",
    pieces: Size = 6,
    batches: Sequence[int] | None = None,
    test_share: float = 0.2,
    samples: int | None = None,
    standardise: str | None = None,
    random_features: int | None = None,
    classes: Sequence[Any] | None = None,
    runs: Count = 100,
    seed: Count = 0,
) -> Tuning:
    """Find the best numbers of SGD with the squared loss for a budget of epochs.

    Args:
        features: as for `predict`.
        labels: as for `predict`.
        epochs: the budget.
        objective: "test" or "train", the risk at the end of the budget that is minimised.
        pieces: the number of intervals of the schedule, which is linear in each of them.
        batches: the batch sizes that are tried with momentum; None: 1, 4, 16, ... up to n/2.
        test_share: as for `predict`.
        samples: as for `predict`.
        standardise: as for `predict`.
        random_features: as for `predict`.
        classes: as for `predict`.
        runs: the number of runs that verify the gains; 0: none.
        seed: as for `predict`.

    Raises:
        ValueError, TypeError: what is wrong, with its argument, column or row.

    Example:
        >>> tuning = hd.tune("diabetes", epochs=2.0, pieces=2, batches=[4], runs=0)
        >>> tuning["best schedule"].risk <= tuning["best constant rate"].risk
        True
    """
    data = prepare(
        as_table(features, labels),
        test_share=test_share,
        samples=samples,
        standardise=standardise,
        random_features=random_features,
        classes=classes,
        seed=seed,
    )
    problems, own = squares.problems(data)
    modes, n = squares.combined(own), len(data.train)
    statistic = _STATISTICS[objective]
    heaviest = float(np.sum(data.train**2, axis=1).max())
    largest = min(_STABLE * analysis.max_learning_rate(modes), _HEAVIEST / heaviest)
    knots = np.linspace(0, epochs, pieces + 1)
    risk = _risk_of_rates(modes, knots, statistic)

    def tied(log_rate: np.ndarray) -> tuple[float, np.ndarray]:
        value, slope = risk(np.full(pieces + 1, log_rate[0]))
        return value, slope.sum(keepdims=True)

    default = min(largest / 2, 1 / heaviest)
    bounds = np.log([largest / 1e5, largest])
    ones = np.ones(pieces + 1)
    constant, best_constant = descend(tied, np.log([default]), bounds)
    scheduled, best_schedule = descend(risk, constant * ones, bounds)
    plain = Choice("default rate", risk(np.log(default) * ones)[0], knots, default * ones)
    choices = [
        plain,
        Choice("best constant rate", best_constant, knots, np.exp(constant) * ones),
        Choice("best schedule", best_schedule, knots, np.exp(scheduled)),
    ]
    if runs:
        choices = _verified(choices, problems, own, statistic, runs, seed)
    sizes = _sizes(n) if batches is None else list(batches)
    with_momentum = [_with_momentum(modes, size, epochs, statistic) for size in sizes]
    return Tuning(
        title=f"Best numbers for {objective} risk after {epochs:g} epochs on {data.source}",
        choices=choices + with_momentum,
        saturating_batch=_saturating(with_momentum),
        scale=data.scale,
        notes=(f"{n} samples of {data.train.shape[1]} features", *data.notes),
        runs=runs,
    )


def descend(
    risk: Callable[[np.ndarray], tuple[float, np.ndarray]], start: np.ndarray, bounds: Any
) -> tuple[np.ndarray, float]:
    """The point and the value at the local minimum of a risk that L-BFGS finds from `start`.

    Args:
        risk: a function of (k,) parameters with its gradient; not finite where a limit diverges.
        start: (k,) parameters.
        bounds: (2,) bounds of each parameter, or (k, 2).
    """
    first = risk(start)[0]

    def called(x: np.ndarray) -> tuple[float, np.ndarray]:
        value, slope = risk(x)
        bad = not (np.isfinite(value) and np.isfinite(slope).all())
        return (2 * abs(first) + 1, np.zeros_like(x)) if bad else (value, slope)

    found = scipy.optimize.minimize(
        called,
        start,
        jac=True,
        method="L-BFGS-B",
        bounds=np.broadcast_to(bounds, (len(start), 2)),
        options={"maxiter": _ITERATIONS, "ftol": 1e-9},
    )
    return found.x, float(found.fun)


def _risk_of_rates(modes: Modes, knots: np.ndarray, statistic: str) -> Callable:
    """The risk at the last knot, and its gradient, as a function of the logarithms of the rates."""
    system = MultiPassSGD(None, Table(knots, np.ones_like(knots)), modes=modes)
    ts = jnp.asarray([0.0, knots[-1]])

    @jax.jit
    @jax.value_and_grad
    def risk(logarithms: Float[Array, " k"]) -> Float[Array, ""]:
        own = eqx.tree_at(lambda s: s.learning_rate.values, system, jnp.exp(logarithms))
        return own.limit(ts, save=lambda values: values[statistic]).values[-1]

    def called(logarithms: np.ndarray) -> tuple[float, np.ndarray]:
        value, slope = risk(jnp.asarray(logarithms))
        return float(value), np.asarray(slope, np.float64)

    return called


def _with_momentum(modes: Modes, batch: int, epochs: float, statistic: str) -> Choice:
    """The best constant rate and momentum with batches of a given size."""
    n = float(modes.samples)
    if not 1 <= batch <= n:
        raise ValueError(f"batches: {batch}; allowed: 1 to n = {n:.0f}")
    ts = jnp.asarray([0.0, round(epochs * n / batch)])
    fraction = batch / n
    start = 1 / (fraction * float(modes.eigenvalues.max()) + 1)
    system = MomentumSGD(None, start, batch_fraction=fraction, momentum=0.1, modes=modes)
    value_and_slope = _momentum_program(statistic)

    def called(point: np.ndarray) -> tuple[float, np.ndarray]:
        value, slope = value_and_slope(system, ts, jnp.asarray(point))
        return float(value), np.asarray(slope, np.float64)

    found, risk = descend(called, np.array([np.log(start), -2.0]), [(-14.0, 6.0), (-7.0, 7.0)])
    rate, momentum = np.exp(found[0]), 1 / (1 + np.exp(-found[1]))
    return Choice(
        f"batch {batch} with momentum",
        risk,
        np.array([0.0, epochs]),
        np.full(2, rate),
        batch=batch,
        momentum=float(momentum),
    )


def _momentum_program(statistic: str) -> Callable:
    """The risk at the last time and its gradient in (log rate, logit of the momentum)."""

    def risk(point: Float[Array, " 2"], system: MomentumSGD, ts: Array) -> Float[Array, ""]:
        numbers = jnp.exp(point[0]), jax.nn.sigmoid(point[1])
        own = eqx.tree_at(lambda s: (s.learning_rate.value, s.momentum), system, numbers)
        return own.limit(ts, save=lambda values: values[statistic]).values[-1]

    @eqx.filter_jit
    def value_and_slope(system: MomentumSGD, ts: Array, point: Array) -> tuple[Array, Array]:
        return risk(point, system, ts), jax.jacfwd(risk)(point, system, ts)

    return value_and_slope


def _sizes(n: int) -> list[int]:
    """Batch sizes 1, 4, 16, ... up to n/2."""
    return [4**k for k in range(12) if 4**k <= n / 2]


def _saturating(choices: list[Choice]) -> int | None:
    """The largest batch that loses at most 5 % of the best risk at the same number of samples."""
    if not choices:
        return None
    best = min(choice.risk for choice in choices)
    return max(choice.batch for choice in choices if choice.risk <= _SATURATED * best)


def _verified(
    choices: list[Choice],
    problems: list,
    modes: list[Modes],
    statistic: str,
    runs: int,
    seed: int,
) -> list[Choice]:
    """The choices with the risks of runs at the end; run r draws the same samples for all."""

    def system(choice: int, column: int) -> MultiPassSGD:
        own = choices[choice]
        return MultiPassSGD(problems[column], Table(own.knots, own.rates), modes=modes[column])

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        found = sweep(
            system,
            {"choice": list(range(len(choices))), "column": list(range(len(problems)))},
            choices[0].knots[[0, -1]],
            key=jax.random.key(seed),
            runs=runs,
            start=None,
            statistics=[statistic],
            progress=False,
        )
    ends = found.runs[statistic].values[..., -1].sum(axis=1)
    return [own._replace(runs=values) for own, values in zip(choices, ends, strict=True)]
