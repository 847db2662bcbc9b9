"""The reduction of a spectrum to a few nodes, for the sums over the spectrum in limits.

`OnePassSGD(compression=...)` and the predicted spread use `reduced`.  The limits depend on a
spectrum through its sums of lambda^k e^{-lambda tau}, at every tau > 0.  As functions of
u = log(1 + lambda/floor), with the floor near the smallest positive eigenvalue, these terms vary on
the same length scale anywhere in the spectrum.  Polynomials in u therefore approximate them equally
well, and the Gauss rule of the spectrum in the variable u converges geometrically in the number of
nodes per decade.  The Gauss rule in lambda converges only if e^{-lambda tau} is near a polynomial;
for a spectrum of many decades it resolves the upper end alone.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from hdjax.checks import checked, is_concrete
from hdjax.registry import PositiveFloat, Size
from hdjax.spectra._checks import as_float
from hdjax.spectra.spectrum import Spectrum

# Eigenvalues below this share of the mean are not resolved: they do not decay before t = 10^6.
_FLOOR = 1e-9
# More groups than this are merged in logarithmic cells of a width of .01, with an error of 10^-5.
_CELLS = 4096
# The largest number of nodes.
_MOST = 96
# The powers k: of the squared distance, of the risk, of the noise of the risk, of its covariance.
_POWERS = np.arange(4)
# The number of times tau, and lambda tau of the smallest eigenvalue at the last of them.
_TIMES, _DECAY = 48, 8.0


class Reduction(eqx.Module):
    """The reduction of a spectrum to p nodes, with its error.

    Attributes:
        spectrum: the nodes and their weights, a spectrum without coordinates.
        error: the largest relative error of sum_i w_i lambda_i^k e^{-lambda_i tau}, k = 0, ..., 3,
            for tau from 0 to 8 over the smallest eigenvalue.
        floor: the floor in the variable u = log(1 + lambda/floor).
        diagonal: (p,) diagonal of the Jacobi matrix of the spectrum in the variable u.
        off_diagonal: (p - 1,) off-diagonal of the Jacobi matrix.
        vectors: (p, p) eigenvectors of the Jacobi matrix, as columns.
    """

    spectrum: Spectrum
    error: Float[Array, ""]
    floor: Float[Array, ""]
    diagonal: Float[Array, " p"]
    off_diagonal: Float[Array, " p-1"]
    vectors: Float[Array, "p p"]

    def gather(
        self, eigenvalues: Float[Array, " g"], values: Float[Array, "g *rest"]
    ) -> Float[Array, "p *rest"]:
        """Values of groups, such as Gram blocks, gathered at the nodes with the same sum.

        The value of a group is distributed over all nodes by Lagrange interpolation in u.  Values
        proportional to the weights of the groups become values proportional to the weights of the
        nodes, and sums of values times polynomials in u up to degree p - 1 are exact.

        Args:
            eigenvalues: (g,) eigenvalues of the groups.
            values: (g, ...) values of the groups.

        Returns:
            The values (p, ...) of the nodes.
        """
        u = jnp.log1p(eigenvalues / self.floor)

        def moment(carry: tuple[Array, Array], coefficients: tuple[Array, Array, Array]) -> Any:
            before, now = carry
            centre, last, following = coefficients
            later = ((u - centre) * now - last * before) / following
            return (now, later), jnp.tensordot(now, values, 1)

        last = jnp.concatenate([jnp.zeros_like(self.diagonal[:1]), self.off_diagonal])
        following = jnp.concatenate([self.off_diagonal, jnp.ones_like(self.diagonal[:1])])
        start = jnp.zeros_like(u), jnp.ones_like(u)
        _, moments = jax.lax.scan(moment, start, (self.diagonal, last, following))
        return jnp.tensordot(self.vectors[0][:, None] * self.vectors.T, moments, 1)


@checked
def reduced(
    spectrum: Spectrum,
    tolerance: PositiveFloat,
    measures: Float[np.ndarray, "g r"] | None = None,
    most: Size = _MOST,
) -> Reduction | None:
    """The `Reduction` of a spectrum to the smallest number of nodes with an error in `tolerance`.

    Args:
        spectrum: the spectrum, with concrete leaves.
        tolerance: the largest relative error of sums of lambda^k e^{-lambda tau}.
        measures: (g, r) other measures on the groups, at least 0; their sums must have the same
            accuracy when they are gathered at the nodes.  None: there are none.
        most: the largest number of nodes.

    Returns:
        The reduction, or None if `most` nodes, or as many as there are groups, are not enough.

    Raises:
        TypeError: a traced spectrum.

    Example:
        >>> spectrum = hd.spectra.power_law(100_000, exponent=1.0)
        >>> reduction = hd.spectra.reduced(spectrum, tolerance=1e-3)
        >>> reduction.spectrum.eigenvalues.shape, float(reduction.error) < 1e-3
        ((20,), True)
    """
    if not is_concrete(spectrum):
        raise TypeError("reduced: a traced spectrum; allowed: a spectrum with concrete leaves")
    values = np.asarray(spectrum.eigenvalues, np.float64)
    weights = np.asarray(spectrum.weights, np.float64)
    given = np.zeros((values.size, 0)) if measures is None else np.asarray(measures, np.float64)
    if values.size > _CELLS:
        merged, cell = spectrum.binned(_CELLS)
        values, weights = (np.asarray(x, np.float64) for x in (merged.eigenvalues, merged.weights))
        given = np.stack([np.bincount(cell, column, values.size) for column in given.T] or [()], -1)
        given = given.reshape(values.size, -1)
    # The Jacobi matrix is computed by the QR decomposition of polynomials.
    mean = weights @ values
    floor = max(values[values > 0].min(initial=np.inf), _FLOOR * mean) if mean > 0 else 1.0
    u = np.log1p(values / floor)
    count = min(most, len(np.unique(u)))
    scaled = 2 * (u - u.min()) / max(np.ptp(u), 1e-300) - 1
    basis = np.polynomial.chebyshev.chebvander(scaled, count - 1)
    basis, _ = np.linalg.qr(np.sqrt(weights / weights.sum())[:, None] * basis)
    jacobi = (basis.T * u) @ basis
    # Signs are chosen so that the first polynomial and the off-diagonal are positive.
    signs = np.cumprod(np.sign(np.concatenate([basis[:1, 0], np.diag(jacobi, 1)])))
    jacobi = jacobi * signs * signs[:, None]
    taus = np.concatenate([[0.0], np.geomspace(0.1 / values.max(), _DECAY / floor, _TIMES)])

    def sums(nodes: np.ndarray, weights: np.ndarray) -> np.ndarray:
        decays = np.exp(-taus[:, None] * nodes)
        return np.einsum("tn,kn,nr->tkr", decays, nodes ** _POWERS[:, None], weights, optimize=True)

    exact = sums(values, np.column_stack([weights, given]))
    for p in range(1, count + 1):
        theta, vectors = np.linalg.eigh(jacobi[:p, :p])
        nodes, at = floor * np.expm1(np.clip(theta, 0, u.max())), vectors[0] ** 2
        if mean > 0 and at @ nodes > 0:
            nodes = nodes * mean / (at @ nodes)
        shares = (basis[:, :p] * signs[:p]) @ vectors * vectors[0]
        gathered = (shares / np.sqrt(weights / weights.sum())[:, None]).T @ given
        found = sums(nodes, np.column_stack([at, gathered]))
        error = np.max(np.abs(found - exact) / np.where(exact > 0, exact, 1))
        if error <= tolerance:
            rule = Spectrum(as_float(nodes), as_float(at), spectrum.dimension)
            parts = error, floor, np.diag(jacobi[:p, :p]), np.diag(jacobi[:p, :p], 1), vectors
            return Reduction(rule, *map(as_float, parts))
    return None
