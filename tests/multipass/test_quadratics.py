"""Quadratic statistics: values, restrictions to a subspace, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hdjax.multipass import Quadratic, SampleRisk

RNG = np.random.default_rng(0)
ROWS, LABELS = RNG.standard_normal((5, 3)), RNG.standard_normal(5)
BASIS, ORIGIN = RNG.standard_normal((3, 2)), RNG.standard_normal(3)
# The same function by its coefficients and by its samples.
FORMS = {
    "coefficients": Quadratic(ROWS.T @ ROWS / 5, -ROWS.T @ LABELS / 5, LABELS @ LABELS / 10),
    "samples": SampleRisk(ROWS, LABELS),
}


@pytest.mark.parametrize("name", FORMS)
def test_values_diagonals_and_restrictions(name):
    form, y = FORMS[name], np.array([0.4, -1.2])
    x = ORIGIN + BASIS @ y
    expected = sum((row @ x - label) ** 2 for row, label in zip(ROWS, LABELS, strict=True)) / 10
    np.testing.assert_allclose(form(jnp.asarray(x)), expected, rtol=1e-12)
    inside = form.restrict(jnp.asarray(BASIS), jnp.asarray(ORIGIN))
    np.testing.assert_allclose(inside(jnp.asarray(y)), expected, rtol=1e-12)
    assert (form.size, inside.size) == (3, 2)
    for one, at in ((form, x), (inside, y)):
        second = np.diag(jax.jit(jax.hessian(one))(jnp.asarray(at)))
        np.testing.assert_allclose(one.diagonal(), second, rtol=1e-12)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Quadratic(np.triu(np.ones((3, 3)))), "matrix: not symmetric"),
        (lambda: Quadratic(np.eye(3), np.ones(2)), r"matrix, vector: shapes \(3, 3\), \(2,\)"),
        (
            lambda: Quadratic(np.eye(2), [1.0, np.nan]),
            r"vector: \[1\.0, nan\]; allowed: an array of finite real numbers; or None",
        ),
        (lambda: SampleRisk(np.eye(3), np.ones(2)), "rows, labels: shapes"),
        (lambda: SampleRisk(np.zeros((0, 3)), np.zeros(0)), "N at least 1"),
    ],
)
def test_wrong_input_is_refused(make, message):
    with pytest.raises((ValueError, TypeError), match=message):
        make()
