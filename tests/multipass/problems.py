"""Problems of several tests, and the theories of the spread, compiled."""

import jax
import jax.numpy as jnp
import numpy as np

from hdjax.multipass import Problem, Quadratic, SampleRisk, moments
from hdjax.multipass.laws import MarchenkoPastur
from hdjax.schedules import PiecewiseConstant

N, D = 12, 8


def plain_reference():
    """The problem of the reference values, with the loss alone."""
    i, j = np.arange(N), np.arange(D)
    matrix = np.sqrt(2 / D) * np.sin(0.9 * np.outer(i + 1, j + 1) + 0.4 * i[:, None] ** 2 + 0.2 * j)
    labels = matrix @ np.cos(1 + j) + 0.3 * np.sin(2 * i)
    return Problem(matrix, labels, 0.1 * np.sin(j + 1))


def reference():
    """The problem of the reference values; `own` is the loss as a quadratic form."""
    problem, j = plain_reference(), np.arange(D)
    matrix, labels = np.asarray(problem.matrix), np.asarray(problem.labels)
    forms = {
        "q": Quadratic(np.diag(1 / (1 + j)) + 0.05, 0.1 * np.cos(j), 0.7),
        "own": Quadratic(matrix.T @ matrix, -matrix.T @ labels, labels @ labels / 2),
        "rows": SampleRisk(matrix, labels),
    }
    return Problem(matrix, labels, problem.start, forms)


TIMES = jnp.array([0, 0.5, 1, 3, 10.0])
LOSS = [3.4159944812, 1.7684350519, 1.0128554974, 0.3124969023, 0.1754062904]
HALF = MarchenkoPastur(0.5, 2.0)
exact = jax.jit(moments.exact_variances)
closed = jax.jit(moments.closed_variances)
HALVED = PiecewiseConstant([1.0], [0.8, 0.4])


def plain(problem):
    """A, b and X_0 in NumPy."""
    return tuple(np.asarray(x) for x in (problem.matrix, problem.labels, problem.start))


def rescaled(problem, spread, seed):
    """The problem with rows of unequal lengths."""
    scales = np.exp(spread * np.random.default_rng(seed).standard_normal(problem.samples))
    return Problem(problem.matrix * scales[:, None], problem.labels * scales).scaled()
