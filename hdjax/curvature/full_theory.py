"""Deterministic equivalent of the Hessian or gradient covariance of all parameters at once.

With small matrices D (h x h), whose first m indices multiply samples, T = blockdiag(S, 0) and
W = (1 + D T/(alpha snr))^{-1} D,

    S(z) = (-z + E[W]_{mm}/snr)^{-1},    outliers: det(z - E[L W L^T]) = 0,  L = (1_m x u, 1),

where F(z) = E[L W L^T] has m q + h - m rows (`outliers.py`): m copies of span[X, means], and theta.
Users call `full_theory` for the spectrum of a whole network.  The theory goes beyond "Spectral
alignment of SGD" (arXiv 2310.03010), which is for n >> d.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from hdjax import gaussian, precise
from hdjax.checks import checked
from hdjax.curvature.alignment import orthonormal
from hdjax.curvature.law import Quadrature, positive_alpha, quadrature, small_weights
from hdjax.curvature.outliers import OutlierTheory, above
from hdjax.curvature.weights import Kind
from hdjax.gaussian import Rule
from hdjax.registry import Positive
from hdjax.streaming import GramSummary, OnePassSGD


class FullTheory(OutlierTheory):
    """The limit law at alpha of the matrix of all parameters [m columns of d | theta].

    Attributes:
        nodes: the law of the samples' coordinates.
        weights: (c, N, h, h) the small matrices D at the nodes.
        alpha: n/d.
    """

    nodes: Quadrature
    weights: Float[Array, "c nodes h h"]
    alpha: Float[Array, ""]

    def stieltjes(self, z: Float[Array, ""]) -> tuple[Float[Array, "m m"], Float[Array, ""]]:
        """The transform S(z) for z above the bulk, and the residual of its equation.

        Inside the bulk there is no solution, and the residual is not small.
        """
        s, _, residual = self._solve(z, self._bounds()[1])
        return s, residual

    def spectrum(self, count: int) -> "FullSpectrum":
        """The largest outliers, at most `count`, and the directions of their eigenvectors."""
        values, shares, vectors = self.eigenvectors(count)
        return FullSpectrum(values, shares, vectors, self.nodes.frame, self.nodes.students)

    def _tilted(self, s: Float[Array, "m m"]) -> Float[Array, "c nodes h h"]:
        """The matrices W = (1 + D T/(alpha snr))^{-1} D at the nodes."""
        h, m = self.weights.shape[-1], s.shape[0]
        t = jnp.zeros((h, h), s.dtype).at[:m, :m].set(s) * (self.nodes.noise / self.alpha)
        product = precise.einsum("cnij,jk->cnik", self.weights, t)
        eye = jnp.eye(h, dtype=s.dtype)
        return jnp.linalg.solve(product + eye[None, None], self.weights)

    def _linearised(
        self, z: Float[Array, ""], x: Float[Array, "m m"]
    ) -> tuple[Float[Array, "m m"], Float[Array, "n n"], Float[Array, "m m"]]:
        m, p, noise = x.shape[0], self.nodes.probabilities, self.nodes.noise
        tilted = self._tilted(x)[:, :, :m, :m]
        mean = precise.einsum("cn,cnij->ij", p, tilted)
        image = jnp.linalg.inv(noise * mean - z * jnp.eye(m, dtype=x.dtype))
        image = (image + image.T) / 2
        # The derivative of S along dS is image noise^2/alpha E[W dS W] image.
        factor = precise.einsum("ij,cnjk->cnik", image, tilted).reshape(-1, m * m)
        weighted = factor * p.reshape(-1, 1) * noise**2 / self.alpha
        matrix = precise.dot(weighted.T, factor).reshape(m, m, m, m)
        matrix = matrix.transpose(0, 2, 1, 3).reshape(m * m, m * m)
        return image, matrix, precise.dot(image, image)

    def _regular(self, z: Float[Array, ""], x: Float[Array, "m m"]) -> Bool[Array, ""]:
        m, unit = x.shape[0], self.nodes.noise / self.alpha
        # -S is positive, and smaller than where 1 + D T/(alpha snr) of a sample becomes singular.
        before = jnp.linalg.inv(-x)[None, None] - unit * self.weights[:, :, :m, :m]
        positive = jnp.linalg.eigvalsh(-x)[0] > 0
        return positive & jnp.isfinite(jnp.linalg.cholesky(before)).all()

    def _bounds(self) -> tuple[Float[Array, ""], Float[Array, "m m"]]:
        m = self.nodes.students
        largest = jnp.linalg.eigvalsh(self.weights[:, :, :m, :m]).max()
        top = largest * above(self.nodes.noise * (1 + 1 / jnp.sqrt(self.alpha)) ** 2)
        return jnp.where(largest > 0, top, jnp.nan), jnp.zeros((m, m), top.dtype)

    def coupled(self, z: Float[Array, ""]) -> Float[Array, "k k"]:
        """The matrix F(z) = E[L W L^T] of m q + h - m rows."""
        s, _ = self.stieltjes(z)
        m, tilted = s.shape[0], self._tilted(s)
        entries = jnp.moveaxis(tilted, (2, 3), (0, 1))
        own = jax.vmap(jax.vmap(self.nodes.moment))(entries[:m, :m])
        q, rest = own.shape[-1], entries.shape[0] - m
        own = own.transpose(0, 2, 1, 3).reshape(m * q, m * q)
        if not rest:
            return (own + own.T) / 2
        cross = jax.vmap(jax.vmap(self.nodes.first))(entries[:m, m:])
        cross = cross.transpose(0, 2, 1).reshape(m * q, rest)
        corner = precise.einsum("cn,cnij->ij", self.nodes.probabilities, tilted[:, :, m:, m:])
        whole = jnp.block([[own, cross], [cross.T, corner]])
        return (whole + whole.T) / 2


class FullSpectrum(eqx.Module):
    """The predicted outliers of the matrix of all parameters, and their eigenvectors.

    Attributes:
        values: (k,) outliers, descending; NaN where there are fewer.
        shares: (k,) eta, the share of an eigenvector in m copies of span[X, means] and theta.
        vectors: (k, m q + p) rows w, the unit directions of these parts: m blocks of q, then theta.
        frame: (q, m + c) coordinates of [X | means].
        students: m.
    """

    values: Float[Array, " k"]
    shares: Float[Array, " k"]
    vectors: Float[Array, "k r"]
    frame: Float[Array, "q f"]
    students: int = eqx.field(static=True)

    @property
    def columns(self) -> Float[Array, "k m q"]:
        """The eigenvectors' projections on the span, column by column."""
        scaled = gaussian.safe_sqrt(self.shares)[:, None] * self.vectors
        m, q = self.students, self.frame.shape[0]
        return scaled[:, : m * q].reshape(-1, m, q)

    @property
    def theta(self) -> Float[Array, "k p"]:
        """The eigenvectors' entries at the side parameters."""
        scaled = gaussian.safe_sqrt(self.shares)[:, None] * self.vectors
        return scaled[:, self.students * self.frame.shape[0] :]

    def share_in_means(self) -> Float[Array, " k"]:
        """The part of each eigenvector's squared norm in m copies of the means' span."""
        basis = orthonormal(self.frame[:, self.students :])
        inside = precise.einsum("kmq,qr->kmr", self.columns, basis)
        return (inside**2).sum((1, 2))


@checked
def full_theory(
    system: OnePassSGD, summary: GramSummary, kind: Kind, alpha: Positive, rule: Rule | None = None
) -> FullTheory:
    """The law of the matrix of all parameters at a state of a run or of the limit.

    Args:
        system: a mixture with means, without teachers, of isotropic noise.
        summary: the state.
        kind: "hessian" or "gradient".
        alpha: n/d, positive and finite.
        rule: quadrature rule of expectations; None: the default of their dimension.

    Raises:
        ValueError: the matrix or the system is of another kind, or alpha is not allowed.

    Example:
        >>> mixture = hd.streaming.mixtures.mixture_softmax(200, 2, snr=4.0, learning_rate=1.0)
        >>> theory = full_theory(mixture, mixture.start(), "hessian", alpha=4.0)
    """
    alpha = positive_alpha(alpha, summary.blocks.dtype)
    nodes = quadrature(system, summary.overlaps, rule)
    weights = small_weights(system, nodes, summary.theta, kind)
    return FullTheory(nodes, weights, alpha)
