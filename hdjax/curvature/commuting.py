"""Deterministic equivalent of a block for components whose covariances differ and commute.

With e_cg the eigenvalue of component c on group g of coordinates, and w_g the weight of the group,

    sigma_c = sum_g w_g e_cg/Delta_g,   Delta_g = -z + sum_c p_c e_cg E_c[W_c],
    W_c = D/(1 + D sigma_c/alpha),      s = sum_g w_g/Delta_g   (the bulk's Stieltjes transform),

and the outliers are the z with det(z - F(z)) = 0, F(z) = sum_c p_c E_c[W_c u u^T], where u is a
sample's coordinates in the span of the parts of [X, means] on each group.  Given the projections r
that D depends on, u is Gaussian with a mean linear in r and a constant covariance.

Users call `commuting_theory` where `block_theory` refuses a system.  The theory goes beyond
"Spectral alignment of SGD" (arXiv 2310.03010), whose noise is isotropic.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from hdjax import gaussian, precise
from hdjax.checks import checked
from hdjax.curvature.law import positive_alpha
from hdjax.curvature.outliers import OutlierTheory, above
from hdjax.curvature.weights import Kind, small_matrix
from hdjax.gaussian import Rule
from hdjax.registry import Positive
from hdjax.streaming import GramSummary, OnePassSGD


class CommutingTheory(OutlierTheory):
    """The limit law of a block at alpha, for commuting covariances.

    Attributes:
        weights: (c, N) the weight D at the nodes.
        expected: (c, N, k) E[u | r] at the nodes, k = g q coordinates.
        rest: (c, k, k) covariance of u given r.
        probabilities: (c, N) probabilities of the nodes.
        eigenvalues: (c, g) e_cg.
        shares: (g,) w_g.
        frame: (k, m + c) coordinates of [X | means].
        alpha: n/d.
    """

    weights: Float[Array, "c nodes"]
    expected: Float[Array, "c nodes k"]
    rest: Float[Array, "c k k"]
    probabilities: Float[Array, "c nodes"]
    eigenvalues: Float[Array, "c g"]
    shares: Float[Array, " g"]
    frame: Float[Array, "k f"]
    alpha: Float[Array, ""]

    def stieltjes(self, z: Float[Array, ""]) -> tuple[Float[Array, ""], Float[Array, " c"]]:
        """The transforms s(z) = 1/d tr (A - z)^{-1} and sigma(z), for z outside the spectrum."""
        # To the left of the bulk, Newton's method starts above the solution.
        first = precise.dot(self.eigenvalues, self.shares) / -z
        sigma, _, _ = self._solve(z, jnp.where(z < 0, first, 0))
        return jnp.sum(self.shares / self._delta(z, sigma)), sigma

    def coupled(self, z: Float[Array, ""]) -> Float[Array, "k k"]:
        w = self.probabilities * self._tilted(self.stieltjes(z)[1])
        own = precise.einsum("cn,cnj,cnk->jk", w, self.expected, self.expected)
        return own + precise.einsum("c,cjk->jk", w.sum(1), self.rest)

    def squared_cosines(self, count: int, column: int) -> Float[Array, " count"]:
        """Squared cosines of the outliers' eigenvectors with a column of [X | means]."""
        _, shares, vectors = self.eigenvectors(count)
        direction = self.frame[:, column]
        inner = precise.dot(vectors, direction) ** 2
        return shares * inner / (direction**2).sum()

    def _tilted(self, sigma: Float[Array, " c"]) -> Float[Array, "c nodes"]:
        return self.weights / (1 + self.weights * sigma[:, None] / self.alpha)

    def _delta(self, z: Float[Array, ""], sigma: Float[Array, " c"]) -> Float[Array, " g"]:
        mean = jnp.sum(self.probabilities * self._tilted(sigma), axis=1)
        return precise.dot(mean, self.eigenvalues) - z

    def _linearised(
        self, z: Float[Array, ""], x: Float[Array, " c"]
    ) -> tuple[Float[Array, " c"], Float[Array, "c c"], Float[Array, " c"]]:
        e, delta = self.eigenvalues, self._delta(z, x)
        square = jnp.sum(self.probabilities * self._tilted(x) ** 2, axis=1) / self.alpha
        rates = e * (self.shares / delta**2)[None]
        matrix = precise.dot(rates, e.T) * square[None]
        return precise.dot(e, self.shares / delta), matrix, rates.sum(1)

    def _regular(self, z: Float[Array, ""], x: Float[Array, " c"]) -> Bool[Array, ""]:
        before = (1 + self.weights * x[:, None] / self.alpha > 0).all()
        return before & (self._delta(z, x) < 0).all()

    def _bounds(self) -> tuple[Float[Array, ""], Float[Array, " c"]]:
        largest = self.weights.max()
        top = largest * above(self.eigenvalues.max() * (1 + 1 / jnp.sqrt(self.alpha)) ** 2)
        zero = jnp.zeros(self.weights.shape[0], top.dtype)
        return jnp.where(largest > 0, top, jnp.nan), zero


@checked
def commuting_theory(
    system: OnePassSGD,
    summary: GramSummary,
    index: int,
    kind: Kind,
    alpha: Positive,
    rule: Rule | None = None,
) -> CommutingTheory:
    """The law of the block of a column, for components with commuting covariances.

    Args:
        system: a mixture with means and without teachers; the eigenvalues of its components may
            differ, group by group.
        summary: a state of a run or of the limit.
        index: the column, 0 to m - 1.
        kind: "hessian" or "gradient".
        alpha: n/d, positive.
        rule: quadrature rule of the m projections; None: the loss's, or the default for m.

    Raises:
        ValueError: the system is of another kind, it has no such column, or alpha is not positive.

    Example:
        >>> mixture = hd.streaming.mixtures.mixture_softmax(200, 2, snr=4.0, learning_rate=1.0)
        >>> theory = commuting_theory(mixture, mixture.start(), 0, "hessian", 4.0)
        >>> s, _ = theory.stieltjes(jnp.array(-1.0))
    """
    layout, blocks = system.layout, summary.blocks
    m, dtype = layout.students, blocks.dtype
    if layout.teachers or not layout.means or not 0 <= index < m:
        raise ValueError(
            f"system, index: {layout.teachers} teachers, {layout.means} means, column {index}; "
            f"allowed: no teachers, at least one mean, columns 0 to {m - 1}"
        )
    nothing, components = jnp.zeros(0, dtype), system.probabilities.shape[0]
    z, w = (rule or system.loss.rule or gaussian.default_rule(m)).nodes(m, dtype)
    frames = jnp.swapaxes(jax.vmap(gaussian.factor)(blocks), 1, 2)
    groups, q, columns = frames.shape
    frame = frames.reshape(groups * q, columns)
    students = frame[:, :m]

    def component(a: Array) -> tuple[Array, Array, Array]:
        noise = jnp.repeat(system.eigenvalues[a], q, total_repeat_length=groups * q)
        scaled = noise[:, None] * students
        covariance = precise.dot(students.T, scaled)
        deviation = precise.dot(z, gaussian.factor(covariance).T)
        slope = precise.dot(scaled, jnp.linalg.pinv(covariance, hermitian=True))
        mean = frame[:, m + a]
        seen = deviation + precise.dot(students.T, mean)[None]
        expected = mean[None] + precise.dot(deviation, slope.T)
        rest = jnp.diag(noise) - precise.dot(slope, scaled.T)

        def weight(x: Float[Array, " m"]) -> Float[Array, ""]:
            small = small_matrix(system.loss, kind, x, nothing, a, nothing, summary.theta)
            return small[index, index]

        return jax.vmap(weight)(seen), expected, rest

    weights, expected, rest = jax.vmap(component)(jnp.arange(components))
    return CommutingTheory(
        weights,
        expected,
        rest,
        system.probabilities[:, None] * jnp.asarray(np.asarray(w))[None],
        system.eigenvalues,
        system.spectrum.weights,
        frame,
        positive_alpha(alpha, dtype),
    )
