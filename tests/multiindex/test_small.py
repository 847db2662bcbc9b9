"""Linear algebra of small matrices agrees with LAPACK, and keeps more digits where it should."""

import decimal

import jax.numpy as jnp
import numpy as np
import pytest
import scipy

from hdjax.multiindex.small import inverse_root, jacobi_svd, orthonormalised, product, whitened


def test_products_and_roots():
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, 3)), rng.standard_normal((3, 4))
    np.testing.assert_allclose(product(jnp.asarray(a), jnp.asarray(b)), a @ b, atol=1e-15)
    for n in (1, 3):
        square = rng.standard_normal((n, n))
        square = square @ square.T + np.eye(n)
        exact = np.linalg.inv(scipy.linalg.sqrtm(square))
        np.testing.assert_allclose(inverse_root(jnp.asarray(square)), exact, atol=1e-14)


@pytest.mark.parametrize("n", [1, 2, 4])
def test_whitened_factors(n):
    """N^T N = Y (I + Y)^{-1} with Y = R^T R."""
    r = np.random.default_rng(n).standard_normal((n, n))
    y = r.T @ r
    found = whitened(jnp.asarray(r))
    np.testing.assert_allclose(found.T @ found, y @ np.linalg.inv(np.eye(n) + y), atol=1e-13)


def test_columns_are_made_orthonormal():
    """Those of a QR decomposition, also of a Hilbert matrix, whose columns are nearly parallel."""
    a = np.random.default_rng(2).standard_normal((3, 3))
    q, r = np.linalg.qr(a)
    found = orthonormalised(jnp.asarray(a))
    np.testing.assert_allclose(found, q * np.sign(np.diag(r))[None], atol=1e-14)
    frame = orthonormalised(jnp.asarray(scipy.linalg.hilbert(6)))
    np.testing.assert_allclose(frame.T @ frame, np.eye(6), atol=1e-12)


def test_singular_values_of_columns_of_any_size():
    """The small one of two columns to all its digits, beside one that is 10^10 times larger."""
    columns = [["1", "2e-10"], ["3", "-1e-10"]]
    found, _ = jacobi_svd(jnp.array([[float(x) for x in row] for row in columns]))
    with decimal.localcontext() as context:
        context.prec = 80
        (a, b), (c, d) = ([decimal.Decimal(x) for x in row] for row in columns)
        trace, determinant = a * a + b * b + c * c + d * d, (a * d - b * c) ** 2
        large = (trace + (trace**2 - 4 * determinant).sqrt()) / 2
        exact = [float(large), float(determinant / large)]
    np.testing.assert_allclose(np.sort(found)[::-1], exact, rtol=1e-14)


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_singular_values_and_vectors(n):
    a = np.random.default_rng(n).standard_normal((n, n))
    found, v = jacobi_svd(jnp.asarray(a))
    np.testing.assert_allclose(np.sort(found)[::-1], np.linalg.svd(a)[1] ** 2, rtol=1e-12)
    np.testing.assert_allclose(v.T @ v, np.eye(n), atol=1e-14)
    np.testing.assert_allclose((a @ v).T @ (a @ v), np.diag(found), atol=1e-12)
    zero, frame = jacobi_svd(jnp.zeros((n, n)))
    np.testing.assert_array_equal(zero, np.zeros(n))
    np.testing.assert_array_equal(frame, np.eye(n))
