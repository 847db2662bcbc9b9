"""Deterministic equivalent of a block of the Hessian or gradient covariance at n = alpha d samples.

With D the weight of a sample in the block, u the sample's coordinates in span[X, means], and

    w(sigma) = D / (1 + D sigma/alpha),     F(sigma) = E[w(sigma) u u^T],

the Stieltjes transform s = snr sigma of the bulk solves snr z = -1/sigma + E[w(sigma)].  On the
real axis outside the bulk z is an explicit, increasing function of sigma.  The edges of the bulk
are where z'(sigma) = 0.  Outliers are the z with det(z - F(sigma(z))) = 0: each eigenvalue branch
of F gives at most one to the right (left) of the bulk, and gives it if and only if the branch lies
above (below) the edge at the edge.  An outlier's eigenvector has the share

    eta = 1/(1 - v^T F' v),     F' = dF/dz = -sigma'(z)/alpha E[w(sigma)^2 u u^T],

of its squared norm on the span, in the direction of the null vector v of z - F.  Without noise the
bulk is the point zero, outliers have sigma = 0, and eta = 1.

If there are fewer samples with D > 0 than dimensions, the part 1 - alpha P(D > 0) of the
eigenvalues is zero.  The rest of the bulk begins at z(sigma) with sigma < -alpha/D for all D > 0,
or at zero.

`Alignment` predicts its blocks by `block_theory`, which users call for spectra too.  The theory
goes beyond "Spectral alignment of SGD" (arXiv 2310.03010, sections 3, 4 and 6), whose statements
are for large alpha and snr; formulas for the same limit of n and d in proportion are the subject of
"Local geometry of high-dimensional mixture models" (arXiv 2502.15655).
"""

from collections.abc import Callable
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Complex, Float, Inexact, Int

from hdjax import gaussian, precise
from hdjax.checks import checked, is_concrete
from hdjax.curvature.alignment import orthonormal
from hdjax.curvature.law import (
    Quadrature,
    block_weights,
    positive_alpha,
    quadrature,
    weight_range,
)
from hdjax.curvature.outliers import joined, positive
from hdjax.curvature.weights import Kind
from hdjax.gaussian import Rule
from hdjax.registry import Positive
from hdjax.streaming import GramSummary, OnePassSGD

# Mean and variance of the Tracy-Widom law of real symmetric matrices (F. Bornemann, arXiv
# 0904.1581).
_TW_MEAN, _TW_VARIANCE = -1.2065335746, 1.6077810346
# The side of the bulk on which outliers are.
Side = Literal["right", "left"]


class BlockTheory(eqx.Module):
    """The limit law of a block at alpha, from which edges, outliers and densities are computed.

    Attributes:
        nodes: the law of the samples' coordinates.
        weights: (c, N) the weight D at the nodes.
        smallest, largest: the infimum of the positive values of D, and the supremum of D; the nodes
            need not reach them.
        alpha: n/d.
    """

    nodes: Quadrature
    weights: Float[Array, "c nodes"]
    smallest: Float[Array, ""]
    largest: Float[Array, ""]
    alpha: Float[Array, ""]

    def tilted(self, sigma: Inexact[Array, ""]) -> Inexact[Array, "c nodes"]:
        """The weights w(sigma) = D/(1 + D sigma/alpha) at the nodes, for real or complex sigma."""
        weights = self.weights.astype(sigma.dtype)
        return weights / (1 + weights * sigma / self.alpha.astype(sigma.dtype))

    def z(self, sigma: Float[Array, ""]) -> Float[Array, ""]:
        """The point z = (-1/sigma + E[w(sigma)])/snr outside the bulk that sigma stands for."""
        return self.nodes.noise * (self.nodes.expect(self.tilted(sigma)) - 1 / sigma)

    def slope(self, sigma: Float[Array, ""]) -> Float[Array, ""]:
        """The slope snr sigma^2 z'(sigma) = 1 - sigma^2/alpha E[w(sigma)^2], falling in |sigma|."""
        return 1 - sigma**2 * self.nodes.expect(self.tilted(sigma) ** 2) / self.alpha

    def population_bulk(self) -> Float[Array, ""]:
        """The point E[D]/snr to which the bulk shrinks as alpha grows."""
        return self.nodes.noise * self.nodes.expect(self.weights)

    def population(self) -> Float[Array, " q"]:
        """Eigenvalues of E[D u u^T], descending: those of the population's matrix on the span."""
        return jnp.linalg.eigvalsh(self.nodes.moment(self.weights))[::-1]

    def right_end(self) -> Float[Array, ""]:
        """The value sigma < 0 at the right edge; NaN where D is nowhere positive."""
        positive = self.largest > 0
        scale = self.alpha / jnp.where(positive, self.largest, 1)
        x = _bisect(lambda x: self.slope(-scale * x), scale)
        return jnp.where(positive, -scale * x, jnp.nan)

    def left_end(self) -> Float[Array, ""]:
        """The value of sigma at the left edge; minus infinity where the bulk begins at zero."""
        lowest = self.weights.min()
        mean = self.nodes.expect(jnp.abs(self.weights))
        signed, regular = lowest < 0, self._active > 1
        positive = (self.smallest > 0) & jnp.isfinite(self.smallest)
        cap = self.alpha / jnp.where(signed, -lowest, 1)
        unit = self.alpha / jnp.where(mean > 0, mean, 1)
        pole = self.alpha / jnp.where(positive, self.smallest, 1)

        def sigma(x: Float[Array, ""]) -> Float[Array, ""]:
            return jnp.where(signed, cap * x, jnp.where(regular, unit * x / (1 - x), -pole / x))

        x = _bisect(lambda x: self.slope(sigma(x)), lowest)
        return jnp.where(signed | regular | positive, sigma(x), -jnp.inf)

    @property
    def _active(self) -> Float[Array, ""]:
        """The number of samples with D != 0 per dimension."""
        active = (jnp.abs(self.weights) > 0).astype(self.weights.dtype)
        return self.alpha * self.nodes.expect(active)

    def zeros(self) -> Float[Array, ""]:
        """The part of the eigenvalues that is zero: 1 - alpha P(D != 0), or 0 if negative."""
        return jnp.maximum(1 - self._active, 0)

    def edges(self) -> tuple[Float[Array, ""], Float[Array, ""]]:
        """The left and right edge of the bulk without eigenvalues at zero; NaN where D vanishes."""
        end, start = self.right_end(), self.left_end()
        inside = jnp.isfinite(start)
        left = jnp.where(inside, self.z(jnp.where(inside, start, 1)), 0)
        empty = jnp.isnan(end) & ~(self.weights < 0).any()
        return jnp.where(empty, jnp.nan, left), self.z(end)

    def seen_by(self, samples: Any) -> "BlockTheory":
        """The law with D cut at its quantile 1 - 1/n, as a matrix of n samples sees it.

        Some weights, such as squared gradients, come near their supremum in tails alone.  Then so
        few samples are near it that the largest eigenvalue of the bulk tends to the edge more
        slowly than d^-2/3, and the edge of the cut law is nearer to it.

        Args:
            samples: n.

        Raises:
            ValueError: there is fewer than one sample.
        """
        if is_concrete(samples) and samples < 1:
            raise ValueError(f"samples: {samples}; allowed: at least 1")
        weights, p = self.weights.ravel(), self.nodes.probabilities.ravel()
        order = jnp.argsort(-weights)
        beyond = jnp.cumsum(p[order]) < 1 / samples
        largest = weights[order][beyond.sum()]
        cut = jnp.minimum(self.weights, largest)
        return BlockTheory(self.nodes, cut, self.smallest, largest, self.alpha)

    def largest_bulk_eigenvalue(self, dimension: Any) -> tuple[Float[Array, ""], Float[Array, ""]]:
        """Mean and standard deviation of the largest eigenvalue of the bulk at finite d.

        With the law that n = alpha d samples see (`seen_by`), and s = snr sigma at its right edge,
        the eigenvalue is

            z(s) + d^{-2/3} (z''(s)/2)^{1/3} TW_1 + N(0, Var(w(s))/(n snr^2)).

        TW_1 is the Tracy-Widom law of real matrices, of mean -1.2065 (for regular edges: J. O. Lee
        and K. Schnelli, arXiv 1409.4979), and the last term is the shift of the edge by the n
        weights.  The formula does not hold where single samples have outliers of their own (D of
        very heavy tails).

        Args:
            dimension: d, at least 1.

        Example:
            >>> mixture = hd.streaming.mixtures.mixture_softmax(200, 3, snr=4.0, learning_rate=1.0)
            >>> theory = hd.curvature.block_theory(mixture, mixture.start(), 0, "hessian", 4.0)
            >>> mean, deviation = theory.largest_bulk_eigenvalue(200)
            >>> bool(mean < theory.edges()[1])
            True
        """
        d = jnp.asarray(dimension, self.alpha.dtype)
        samples, noise = jnp.maximum(self.alpha * d, 1), self.nodes.noise
        law = self.seen_by(samples)
        sigma = law.right_end()
        w = law.tilted(sigma)
        first, square, cube = (self.nodes.expect(w**power) for power in (1, 2, 3))
        curvature = cube / self.alpha**2 - 1 / sigma**3
        scale = noise * jnp.cbrt(curvature) / jnp.cbrt(d) ** 2
        weights = noise**2 * (square - first**2) / samples
        spread = gaussian.safe_sqrt(_TW_VARIANCE * scale**2 + weights)
        return law.z(sigma) + _TW_MEAN * scale, spread

    def spectrum(self, side: Side = "right") -> "BlockSpectrum":
        """The edges, the outliers on one side of the bulk, and the shares of their eigenvectors."""
        left, edge = self.edges()
        end = self._end(side)
        margins = self._margins(side)
        exists = positive(margins)

        def root(j: Int[Array, ""]) -> Float[Array, ""]:
            # z minus the branch zeta_j falls from infinity at sigma = 0 towards the edge.  It
            # changes its sign at an outlier and only there (without noise at sigma = 0).
            return end * _bisect(lambda x: -self._margins(side, end * x)[j], end)

        q, close = margins.shape[0], float(jnp.finfo(end.dtype).eps) ** 0.5
        sigma = jax.lax.map(root, jnp.arange(q))
        sigma = jnp.where(exists, sigma, end)
        values = jax.vmap(lambda j, sigma: self._branches(side, sigma)[j])(jnp.arange(q), sigma)

        def vector(j: Array, sigma: Array, value: Array, beside: Array) -> tuple[Array, Array]:
            _, vectors = jnp.linalg.eigh(self.nodes.moment(self.tilted(beside)))
            v = (vectors[:, ::-1] if side == "right" else vectors)[:, j]
            # sigma'(z)/alpha, with 1/snr eliminated by the equation of sigma.
            excess = value - self.nodes.noise * self.nodes.expect(self.tilted(sigma))
            rate = -sigma / (self.alpha * self.slope(sigma) * excess)
            second = self.nodes.moment(self.tilted(sigma) ** 2)
            lost = rate * precise.multi_dot([v, second, v])
            return v, 1 / (1 + lost)

        vectors, shares = jax.vmap(vector)(jnp.arange(q), sigma, values, joined(sigma, close))
        return BlockSpectrum(
            left=left,
            edge=edge,
            exists=exists,
            values=jnp.where(exists, values, jnp.nan),
            shares=jnp.where(exists, shares, 0),
            vectors=jnp.where(exists[:, None], vectors, 0),
            frame=self.nodes.frame,
            students=self.nodes.students,
        )

    def emergence(self, side: Side = "right") -> tuple[Int[Array, ""], Float[Array, " q"]]:
        """The number of outliers, and by how much each branch of F is beyond the edge."""
        margins = self._margins(side)
        return positive(margins).sum(dtype=jnp.int32), margins

    def _end(self, side: Side) -> Float[Array, ""]:
        """The value of sigma at the edge; NaN on the left of a singular matrix.

        A singular matrix has no outliers to the left of its bulk.
        """
        if side == "right":
            return self.right_end()
        end = self.left_end()
        return jnp.where(end > 0, end, jnp.nan)

    def _branches(self, side: Side, sigma: Float[Array, ""]) -> Float[Array, " q"]:
        """The eigenvalues of F(sigma), the furthest to this side first."""
        branches = jnp.linalg.eigvalsh(self.nodes.moment(self.tilted(sigma)))
        return branches[::-1] if side == "right" else branches

    def _margins(self, side: Side, sigma: Float[Array, ""] | None = None) -> Float[Array, " q"]:
        """By how much each eigenvalue of F(sigma) is beyond z(sigma), the furthest first."""
        sigma = self._end(side) if sigma is None else sigma
        beyond = self._branches(side, sigma) - self.z(sigma)
        return beyond if side == "right" else -beyond

    def stieltjes(self, z: Complex[Array, " x"], iterations: int = 300) -> Complex[Array, " x"]:
        """The Stieltjes transform s(z) off the real axis, by damped iteration and Newton's method.

        Args:
            z: points with positive imaginary part.
            iterations: the number of damped iterations, which 20 Newton steps follow.
        """
        noise, alpha = (x.astype(z.dtype) for x in (self.nodes.noise, self.alpha))

        def mean(s: Array, power: int) -> Array:
            p = self.nodes.probabilities.astype(s.dtype)
            return jax.vmap(lambda s: jnp.sum(p * self.tilted(noise * s) ** power))(s)

        def damped(_: Any, s: Array) -> Array:
            return (s - 1 / (z - noise * mean(s, 1))) / 2

        def newton(_: Any, s: Array) -> Array:
            value = -1 / s + noise * mean(s, 1) - z
            rate = 1 / s**2 - noise**2 / alpha * mean(s, 2)
            new = s - value / rate
            return jnp.where(jnp.isfinite(new) & (new.imag > 0), new, s)

        s = jax.lax.fori_loop(0, iterations, damped, -1 / z)
        return jax.lax.fori_loop(0, 20, newton, s)

    def density(
        self, grid: Float[Array, " x"], height: float = 1e-6, iterations: int = 300
    ) -> Float[Array, " x"]:
        """The density of the bulk, Im s(x + i height)/pi, of mass one (outliers have mass 1/d).

        Args:
            grid: points x of the real axis.
            height: the distance from the real axis.
            iterations: as for `stieltjes`.
        """
        z = jax.lax.complex(grid, jnp.full_like(grid, height))
        return self.stieltjes(z, iterations).imag / jnp.pi


class BlockSpectrum(eqx.Module):
    """The predicted spectrum of one block; entries of outliers that do not exist are NaN or zero.

    Attributes:
        left, edge: the edges of the bulk; NaN where D is zero throughout.
        exists: (q,) which branches give an outlier, the furthest from the bulk first.
        values: (q,) outliers, NaN where there is none.
        shares: (q,) eta, the share of an outlier's eigenvector in span[X, means].
        vectors: (q, q) rows v, the unit directions of the eigenvectors' parts in the span.
        frame: (q, m + c) coordinates of [X | means].
        students: m.
    """

    left: Float[Array, ""]
    edge: Float[Array, ""]
    exists: Bool[Array, " q"]
    values: Float[Array, " q"]
    shares: Float[Array, " q"]
    vectors: Float[Array, "q q"]
    frame: Float[Array, "q k"]
    students: int = eqx.field(static=True)

    @property
    def count(self) -> Int[Array, ""]:
        """The number of outliers."""
        return self.exists.sum(dtype=jnp.int32)

    @property
    def scaled(self) -> Float[Array, "q q"]:
        """Rows sqrt(eta) v: the projections of the outliers' eigenvectors on the span."""
        return gaussian.safe_sqrt(self.shares)[:, None] * self.vectors

    def squared_cosines(self, column: int) -> Float[Array, " q"]:
        """Squared cosines of each outlier's eigenvector with a column of [X | means]."""
        direction = self.frame[:, column]
        inner = precise.dot(self.scaled, direction) ** 2
        return inner / (direction**2).sum()

    def share_of(self, column: int, rank: int) -> Float[Array, ""]:
        """The share |P x|/|x| of a column x in the space of the first `rank` outliers."""
        return gaussian.safe_sqrt(self.squared_cosines(column)[:rank].sum())

    def principal_cosines(self, rank: int, cut: float = 1e-6) -> Float[Array, " r"]:
        """Principal cosines of the first `rank` outliers' space and the means' span, descending.

        A cosine is zero where there are fewer outliers.  The means may be linearly dependent: `cut`
        is the relative singular value below which a direction of their span counts as none.
        """
        basis = orthonormal(self.frame[:, self.students :], cut)
        inner = precise.dot(self.scaled[:rank], basis)
        return jnp.linalg.svd(inner, compute_uv=False)


@checked
def block_theory(
    system: OnePassSGD,
    summary: GramSummary,
    index: int,
    kind: Kind,
    alpha: Positive,
    rule: Rule | None = None,
    nodes: Quadrature | None = None,
) -> BlockTheory:
    """The law of the block of a class or neuron `index`, at a state of a run or of the limit.

    Args:
        system: a mixture with means, without teachers, of isotropic noise.
        summary: the state.
        index: the class or neuron, 0 to m - 1.
        kind: "hessian" or "gradient".
        alpha: n/d, positive and finite.
        rule: quadrature rule over the m (softmax: m - 1) coordinates that D depends on; None: the
            default for their number.
        nodes: the law of the samples, such as that of `training_samples`; None: fresh samples.

    Raises:
        ValueError: the index or alpha is not allowed, or the system is of another kind.

    Example:
        >>> mixture = hd.streaming.mixtures.mixture_softmax(200, 3, snr=4.0, learning_rate=1.0)
        >>> theory = block_theory(mixture, mixture.start(), 0, "hessian", alpha=4.0)
        >>> spectrum = theory.spectrum()
    """
    m = system.layout.students
    if not 0 <= index < m:
        raise ValueError(f"index: {index}; allowed: 0 to {m - 1}")
    alpha = positive_alpha(alpha, summary.blocks.dtype)
    nodes = quadrature(system, summary.overlaps, rule) if nodes is None else nodes
    weights = block_weights(system, nodes, summary.theta, index, kind)
    smallest, largest = weight_range(system, weights, summary.theta, index, kind)
    return BlockTheory(nodes, weights, smallest, largest, alpha)


def _bisect(function: Callable[[Array], Array], like: Array) -> Float[Array, ""]:
    """The zero of a function on (0, 1) that is positive below its zero; 1 if there is none."""
    zero = jnp.zeros((), like.dtype)
    halvings = 60 if like.dtype == jnp.float64 else 30

    def halve(_: Any, ends: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = ends
        middle = (low + high) / 2
        above = function(middle) > 0
        return jnp.where(above, middle, low), jnp.where(above, high, middle)

    low, high = jax.lax.fori_loop(0, halvings, halve, (zero, zero + 1))
    return (low + high) / 2
