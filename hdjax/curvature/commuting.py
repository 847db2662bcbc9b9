"""Deterministic equivalent of a block where the components' covariances differ and commute.

With e_cg the eigenvalue of component c on group g of coordinates, weight w_g,

    sigma_c = sum_g w_g e_cg/Delta_g,   Delta_g = -z + sum_c p_c e_cg E_c[W_c],
    W_c = D/(1 + D sigma_c/alpha),      s = sum_g w_g/Delta_g   (the bulk),

and outliers are where det(z - F(z)) = 0, F(z) = sum_c p_c E_c[W_c u u^T], u a sample's coordinates
in the span of the parts of [X, means] on each group.  Given the projections r that D depends on, u
is Gaussian: its mean is linear in r and its covariance constant.  Goes beyond "Spectral alignment
of SGD" (arXiv 2310.03010).
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from hdjax import gaussian
from hdjax.curvature.outliers import OutlierTheory
from hdjax.curvature.weights import Kind, small_matrix
from hdjax.gaussian import Rule
from hdjax.streaming import GramSummary, OnePassSGD


class CommutingTheory(OutlierTheory):
    """The law of a block at alpha.

    Attributes:
        weights: (c, N) D at the nodes.
        expected: (c, N, k) E[u | r] at the nodes, k = g q coordinates.
        rest: (c, k, k) covariance of u given r.
        probabilities: (c, N) weights of the nodes.
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

    def stieltjes(
        self, z: Float[Array, ""], iterations: int = 300
    ) -> tuple[Float[Array, ""], Float[Array, " c"]]:
        """S(z) = 1/d tr (A - z)^{-1} and sigma(z), outside the spectrum."""
        e, share = self.eigenvalues, self.shares

        def delta(sigma: Float[Array, " c"]) -> Float[Array, " g"]:
            mean = jnp.sum(self.probabilities * self._tilted(sigma), axis=1)
            return jnp.dot(mean, e, precision="highest") - z

        def damped(_: Array, sigma: Array) -> Array:
            return (sigma + jnp.dot(e, share / delta(sigma), precision="highest")) / 2

        start = jnp.dot(e, share / -z, precision="highest")
        sigma = jax.lax.fori_loop(0, iterations, damped, start)
        return jnp.sum(share / delta(sigma)), sigma

    def coupled(self, z: Float[Array, ""]) -> Float[Array, "k k"]:
        w = self.probabilities * self._tilted(self.stieltjes(z)[1])
        own = jnp.einsum("cn,cnj,cnk->jk", w, self.expected, self.expected, precision="highest")
        return own + jnp.einsum("c,cjk->jk", w.sum(1), self.rest, precision="highest")

    def squared_cosines(
        self, above: Float[Array, ""], count: int, column: int
    ) -> Float[Array, " count"]:
        """Squared cosines of the outliers' eigenvectors with a column of [X | means]."""
        _, shares, vectors = self.eigenvectors(above, count)
        direction = self.frame[:, column]
        inner = jnp.dot(vectors, direction, precision="highest") ** 2
        return shares * inner / (direction**2).sum()

    def _tilted(self, sigma: Float[Array, " c"]) -> Float[Array, "c nodes"]:
        return self.weights / (1 + self.weights * sigma[:, None] / self.alpha)


def commuting_theory(
    system: OnePassSGD,
    summary: GramSummary,
    index: int,
    kind: Kind,
    alpha: Any,
    rule: Rule | None = None,
) -> CommutingTheory:
    """The law of a column's block, for components with commuting covariances.

    Args:
        system: a mixture with means and without teachers; its components' eigenvalues may differ,
            group by group.
        summary: the state.
        index: the column.
        kind: "hessian" or "gradient".
        alpha: n/d.
        rule: for the m projections.

    Raises:
        ValueError: another kind of system, a column that it does not have.

    Example:
        >>> mixture = hd.streaming.mixture_softmax(200, 2, snr=4.0, learning_rate=1.0)
        >>> theory = commuting_theory(mixture, mixture.start(), 0, "hessian", 4.0)
        >>> s, _ = theory.stieltjes(jnp.array(-1.0))
    """
    layout, blocks = system.layout, summary.blocks
    m, dtype = layout.students, blocks.dtype
    if layout.teachers or not layout.means or not 0 <= index < m:
        raise ValueError(
            f"system, index: {layout.teachers} teachers, {layout.means} means, column {index}; "
            f"allowed: none, some, and 0 to {m - 1}"
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
        covariance = jnp.dot(students.T, scaled, precision="highest")
        deviation = jnp.dot(z, gaussian.factor(covariance).T, precision="highest")
        slope = jnp.dot(scaled, jnp.linalg.pinv(covariance, hermitian=True), precision="highest")
        mean = frame[:, m + a]
        seen = deviation + jnp.dot(students.T, mean, precision="highest")[None]
        expected = mean[None] + jnp.dot(deviation, slope.T, precision="highest")
        rest = jnp.diag(noise) - jnp.dot(slope, scaled.T, precision="highest")

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
        jnp.asarray(alpha, dtype),
    )
