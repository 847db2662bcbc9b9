"""The functions with which users make a `Spectrum`: identity, power laws, given eigenvalues, ...

Functions that describe a shape, such as `power_law`, scale it to tr K/d = 1 unless
`normalise=False`. Functions of given numbers (`explicit`, `from_covariance`) do not scale them by
default.

Spectra with one eigenvalue for each coordinate have d groups whatever their parameters are, so that
spectra of different parameters have equal shapes and stack into a sweep.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from hdjax.checks import checked, is_concrete
from hdjax.registry import Size, Slot, declare, register
from hdjax.spectra._checks import (
    Dimension,
    Entries,
    Exponent,
    NonNegative,
    Positive,
    as_dimension,
    as_float,
    as_integer_dimension,
    as_parameter,
    check_eigenvalues,
    check_multiplicities,
)
from hdjax.spectra._gauss import golub_welsch
from hdjax.spectra.spectrum import Spectrum

declare("spectrum", Slot(given=("d",)))


def _explicit(d: int | None = None, weights: Entries | None = None, **options: Any) -> Spectrum:
    """Given eigenvalues, with `multiplicities` or with `weights`.

    Args:
        d: the dimension; None: the sum of the multiplicities.
        weights: (g,) the share of the dimension that each eigenvalue has.
        **options: further arguments of `explicit`.
    """
    if weights is not None:
        if options.get("multiplicities") is not None:
            raise ValueError("weights: given beside multiplicities; allowed: one of the two")
        if d is None:
            raise ValueError("weights: given without a dimension; allowed with a dimension")
        options["multiplicities"] = _shared_out(np.asarray(weights), d)
    return _agreed(explicit(**options), d)


def _from_covariance(d: int | None = None, **options: Any) -> Spectrum:
    return _agreed(from_covariance(**options), d)


def _agreed(spectrum: Spectrum, d: int | None) -> Spectrum:
    if d is not None and d != spectrum.size:
        raise ValueError(
            f"dimension: {d}; allowed: {spectrum.size}, that of the spectrum, or no dimension"
        )
    return spectrum


def _shared_out(weights: np.ndarray, d: int) -> Int[np.ndarray, " g"]:
    """Multiplicities near weights * d whose sum is d, by the method of largest remainders."""
    if not (np.all(weights > 0) and abs(weights.sum() - 1) < 1e-6):
        raise ValueError(f"weights: {weights}; allowed: positive numbers that sum to 1")
    exact = weights * d
    counts = np.floor(exact + 1e-9).astype(np.int64)
    order = np.argsort(counts - exact, kind="stable")
    counts[order[: d - counts.sum()]] += 1
    return counts


@register("spectrum", "identity")
@checked
def identity(d: Dimension) -> Spectrum:
    """The spectrum of K = I, which has one group whatever the dimension is.

    Args:
        d: dimension, an integer, or a scalar array (the spectrum then has no coordinates).

    Raises:
        ValueError: d below 1.

    Example:
        >>> identity(10**9).eigenvalues.shape
        (1,)
    """
    size, dimension = as_dimension(d)
    one = jnp.ones(1, dimension.dtype)
    return Spectrum(one, one, dimension, size=size)


@register("spectrum", "power_law")
@checked
def power_law(d: Size, exponent: Exponent, *, normalise: bool = True) -> Spectrum:
    """The power-law spectrum: lambda_i proportional to i^-exponent, i = 1, ..., d.

    Args:
        d: dimension, an integer.
        exponent: any finite number.
        normalise: True scales to tr K/d = 1; False: lambda_1 = 1.

    Raises:
        ValueError: d below 1 or no integer, an exponent that is not finite.

    Example:
        >>> round(float(power_law(100, exponent=0.5).trace), 6)
        1.0
    """
    size = as_integer_dimension(d)
    exponent = as_parameter("exponent", exponent)
    index = jnp.arange(1, size + 1, dtype=exponent.dtype)
    return _coordinates(index**-exponent, normalise)


@register("spectrum", "powers")
@checked
def powers(d: Size, exponent: Exponent, *, normalise: bool = True) -> Spectrum:
    """The spectrum of K = diag(sigma_i^(2 exponent)) with sigma_i = i/d, i = 1, ..., d.

    Source: the slides "Hitting the High-D(imensional) Notes", slide "Logistic regression", whose
    caption has this K with tr K/d = 1; sigma_i, which it does not define, is chosen here.

    Args:
        d: dimension, an integer.
        exponent: any finite number; with 0 all eigenvalues are equal, and still in d groups, so
            that spectra of different exponents stack.
        normalise: True scales to tr K/d = 1; False: lambda_d = 1.

    Raises:
        ValueError: d below 1 or no integer, an exponent that is not finite.

    Example:
        >>> powers(4, exponent=0.5, normalise=False).eigenvalues.tolist()
        [0.25, 0.5, 0.75, 1.0]
    """
    size = as_integer_dimension(d)
    exponent = as_parameter("exponent", exponent)
    sigma = jnp.arange(1, size + 1, dtype=exponent.dtype) / size
    return _coordinates(sigma ** (2 * exponent), normalise)


@register("spectrum", "uniform")
@checked
def uniform(d: Size, low: NonNegative, high: NonNegative, *, normalise: bool = True) -> Spectrum:
    """The spectrum of eigenvalues low + (high - low)(i - 1/2)/d, i = 1, ..., d.

    Args:
        d: dimension, an integer.
        low: lower end of the interval, at least 0.
        high: upper end of the interval, at least `low`.
        normalise: True scales to tr K/d = 1; False leaves the eigenvalues as they are.

    Raises:
        ValueError: d below 1 or no integer, or 0 <= low <= high does not hold.

    Example:
        >>> uniform(2, 0.0, 4.0, normalise=False).eigenvalues.tolist()
        [1.0, 3.0]
    """
    size = as_integer_dimension(d)
    low, high = as_parameter("low", low), as_parameter("high", high)
    if is_concrete(low, high) and not 0 <= float(low) <= float(high):
        raise ValueError(f"low, high: {float(low)}, {float(high)}; allowed: 0 <= low <= high")
    return _coordinates(low + (high - low) * _quantile_levels(size), normalise)


@register("spectrum", "explicit", _explicit)
@checked
def explicit(
    eigenvalues: Entries,
    multiplicities: Entries | None = None,
    *,
    normalise: bool = False,
) -> Spectrum:
    """The spectrum of given eigenvalues of K.

    Args:
        eigenvalues: (g,) finite, at least 0.
        multiplicities: (g,) positive integers, one for each eigenvalue. None: the eigenvalues are
            those of the coordinates, in their order, and each run of equal neighbours becomes one
            group (sort the eigenvalues if their order is free: there are then fewer groups).
        normalise: True scales to tr K/d = 1; False leaves the eigenvalues as they are.

    Raises:
        ValueError: negative or non-finite eigenvalues, multiplicities that are not positive
            integers, or arrays of different lengths.

    Example:
        >>> spectrum = explicit([0.5, 2.0], [60, 40])
        >>> spectrum.size, round(float(spectrum.trace), 6)
        (100, 1.1)
    """
    values = as_float(eigenvalues)
    if values.ndim != 1 or values.shape[0] == 0:
        raise ValueError(f"eigenvalues: shape {values.shape}; allowed: (g,) with g at least 1")
    check_eigenvalues(values)
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
        size = sum(check_multiplicities(np.asarray(counts)).tolist())
        dimension = as_float(size)
        weights = as_float(np.asarray(counts, np.float64) / size)
    else:
        size, dimension = None, as_float(counts).sum()
        weights = as_float(counts) / dimension
    spectrum = Spectrum(as_float(values), weights, dimension, size=size)
    return spectrum.normalised() if normalise else spectrum


@register("spectrum", "marchenko_pastur")
@checked
def marchenko_pastur(
    d: Dimension, ratio: Positive, *, points: Size | None = None, normalise: bool = True
) -> Spectrum:
    """The Marchenko-Pastur law: the spectrum of A^T A / n as n and d grow.

    The entries of A (n, d) are independent, of mean 0 and variance 1. The support of the law is
    [(1 - sqrt r)^2, (1 + sqrt r)^2] with r = d/n, and for r > 1 the law also has the mass
    1 - 1/r at 0. Its moments are 1, 1 + r, 1 + 3r + r^2, ...

    Args:
        d: dimension; an array is allowed with `points`.
        ratio: r = d/n > 0, the number of coordinates per sample.
        points: None: the eigenvalues of d coordinates are the quantiles (i - 1/2)/d of the law, in
            decreasing order; a number: the nodes of its Gauss rule, which has no coordinates and is
            exact for moments up to degree 2 points - 1.
        normalise: True scales to tr K/d = 1, which the Gauss rule has in any case.

    Raises:
        ValueError: d or `points` below 1, a ratio that is not positive and finite.

    Example:
        >>> rule = marchenko_pastur(10**6, ratio=0.5, points=4)
        >>> round(float(rule.moment(jnp.square)), 4)
        1.5
    """
    ratio = as_parameter("ratio", ratio)
    if points is None:
        return _coordinates(_marchenko_pastur_quantiles(as_integer_dimension(d), ratio), normalise)
    # The law is the free Poisson law, whose orthogonal polynomials have constant coefficients.
    diagonal = jnp.full(points, 1 + ratio).at[0].set(1)
    nodes, weights = golub_welsch(diagonal, jnp.full(points - 1, jnp.sqrt(ratio)))
    _, dimension = as_dimension(d)
    return Spectrum(jnp.maximum(nodes, 0), weights, dimension)


@register("spectrum", "covariance", _from_covariance)
@checked
def from_covariance(covariance: Entries, *, normalise: bool = False) -> Spectrum:
    """The spectrum of a dense K, with its eigenvectors: K = basis diag(eigenvalues) basis^T.

    Eigenvalues that agree within rounding (eps d lambda_max) form one group at their mean. Negative
    eigenvalues within rounding of zero become zero.

    Args:
        covariance: K (d, d), symmetric and positive semidefinite.
        normalise: True scales to tr K/d = 1; False leaves K as it is.

    Raises:
        ValueError: K not square, not finite, not symmetric or not positive semidefinite.

    Example:
        >>> spectrum = from_covariance([[2.0, 1.0], [1.0, 2.0]])
        >>> [round(float(value), 6) for value in spectrum.eigenvalues]
        [1.0, 3.0]
    """
    matrix = covariance if isinstance(covariance, jax.Array) else np.asarray(covariance)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or matrix.shape[0] == 0:
        raise ValueError(f"covariance: shape {matrix.shape}; allowed: (d, d) with d at least 1")
    if not is_concrete(matrix):
        eigenvalues, basis = jnp.linalg.eigh(as_float(matrix))
        return _with_basis(explicit(jnp.maximum(eigenvalues, 0), normalise=normalise), basis)
    precision = np.dtype(matrix.dtype) if jnp.issubdtype(matrix.dtype, jnp.floating) else float
    eps, matrix = float(jnp.finfo(precision).eps), np.asarray(matrix, np.float64)
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
    return _with_basis(explicit(eigenvalues, counts, normalise=normalise), as_float(basis))


def _with_basis(spectrum: Spectrum, basis: Float[Array, "d d"]) -> Spectrum:
    return Spectrum(
        spectrum.eigenvalues, spectrum.weights, spectrum.dimension, basis, spectrum.size
    )


def _coordinates(eigenvalues: Float[Array, " d"], normalise: bool) -> Spectrum:
    """The spectrum with one group for each coordinate; its shapes do not depend on the values."""
    check_eigenvalues(eigenvalues)
    d = eigenvalues.shape[0]
    weights = jnp.full(d, 1 / d, eigenvalues.dtype)
    spectrum = Spectrum(eigenvalues, weights, as_float(d), size=d)
    return spectrum.normalised() if normalise else spectrum


def _quantile_levels(d: int) -> Float[Array, " d"]:
    return (jnp.arange(d, dtype=jnp.result_type(float)) + 0.5) / d


def _marchenko_pastur_quantiles(d: Size, ratio: Float[Array, ""]) -> Float[Array, " d"]:
    """The eigenvalues above which the Marchenko-Pastur law has the mass (i - 1/2)/d.

    With lambda = 1 + r + 2 sqrt(r) cos(theta), the density 2 sin^2(theta) / (pi lambda) is smooth
    in theta and has an elementary integral.
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
    low, high = jax.lax.stop_gradient(jax.lax.fori_loop(0, 52, halve, bounds))
    theta = (low + high) / 2
    # This Newton step of size zero gives the derivative in the ratio (implicit function theorem).
    mass = mass_above(theta)
    density = jax.lax.stop_gradient(2 * jnp.sin(theta) ** 2 / (jnp.pi * eigenvalue(theta)))
    theta = theta - (mass - jax.lax.stop_gradient(mass)) / density
    return jnp.where(levels < jnp.minimum(1, 1 / ratio), eigenvalue(theta), 0)


def _runs(
    values: Float[np.ndarray, " d"], tolerance: float = 0.0
) -> tuple[Float[np.ndarray, " g"], Int[np.ndarray, " g"]]:
    """The mean values and lengths of the runs of neighbours that agree within `tolerance`."""
    starts = np.flatnonzero(np.concatenate([[True], np.abs(np.diff(values)) > tolerance]))
    counts = np.diff(np.append(starts, len(values)))
    if tolerance == 0:
        return values[starts], counts
    return np.add.reduceat(values, starts) / counts, counts
