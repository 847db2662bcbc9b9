"""The class `Spectrum`: the measure mu = sum_i w_i delta(lambda_i) of eigenvalues of a covariance.

The functions of `laws.py` make spectra; systems of SGD use them.
"""

from collections.abc import Callable

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from hdjax.checks import Checked, is_concrete
from hdjax.spectra._checks import as_float, check_dimension, check_eigenvalues
from hdjax.spectra._gauss import golub_welsch, lanczos


class Spectrum(Checked):
    """The groups of equal eigenvalues of a covariance K (made by functions of `hdjax.spectra`).

    Attributes:
        eigenvalues: (g,) lambda_i >= 0, one for each group, O(1).
        weights: (g,) w_i = d_i / d >= 0, summing to one.
        dimension: d, a float scalar: a leaf, so that spectra of different d stack.
        basis: (d, d) eigenvectors of K as columns, or None where K is diagonal.
        size: d as a Python integer, for shapes; None if the spectrum has no coordinates (a
            quadrature rule, or d given as an array).
    """

    eigenvalues: Float[Array, " g"]
    weights: Float[Array, " g"]
    dimension: Float[Array, ""]
    basis: Float[Array, "d d"] | None = None
    size: int | None = eqx.field(static=True, default=None)

    @property
    def trace(self) -> Float[Array, "*stack"]:
        """The trace tr K / d."""
        return self.moment(lambda eigenvalues: eigenvalues)

    @property
    def multiplicities(self) -> Float[Array, "*stack g"]:
        """The multiplicities d_i as floats; those of a quadrature rule need not be integers."""
        return self.weights * self.dimension[..., None]

    def moment(self, fn: Callable[[Array], Array]) -> Float[Array, "*stack"]:
        """The trace tr fn(K) / d for a function of the eigenvalues, such as `jnp.square`."""
        return jnp.sum(self.weights * fn(self.eigenvalues), axis=-1)

    def normalised(self) -> "Spectrum":
        """The spectrum of K d / tr K, which has tr K/d = 1.

        Raises:
            ValueError: tr K = 0.
        """
        trace = self.trace
        if is_concrete(trace) and not np.all(np.asarray(trace) > 0):
            raise ValueError(
                f"eigenvalues: mean {np.asarray(trace)}; allowed: positive, to scale to tr K/d = 1"
            )
        eigenvalues = self.eigenvalues / trace[..., None]
        return eqx.tree_at(lambda spectrum: spectrum.eigenvalues, self, eigenvalues)

    @property
    def groups(self) -> Int[Array, " d"]:
        """The index of the group of each of the d coordinates, in increasing order.

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
        """The values (d, ...) of the coordinates from the values (g, ...) of their groups."""
        return values[self.groups]

    def compress(self, points: int) -> "Spectrum":
        """The Gauss rule of mu: few eigenvalues with the same moments up to degree 2 points - 1.

        Integrals of functions that are near polynomials on the whole spectrum converge
        geometrically in `points`. The rule does not resolve functions that vary at the lower end of
        the spectrum alone, such as e^{-lambda t} at late times in a spectrum of many decades; use
        `hdjax.spectra.reduced` for them. The rule has no coordinates.

        Args:
            points: number of nodes; if there are no more groups than this, the measure itself is
                returned, without coordinates.

        Raises:
            ValueError: `points` below 1.

        Example:
            >>> from hdjax import spectra
            >>> rule = spectra.power_law(10_000, exponent=0.6).compress(8)
            >>> rule.eigenvalues.shape
            (8,)
        """
        if points < 1:
            raise ValueError(f"points: {points}; allowed: at least 1")
        if points >= self.eigenvalues.shape[-1]:
            return Spectrum(self.eigenvalues, self.weights, self.dimension)
        nodes, weights = golub_welsch(*lanczos(self.eigenvalues, self.weights, points))
        # Without rounding, nodes lie between the extreme eigenvalues.
        nodes = jnp.clip(nodes, self.eigenvalues.min(), self.eigenvalues.max())
        return Spectrum(nodes, weights, self.dimension)

    def binned(self, cells: int) -> tuple["Spectrum", Int[np.ndarray, " g"]]:
        """The spectrum of groups merged in logarithmic cells, and the cell of each group.

        Values of the groups, such as Gram blocks of given columns, are summed within cells by
        `jax.ops.segment_sum(blocks, cell, number of cells)`. The error decreases like cells^-2.
        Empty cells are left out, zero eigenvalues have a separate cell, and the eigenvalue of each
        cell is the mean over its groups. The result has no coordinates.

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
            raise TypeError("binned: a traced spectrum; allowed: a spectrum with concrete leaves")
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
        return Spectrum(as_float(nodes), as_float(merged), self.dimension), assignment


def validate(spectrum: Spectrum) -> None:
    """Check the concrete leaves of a spectrum, since `eqx.tree_at` may have replaced them.

    Leading axes of a stack of spectra are allowed; traced leaves are not checked.

    Raises:
        ValueError: negative or non-finite eigenvalues, weights that are negative or do not sum to
            one, a dimension below 1, shapes that disagree.
    """
    eigenvalues, weights, basis = spectrum.eigenvalues, spectrum.weights, spectrum.basis
    if eigenvalues.shape[-1:] != weights.shape[-1:]:
        raise ValueError(
            f"weights: shape {weights.shape}; allowed: {eigenvalues.shape}, the shape of the "
            "eigenvalues"
        )
    check_eigenvalues(eigenvalues)
    if is_concrete(weights):
        values = np.asarray(weights, np.float64)
        if not np.all(values >= 0) or np.any(np.abs(values.sum(-1) - 1) > 1e-4):
            raise ValueError(
                f"weights: lowest {values.min()}, sum {values.sum(-1).max()}; allowed: numbers of "
                "at least 0 with sum 1"
            )
    if is_concrete(spectrum.dimension):
        check_dimension(np.asarray(spectrum.dimension))
    if basis is not None and basis.shape[-2:] != (spectrum.size, spectrum.size):
        raise ValueError(f"basis: shape {basis.shape}; allowed: (d, d) with d = {spectrum.size}")
