"""Linear algebra of small matrices, written to fuse when many runs are computed together.

LAPACK is called once for each matrix, and thousands of lanes with 2 x 2 matrices would wait for
the calls.  The flows of overlaps and the freezing algorithm use these functions.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float


def product(a: Float[Array, "i j"], b: Float[Array, "j k"]) -> Float[Array, "i k"]:
    """The product A B, written as a sum."""
    return jnp.sum(a[:, :, None] * b[None, :, :], axis=1)


def inverse_root(a: Float[Array, "n n"]) -> Float[Array, "n n"]:
    """The root A^{-1/2} of a symmetric positive definite matrix."""
    if a.shape[0] == 1:
        return 1 / jnp.sqrt(a)
    values, vectors = jnp.linalg.eigh(a)
    return product(vectors / jnp.sqrt(values)[None, :], vectors.T)


def whitened(r: Float[Array, "n n"]) -> Float[Array, "n n"]:
    """The matrix N = L^{-1} R with L L^T = I + R R^T: N^T N = Y (I + Y)^{-1} for Y = R^T R."""
    n = r.shape[0]
    rest = jnp.eye(n, dtype=r.dtype) + jnp.sum(r[:, None, :] * r[None, :, :], axis=-1)
    rows: list[Array] = []
    columns: list[Array] = []
    for k in range(n):
        column = jnp.where(jnp.arange(n) >= k, rest[:, k], 0) / jnp.sqrt(rest[k, k])
        rest = rest - column[:, None] * column[None, :]
        columns.append(column)
        known = sum((columns[j][k] * rows[j] for j in range(k)), start=jnp.zeros_like(r[k]))
        rows.append((r[k] - known) / column[k])
    return jnp.stack(rows)


def orthonormalised(a: Float[Array, "n n"]) -> Float[Array, "n n"]:
    """The columns made orthonormal one after the other (Gram-Schmidt, twice for accuracy)."""
    columns: list[Array] = []
    for k in range(a.shape[1]):
        column = a[:, k]
        for _ in range(2):
            for done in columns:
                column = column - jnp.sum(done * column) * done
        columns.append(column / jnp.sqrt(jnp.sum(column**2)))
    return jnp.stack(columns, axis=1)


def jacobi_svd(a: Float[Array, "n n"]) -> tuple[Float[Array, " n"], Float[Array, "n n"]]:
    """Squared singular values and right singular vectors (columns) of a matrix, in no order.

    One-sided Jacobi rotations (Hestenes, 1958) keep the relative accuracy of small singular values
    beside large ones, which the eigenvalues of a Gram matrix lose.
    """
    n = a.shape[0]
    v = jnp.eye(n, dtype=a.dtype)
    sweeps = {1: 0, 2: 2, 3: 6}.get(n, 8)
    for _ in range(sweeps):
        for p in range(n):
            for q in range(p + 1, n):
                a, v = _rotated(a, v, p, q)
    return jnp.sum(a**2, axis=0), v


def _rotated(a: Array, v: Array, p: int, q: int) -> tuple[Array, Array]:
    """The matrices after the rotation that makes columns p and q of `a` orthogonal."""
    alpha, beta = jnp.sum(a[:, p] ** 2), jnp.sum(a[:, q] ** 2)
    gamma = jnp.sum(a[:, p] * a[:, q])
    done = gamma == 0
    zeta = (beta - alpha) / (2 * jnp.where(done, 1, gamma))
    side = jnp.where(zeta >= 0, 1.0, -1.0).astype(a.dtype)
    # hypot: zeta^2 overflows where the two columns are far from each other in size.
    tangent = jnp.where(done, 0, side / (jnp.abs(zeta) + jnp.hypot(jnp.ones_like(zeta), zeta)))
    c = 1 / jnp.sqrt(1 + tangent**2)
    s = c * tangent

    def turn(x: Array) -> Array:
        first, second = c * x[:, p] - s * x[:, q], s * x[:, p] + c * x[:, q]
        return x.at[:, p].set(first).at[:, q].set(second)

    return turn(a), turn(v)
