"""A least-squares problem in the eigenbasis of A^T A: all that the limits need to know of it.

    L(X) = floor + 1/2 sum_j (s_j x_j - y_j)^2,    lambda_j = s_j^2.

Here x_j are the coordinates of X on the right singular vectors of A = U diag(s) V^T, y = U^T b, and
the floor is the part of 1/2 |b|^2 that no X reaches.  The limits are linear in two measures: that
of the initial residuals rho = s x(0) - y, sum_j rho_j^2 delta_{lambda_j}, and that of the noise
directions, sum_j m_j delta_{lambda_j}, with m_j = 1 for a matrix.  `Modes` therefore also holds
quadrature rules of these measures: `svd_modes` decomposes a matrix, `lanczos_modes` approximates a
large one, and `law_modes` takes the law of a random matrix as n and d grow together.

Sources: slides "Hitting the High-D(imensional) Notes", frame "Remove Gaussian Assumption..." (the
spectrum of A^T A and delocalised eigenvectors of A A^T); arXiv 2102.04396, 2205.07069.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from hdjax import precise
from hdjax.checks import Checked, checked
from hdjax.multipass.lanczos import jacobi_eigenpairs, lanczos
from hdjax.multipass.laws import MarchenkoPastur, SpectralLaw
from hdjax.multipass.problem import Problem
from hdjax.multipass.quadratics import Quadratic, QuadraticForm
from hdjax.registry import Size

__all__ = [
    "Modes",
    "delocalisation",
    "lanczos_modes",
    "law_modes",
    "svd_modes",
]


class Modes(Checked):
    """A least-squares problem in the eigenbasis of A^T A, or a quadrature rule of one.

    Attributes:
        eigenvalues: (p,) lambda_j >= 0 of A^T A.
        multiplicities: (p,) m_j, the number of noise directions at lambda_j: 1 for a matrix, the
            weights of a rule otherwise.
        start: (p,) the coordinates x_j(0) of X_0 on the right singular vectors.
        labels: (p,) the coordinates y_j of b on the left singular vectors; 0 where lambda_j = 0.
        floor: the constant part of L, which no X reaches.
        samples: the number n of samples, a float scalar.
        quadratics: the quadratic statistics as functions of x (p,), by name.
        delocalisation: how far the left singular vectors are from spread (`delocalisation`); None
            for a rule.
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
        """The singular values s_j of A."""
        return jnp.sqrt(self.eigenvalues)

    @property
    def residuals(self) -> Float[Array, " p"]:
        """The residuals rho_j = s_j x_j(0) - y_j at the start."""
        return self.singular_values * self.start - self.labels

    def mean_loss(self, residuals: Float[Array, " p"]) -> Float[Array, ""]:
        """The loss L, a sum over samples, of a point with residuals rho_j."""
        return self.floor + jnp.sum(residuals**2) / 2

    def noise_loss(self, variances: Float[Array, " p"]) -> Float[Array, ""]:
        """The mean increase of L by variances sigma_j of the coordinates x_j."""
        return jnp.sum(self.multiplicities * self.eigenvalues * variances) / 2

    def coordinates(self, residuals: Float[Array, " p"]) -> Float[Array, " p"]:
        """The coordinates x_j of a point with residuals rho_j; where s_j = 0, those of X_0."""
        s = self.singular_values
        zero = s == 0
        return jnp.where(zero, self.start, (residuals + self.labels) / jnp.where(zero, 1, s))

    def values(
        self,
        residuals: Float[Array, " p"],
        coordinates: Float[Array, " p"],
        variances: Float[Array, " p"],
    ) -> dict[str, Array]:
        """The mean loss per sample and the mean quadratic statistics of a random point, by name.

        Args:
            residuals: (p,) rho_j of the mean.
            coordinates: (p,) x_j of the mean.
            variances: (p,) sigma_j of the coordinates.
        """
        loss = self.mean_loss(residuals) + self.noise_loss(variances)
        weighted = self.multiplicities * variances / 2
        values = {
            name: form(coordinates) + precise.dot(form.diagonal(), weighted)
            for name, form in self.quadratics.items()
        }
        return {"loss": loss / self.samples} | values


@checked
def delocalisation(
    eigenvalues: Float[np.ndarray, " p"], left: Float[np.ndarray, "n p"]
) -> Float[Array, ""]:
    """The mean of n max_i u_ji^2 over left singular vectors u_j, weighted by the noise lambda_j^2.

    The value is about 2 log n for vectors with independent Gaussian entries, which the limit
    assumes, and n for vectors that are concentrated on single samples.

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


@checked
def svd_modes(problem: Problem) -> tuple[Modes, Float[np.ndarray, "n p"]]:
    """The modes of a problem by a singular value decomposition, and the left singular vectors.

    Singular values that may be rounding alone count as zero; `problem.rounding` says how the
    entries of A are rounded.  The part of X_0 that is orthogonal to all rows of A does not move;
    the quadratic statistics are functions of the other coordinates x.

    Args:
        problem: the data, (n, d).

    Returns:
        The modes, p = min(n, d), and (n, p) the left singular vectors as columns.

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
    """The bounds up to which singular values s (p,) count as zero.

    The decomposition moves a singular value by up to eps max(n, d) s_max.  Entries that are known
    to `rounding` |A_ij| move it by up to `rounding` |u|^T |A| |v|, which is small for a column of
    small numbers beside columns of large numbers.
    """
    computed = np.finfo(s.dtype).eps * max(matrix.shape) * s.max(initial=0)
    given = rounding * np.sum((np.abs(matrix).T @ np.abs(u)).T * np.abs(vt), axis=1)
    return np.maximum(computed, given)


@checked
def law_modes(
    law: SpectralLaw,
    samples: Size,
    *,
    signal: float = 1.0,
    noise: float = 0.0,
    points: Size = 400,
    risk: bool = False,
) -> Modes:
    """The modes of b = A X* + eta from X_0 = 0, as n and d grow at a fixed ratio d/n.

    X* is isotropic with |X*|^2 = d signal^2, and the entries of eta have variance noise^2, so that
    E rho_j^2 = lambda_j signal^2 + noise^2 in each of the d directions.

    Args:
        law: the law of the eigenvalues of A^T A.
        samples: n; the floor, the squared residuals and the multiplicities are proportional to n.
        signal: root mean square of the entries of X*.
        noise: standard deviation of the entries of eta.
        points: number of nodes of the quadrature rule in each interval of the law.
        risk: whether there is also the statistic "risk", the population risk
            1/2 E (a^T X - b)^2 of a fresh sample with independent entries.

    Raises:
        ValueError: numbers out of range, or `risk` with another law than `MarchenkoPastur`.

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
    # Signal and noise enter the risk differently: each has its own nodes, of half the directions.
    target = np.concatenate([root * signal, 0 * root])
    labels = np.concatenate([root * s * signal, root * noise])
    nodes, counts = np.tile(nodes, 2), np.tile(counts / 2, 2)
    second = law.variance / samples
    lost = dimension * signal**2 - (target**2).sum()
    constant = second / 2 * (target @ target + lost) + noise**2 / 2
    form = Quadratic(second * np.eye(len(target)), -second * target, constant)
    return _modes(nodes, counts, 0 * labels, labels, floor, samples, {"risk": form})


@checked
def lanczos_modes(problem: Problem, points: Size, key: Key[Array, ""], probes: Size = 8) -> Modes:
    """The modes of a large problem without its decomposition, by Lanczos quadrature.

    There are two quadrature rules.  That of the residuals' measure comes from Lanczos iterations of
    A A^T started at A X_0 - b, and that of the eigenvalues' measure from iterations started at
    vectors of random signs (stochastic trace).  The cost is `points` (1 + `probes`) products with A
    and A^T; errors fall exponentially with `points`, and like (probes n)^-1/2 with `probes`.
    Eigenvalues below eps `points` lambda_max are not resolved by products with A A^T and count as
    zero; `svd_modes` resolves smaller ones.

    Args:
        problem: a problem without quadratic statistics, which need eigenvectors.
        points: number of nodes of each rule.
        key: key of the random signs.
        probes: number of vectors of random signs.

    Raises:
        ValueError: `points` or `probes` is below 1, or the problem has quadratic statistics.

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
    residual = precise.dot(matrix, problem.start) - problem.labels
    signs = jax.random.rademacher(key, (probes, n), residual.dtype)
    nodes, weights = _lanczos_rule(matrix, residual, points)
    parts = [_lanczos_rule(matrix, sign, points) for sign in signs]
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


def _lanczos_rule(
    matrix: Float[Array, "n d"], vector: Float[Array, " n"], points: Size
) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights of |vector|^2 times the spectral measure of A A^T at `vector`."""
    square = float(precise.dot(vector, vector))
    if square == 0:
        return np.zeros(1), np.zeros(1)
    points = min(points, vector.shape[0])
    _, diagonals, off_diagonals = lanczos(matrix.T, vector[None], points)
    nodes, vectors = jacobi_eigenpairs(np.asarray(diagonals[0]), np.asarray(off_diagonals[0]))
    return nodes, square * vectors[0] ** 2


def as_float(values: Any) -> Array:
    """`values` as an array of JAX's default floating-point precision."""
    return jnp.asarray(values, jnp.result_type(float))


def _modes(
    eigenvalues: Any,
    multiplicities: Any,
    start: Any,
    labels: Any,
    floor: Any,
    samples: Size,
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
