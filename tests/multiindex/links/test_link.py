"""Links from coefficients, functions and other links have the right tensors and values."""

import jax.numpy as jnp
import numpy as np
import pytest

from hdjax import multiindex
from hdjax.multiindex import tensors
from hdjax.multiindex.links import from_coefficients
from tests.multiindex.problems import CUBIC, LINK, ROTATION, A


def test_reference_tensor_and_values():
    tensor = from_coefficients({(1, 1): 1.0}).tensors[2]
    np.testing.assert_allclose(tensor, np.array([[0, 1], [1, 0]]) / np.sqrt(2))
    assert float(A.norm2) == pytest.approx(1.25)
    z = jnp.array([0.4, -1.2])
    plain = 0.8 * 0.4 + 0.6 * 0.4 * -1.2 + 0.5 * (1.44 - 1) / np.sqrt(2)
    assert float(A(z)) == pytest.approx(plain, abs=1e-14)


@pytest.mark.slow
def test_quadrature_reports_its_residual_and_drops_rounding():
    link = multiindex.links.from_function(lambda z: jnp.sin(z[0]) * z[1], 2, 4)
    exact = multiindex.links.product(
        multiindex.links.sine(1.0, 9), from_coefficients({(1,): 1.0}), degree=4
    )
    for own, other in zip(link.tensors, exact.tensors, strict=True):
        assert (own is None) == (other is None)
        if own is not None:
            np.testing.assert_allclose(own, other, atol=1e-12)
    assert float(link.residual) == pytest.approx(float(exact.residual), abs=1e-12)
    assert 0 < float(link.residual) < 0.01
    many = multiindex.links.from_function(lambda z: z[0] * z[4], 5, 2, threshold=0.02)
    assert float(many.coefficient((1, 0, 0, 0, 1))) == pytest.approx(1, abs=0.02)
    assert many.tensors[1] is None


@pytest.mark.slow
def test_rotation_ridge_truncation():
    z = jnp.array([0.4, -1.2])
    rotated = CUBIC.rotate(ROTATION)
    assert float(rotated(ROTATION @ z)) == pytest.approx(float(CUBIC(z)), abs=1e-13)
    assert float(rotated.norm2) == pytest.approx(float(CUBIC.norm2), abs=1e-14)
    ridge = multiindex.links.ridge(multiindex.links.sine(1.0, 15), [0.6, 0.8])
    series = multiindex.links.Link(ridge.tensors, ridge.residual, None, 2)
    assert float(series(z)) == pytest.approx(float(ridge(z)), abs=1e-6)
    cut = CUBIC.truncate(2)
    assert float(cut.norm2) == pytest.approx(float(CUBIC.norm2), abs=1e-14)
    assert float(cut(z)) == pytest.approx(float(CUBIC(z)), abs=1e-13)
    assert cut.degree == 2


def test_residual_of_a_ridge_sum():
    """What truncation misses: exact for orthogonal directions, a bound for others."""
    short, exact = multiindex.links.sine(1.5, 3), multiindex.links.sine(1.5, 25)
    for directions in (jnp.eye(2), jnp.array([[1.0, 0.6], [0.0, 0.8]])):
        missing = multiindex.links.ridge_sum(exact, directions).norm2 - tensors.squared_norm(
            multiindex.links.ridge_sum(short, directions).tensors
        )
        bound = float(multiindex.links.ridge_sum(short, directions).residual)
        assert bound >= float(missing) - 1e-12
        assert bound == pytest.approx(float(missing), rel=1e-9 if directions[0, 1] == 0 else 0.5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: from_coefficients({}), "coefficients"),
        (lambda: from_coefficients({(1,): 1.0, (1, 0): 1.0}), "coefficients"),
        (lambda: from_coefficients({(-1, 2): 1.0}), "coefficients"),
        (lambda: from_coefficients({(1,): np.nan}), "coefficients"),
        (lambda: A.rotate(2 * jnp.eye(2)), "rotation"),
        (lambda: multiindex.links.ridge(multiindex.links.sine(), [1.0, 1.0]), "direction"),
        (lambda: multiindex.links.ridge(A, [1.0, 0.0]), "link"),
        (lambda: multiindex.links.ridge_sum(A, np.eye(2)), "link"),
        (lambda: multiindex.links.ridge_sum(multiindex.links.sine(), 2 * np.eye(2)), "directions"),
        (
            lambda: multiindex.links.ridge_sum(multiindex.links.sine(), np.eye(2), np.ones(3)),
            "weights",
        ),
        (lambda: multiindex.links.product(A), "factors"),
        (lambda: multiindex.links.from_function(lambda z: jnp.log(z[0]), 1, 3), "function"),
        (lambda: multiindex.links.from_function(lambda z: z[0], 0, 3), "variables"),
        (lambda: LINK.coefficient((1,)), r"beta: \(1,\); allowed: 2 degrees"),
        (lambda: LINK.coefficient((5, 0)), r"beta: \(5, 0\); .* at most 3"),
        (lambda: LINK.coefficient((-1, 2)), r"beta: \(-1, 2\)"),
        (lambda: LINK(jnp.ones(1)), r"z: shape \(1,\); allowed: \(2,\)"),
        (lambda: LINK.rotate(jnp.eye(3)), r"rotation: shape \(3, 3\)"),
        (lambda: LINK.truncate(-2), "degree: -2"),
    ],
)
def test_wrong_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()
