"""Spectra of data covariances K, as measures of a few groups of equal eigenvalues.

    mu = sum_i w_i delta(lambda_i),   w_i = d_i / d,   sum_i w_i = 1,

with multiplicities d_i of the eigenvalues lambda_i of K. All constructors scale to tr K/d = 1
unless `normalise=False`. Coordinates are those of the eigenbasis, group after group.

What depends on mu alone can be integrated on the Gauss rule of few nodes that Lanczos' algorithm
gives (G. H. Golub, J. H. Welsch, "Calculation of Gauss quadrature rules", Math. Comp. 23, 1969).
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int

from hdjax.system import is_concrete

_Dimension = int | Array


class Spectrum(eqx.Module):
    """Groups of equal eigenvalues of a covariance K (made by the functions of this module).

    Attributes:
        eigenvalues: (g,) lambda_i >= 0, one for each group, O(1).
        weights: (g,) w_i = d_i / d >= 0, summing to one.
        dimension: d, a float scalar: a leaf, so that spectra of different d stack.
        basis: (d, d) eigenvectors of K as columns, or None where K is diagonal.
        size: d as a Python integer, for shapes; None where there are no coordinates (a quadrature
            rule, or d given as an array).
    """

    eigenvalues: Float[Array, " g"]
    weights: Float[Array, " g"]
    dimension: Float[Array, ""]
    basis: Float[Array, "d d"] | None = None
    size: int | None = eqx.field(static=True, default=None)

    @property
    def trace(self) -> Float[Array, ""]:
        """tr K / d."""
        return self.moment(lambda eigenvalues: eigenvalues)

    @property
    def multiplicities(self) -> Float[Array, " g"]:
        """d_i, as floats (a quadrature rule's need not be integers)."""
        return self.weights * self.dimension

    def moment(self, fn: Callable[[Float[Array, " g"]], Array]) -> Float[Array, ""]:
        """tr fn(K) / d for a function of the eigenvalues, such as `jnp.square`."""
        return jnp.sum(self.weights * fn(self.eigenvalues), axis=-1)

    def normalised(self) -> "Spectrum":
        """The spectrum of K d / tr K.

        Raises:
            ValueError: tr K = 0.
        """
        trace = self.trace
        if is_concrete(trace) and not float(trace) > 0:
            raise ValueError(
                f"eigenvalues: mean {float(trace)}; allowed: positive, to scale it to tr K/d = 1"
            )
        return eqx.tree_at(lambda s: s.eigenvalues, self, self.eigenvalues / trace)

    @property
    def groups(self) -> Int[Array, " d"]:
        """The group that each of the d coordinates belongs to, in increasing order.

        Raises:
            ValueError: the spectrum has no coordinates.
        """
        size, g = self.size, self.eigenvalues.shape[-1]
        if size is None:
            raise ValueError(
                "size: None, the spectrum has no coordinates (it is a quadrature rule, or its "
                "dimension was given as an array); allowed: a spectrum made with d as an int"
            )
        counts = jnp.round(self.multiplicities).astype(jnp.int32)
        return jnp.repeat(jnp.arange(g, dtype=jnp.int32), counts, total_repeat_length=size)

    def expand(self, values: Float[Array, "g *rest"]) -> Float[Array, "d *rest"]:
        """Values of the groups, repeated for each coordinate."""
        return values[self.groups]

    def compress(self, points: int) -> "Spectrum":
        """The Gauss rule of mu: few eigenvalues with the same moments up to degree 2 points - 1.

        Integrals of smooth functions converge geometrically in `points`; 8 to 16 serve for limits
        that start from columns spread evenly over the spectrum. The rule has no coordinates.

        Args:
            points: number of nodes. From the number of groups on, the measure itself is returned.

        Raises:
            ValueError: `points` below 1.

        Example:
            >>> rule = power_law(10_000, exponent=0.6).compress(8)
            >>> rule.eigenvalues.shape
            (8,)
        """
        if points < 1:
            raise ValueError(f"points: {points}; allowed: at least 1")
        if points >= self.eigenvalues.shape[-1]:
            return Spectrum(self.eigenvalues, self.weights, self.dimension)
        nodes, weights = _golub_welsch(*_lanczos(self.eigenvalues, self.weights, points))
        return Spectrum(nodes, weights, self.dimension)

    def binned(self, cells: int) -> tuple["Spectrum", Int[np.ndarray, " g"]]:
        """Groups merged in logarithmically spaced cells, and the cell that each group went to.

        Sums of what belongs to the groups (Gram blocks of given columns) can be formed with the
        assignment: `jax.ops.segment_sum(blocks, cell, number of cells)`. The error falls like
        cells^-2. Empty cells are left out, zero eigenvalues have a cell of their own, and each cell
        stands at the mean of its eigenvalues. The result has no coordinates.

        Args:
            cells: number of cells between the smallest and the largest positive eigenvalue.

        Returns:
            The binned spectrum, and for each group the index of its cell.

        Raises:
            ValueError: `cells` below 1.
            TypeError: the spectrum is traced (the number of cells that are not empty is a shape).
        """
        if cells < 1:
            raise ValueError(f"cells: {cells}; allowed: at least 1")
        if not is_concrete(self):
            raise TypeError("binned: a traced spectrum; allowed: one with concrete leaves")
        eigenvalues = np.asarray(self.eigenvalues, np.float64)
        weights = np.asarray(self.weights, np.float64)
        positive = eigenvalues > 0
        cell = np.zeros(eigenvalues.shape, np.int64)
        if positive.any():
            logs = np.log(eigenvalues[positive])
            width = (logs.max() - logs.min()) / cells or 1.0
            cell[positive] = 1 + np.minimum((logs - logs.min()) / width, cells - 1).astype(np.int64)
        _, assignment = np.unique(cell, return_inverse=True)
        merged = np.bincount(assignment, weights)
        sums = np.bincount(assignment, weights * eigenvalues)
        nodes = np.divide(sums, merged, out=np.zeros_like(sums), where=merged > 0)
        return Spectrum(_float(nodes), _float(merged), self.dimension), assignment


def identity(d: _Dimension) -> Spectrum:
    """K = I: one group, whatever the dimension.

    Args:
        d: dimension, an integer or a scalar array.

    Raises:
        ValueError: d below 1.

    Example:
        >>> identity(10**9).eigenvalues.shape
        (1,)
    """
    size, dimension = _dimension(d)
    one = jnp.ones(1, dimension.dtype)
    return Spectrum(one, one, dimension, size=size)


def power_law(d: int, exponent: ArrayLike, *, normalise: bool = True) -> Spectrum:
    """lambda_i proportional to i^-exponent, i = 1, ..., d.

    Args:
        d: dimension, an integer.
        exponent: any finite number.
        normalise: scale to tr K/d = 1; otherwise lambda_1 = 1.

    Raises:
        ValueError: d below 1 or no integer, an exponent that is not finite.

    Example:
        >>> float(power_law(100, exponent=0.5).trace)
        1.0
    """
    size = _integer_dimension(d)
    exponent = _parameter("exponent", exponent)
    index = jnp.arange(1, size + 1, dtype=exponent.dtype)
    return _coordinates(index**-exponent, normalise)


def powers(d: int, exponent: ArrayLike, *, normalise: bool = True) -> Spectrum:
    """lambda_i proportional to (i/d)^(2 exponent), i = 1, ..., d: K = diag(sigma_i^(2 exponent)).

    Args:
        d: dimension, an integer.
        exponent: any finite number; 0 has equal eigenvalues, kept in d groups so that spectra of
            different exponents stack.
        normalise: scale to tr K/d = 1; otherwise lambda_d = 1.

    Raises:
        ValueError: d below 1 or no integer, an exponent that is not finite.

    Example:
        >>> powers(4, exponent=0.5, normalise=False).eigenvalues.tolist()
        [0.25, 0.5, 0.75, 1.0]
    """
    size = _integer_dimension(d)
    exponent = _parameter("exponent", exponent)
    sigma = jnp.arange(1, size + 1, dtype=exponent.dtype) / size
    return _coordinates(sigma ** (2 * exponent), normalise)


def uniform(d: int, low: ArrayLike, high: ArrayLike, *, normalise: bool = True) -> Spectrum:
    """Eigenvalues spread evenly over [low, high]: low + (high - low)(i - 1/2)/d.

    Args:
        d: dimension, an integer.
        low: at least 0.
        high: at least `low`.
        normalise: scale to tr K/d = 1.

    Raises:
        ValueError: d below 1 or no integer, 0 <= low <= high violated.

    Example:
        >>> uniform(2, 0.0, 4.0, normalise=False).eigenvalues.tolist()
        [1.0, 3.0]
    """
    size = _integer_dimension(d)
    low, high = _parameter("low", low), _parameter("high", high)
    if is_concrete(low, high) and not 0 <= float(low) <= float(high):
        raise ValueError(f"low, high: {float(low)}, {float(high)}; allowed: 0 <= low <= high")
    return _coordinates(low + (high - low) * _quantile_levels(size), normalise)


def explicit(
    eigenvalues: ArrayLike, multiplicities: ArrayLike | None = None, *, normalise: bool = True
) -> Spectrum:
    """The eigenvalues of K as given.

    Args:
        eigenvalues: (g,) finite, at least 0.
        multiplicities: (g,) positive integers, one for each eigenvalue. None: one each, in the
            order of the coordinates; runs of equal neighbours then become one group (without
            changing that order: sort them, where the order is free).
        normalise: scale to tr K/d = 1.

    Raises:
        ValueError: negative or non-finite eigenvalues, multiplicities that are not positive
            integers or as many as the eigenvalues.

    Example:
        >>> spectrum = explicit([0.5, 2.0], [60, 40], normalise=False)
        >>> spectrum.size, round(float(spectrum.trace), 6)
        (100, 1.1)
    """
    values = _float(eigenvalues)
    if values.ndim != 1 or values.shape[0] == 0:
        raise ValueError(f"eigenvalues: shape {values.shape}; allowed: (g,) with g at least 1")
    _check_eigenvalues(values)
    if multiplicities is None:
        if is_concrete(values):
            values, counts = _runs(np.asarray(values))
        else:
            counts = np.ones(values.shape[0], np.int64)
    else:
        counts = multiplicities
    if np.shape(counts) != values.shape:
        raise ValueError(
            f"multiplicities: shape {np.shape(counts)}; allowed: {values.shape}, one for each "
            "eigenvalue"
        )
    if is_concrete(counts):
        size = sum(_check_multiplicities(np.asarray(counts)).tolist())
        dimension = _float(size)
        weights = _float(np.asarray(counts, np.float64) / size)
    else:
        size, dimension = None, _float(counts).sum()
        weights = _float(counts) / dimension
    spectrum = Spectrum(_float(values), weights, dimension, size=size)
    return spectrum.normalised() if normalise else spectrum


def marchenko_pastur(
    d: _Dimension, ratio: ArrayLike, *, points: int | None = None, normalise: bool = True
) -> Spectrum:
    """The Marchenko-Pastur law of A^T A / n, A (n, d) with independent standard entries.

    Support [(1 - sqrt r)^2, (1 + sqrt r)^2] for r = d/n, and for r > 1 a mass 1 - 1/r at 0. Moments
    1, 1 + r, 1 + 3r + r^2, ...

    Args:
        d: dimension; an array is allowed with `points`.
        ratio: r = d/n > 0, the number of coordinates per sample.
        points: None for the law's quantiles (i - 1/2)/d as eigenvalues of d coordinates, in
            decreasing order; a number for its Gauss rule, which has no coordinates and is exact
            for moments up to degree 2 points - 1.
        normalise: scale to tr K/d = 1 (the Gauss rule is, in any case).

    Raises:
        ValueError: d or `points` below 1, a ratio that is not positive and finite.

    Example:
        >>> rule = marchenko_pastur(10**6, ratio=0.5, points=4)
        >>> round(float(rule.moment(jnp.square)), 4)
        1.5
    """
    ratio = _parameter("ratio", ratio)
    if is_concrete(ratio) and not float(ratio) > 0:
        raise ValueError(f"ratio: {float(ratio)}; allowed: positive")
    if points is None:
        return _coordinates(_marchenko_pastur_quantiles(_integer_dimension(d), ratio), normalise)
    if points < 1:
        raise ValueError(f"points: {points}; allowed: at least 1")
    # The law is the free Poisson law, whose orthogonal polynomials have constant coefficients.
    diagonal = jnp.full(points, 1 + ratio).at[0].set(1)
    nodes, weights = _golub_welsch(diagonal, jnp.full(points - 1, jnp.sqrt(ratio)))
    _, dimension = _dimension(d)
    return Spectrum(jnp.maximum(nodes, 0), weights, dimension)


def from_covariance(covariance: ArrayLike, *, normalise: bool = True) -> Spectrum:
    """The spectrum of a dense K, with its eigenvectors: K = basis diag(eigenvalues) basis^T.

    Eigenvalues that agree to rounding (eps d lambda_max) form one group at their mean. Negative
    ones within rounding are the rounding of zeros, and become zeros.

    Args:
        covariance: K (d, d), symmetric and positive semidefinite.
        normalise: scale to tr K/d = 1.

    Raises:
        ValueError: K not square, not finite, not symmetric or not positive semidefinite.

    Example:
        >>> spectrum = from_covariance([[2.0, 1.0], [1.0, 2.0]], normalise=False)
        >>> [round(float(value), 6) for value in spectrum.eigenvalues]
        [1.0, 3.0]
    """
    matrix = covariance if isinstance(covariance, jax.Array) else np.asarray(covariance)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or matrix.shape[0] == 0:
        raise ValueError(f"covariance: shape {matrix.shape}; allowed: (d, d) with d at least 1")
    if not is_concrete(matrix):
        eigenvalues, basis = jnp.linalg.eigh(_float(matrix))
        spectrum = explicit(jnp.maximum(eigenvalues, 0), normalise=normalise)
        return eqx.tree_at(lambda s: s.basis, spectrum, basis, is_leaf=lambda leaf: leaf is None)
    precision = np.dtype(matrix.dtype) if jnp.issubdtype(matrix.dtype, jnp.floating) else float
    eps, matrix = float(jnp.finfo(precision).eps), np.asarray(matrix, np.float64)
    if not np.isfinite(matrix).all():
        raise ValueError("covariance: NaN or infinite entries; allowed: finite numbers")
    rounding = eps * matrix.shape[0] * np.abs(matrix).max()
    asymmetry = np.abs(matrix - matrix.T).max()
    if asymmetry > rounding:
        raise ValueError(f"covariance: asymmetric by {asymmetry:.3g}; allowed: symmetric")
    eigenvalues, basis = np.linalg.eigh((matrix + matrix.T) / 2)
    rounding = eps * matrix.shape[0] * np.abs(eigenvalues).max()
    if eigenvalues[0] < -rounding:
        raise ValueError(
            f"covariance: lowest eigenvalue {eigenvalues[0]:.3g}; allowed: positive semidefinite"
        )
    eigenvalues, counts = _runs(np.maximum(eigenvalues, 0), rounding)
    spectrum = explicit(eigenvalues, counts, normalise=normalise)
    return Spectrum(
        spectrum.eigenvalues, spectrum.weights, spectrum.dimension, _float(basis), spectrum.size
    )


def validate(spectrum: Spectrum) -> None:
    """Check the concrete leaves of a spectrum again, which `eqx.tree_at` may have replaced.

    Leading axes of a stack of spectra are allowed; traced leaves are not looked at.

    Raises:
        ValueError: negative or non-finite eigenvalues, weights that are negative or do not sum to
            one, a dimension below 1, shapes that disagree.
    """
    eigenvalues, weights, basis = spectrum.eigenvalues, spectrum.weights, spectrum.basis
    if eigenvalues.shape[-1:] != weights.shape[-1:]:
        raise ValueError(
            f"weights: shape {weights.shape}; allowed: as the eigenvalues, {eigenvalues.shape}"
        )
    _check_eigenvalues(eigenvalues)
    if is_concrete(weights):
        values = np.asarray(weights, np.float64)
        if not np.all(values >= 0) or np.any(np.abs(values.sum(-1) - 1) > 1e-4):
            raise ValueError(
                f"weights: lowest {values.min()}, sum {values.sum(-1).max()}; allowed: 0 or more, "
                "with sum 1"
            )
    if is_concrete(spectrum.dimension):
        _check_dimension(np.asarray(spectrum.dimension))
    if basis is not None and basis.shape[-2:] != (spectrum.size, spectrum.size):
        raise ValueError(f"basis: shape {basis.shape}; allowed: (d, d) with d = {spectrum.size}")


def _coordinates(eigenvalues: Float[Array, " d"], normalise: bool) -> Spectrum:
    """One group for each coordinate: the shapes do not depend on the values, so these stack."""
    _check_eigenvalues(eigenvalues)
    d = eigenvalues.shape[0]
    weights = jnp.full(d, 1 / d, eigenvalues.dtype)
    spectrum = Spectrum(eigenvalues, weights, _float(d), size=d)
    return spectrum.normalised() if normalise else spectrum


def _quantile_levels(d: int) -> Float[Array, " d"]:
    return (jnp.arange(d, dtype=jnp.result_type(float)) + 0.5) / d


def _marchenko_pastur_quantiles(d: int, ratio: Float[Array, ""]) -> Float[Array, " d"]:
    """lambda = 1 + r + 2 sqrt(r) cos(theta), where the mass above lambda is the level (i - 1/2)/d.

    In theta the density 2 sin^2(theta) / (pi lambda) is smooth, and its integral is elementary.
    """
    c = jnp.sqrt(ratio)
    levels = _quantile_levels(d)

    def eigenvalue(theta: Array) -> Array:
        return (1 - c) ** 2 + 4 * c * jnp.cos(theta / 2) ** 2

    def mass_above(theta: Array) -> Array:
        sine, cosine = jnp.sin(theta / 2), jnp.cos(theta / 2)
        edge = jnp.arctan2(jnp.abs(1 - c) * sine, (1 + c) * cosine)
        arc = (1 + ratio) * theta - 2 * c * jnp.sin(theta) - 2 * jnp.abs(1 - ratio) * edge
        return arc / (2 * jnp.pi * ratio)

    def halve(_: Any, bracket: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = bracket
        middle = (low + high) / 2
        above = mass_above(middle) < levels
        return jnp.where(above, middle, low), jnp.where(above, high, middle)

    bounds = (jnp.zeros_like(levels), jnp.full_like(levels, jnp.pi))
    low, high = jax.lax.fori_loop(0, 30, halve, bounds)
    # Newton's step gives the last digits, and the derivative in the ratio.
    theta = jax.lax.stop_gradient((low + high) / 2)
    density = 2 * jnp.sin(theta) ** 2 / (jnp.pi * eigenvalue(theta))
    density = jax.lax.stop_gradient(jnp.maximum(density, jnp.finfo(density.dtype).tiny))
    theta = jnp.clip(theta - (mass_above(theta) - levels) / density, low, high)
    return jnp.where(levels < jnp.minimum(1, 1 / ratio), eigenvalue(theta), 0)


def _lanczos(
    eigenvalues: Float[Array, " g"], weights: Float[Array, " g"], points: int
) -> tuple[Float[Array, " p"], Float[Array, " p-1"]]:
    """The Jacobi matrix (diagonal, off-diagonal) of the measure, from the start sqrt(w).

    Written out for what a library's version lacks: a breakdown (fewer distinct eigenvalues than
    points) ends in vectors of zeros, which become nodes of weight zero.
    """
    scale = jnp.max(eigenvalues)
    tolerance = eigenvalues.shape[0] * jnp.finfo(eigenvalues.dtype).eps * scale

    def step(k: Any, carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        vectors, diagonal, off_diagonal = carry
        vector = vectors[k]
        image = eigenvalues * vector
        diagonal = diagonal.at[k].set(jnp.dot(vector, image, precision="highest"))
        for _ in range(2):  # twice is enough to be orthogonal to rounding (Kahan, Parlett)
            overlaps = jnp.dot(vectors, image, precision="highest")
            image = image - jnp.dot(overlaps, vectors, precision="highest")
        square = jnp.dot(image, image, precision="highest")
        broken = square <= tolerance**2
        norm = jnp.sqrt(jnp.where(broken, 1, square))
        vectors = vectors.at[k + 1].set(jnp.where(broken, 0, image / norm))
        return vectors, diagonal, off_diagonal.at[k].set(jnp.where(broken, 0, norm))

    start = jnp.zeros((points + 1, eigenvalues.shape[0]), eigenvalues.dtype)
    start = start.at[0].set(jnp.sqrt(weights / weights.sum()))
    zeros = jnp.zeros(points, eigenvalues.dtype)
    _, diagonal, off_diagonal = jax.lax.fori_loop(0, points, step, (start, zeros, zeros))
    return diagonal, off_diagonal[:-1]


def _golub_welsch(
    diagonal: Float[Array, " p"], off_diagonal: Float[Array, " p-1"]
) -> tuple[Float[Array, " p"], Float[Array, " p"]]:
    """Nodes and weights of the Gauss rule of a probability measure with this Jacobi matrix."""
    jacobi = jnp.diag(diagonal) + jnp.diag(off_diagonal, 1) + jnp.diag(off_diagonal, -1)
    nodes, vectors = jnp.linalg.eigh(jacobi)
    return nodes, vectors[0] ** 2


def _runs(
    values: Float[np.ndarray, " d"], tolerance: float = 0.0
) -> tuple[Float[np.ndarray, " g"], Int[np.ndarray, " g"]]:
    """Runs of neighbours that agree within `tolerance`: their mean values and their lengths."""
    starts = np.flatnonzero(np.concatenate([[True], np.abs(np.diff(values)) > tolerance]))
    counts = np.diff(np.append(starts, len(values)))
    if tolerance == 0:
        return values[starts], counts
    return np.add.reduceat(values, starts) / counts, counts


def _float(values: Any) -> Float[Array, "..."]:
    return jnp.asarray(values, jnp.result_type(float))


def _parameter(name: str, value: ArrayLike) -> Float[Array, ""]:
    array = _float(value)
    if array.ndim != 0:
        raise ValueError(f"{name}: shape {array.shape}; allowed: a scalar")
    if is_concrete(array) and not np.isfinite(array):
        raise ValueError(f"{name}: {float(array)}; allowed: finite")
    return array


def _dimension(d: _Dimension) -> tuple[int | None, Float[Array, ""]]:
    """The dimension as a shape (None if it was given as an array) and as a leaf."""
    if isinstance(d, int | np.integer):
        _check_dimension(np.asarray(d))
        return int(d), _float(int(d))
    dimension = _parameter("d", d)
    if is_concrete(dimension):
        _check_dimension(np.asarray(dimension))
    return None, dimension


def _integer_dimension(d: Any) -> int:
    size, _ = _dimension(d)
    if size is None:
        raise ValueError(f"d: {d!r}; allowed: a Python integer, which becomes a shape")
    return size


def _check_dimension(d: np.ndarray) -> None:
    if not np.all(d >= 1):
        raise ValueError(f"d: {d.min()}; allowed: at least 1")


def _check_eigenvalues(eigenvalues: Array) -> None:
    if not is_concrete(eigenvalues):
        return
    values = np.asarray(eigenvalues)
    bad = values[~(np.isfinite(values) & (values >= 0))]
    if bad.size:
        raise ValueError(f"eigenvalues: {bad.ravel()[0]}; allowed: finite, 0 or more")


def _check_multiplicities(counts: np.ndarray) -> np.ndarray:
    whole = np.round(counts)
    if not (np.isfinite(counts).all() and (whole == counts).all() and (whole >= 1).all()):
        raise ValueError(f"multiplicities: {counts}; allowed: positive integers")
    return whole.astype(np.int64)
