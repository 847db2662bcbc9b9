"""Lower-triangular factors of covariance matrices that may be singular.

    L L^T = B,   B positive semidefinite

The factor is computed by Cholesky elimination, in which a pivot of the size of rounding gives a
zero column. Losses and samplers use it to write Gaussian projections as L z. An eigendecomposition
would also give a factor, but its gradients are infinite at repeated eigenvalues and its
eigenvectors jump; this factor is differentiable wherever the pivots are positive, and its gradients
are finite everywhere.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def factor(covariance: Float[Array, "n n"]) -> Float[Array, "n n"]:
    """The lower-triangular L with L L^T = B, with zero columns where B is singular.

    Pivot k counts as zero up to 4 n eps B_kk, about its rounding error. This criterion does not
    depend on the scales of the variables: a variance that decays to 1e-30 keeps its digits. An
    off-diagonal entry that is too large for a positive semidefinite B (by the error of an
    integrator, for small variances) is reduced to the largest admissible value. NaN stays NaN.

    Args:
        covariance: B, symmetric positive semidefinite; the lower triangle is read.

    Returns:
        L, with columns of zeros for zero pivots; derivatives through those are zero.

    Example:
        >>> import jax.numpy as jnp
        >>> factor(jnp.array([[4.0, 2.0], [2.0, 1.0]])).tolist()
        [[2.0, 0.0], [1.0, 0.0]]
    """
    n = covariance.shape[-1]
    if n == 0:
        return covariance
    rounding = n * jnp.finfo(covariance.dtype).eps * jnp.diagonal(covariance)
    rest, columns = covariance, []
    for k in range(n):
        pivot, variance = rest[k, k], jnp.diagonal(rest)
        singular = pivot <= 4 * rounding[k]
        root = jnp.sqrt(jnp.where(singular, 1, pivot))
        below = rest[:, k] / root
        # Every positive semidefinite matrix has |L_jk|^2 <= rest_jj.
        excess = below**2 > variance + rounding
        below = jnp.where(excess, jnp.copysign(safe_sqrt(variance), below), below)
        column = jnp.where(jnp.arange(n) > k, below, 0).at[k].set(root)
        column = jnp.where(singular, 0, column)
        columns.append(column)
        rest = rest - column[:, None] * column[None, :]
    return jnp.stack(columns, axis=1)


def solve_transpose(
    lower: Float[Array, "n n"], right: Float[Array, "n *rest"]
) -> Float[Array, "n *rest"]:
    """The solution H of L^T H = G, with H_k = 0 for each zero column k of L.

    For G = E[z g^T] and r = L z, H is E[grad_r g^T] on the support of r (Stein's lemma). The
    inverse of B is not needed.

    Args:
        lower: L (n, n), the result of `factor`.
        right: G (n, ...).

    Example:
        >>> import jax.numpy as jnp
        >>> lower = factor(jnp.array([[4.0, 2.0], [2.0, 1.0]]))
        >>> solve_transpose(lower, jnp.array([6.0, 0.0])).tolist()
        [3.0, 0.0]
    """
    n = lower.shape[-1]
    rows: list[Array] = []
    for k in reversed(range(n)):
        known = sum((lower[j, k] * rows[n - 1 - j] for j in range(k + 1, n)), start=0 * right[k])
        singular = lower[k, k] == 0
        row = (right[k] - known) / jnp.where(singular, 1, lower[k, k])
        rows.append(jnp.where(singular, 0, row))
    return jnp.stack(rows[::-1]) if rows else right


def safe_sqrt(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """The square root of x, which is 0 with derivative 0 for x <= 0 (NaN stays NaN)."""
    negative = x <= 0
    return jnp.where(negative, 0, jnp.sqrt(jnp.where(negative, 1, x)))


def without_rounding(
    products: Float[Array, "*shape"], sizes: Float[Array, "*shape"]
) -> Float[Array, "*shape"]:
    """Inner products, in which values no larger than their rounding error are set to zero.

    For data without noise the sign of such a product would decide on which side of a kink a loss is
    evaluated.  The derivatives are those of `products`.

    Args:
        products: computed inner products <a, b>.
        sizes: products of norms |a| |b|, of the same shape.

    Example:
        >>> import jax.numpy as jnp
        >>> without_rounding(jnp.array([0.5, 1e-17]), jnp.ones(2)).tolist()
        [0.5, 0.0]
    """
    small = jnp.abs(products) <= 4 * jnp.finfo(products.dtype).eps * sizes
    return products - jax.lax.stop_gradient(jnp.where(small, products, 0))
