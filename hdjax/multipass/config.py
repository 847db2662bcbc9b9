"""Config tables of the family: an experiment on fixed data with `family = "multipass"`.

    [system]
    dimension = 500
    problem = { kind = "gaussian", ratio = 0.5, noise = 0.5 }   # "random_features", "arrays"
    learning_rate = 0.8                                         # of gamma_max: "stable", factor
    algorithm = "sgd"                   # { kind = "momentum", batch_fraction, momentum = "best" }
    spectrum = "empirical"              # what the limit is computed from: "law", "lanczos"
    solver = "block_ode"                # "spectral"; for momentum "recursion", "squaring"

This module registers only the tables that TOML writes differently from the constructors.  The keys
of any other table are the signature of its constructor, which is registered beside the class.
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

declare("multipass.method", Slot(default="direct"))
declare("multipass.data", Slot(default="digits"))
declare("multipass.problem", Slot(default="gaussian", given=("dimension",)))
declare("multipass.spectrum", Slot(given=("chosen",)))
_COMMON = ("problem", "modes", "learning_rate", "solver")
declare("multipass.algorithm", Slot(given=_COMMON))

register("multipass.data", "digits")(multipass.data.digits)


@register("multipass.data", "npz")
def _npz(
    file: File,
    negative: list[Count],
    positive: list[Count],
    inputs: str = "X",
    classes: str = "Y",
) -> multipass.data.Labelled:
    """An `.npz` archive of `inputs` and `classes`, from which two groups of classes are chosen.

    Args:
        file: the archive.
        negative: the classes whose labels are -1.
        positive: the classes whose labels are 1.
        inputs: the array of inputs.
        classes: the array of classes.
    """
    data = multipass.data.load_npz(file, inputs, classes)
    return multipass.data.binary(data, negative, positive)


@register("multipass.data", "idx")
def _idx(
    inputs: File, classes: File, negative: list[Count], positive: list[Count]
) -> multipass.data.Labelled:
    """A pair of IDX files, the format of MNIST, from which two groups of classes are chosen.

    Args:
        inputs: the file of inputs.
        classes: the file of classes.
        negative: the classes whose labels are -1.
        positive: the classes whose labels are 1.
    """
    return multipass.data.binary(multipass.data.load_idx(inputs, classes), negative, positive)


@dataclasses.dataclass(frozen=True)
class _Chosen:
    """A problem, and its law if it has one: the modes as a function of the number of points."""

    problem: multipass.Problem
    law: Callable[[int], multipass.modes.Modes] | None = None


def _gaussian(
    dimension: int | None,
    samples: Size | None = None,
    ratio: Positive | None = None,
    covariance: Annotated[Any, In("spectrum")] = "identity",
    normalise_rows: bool = False,
    seed: Count = 0,
    **planted: Any,
) -> _Chosen:
    """A planted signal in a Gaussian matrix; n is given by `samples` or by `ratio` = d/n.

    Args:
        dimension: d.
        samples: n.
        ratio: d/n, instead of n.
        covariance: covariance of the rows.
        normalise_rows: whether rows have norm 1, and the covariance has mean eigenvalue 1.
        seed: seed of the matrix, the signal and the noise.
        **planted: other arguments of `hdjax.multipass.gaussian_problem`.
    """
    d = _required(dimension)
    if (samples is None) == (ratio is None):
        raise ValueError(
            f"samples: {samples} and ratio {ratio}; allowed: exactly one of samples and ratio"
        )
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

    def law(points: int) -> multipass.modes.Modes:
        found: Any = multipass.laws.MarchenkoPastur(d / n)
        if eigenvalues is not None:
            values, counts = np.unique(eigenvalues / (d / n), return_counts=True)
            found = multipass.laws.SampleCovariance(d / n, values, counts / d)
        return multipass.modes.law_modes(
            found, n, points=points, risk=eigenvalues is None, **planted
        )

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
    """Random features of data, split into `samples` to train on and `test` others.

    Args:
        dimension: d, the number of features.
        data: the samples.
        samples: number of samples to train on.
        test: number of other samples for the statistic "test"; None: all others.
        activation: the activation of the features.
        seed: seed of the split and of the features.
    """
    parts = multipass.data.split(data, samples, test, seed)
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
    """A problem by its arrays: A (n, d), b (n,), X_0 (d,), and samples for the statistic "test".

    Args:
        dimension: d, the number of columns of the matrix, or none.
        matrix: A (n, d).
        labels: b (n,).
        start: X_0 (d,); None: zero.
        test_matrix: rows of the test samples.
        test_labels: labels of the test samples.
        scale: whether A is divided by sqrt(tr A^T A/n).
    """
    if dimension is not None and matrix.shape[-1] != dimension:
        raise ValueError(
            f"dimension: {dimension}; allowed: {matrix.shape[-1]}, that of the matrix, or none"
        )
    if (test_matrix is None) != (test_labels is None):
        raise ValueError(
            "test_matrix, test_labels: one of them is given; allowed: both of them, or none"
        )
    test = {}
    if test_matrix is not None:
        test = {"test": multipass.SampleRisk(test_matrix, test_labels)}
    problem = multipass.Problem(matrix, labels, start, test)
    return _Chosen(problem.scaled() if scale else problem)


@register("multipass.spectrum", "empirical")
def _empirical(chosen: _Chosen) -> multipass.modes.Modes:
    """The limit of the given matrix, from its singular values."""
    return multipass.modes.svd_modes(chosen.problem)[0]


@register("multipass.spectrum", "law")
def _law(chosen: _Chosen, points: Size = 400) -> multipass.modes.Modes:
    """The limit of the law of a Gaussian matrix as n and d grow.

    Args:
        chosen: the problem.
        points: number of nodes of the quadrature rule in each interval of the law.
    """
    if chosen.law is None:
        raise ValueError(
            "'law'; allowed with this problem, of which no limiting law is known: 'empirical', "
            "'lanczos'"
        )
    return chosen.law(points)


@register("multipass.spectrum", "lanczos")
def _lanczos(
    chosen: _Chosen, points: Size = 32, probes: Size = 8, seed: Count = 0
) -> multipass.modes.Modes:
    """The limit of a large matrix by Lanczos quadrature, without its decomposition.

    Args:
        chosen: the problem.
        points: number of nodes of each rule.
        probes: number of random vectors.
        seed: seed of the random vectors.
    """
    own = chosen.problem
    bare = multipass.Problem(own.matrix, own.labels, own.start)
    return multipass.modes.lanczos_modes(bare, points, jax.random.key(seed), probes)


def _sgd(
    problem: multipass.Problem, modes: multipass.modes.Modes, learning_rate: Any, **options: Any
) -> multipass.MultiPassSGD:
    """SGD that draws a single sample in each step."""
    return multipass.MultiPassSGD(problem, _rate(learning_rate, modes), modes=modes, **options)


register("multipass.algorithm", "sgd", _sgd)(multipass.MultiPassSGD)


def _momentum(  # noqa: D417 (the others are the constructor's)
    problem: multipass.Problem,
    modes: multipass.modes.Modes,
    learning_rate: Any,
    *,
    batch_fraction: Positive,
    momentum: NonNegative | Literal["best", "near_optimal"] = 0.0,
    **options: Any,
) -> multipass.MomentumSGD:
    """SGD with momentum and batches.

    Without `learning_rate`, `momentum` may be "best" or "near_optimal"; learning rate and momentum
    are then chosen by `best_momentum` or `near_optimal` of `hdjax.multipass.rates`.

    Args:
        momentum: Delta, or the way in which learning rate and momentum are chosen.
    """
    if isinstance(momentum, str):
        if learning_rate is not None:
            raise ValueError(f"learning_rate: given; allowed with momentum {momentum!r}: none")
        choose = (
            multipass.rates.best_momentum if momentum == "best" else multipass.rates.near_optimal
        )
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
    learning_rate: Annotated[Any, In("multipass.rate")] = None,
    algorithm: Annotated[Any, In("multipass.algorithm")] = "sgd",
    spectrum: Annotated[Any, In("multipass.spectrum")] = "empirical",
    solver: Annotated[Any, In("multipass.solver")] = None,
) -> multipass.MultiPassSGD | multipass.MomentumSGD:
    """An algorithm on a problem, and the way in which its limit is computed.

    Args:
        dimension: d; none where the arrays of the problem fix it.
        problem: the matrix, the labels and the start.
        learning_rate: gamma, a number or a schedule of t = k/n.
        algorithm: the algorithm that is run.
        spectrum: the spectrum from which the limit is computed.
        solver: how the limit is computed; None: the default of the algorithm.
    """
    chosen = problem(dimension=dimension)
    modes = spectrum(chosen=chosen)
    return algorithm(
        problem=chosen.problem, modes=modes, learning_rate=learning_rate, solver=solver
    )


def _rate(rate: Any, modes: multipass.modes.Modes) -> Any:
    """The learning rate of the table `rate`; "stable" is relative to gamma_max of `modes`."""
    if rate is None:
        raise ValueError("learning_rate: missing; allowed: a number or a schedule")
    if isinstance(rate, multipass.analysis.Stable):
        return rate.factor * multipass.analysis.max_learning_rate(modes)
    return rate


def _required(dimension: int | None) -> int:
    """The dimension of a table that needs one."""
    if dimension is None:
        raise ValueError("dimension: missing; allowed: a positive integer")
    return dimension
