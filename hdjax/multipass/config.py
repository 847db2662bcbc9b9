"""How an experiment on fixed data is written in a config with `family = "multipass"`.

    [system]
    dimension = 500
    problem = { kind = "gaussian", ratio = 0.5, noise = 0.5 }   # "random_features", "arrays"
    learning_rate = 0.8                                         # of gamma_max: "critical", factor
    algorithm = "sgd"                   # { kind = "momentum", batch_fraction, momentum = "best" }
    spectrum = "empirical"              # what the limit is computed from: "law", "lanczos"
    solver = "block_ode"                # "spectral"; for momentum "recursion", "squaring"

What is here is what TOML says differently from the constructors; the rest of each table is its
constructor's signature, registered beside it.
"""

import dataclasses
from collections.abc import Callable
from typing import Annotated, Any, Literal

import jax
import numpy as np

from hdjax import multipass
from hdjax.registry import (
    Count,
    File,
    In,
    NonNegative,
    OneOf,
    Positive,
    Size,
    Slot,
    Values,
    declare,
    register,
)
from hdjax.schedules import Critical

declare("multipass.method", Slot(default="direct"))
declare("multipass.data", Slot(default="digits"))
declare("multipass.problem", Slot(default="gaussian", given=("dimension",)))
declare("multipass.spectrum", Slot(given=("chosen",)))
_COMMON = ("problem", "modes", "learning_rate", "solver")
declare("multipass.algorithm", Slot(given=_COMMON))

register("multipass.data", "digits")(multipass.digits)


@register("multipass.data", "npz")
def _npz(
    file: File,
    negative: list[Count],
    positive: list[Count],
    inputs: str = "X",
    classes: str = "Y",
) -> multipass.Labelled:
    """An `.npz` archive of `inputs` and `classes`, two groups of which are chosen.

    Args:
        file: the archive.
        negative: the classes whose labels are -1.
        positive: the classes whose labels are 1.
        inputs: the array of inputs.
        classes: the array of classes.
    """
    data = multipass.load_npz(file, inputs, classes)
    return multipass.binary(data, negative, positive)


@register("multipass.data", "idx")
def _idx(
    inputs: File, classes: File, negative: list[Count], positive: list[Count]
) -> multipass.Labelled:
    """A pair of IDX files, as MNIST comes, two groups of whose classes are chosen.

    Args:
        inputs: the file of inputs.
        classes: the file of classes.
        negative: the classes whose labels are -1.
        positive: the classes whose labels are 1.
    """
    return multipass.binary(multipass.load_idx(inputs, classes), negative, positive)


@dataclasses.dataclass(frozen=True)
class _Chosen:
    """A problem, and the modes of its law at so many points, if it has one."""

    problem: multipass.Problem
    law: Callable[[int], multipass.Modes] | None = None


def _gaussian(
    dimension: int | None,
    samples: Size | None = None,
    ratio: Positive | None = None,
    covariance: Annotated[Any, In("spectrum")] = "identity",
    normalise_rows: bool = False,
    seed: Count = 0,
    **planted: Any,
) -> _Chosen:
    """A planted signal in a Gaussian matrix; `samples` or `ratio` = d/n.

    Args:
        dimension: d.
        samples: n.
        ratio: d/n, instead of n.
        covariance: that of the rows.
        normalise_rows: whether rows have norm 1, and the covariance mean 1.
        seed: that of the matrix, the signal and the noise.
        **planted: of `hdjax.multipass.gaussian_problem`.
    """
    d = _required(dimension)
    if (samples is None) == (ratio is None):
        raise ValueError("problem: samples and ratio; allowed: one of them")
    n = samples if samples is not None else round(d / (ratio or 1))
    spectrum = covariance(d=d)
    spectrum = spectrum.normalised() if normalise_rows else spectrum
    given = np.asarray(spectrum.expand(spectrum.eigenvalues))
    eigenvalues = None if np.all(given == 1) else given
    problem = multipass.gaussian_problem(
        n,
        d,
        key=jax.random.key(seed),
        eigenvalues=eigenvalues,
        normalise_rows=normalise_rows,
        **planted,
    )

    def law(points: int) -> multipass.Modes:
        found: Any = multipass.MarchenkoPastur(d / n)
        if eigenvalues is not None:
            values, counts = np.unique(eigenvalues / (d / n), return_counts=True)
            found = multipass.SampleCovariance(d / n, values, counts / d)
        return multipass.law_modes(found, n, points=points, risk=eigenvalues is None, **planted)

    return _Chosen(problem, law)


register("multipass.problem", "gaussian", _gaussian, without=("key", "eigenvalues"))(
    multipass.gaussian_problem
)


@register("multipass.problem", "random_features")
def _random_features(
    dimension: int | None,
    *,
    data: Annotated[Any, In("multipass.data")] = "digits",
    samples: Size,
    test: Size | None = None,
    activation: Annotated[str, OneOf("relu", "tanh", "erf")] = "relu",
    seed: Count = 0,
) -> _Chosen:
    """`dimension` random features of data, `samples` to train on and `test` others.

    Args:
        dimension: d, the number of features.
        data: the samples.
        samples: how many to train on.
        test: how many others for the statistic "test"; None: all others.
        activation: of the features.
        seed: that of the split and of the features.
    """
    parts = multipass.split(data, samples, test, seed)
    key = jax.random.key(seed)
    problem = multipass.random_features_problem(
        parts, _required(dimension), key=key, activation=activation
    )
    return _Chosen(problem)


@register("multipass.problem", "arrays")
def _arrays(
    dimension: int | None,
    matrix: Values,
    labels: Values,
    start: Values | None = None,
    test_matrix: Values | None = None,
    test_labels: Values | None = None,
    scale: bool = False,
) -> _Chosen:
    """A (n, d) and b (n,) as arrays; `start` (d,), and samples for the statistic "test".

    Args:
        dimension: d; none, or that of the matrix.
        matrix: A (n, d).
        labels: b (n,).
        start: X_0 (d,).
        test_matrix: rows of the test samples.
        test_labels: their labels.
        scale: whether A is divided by sqrt(tr A^T A/n).
    """
    if dimension is not None and matrix.shape[-1] != dimension:
        raise ValueError(
            f"dimension: {dimension}; allowed: {matrix.shape[-1]}, that of the matrix, or none"
        )
    if (test_matrix is None) != (test_labels is None):
        raise ValueError("problem: test_matrix and test_labels; allowed: both or none")
    test = {}
    if test_matrix is not None:
        test = {"test": multipass.SampleRisk(test_matrix, test_labels)}
    problem = multipass.Problem(matrix, labels, start, test)
    return _Chosen(problem.scaled() if scale else problem)


@register("multipass.spectrum", "empirical")
def _empirical(chosen: _Chosen) -> multipass.Modes:
    """The singular values of the matrix."""
    return multipass.svd_modes(chosen.problem)[0]


@register("multipass.spectrum", "law")
def _law(chosen: _Chosen, points: Size = 400) -> multipass.Modes:
    """The law of a Gaussian matrix as n and d grow, on a rule of so many points.

    Args:
        chosen: the problem.
        points: nodes of the rule.
    """
    if chosen.law is None:
        raise ValueError(
            "'law' with a problem that has no limiting law here; allowed: 'empirical', 'lanczos'"
        )
    return chosen.law(points)


@register("multipass.spectrum", "lanczos")
def _lanczos(
    chosen: _Chosen, points: Size = 32, probes: Size = 8, seed: Count = 0
) -> multipass.Modes:
    """Lanczos quadrature, for large matrices.

    Args:
        chosen: the problem.
        points: nodes of each rule.
        probes: random vectors.
        seed: that of the random vectors.
    """
    own = chosen.problem
    bare = multipass.Problem(own.matrix, own.labels, own.start)
    return multipass.lanczos_modes(bare, points, jax.random.key(seed), probes)


def _sgd(
    problem: multipass.Problem, modes: multipass.Modes, learning_rate: Any, **options: Any
) -> multipass.MultiPassSGD:
    """SGD on single samples."""
    return multipass.MultiPassSGD(problem, _rate(learning_rate, modes), modes=modes, **options)


register("multipass.algorithm", "sgd", _sgd)(multipass.MultiPassSGD)


def _momentum(  # noqa: D417 (the others are the constructor's)
    problem: multipass.Problem,
    modes: multipass.Modes,
    learning_rate: Any,
    *,
    batch_fraction: Positive,
    momentum: NonNegative | Literal["best", "near_optimal"] = 0.0,
    **options: Any,
) -> multipass.MomentumSGD:
    """SGD with momentum and batches.

    Without `learning_rate`, `momentum` may be "best" or "near_optimal": both are then chosen.

    Args:
        momentum: Delta, or how rate and momentum are chosen.
    """
    if isinstance(momentum, str):
        if learning_rate is not None:
            raise ValueError(f"learning_rate: given with momentum {momentum!r}; allowed: none")
        choose = multipass.best_momentum if momentum == "best" else multipass.near_optimal
        rate, momentum, _ = choose(modes, batch_fraction)
    else:
        rate = _rate(learning_rate, modes)
    return multipass.MomentumSGD(
        problem, rate, batch_fraction=batch_fraction, momentum=momentum, modes=modes, **options
    )


register("multipass.algorithm", "momentum", _momentum)(multipass.MomentumSGD)


@register("multipass.system", "")
def _system(
    *,
    dimension: Size | None = None,
    problem: Annotated[Any, In("multipass.problem")],
    learning_rate: Annotated[Any, In("rate")] = None,
    algorithm: Annotated[Any, In("multipass.algorithm")] = "sgd",
    spectrum: Annotated[Any, In("multipass.spectrum")] = "empirical",
    solver: Annotated[Any, In("multipass.solver")] = None,
) -> multipass.MultiPassSGD | multipass.MomentumSGD:
    """A problem, an algorithm, and how its limit is computed.

    Args:
        dimension: d; none where the problem fixes it.
        problem: the matrix, the labels and the start.
        learning_rate: gamma, a number or a schedule of t = k/n.
        algorithm: what is run.
        spectrum: what the limit is computed from.
        solver: how the limit is computed; None: the algorithm's own.
    """
    chosen = problem(dimension=dimension)
    modes = spectrum(chosen=chosen)
    return algorithm(
        problem=chosen.problem, modes=modes, learning_rate=learning_rate, solver=solver
    )


def _rate(rate: Any, modes: multipass.Modes) -> Any:
    if rate is None:
        raise ValueError("learning_rate: missing; allowed: a number or a schedule")
    if isinstance(rate, Critical):
        return rate.factor * multipass.max_learning_rate(modes)
    return rate


def _required(dimension: int | None) -> int:
    if dimension is None:
        raise ValueError("dimension: missing; allowed: a positive integer")
    return dimension
