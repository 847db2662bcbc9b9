"""One pass over a user's data with any loss: a Gaussian model is measured, and its limit taken.

A part of the training samples is used to measure the model, and the rest is streamed.

- Classes (softmax, and logistic for two classes) become a Gaussian mixture: the shares, means and
  covariances of the classes.  Covariances of the model commute: those of the classes are replaced
  by their diagonals in the eigenbasis of the covariance within classes.
- Numbers (squared and Huber's loss) become Gaussian features with a linear teacher, found by
  regularised regression, and label noise of one or two Gaussian parts, fitted to its residuals.

Rows have mean squared norm d, gamma = O(1), the step is gamma/d, and t = k/d.  Runs stream the rows
themselves with their own labels, in random orders, and their risk is that of the test samples.
"""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import scipy
from jaxtyping import Array, Float, Int, Key

from hdjax import gaussian, precise, random, spectra
from hdjax.forecast.preparation import Prepared
from hdjax.integrate import Integrator
from hdjax.random import Stream
from hdjax.schedules import as_schedule
from hdjax.spectra import Spectrum
from hdjax.streaming import Mixture, OnePassSGD
from hdjax.streaming.losses import (
    ComponentLogistic,
    Huber,
    LeastSquares,
    Loss,
    MixtureSoftmax,
)

# The rule and the tolerances for several classes: a third digit is beyond what a model of data has.
_RULE, _TOLERANCES = gaussian.QMC(11), Integrator(rtol=1e-3, atol=1e-5)
# The ridge of the teacher's regression, in units of the mean eigenvalue of the covariance.
_RIDGE = 0.01


class Samples(NamedTuple):
    """Samples as a loss sees them.

    Attributes:
        rows: (n, d) with mean squared norm d.
        component: (n,) the class of each sample; 0 for numbers.
        noise: (n, k) the label noise of each sample: its label less the teacher's.
    """

    rows: Float[Array, "n d"]
    component: Int[Array, " n"]
    noise: Float[Array, "n k"]


class Model(NamedTuple):
    """A Gaussian model of data, with the samples to stream and to test with.

    Attributes:
        system: one-pass SGD on the model.
        teacher: (d, s) the teacher columns.
        streamed: the samples that runs stream.
        test: the samples on which runs are tested.
        measured: the number of samples that the model was measured on.
        commuting: the share of the class covariances that their diagonals hold; 1 for numbers.
    """

    system: OnePassSGD
    teacher: Float[Array, "d s"]
    streamed: Samples
    test: Samples
    measured: int
    commuting: float


def model(data: Prepared, loss: str, learning_rate: Any, share: float) -> Model:
    """The Gaussian model of data for a loss.

    Args:
        data: the samples.
        loss: "squared", "logistic", "softmax" or "huber".
        learning_rate: gamma, a number or a schedule.
        share: the share of the training samples that the model is measured on.

    Raises:
        ValueError: a loss that does not suit the labels, or too few samples.
    """
    classified = loss in ("logistic", "softmax")
    if classified != bool(data.classes):
        kind = "classes" if data.classes else "numbers"
        rule = "'logistic', 'softmax' with classes, 'squared', 'huber' with numbers"
        raise ValueError(f"loss: {loss!r} with labels that are {kind}; allowed: {rule}")
    if loss == "logistic" and len(data.classes) != 2:
        raise ValueError(f"loss: 'logistic' with {len(data.classes)} classes; allowed: 2")
    if not 0 < share < 1:
        raise ValueError(f"measure_share: {share}; allowed: above 0 and below 1")
    n, d = data.train.shape
    measured = round(share * n)
    if measured < 4 or n - measured < 1:
        raise ValueError(f"measure_share: {share}, {measured} samples; allowed: at least 4")
    rows, others = (jnp.asarray(part * d**0.5) for part in (data.train, data.test))
    if classified:
        return _mixture(data, loss, learning_rate, rows, others, measured)
    return _regression(data, loss, learning_rate, rows, others, measured)


def _mixture(
    data: Prepared, loss: str, learning_rate: Any, rows: Array, others: Array, measured: int
) -> Model:
    own, labels = np.asarray(rows[:measured]), np.asarray(data.train_labels[:measured])
    count, d = len(data.classes), own.shape[1]
    counts = np.bincount(labels, minlength=count)
    if counts.min() < 2:
        raise ValueError(
            f"class {data.classes[counts.argmin()]!r}: {counts.min()} samples to measure it on; "
            "allowed: at least 2 (more samples, or a larger measure_share)"
        )
    means = np.stack([own[labels == c].mean(axis=0) for c in range(count)])
    around = own - means[labels]
    spectrum = spectra.from_covariance(around.T @ around / (measured - count))
    turned = around @ np.asarray(spectrum.basis)
    covariances = [
        turned[labels == c].T @ turned[labels == c] / (counts[c] - 1) for c in range(count)
    ]
    diagonals = np.stack([np.diag(covariance) for covariance in covariances])
    whole = sum(np.sum(covariance**2) for covariance in covariances)
    mixture = Mixture(counts / measured, jnp.asarray(means.T), _by_groups(spectrum, diagonals))
    columns = 1 if loss == "logistic" else count
    kind: Loss = (
        ComponentLogistic([0.0, 1.0])
        if loss == "logistic"
        else MixtureSoftmax(count, rule=_RULE if count > 3 else None)
    )
    system = OnePassSGD(
        kind,
        spectrum,
        learning_rate,
        jnp.zeros((d, columns)),
        mixture=mixture,
        integrator=_TOLERANCES,
    )

    def samples(part: Array, labels: np.ndarray) -> Samples:
        return Samples(part, jnp.asarray(labels), jnp.zeros((len(labels), 0)))

    return Model(
        system=system,
        teacher=jnp.zeros((d, 0)),
        streamed=samples(rows[measured:], data.train_labels[measured:]),
        test=samples(others, data.test_labels),
        measured=measured,
        commuting=float(np.sum(diagonals**2) / whole),
    )


def _by_groups(spectrum: Spectrum, diagonals: np.ndarray) -> np.ndarray:
    """Values (c, d) of the coordinates, as means over the groups of a spectrum (c, g)."""
    groups = np.asarray(spectrum.groups)
    counts = np.bincount(groups)
    return np.stack([np.bincount(groups, own) / counts for own in diagonals])


def _regression(
    data: Prepared, loss: str, learning_rate: Any, rows: Array, others: Array, measured: int
) -> Model:
    own, labels = np.asarray(rows[:measured]), data.train_targets[:measured, 0]
    d = own.shape[1]
    covariance = own.T @ own / measured
    weights = np.ones(measured)
    teacher = np.zeros(d)
    # Iteratively reweighted least squares: Huber's regression, which outliers do not lead astray.
    for _ in range(50 if loss == "huber" else 1):
        weighed = own * weights[:, None]
        ridge = _RIDGE * np.trace(covariance) / d * np.eye(d)
        teacher = np.linalg.solve(weighed.T @ own / measured + ridge, weighed.T @ labels / measured)
        gaps = np.abs(labels - own @ teacher)
        weights = np.minimum(1, _width(gaps) / np.maximum(gaps, 1e-12))
    residuals = labels - own @ teacher
    # The regression has fitted some of the noise of the samples it was found on.
    residuals = residuals / np.sqrt(max(1 - d / measured, 0.1))
    kind: Loss
    if loss == "huber":
        sigma, probabilities = two_parts(residuals)
        kind = Huber(delta=_width(np.abs(residuals)), sigma=sigma, probabilities=probabilities)
    else:
        kind = LeastSquares(sigma=float(residuals.std()))
    system = OnePassSGD(
        kind,
        spectra.from_covariance(covariance),
        learning_rate,
        jnp.zeros((d, 1)),
        jnp.asarray(teacher[:, None]),
    )
    column = jnp.asarray(teacher[:, None])

    def samples(part: Array, targets: np.ndarray) -> Samples:
        noise = jnp.asarray(targets) - precise.dot(part, column)
        return Samples(part, jnp.zeros(len(part), jnp.int32), noise)

    return Model(
        system=system,
        teacher=column,
        streamed=samples(rows[measured:], data.train_targets[measured:]),
        test=samples(others, data.test_targets),
        measured=measured,
        commuting=1.0,
    )


def _width(gaps: np.ndarray) -> float:
    """Huber's delta: 1.345 robust standard deviations of the residuals."""
    return float(1.345 * np.median(gaps) / scipy.stats.norm.ppf(0.75))


def two_parts(residuals: np.ndarray) -> tuple[list[float], list[float]]:
    """The standard deviations and shares of two centred Gaussian parts of a sample, by EM.

    Args:
        residuals: (n,) numbers.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> sample = np.append(rng.standard_normal(900), 10 * rng.standard_normal(100))
        >>> sigma, shares = two_parts(sample)
        >>> abs(sigma[1] - 10) < 1.5 and abs(shares[1] - 0.1) < 0.03
        True
    """
    squares = residuals**2
    narrow = (np.median(np.abs(residuals)) / scipy.stats.norm.ppf(0.75)) ** 2
    variances, shares = np.array([narrow, 9 * squares.mean()]), np.array([0.9, 0.1])
    for _ in range(200):
        logs = np.log(shares) - np.log(variances) / 2 - squares[:, None] / (2 * variances)
        parts = scipy.special.softmax(logs, axis=1)
        shares = np.maximum(parts.mean(axis=0), 1e-6)
        shares = shares / shares.sum()
        variances = np.maximum(parts.T @ squares / np.maximum(parts.sum(axis=0), 1e-12), 1e-12)
    return [float(x) for x in np.sqrt(variances)], [float(x) for x in shares]


@eqx.filter_jit
def orders(
    model: Model, ticks: Int[Array, " times"], key: Key[Array, ""], runs: int
) -> Float[Array, "runs times"]:
    """The test risk of SGD after `ticks` steps, for random orders of the streamed samples.

    Args:
        model: the model, with its samples.
        ticks: (times,) increasing numbers of steps, at most the number of streamed samples.
        key: the key of the orders.
        runs: the number of orders.
    """
    system, streamed, test = model.system, model.streamed, model.test
    loss, rate, (n, d) = system.loss, as_schedule(system.learning_rate), streamed.rows.shape
    start = jnp.zeros((d, system.layout.students), streamed.rows.dtype)

    def risk(x: Float[Array, "d m"]) -> Float[Array, ""]:
        projected = precise.dot(test.rows, x), precise.dot(test.rows, model.teacher)
        own = jax.vmap(lambda u, v, c, e: loss(u, v, c, e, None))
        return own(*projected, test.component, test.noise).mean()

    def run(own: Key[Array, ""]) -> Float[Array, " times"]:
        order = jax.random.permutation(random.stream(own, Stream.ORDER), n)

        def step(k: Int[Array, ""], x: Float[Array, "d m"]) -> Float[Array, "d m"]:
            row, c, e = jax.tree.map(lambda leaf: leaf[order[k]], tuple(streamed))
            u, v = precise.dot(row, x), precise.dot(row, model.teacher)
            g, _ = loss.gradient(u, v, c, e, None)
            return x - rate(k / d) / d * jnp.outer(row, g)

        def record(carry: tuple[Array, Array], now: Int[Array, ""]) -> tuple[tuple, Array]:
            x, last = carry
            x = jax.lax.fori_loop(last, now, step, x)
            return (x, now), risk(x)

        return jax.lax.scan(record, (start, jnp.zeros_like(ticks[0])), ticks)[1]

    return jax.lax.map(run, random.at(key, jnp.arange(runs)))
