"""Top eigenspaces and spectral densities of symmetric matrices that are known by their products.

`top_space` is block Lanczos with full reorthogonalisation, restarted from its best Ritz vectors
until every residual |A v - theta v| is small (G. Golub, R. Underwood, "The block Lanczos method for
computing eigenvalues", 1977).  `spectral_measure` is stochastic Lanczos quadrature (matfree) on the
complement of the known eigenvectors.  They serve every matrix of `matrices.py` and `network.py`.
"""

from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key
from matfree import decomp

from hdjax import precise, random
from hdjax.checks import checked
from hdjax.registry import PositiveFloat, Size

Product = Callable[[Float[Array, "n k"]], Float[Array, "n k"]]


class TopSpace(NamedTuple):
    """The result of `top_space`.

    Attributes:
        values: the largest eigenvalues, descending.
        vectors: (n, r) their eigenvectors.
        residuals: |A v - theta v| of each pair.
        cycles: the number of cycles that were needed.
    """

    values: Float[Array, " r"]
    vectors: Float[Array, "n r"]
    residuals: Float[Array, " r"]
    cycles: Int[Array, ""]


@checked
def top_space(
    product: Product,
    start: Float[Array, "n b"],
    rank: Size,
    key: Key[Array, ""],
    *,
    steps: Size = 6,
    tolerance: PositiveFloat = 1e-6,
    cycles: Size = 50,
) -> TopSpace:
    """The `rank` largest eigenvalues of A and their eigenvectors.

    Args:
        product: from V (n, k) to A V.
        start: (n, b) a first guess, in which columns may be zero: span[X, means] nearly contains
            the outliers' eigenvectors.  Random columns are added, up to a block of at least rank +
            2.
        rank: the number of eigenvalues.
        key: the key of the random columns.
        steps: the number of blocks in a cycle; it is cut where n has no room for so many.
        tolerance: of the residuals, relative to the largest |eigenvalue|.
        cycles: the number of restarts after which the result is returned as it is, with its
            residuals.

    Raises:
        ValueError: the rank is below 1, or rank + 2 beyond n.

    Example:
        >>> found = top_space(
        ...     lambda v: jnp.arange(9.0)[:, None] * v, jnp.ones((9, 1)), 2, jax.random.key(0)
        ... )
        >>> found.values.round(3).tolist()
        [8.0, 7.0]
    """
    n, given = start.shape
    width = max(rank + 2, given + 1)
    if rank < 1 or rank + 2 > n:
        raise ValueError(f"rank: {rank} of a matrix of size {n}; allowed: 1 to {n - 2}")
    width = min(width, n)
    steps = max(1, min(steps, n // width))
    drawn = jax.random.normal(key, (n, width), start.dtype)
    first = drawn.at[:, : min(given, width)].set(start[:, :width])
    # A small random part keeps the block regular where columns are zero or dependent.
    scale = jnp.linalg.norm(first, axis=0, keepdims=True)
    first = first / jnp.where(scale > 0, scale, 1) + 1e-3 * drawn / jnp.sqrt(
        jnp.asarray(n, first.dtype)
    )

    def cycle(block: Float[Array, "n w"]) -> TopSpace:
        basis = jnp.zeros((n, width * steps), block.dtype)
        image = jnp.zeros_like(basis)

        def extend(j: Array, state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
            basis, image, block = state
            for _ in range(2):
                block = block - precise.dot(basis, precise.dot(basis.T, block))
                block, _ = jnp.linalg.qr(block)
            pushed = product(block)
            at = (0, j * width)
            basis = jax.lax.dynamic_update_slice(basis, block, at)
            image = jax.lax.dynamic_update_slice(image, pushed, at)
            return basis, image, pushed

        basis, image, _ = jax.lax.fori_loop(0, steps, extend, (basis, image, block))
        small = precise.dot(basis.T, image)
        values, vectors = jnp.linalg.eigh((small + small.T) / 2)
        values, vectors = values[::-1][:width], vectors[:, ::-1][:, :width]
        ritz = precise.dot(basis, vectors)
        residuals = jnp.linalg.norm(precise.dot(image, vectors) - ritz * values[None], axis=0)
        return TopSpace(values, ritz, residuals, jnp.zeros((), jnp.int32))

    def unfinished(state: TopSpace) -> Array:
        scale = jnp.abs(state.values).max()
        bad = (state.residuals[:rank] > tolerance * scale).any()
        return bad & (state.cycles < cycles)

    def again(state: TopSpace) -> TopSpace:
        return cycle(state.vectors)._replace(cycles=state.cycles + 1)

    one = jnp.ones((), jnp.int32)
    found = jax.lax.while_loop(unfinished, again, cycle(first)._replace(cycles=one))
    return TopSpace(
        found.values[:rank], found.vectors[:, :rank], found.residuals[:rank], found.cycles
    )


class SpectralMeasure(eqx.Module):
    """A spectrum as a measure: atoms and weights that sum to one."""

    atoms: Float[Array, " k"]
    weights: Float[Array, " k"]

    def mean(self, function: Callable[[Array], Array]) -> Float[Array, ""]:
        """The mean 1/n tr f(A)."""
        return jnp.sum(self.weights * function(self.atoms))

    def density(self, grid: Float[Array, " x"], width: float) -> Float[Array, " x"]:
        """The density at `grid`, with atoms widened to Gaussians of standard deviation `width`."""
        scaled = (grid[:, None] - self.atoms[None]) / width
        heights = jnp.exp(-(scaled**2) / 2) / (width * jnp.sqrt(2 * jnp.pi))
        return precise.dot(heights, self.weights)


@checked
def spectral_measure(
    product: Product,
    size: Size,
    key: Key[Array, ""],
    *,
    known: TopSpace | None = None,
    probes: Size = 8,
    steps: Size = 60,
) -> SpectralMeasure:
    """The spectrum as a measure: known outliers exactly, the bulk by stochastic Lanczos quadrature.

    Args:
        product: from V (n, k) to A V.
        size: n.
        key: the key of the probes.
        known: eigenpairs that are deflated, and enter as atoms of weight 1/n.
        probes: the number of random vectors over which the quadrature is averaged.
        steps: the number of Lanczos steps of each probe.

    Returns:
        The measure, in the precision of the matrix.

    Raises:
        ValueError: a number is below 1, or there are more steps than rows.

    Example:
        >>> measure = spectral_measure(lambda v: 2 * v, 10, jax.random.key(0), steps=1)
        >>> round(float(measure.mean(jnp.square)), 3)
        4.0
    """
    if probes < 1 or not 1 <= steps <= size:
        raise ValueError(
            f"probes, steps: {probes}, {steps}; allowed: at least 1, steps up to {size}"
        )
    dtype = _precision(product, size)
    vectors = jnp.zeros((size, 0), dtype) if known is None else known.vectors.astype(dtype)
    removed = vectors.shape[1]

    def outside(v: Float[Array, " n"]) -> Float[Array, " n"]:
        return v - precise.dot(vectors, precise.dot(vectors.T, v))

    # The complement of the known vectors has size - removed dimensions for the Lanczos basis.
    lanczos = decomp.tridiag_sym(min(steps, size - removed), custom_vjp=False)

    def one(key: Key[Array, ""]) -> tuple[Array, Array]:
        probe = outside(jax.random.normal(key, (size,), dtype))
        # matfree mixes ranks and dtypes.
        with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
            found = lanczos(lambda v: outside(product(outside(v)[:, None])[:, 0]), probe)
        atoms, eigenvectors = jnp.linalg.eigh(found.J_small)
        return atoms, eigenvectors[0] ** 2

    atoms, weights = jax.vmap(one)(random.at(key, jnp.arange(probes)))
    weights = weights.ravel() * ((size - removed) / size / probes)
    if known is None:
        return SpectralMeasure(atoms.ravel(), weights)
    own = jnp.full((removed,), 1 / size, dtype)
    return SpectralMeasure(
        jnp.concatenate([known.values.astype(dtype), atoms.ravel()]),
        jnp.concatenate([own, weights]),
    )


def _precision(product: Product, size: int) -> jnp.dtype:
    """The dtype of a matrix: that of its product with a vector in float32."""
    vector = jax.ShapeDtypeStruct((size, 1), jnp.float32)
    with jax.numpy_dtype_promotion("standard"):
        return jax.eval_shape(product, vector).dtype
