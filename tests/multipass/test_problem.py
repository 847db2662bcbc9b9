"""Least-squares problems: their values, their scaling, and what is refused."""

import jax.numpy as jnp
import numpy as np
import pytest

from hdjax.multipass import Problem, Quadratic
from tests.multipass.problems import D, N, plain_reference, reference


def test_values_are_those_of_plain_sums():
    problem, x = reference(), np.linspace(-1, 1, D)
    rows, labels = np.asarray(problem.matrix), np.asarray(problem.labels)
    residuals = [sum(a * b for a, b in zip(row, x, strict=True)) for row in rows] - labels
    values = problem.values(jnp.asarray(x))
    np.testing.assert_allclose(values["loss"], (residuals**2).sum() / 2 / N, rtol=1e-12)
    assert list(values) == ["loss", "q", "own", "rows"]
    np.testing.assert_allclose(problem.trace, (rows**2).sum() / N, rtol=1e-12)
    excess, target = problem.excess(jnp.ones(D)), (x - 1) @ (x - 1) / 2 * (rows**2).sum() / N / D
    np.testing.assert_allclose(excess(jnp.asarray(x)), target, rtol=1e-12)


def test_scaling_keeps_the_iterates_predictions():
    problem = plain_reference()
    x = jnp.asarray(np.linspace(-1, 1, 8))
    scaled = problem.scaled()
    np.testing.assert_allclose(scaled.trace, 1, rtol=1e-12)
    unit = np.sqrt(float(problem.trace))
    np.testing.assert_allclose(scaled.loss(unit * x), problem.loss(x), rtol=1e-12)


def test_rounding_is_that_of_the_coarser_dtype():
    for dtype in (np.float32, np.float64):
        matrix = np.ones((2, 2), dtype)
        assert Problem(matrix, np.ones(2)).rounding == np.finfo(dtype).eps
    # Integers are exact.
    assert Problem(np.ones((2, 2), int), np.ones(2)).rounding == np.finfo(float).eps


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: Problem(np.full((2, 2), np.nan), np.ones(2)),
            r"matrix: an array of shape \(2, 2\) with the entry nan; allowed",
        ),
        (lambda: Problem(np.eye(3), np.ones(2)), r"labels: shape \(2,\)"),
        (lambda: Problem(np.eye(3), np.ones(3), np.ones(2)), r"start: shape \(2,\)"),
        (lambda: Problem(np.ones(3), np.ones(3)), "matrix: shape"),
        (
            lambda: Problem(np.eye(2), np.ones(2), None, {"q": Quadratic(np.eye(3))}),
            "quadratics: q has dimension 3",
        ),
        (
            lambda: Problem(np.eye(2), np.ones(2), None, {"loss": Quadratic(np.eye(2))}),
            "quadratics: 'loss'",
        ),
        (lambda: Problem(np.zeros((2, 2)), np.ones(2)).scaled(), "matrix: zero"),
    ],
)
def test_wrong_input_is_refused(make, message):
    with pytest.raises((ValueError, TypeError), match=message):
        make()
