"""Least squares in the eigenbasis of A^T A: all that the limits know of a problem.

    L(X) = floor + 1/2 sum_j (s_j x_j - y_j)^2,    lambda_j = s_j^2,

with x_j the coordinates of X on the right singular vectors of A = U diag(s) V^T, y = U^T b and the
floor the part of 1/2 |b|^2 that no X reaches.  The limits are linear in two measures,
sum_j rho_j^2 delta_{lambda_j} of the initial residuals rho = s x(0) - y and sum_j m_j
delta_{lambda_j} of the noise directions (m_j = 1), so the same structure holds quadrature rules of
either: of Lanczos, or of a law as n and d grow together.

Sources: arXiv 2102.04396, 2205.07069, 2206.01029.
"""

from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from hdjax import precise
from hdjax.multipass.laws import MarchenkoPastur, SpectralLaw
from hdjax.multipass.problem import Problem
from hdjax.multipass.quadratics import Quadratic, QuadraticForm


class Modes(eqx.Module):
    """Eigenvalues, the start and the labels on their eigenvectors, and quadratic statistics.

    Attributes:
        eigenvalues: (p,) lambda_j >= 0 of A^T A.
        multiplicities: (p,) m_j, noise directions at lambda_j: 1, or the weights of a rule.
        start: (p,) x_j(0).
        labels: (p,) y_j; 0 where lambda_j = 0.
        floor: the constant part of L.
        samples: n, a float scalar.
        quadratics: statistics as functions of x, by name.
        delocalisation: of the left singular vectors (`delocalisation`); None of a rule.
    """

    eigenvalues: Float[Array, " p"]
    multiplicities: Float[Array, " p"]
    start: Float[Array, " p"]
    labels: Float[Array, " p"]
    floor: Float[Array, ""]
    samples: Float[Array, ""]
    quadratics: dict[str, QuadraticForm]
    delocalisation: Float[Array, ""] | None = None

    @property
    def singular_values(self) -> Float[Array, " p"]:
        """s_j."""
        return jnp.sqrt(self.eigenvalues)

    @property
    def residuals(self) -> Float[Array, " p"]:
        """rho_j at the start."""
        return self.singular_values * self.start - self.labels

    def mean_loss(self, residuals: Float[Array, " p"]) -> Float[Array, ""]:
        """L, a sum over samples, of a point with these residuals."""
        return self.floor + jnp.sum(residuals**2) / 2

    def noise_loss(self, variances: Float[Array, " p"]) -> Float[Array, ""]:
        """What variances of the coordinates add to L."""
        return jnp.sum(self.multiplicities * self.eigenvalues * variances) / 2

    def coordinates(self, residuals: Float[Array, " p"]) -> Float[Array, " p"]:
        """x_j of these residuals; where s_j = 0, the start's."""
        s = self.singular_values
        zero = s == 0
        return jnp.where(zero, self.start, (residuals + self.labels) / jnp.where(zero, 1, s))

    def values(
        self,
        residuals: Float[Array, " p"],
        coordinates: Float[Array, " p"],
        variances: Float[Array, " p"],
    ) -> dict[str, Array]:
        """Loss per sample and the quadratic statistics at a mean with these variances round it."""
        loss = self.mean_loss(residuals) + self.noise_loss(variances)
        weighted = self.multiplicities * variances / 2
        values = {
            name: form(coordinates) + precise.dot(form.diagonal(), weighted)
            for name, form in self.quadratics.items()
        }
        return {"loss": loss / self.samples} | values


def delocalisation(
    eigenvalues: Float[np.ndarray, " p"], left: Float[np.ndarray, "n p"]
) -> Float[Array, ""]:
    """The mean of n max_i u_ji^2 over left singular vectors, weighted by their noise lambda_j^2.

    About 2 log n for vectors like Gaussian ones, n for vectors that are single samples.

    Args:
        eigenvalues: (p,) lambda_j of A^T A.
        left: (n, p) left singular vectors as columns.

    Example:
        >>> float(delocalisation(np.ones(4), np.eye(4)))
        4.0
    """
    weights = np.asarray(eigenvalues) ** 2
    largest = left.shape[0] * np.max(left**2, axis=0)
    total = weights.sum()
    return jnp.asarray(weights @ largest / total if total > 0 else 0.0, jnp.result_type(float))


def svd_modes(problem: Problem) -> tuple[Modes, Float[np.ndarray, "n p"]]:
    """The modes of a problem by a singular value decomposition, and the left singular vectors.

    Singular values that rounding alone may have made count as zero (`problem.rounding` says how
    the entries of A are rounded).  Quadratic statistics are given in the coordinates x of the mean
    path, the part of X_0 that no sample sees being constant.

    Example:
        >>> matrix = jnp.array([[1.0, 1e9], [1.0, 2e9], [1.0, 4e9]])
        >>> modes, _ = svd_modes(hd.multipass.Problem(matrix, jnp.ones(3)))
        >>> int((modes.eigenvalues > 0).sum())
        2
    """
    matrix = np.asarray(problem.matrix, np.float64)
    labels, start = np.asarray(problem.labels, float), np.asarray(problem.start, float)
    u, s, vt = np.linalg.svd(matrix, full_matrices=False)
    kept = s > _rounding_of(s, u, matrix, vt, problem.rounding)
    s = np.where(kept, s, 0)
    x = vt @ start
    y = np.where(kept, u.T @ labels, 0)
    residual = matrix @ start - labels
    floor = ((residual - u @ np.where(kept, u.T @ residual, 0)) ** 2).sum() / 2
    basis, origin = as_float(vt.T), as_float(start - vt.T @ x)
    forms = {name: form.restrict(basis, origin) for name, form in problem.quadratics.items()}
    n = matrix.shape[0]
    spread = delocalisation(s**2, u)
    return _modes(s**2, np.ones_like(s), x, y, floor, n, forms, spread), u


def _rounding_of(
    s: Float[np.ndarray, " p"],
    u: Float[np.ndarray, "n p"],
    matrix: Float[np.ndarray, "n d"],
    vt: Float[np.ndarray, "p d"],
    rounding: float,
) -> Float[np.ndarray, " p"]:
    """How large a singular value that is zero in exact arithmetic may come out.

    The decomposition moves a singular value by up to eps max(n, d) s_max.  Entries that are right
    to `rounding` |A_ij| move it by up to `rounding` |u|^T |A| |v|, which is small for a column of
    small numbers beside columns of large ones.
    """
    computed = np.finfo(s.dtype).eps * max(matrix.shape) * s.max(initial=0)
    given = rounding * np.sum((np.abs(matrix).T @ np.abs(u)).T * np.abs(vt), axis=1)
    return np.maximum(computed, given)


def law_modes(
    law: SpectralLaw,
    samples: int,
    *,
    signal: float = 1.0,
    noise: float = 0.0,
    points: int = 400,
    risk: bool = False,
) -> Modes:
    """The modes of b = A X* + eta from X_0 = 0, as n and d grow at a fixed ratio.

    X* is isotropic with |X*|^2 = d signal^2, eta has entries of variance noise^2, so that
    E rho_j^2 = lambda_j signal^2 + noise^2 on each of d directions.

    Args:
        law: of the eigenvalues of A^T A.
        samples: n; what is of order n is proportional to it.
        signal: root mean square of the entries of X*.
        noise: standard deviation of eta.
        points: nodes of the rule of the law's density.
        risk: also the population risk 1/2 E (a^T X - b)^2 of a fresh sample, named "risk" (for
            samples with independent entries).

    Raises:
        ValueError: numbers out of range, `risk` with another law than `MarchenkoPastur`.

    Example:
        >>> modes = law_modes(MarchenkoPastur(0.5), 100, noise=0.5)
        >>> round(float(modes.mean_loss(modes.residuals)) / 100, 6)
        0.625
    """
    for name, value in (("signal", signal), ("noise", noise)):
        if not (np.isfinite(value) and value >= 0):
            raise ValueError(f"{name}: {value}; allowed: finite, 0 or more")
    nodes, weights = law.rule(points)
    dimension = law.ratio * samples
    floor = samples * noise**2 / 2 * max(1 - law.ratio, 0)
    counts = dimension * weights
    s, root = np.sqrt(nodes), np.sqrt(counts)
    if not risk:
        labels = -root * np.sqrt(nodes * signal**2 + noise**2)
        return _modes(nodes, counts, 0 * s, labels, floor, samples, {})
    if not isinstance(law, MarchenkoPastur):
        raise ValueError(f"risk: True with {type(law).__name__}; allowed: MarchenkoPastur")
    # Signal and noise reach the risk differently: a node for each, sharing the directions.
    target = np.concatenate([root * signal, 0 * root])
    labels = np.concatenate([root * s * signal, root * noise])
    nodes, counts = np.tile(nodes, 2), np.tile(counts / 2, 2)
    second = law.variance / samples
    lost = dimension * signal**2 - (target**2).sum()
    constant = second / 2 * (target @ target + lost) + noise**2 / 2
    form = Quadratic(second * np.eye(len(target)), -second * target, constant)
    return _modes(nodes, counts, 0 * labels, labels, floor, samples, {"risk": form})


def lanczos_modes(problem: Problem, points: int, key: Key[Array, ""], probes: int = 8) -> Modes:
    """The modes of a large problem without its decomposition, by Lanczos quadrature.

    Two rules: of the residuals' measure, from A A^T started at A X_0 - b, and of the eigenvalues',
    from random signs.  Cost: `points` (1 + `probes`) products with A and A^T; errors fall
    exponentially with `points`, and with the number of probes like (probes n)^-1/2.  Products with
    A A^T resolve eigenvalues down to eps `points` lambda_max; smaller ones count as zero, whereas
    `svd_modes` resolves singular values.

    Args:
        problem: without quadratic statistics, which need eigenvectors.
        points: nodes of each rule.
        key: of the random signs.
        probes: vectors of random signs.

    Raises:
        ValueError: `points` or `probes` below 1, a problem with quadratic statistics.

    Example:
        >>> problem = hd.multipass.Problem(jnp.eye(3), jnp.ones(3))
        >>> float(lanczos_modes(problem, 2, jax.random.key(0)).residuals.max()) <= 0
        True
    """
    if points < 1 or probes < 1:
        raise ValueError(f"points, probes: {points}, {probes}; allowed: at least 1")
    if problem.quadratics:
        raise ValueError(
            f"quadratics: {', '.join(problem.quadratics)}; allowed with Lanczos: none (they need "
            "eigenvectors)"
        )
    matrix, n = problem.matrix, problem.samples

    def apply(vector: Array) -> Array:
        back = precise.dot(matrix.T, vector)
        return precise.dot(matrix, back)

    residual = precise.dot(matrix, problem.start) - problem.labels
    signs = jax.random.rademacher(key, (probes, n), residual.dtype)
    nodes, weights = _lanczos_rule(apply, residual, points)
    parts = [_lanczos_rule(apply, sign, points) for sign in signs]
    traces = np.concatenate([part[0] for part in parts])
    counts = np.concatenate([part[1] for part in parts]) / probes
    eigenvalues = np.maximum(np.concatenate([nodes, traces]), 0)
    zero = eigenvalues <= float(jnp.finfo(residual.dtype).eps) * points * eigenvalues.max()
    amplitudes = np.concatenate([np.sqrt(weights), 0 * traces])
    floor = (amplitudes[zero] ** 2).sum() / 2
    multiplicities = np.concatenate([0 * nodes, counts])
    kept = ~zero
    nothing = np.zeros(kept.sum())
    return _modes(eigenvalues[kept], multiplicities[kept], nothing, amplitudes[kept], floor, n, {})


def _lanczos_rule(apply: Any, vector: Array, points: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights of |vector|^2 times the spectral measure of `apply` at `vector`."""
    from matfree import decomp

    square = float(precise.dot(vector, vector))
    points = min(points, vector.shape[0])
    if square == 0:
        return np.zeros(1), np.zeros(1)
    # At the number of distinct eigenvalues the iteration breaks down and divides by zero; what it
    # has up to there is the exact rule.
    with jax.debug_nans(False):
        lanczos = decomp.tridiag_sym(points, materialize=False, custom_vjp=False)
        diagonal, off_diagonal = (np.asarray(part) for part in lanczos(apply, vector).J_small)
    eps = np.finfo(diagonal.dtype).eps
    largest = np.nanmax(np.abs(diagonal))
    good = np.isfinite(off_diagonal) & (off_diagonal > 100 * eps * largest)
    good &= np.isfinite(diagonal[1:])
    length = int(np.cumprod(good).sum()) + 1
    off = off_diagonal[: length - 1]
    jacobi = np.diag(diagonal[:length]) + np.diag(off, 1) + np.diag(off, -1)
    nodes, vectors = np.linalg.eigh(jacobi)
    return nodes, square * vectors[0] ** 2


def as_float(values: Any) -> Array:
    """An array of the precision in use."""
    return jnp.asarray(values, jnp.result_type(float))


def _modes(
    eigenvalues: Any,
    multiplicities: Any,
    start: Any,
    labels: Any,
    floor: Any,
    samples: int,
    quadratics: Mapping[str, QuadraticForm],
    delocalisation: Array | None = None,
) -> Modes:
    return Modes(
        as_float(eigenvalues),
        as_float(multiplicities),
        as_float(start),
        as_float(labels),
        as_float(floor),
        as_float(samples),
        dict(quadratics),
        delocalisation,
    )
