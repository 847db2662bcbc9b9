"""Least squares on prepared data, several passes: systems, one for each column of targets.

With targets B (n, m) the loss is 1/2 |A X - B|^2, and each column of X is SGD on least squares with
the labels of that column: all columns draw the same samples, but no column enters the steps of
another.  Means over runs of losses and test risks are therefore sums over columns of their limits.
Runs of all columns with the same key draw the same samples, and their sums are runs of the whole.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from hdjax import precise
from hdjax.forecast.preparation import Prepared
from hdjax.multipass import MomentumSGD, MultiPassSGD, Problem, Quadratic, SampleRisk
from hdjax.multipass.krylov import krylov_modes
from hdjax.multipass.modes import Modes, svd_modes

# The largest number n d min(n, d) of operations of a singular value decomposition: some seconds.
_MOST = 4 * 10**9
# The steps of Lanczos' iteration, and the vectors of random signs, for larger problems.
_POINTS, _PROBES = 64, 2


def problems(data: Prepared) -> tuple[list[Problem], list[Modes]]:
    """A problem and its modes for each column of targets.

    One singular value decomposition serves all columns; large problems take Lanczos' iteration.

    The statistics besides the loss are "test", the risk on the test samples.
    """
    test = SampleRisk(data.test, data.test_targets[:, 0])
    first = Problem(data.train, data.train_targets[:, 0], None, {"test": test})
    n, d = data.train.shape
    if n * d * min(n, d) > _MOST:
        return _large(data, first)
    modes, left = svd_modes(first)
    positive = np.asarray(modes.eigenvalues) > 0

    def column(b: np.ndarray, other: np.ndarray) -> tuple[Problem, Modes]:
        labels = np.where(positive, left.T @ b, 0)
        floor = max(b @ b - labels @ labels, 0.0) / 2
        risk: Any = modes.quadratics["test"]
        own = eqx.tree_at(
            lambda m: (m.labels, m.floor, m.quadratics["test"]),
            modes,
            (jnp.asarray(labels), jnp.asarray(floor), SampleRisk(risk.rows, other)),
        )
        problem = eqx.tree_at(
            lambda p: (p.labels, p.quadratics["test"]),
            first,
            (jnp.asarray(b), SampleRisk(data.test, other)),
        )
        return problem, own

    columns = zip(data.train_targets.T, data.test_targets.T, strict=True)
    found = [column(b, other) for b, other in columns]
    return [p for p, _ in found], [m for _, m in found]


def _large(data: Prepared, first: Problem) -> tuple[list[Problem], list[Modes]]:
    """Problems and modes of a matrix that is too large for a singular value decomposition."""
    test: Any = first.quadratics["test"]
    targets, others = jnp.asarray(data.train_targets), jnp.asarray(data.test_targets)
    modes = krylov_modes(
        first.matrix,
        targets,
        test.rows,
        others,
        points=_POINTS,
        probes=_PROBES,
        key=jax.random.key(0),
    )
    found = [
        eqx.tree_at(lambda p: (p.labels, p.quadratics["test"].labels), first, (own, other))
        for own, other in zip(targets.T, others.T, strict=True)
    ]
    return found, modes


def system(
    problem: Problem | None,
    modes: Modes,
    learning_rate: Any,
    *,
    batch: int = 1,
    momentum: float = 0.0,
    ridge: float | None = None,
) -> MultiPassSGD | MomentumSGD:
    """SGD on a problem: with single samples, or with batches and momentum.

    Args:
        problem: the data; None: the limit alone.
        modes: its modes.
        learning_rate: gamma, the step for the sum over the batch.
        batch: the number of samples of a batch.
        momentum: Delta.
        ridge: delta, or None.
    """
    if batch == 1 and momentum == 0:
        return MultiPassSGD(problem, learning_rate, modes=modes, ridge=ridge)
    fraction = batch / float(modes.samples)
    return MomentumSGD(
        problem,
        learning_rate,
        batch_fraction=fraction,
        momentum=momentum,
        modes=modes,
        ridge=ridge,
    )


def combined(modes: list[Modes]) -> Modes:
    """Modes whose limit is the sum over columns of the limits of the given modes, from X = 0.

    All columns have the same noise directions, and their mean paths in direction j are the same up
    to the factor y_jc.  With y_j^2 = sum_c y_jc^2 the sum of the losses is the loss for labels y,
    and sum_c q_c(x_c) is a quadratic form in the coordinates of y, whose diagonal is that of q_c.

    Args:
        modes: the modes of `problems`.

    Raises:
        ValueError: several columns of a problem that is too large for a decomposition.
    """
    if len(modes) == 1:
        return modes[0]
    if not isinstance(modes[0].quadratics["test"], SampleRisk):
        raise ValueError(
            f"labels: {len(modes)} columns at this size; allowed: one (two groups of classes)"
        )
    labels = jnp.stack([own.labels for own in modes])
    total = jnp.sqrt(jnp.sum(labels**2, axis=0))
    # Any shares with squares that sum to one serve directions without labels.
    alike = jnp.full_like(labels, len(modes) ** -0.5)
    nothing = (total == 0)[None]
    shares = jnp.where(nothing, alike, labels / jnp.where(nothing, 1, total[None]))
    forms: list[Any] = [own.quadratics["test"] for own in modes]
    rows, count = forms[0].rows, forms[0].labels.size
    gram = precise.dot(rows.T, rows) / count
    matrix = gram * precise.dot(shares.T, shares)
    pairs = zip(shares, forms, strict=True)
    vectors = [-share * precise.dot(form.labels, rows) / count for share, form in pairs]
    constant = sum(jnp.mean(form.labels**2) / 2 for form in forms)
    form = Quadratic(matrix, sum(vectors), constant)
    floor = sum(own.floor for own in modes)
    return eqx.tree_at(
        lambda m: (m.labels, m.floor, m.quadratics["test"]), modes[0], (total, floor, form)
    )
