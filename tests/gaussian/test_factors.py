"""Factors of covariances that may be singular, and their derivatives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hdjax.gaussian import factor, safe_sqrt, solve_transpose, without_rounding


def random_covariance(n, rank, seed=0, dtype=np.float64):
    root = np.random.default_rng(seed).normal(size=(n, rank))
    return jnp.asarray(root @ root.T, dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("n", "rank"), [(1, 1), (2, 2), (2, 1), (4, 4), (4, 2), (6, 3), (3, 0)])
def test_factor_reproduces_the_matrix(n, rank, dtype):
    matrix = random_covariance(n, rank, dtype=dtype)
    lower = jax.jit(factor)(matrix)
    assert lower.dtype == dtype
    assert np.all(np.triu(lower, 1) == 0)
    assert np.count_nonzero(np.diagonal(lower)) == rank
    np.testing.assert_allclose(lower @ lower.T, matrix, atol=50 * np.finfo(dtype).eps)


def test_regular_matrices_have_numpys_factor():
    matrix = random_covariance(5, 5, seed=3)
    np.testing.assert_allclose(factor(matrix), np.linalg.cholesky(matrix), rtol=1e-10)


def test_pivots_are_judged_on_the_scale_of_their_variable():
    """Variances that decay by 1e-30 are not rounded away by their neighbours."""
    scales = jnp.array([1e-15, 1.0, 1e5])
    matrix = random_covariance(3, 3, seed=1)
    scaled = matrix * scales[:, None] * scales[None, :]
    np.testing.assert_allclose(factor(scaled), factor(matrix) * scales[:, None], rtol=1e-12)


def test_an_integrators_error_is_not_amplified():
    """Not positive semidefinite by 1e-9: B_21 / sqrt(B_11) would be 10 where B_22 = 1."""
    lower = factor(jnp.array([[1e-20, 1e-9], [1e-9, 1.0]]))
    np.testing.assert_allclose(lower @ lower.T, np.diag([0.0, 1.0]), atol=2e-9)
    indefinite = factor(jnp.array([[1.0, 0.0], [0.0, -1e-12]]))
    np.testing.assert_array_equal(indefinite, [[1.0, 0.0], [0.0, 0.0]])


def test_nan_stays_visible():
    matrix = jnp.array([[1.0, 0.2], [0.2, jnp.nan]])
    assert np.isnan(factor(matrix)[1, 1])
    assert np.isnan(safe_sqrt(jnp.asarray(jnp.nan)))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_derivatives_are_finite(dtype):
    matrices = jnp.asarray(
        [np.zeros((2, 2)), np.ones((2, 2)), np.diag([0.0, 2.0]), np.diag([2.0, 0.0]), np.eye(2)],
        dtype,
    )

    def both(b):
        lower = factor(b)
        return lower, solve_transpose(lower, jnp.ones((2, 1), dtype))

    for jacobian in (jax.jacrev(both), jax.jacfwd(both)):
        by_factor, by_solution = jax.jit(jax.vmap(jacobian))(matrices)
        assert np.isfinite(by_factor).all()
        assert np.isfinite(by_solution).all()
        assert not by_factor[0].any()
        assert by_factor[4, 0, 0, 0, 0] == 0.5


def test_derivative_of_a_regular_factor():
    """L L^T = B for all B: dL L^T + L dL^T = dB."""
    matrix = random_covariance(3, 3, seed=2)
    direction = random_covariance(3, 3, seed=5)
    lower, change = jax.jvp(factor, (matrix,), (direction,))
    np.testing.assert_allclose(change @ lower.T + lower @ change.T, direction, rtol=1e-10)


@pytest.mark.parametrize("shape", [(), (2,), (2, 3)])
def test_solve_transpose(shape):
    lower = factor(random_covariance(4, 4))
    right = jnp.asarray(np.random.default_rng(1).normal(size=(4, *shape)))
    solution = jax.jit(solve_transpose)(lower, right)
    assert solution.shape == right.shape
    np.testing.assert_allclose(np.tensordot(lower.T, solution, 1), right, rtol=1e-9, atol=1e-12)


def test_solve_transpose_on_the_support():
    """For G = L^T H the product V H is recovered for every V that vanishes on the kernel of B."""
    rng = np.random.default_rng(4)
    root = np.array([[1.0, 0.0], [1.0, 1.0], [2.0, 1.0], [0.0, 3.0]])
    lower = factor(jnp.asarray(root @ root.T))
    block = root @ rng.normal(size=(2, 4))
    stein = rng.normal(size=(4, 3))
    solution = solve_transpose(lower, lower.T @ stein)
    kernel = np.diagonal(lower) == 0
    assert kernel.sum() == 2
    np.testing.assert_array_equal(np.asarray(solution)[kernel], 0)
    np.testing.assert_allclose(block.T @ solution, block.T @ stein, rtol=1e-7)


def test_under_vmap():
    matrices = jnp.stack([random_covariance(3, rank) for rank in (0, 1, 2, 3)])
    lower = jax.jit(jax.vmap(factor))(matrices)
    np.testing.assert_allclose(lower @ lower.transpose(0, 2, 1), matrices, atol=1e-13)
    solved = jax.jit(jax.vmap(solve_transpose))(lower, jnp.ones((4, 3)))
    assert np.isfinite(solved).all()
    assert factor(jnp.zeros((0, 0))).shape == (0, 0)
    assert solve_transpose(jnp.zeros((0, 0)), jnp.zeros((0, 2))).shape == (0, 2)


def test_safe_sqrt():
    x = jnp.array([-1.0, 0.0, 4.0])
    np.testing.assert_array_equal(safe_sqrt(x), [0.0, 0.0, 2.0])
    np.testing.assert_array_equal(jax.vmap(jax.grad(safe_sqrt))(x), [0.0, 0.0, 0.25])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_products_within_their_rounding_are_zero(dtype):
    """A unit is orthogonal to a mean, though the sum of their products is not zero."""
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 400))
    b = b - a * (a @ b) / (a @ a)
    a, b = a.astype(dtype), b.astype(dtype)
    rounding = np.finfo(dtype).eps * np.linalg.norm(a) * np.linalg.norm(b)
    sizes = jnp.full(3, np.linalg.norm(a) * np.linalg.norm(b), dtype)
    products = jnp.asarray([2 * rounding, -3 * rounding, 9 * rounding], dtype)
    np.testing.assert_array_equal(without_rounding(products, sizes), [0, 0, products[2]])
    slope = jax.grad(lambda scale: without_rounding(scale * products, sizes).sum())(
        jnp.asarray(1.0, dtype)
    )
    np.testing.assert_allclose(slope, products.sum(), rtol=1e-6)
