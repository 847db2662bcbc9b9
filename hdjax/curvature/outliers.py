"""Outliers and edge of a deterministic equivalent that is known as the fixed point of a map.

The Stieltjes transform x(z) solves x = phi(z, x).  To the right of the bulk, phi is increasing and
convex in -x, so that Newton's method converges from x = 0 to the solution, where the slope

    dx/dz = (1 - phi_x)^{-1} phi_z

is positive.  The slope is infinite at the edge, where phi_x has the eigenvalue 1; below the edge
there is no solution.

On a span of finite dimension with projection P, P (z - A)^{-1} P tends to (z - F(z))^{-1}.  So the
outliers of A are the z with det(z - F(z)) = 0, and the eigenvector of a simple outlier has the
share

    eta = 1/(1 - w^T F'(z) w),     w the null vector of z - F(z),

of its squared norm on the span, in the direction w.  Outliers that coincide have an eigenspace:
their w come from one eigendecomposition of F beside the crossing, in which F' is diagonal.

`full_theory.py` and `commuting.py` are such equivalents.  They go beyond "Spectral alignment of
SGD" (arXiv 2310.03010), which is for n >> d.
"""

import abc

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from hdjax import precise


def joined(points: Float[Array, " k"], close: float) -> Float[Array, " k"]:
    """Points in order, where a point within `close` of its predecessor becomes that predecessor.

    All points are then moved by the relative distance `close`, beside the crossings.
    """

    def join(first: Array, point: Array) -> tuple[Array, Array]:
        first = jnp.where(jnp.abs(point - first) < close * jnp.abs(point), first, point)
        return first, first

    return jax.lax.scan(join, points[0], points)[1] * (1 + close)


def positive(margins: Float[Array, " q"]) -> Bool[Array, " q"]:
    """Which margins are positive by more than the rounding of eigenvalues."""
    rounding = margins.shape[0] * jnp.finfo(margins.dtype).eps
    return margins > rounding * jnp.abs(margins).max()


def above(end: Float[Array, ""]) -> Float[Array, ""]:
    """A point above the end of a bulk of weight one; the end is zero where data have no noise."""
    return jnp.maximum(1.01 * end, jnp.finfo(end.dtype).eps)


class OutlierTheory(eqx.Module):
    """A deterministic equivalent with x(z) and F(z) to the right of its bulk."""

    @abc.abstractmethod
    def _linearised(
        self, z: Float[Array, ""], x: Float[Array, "..."]
    ) -> tuple[Float[Array, "..."], Float[Array, "n n"], Float[Array, "..."]]:
        """The map phi, its derivative in x (n entries, as a matrix) and its derivative in z."""

    @abc.abstractmethod
    def _regular(self, z: Float[Array, ""], x: Float[Array, "..."]) -> Bool[Array, ""]:
        """Whether phi has no pole between 0 and x."""

    @abc.abstractmethod
    def _bounds(self) -> tuple[Float[Array, ""], Float[Array, "..."]]:
        """A point above the bulk (NaN where no weight is positive), and x = 0 in its shape."""

    @abc.abstractmethod
    def coupled(self, z: Float[Array, ""]) -> Float[Array, "k k"]:
        """The matrix F(z) on the span."""

    def _newton(self, z: Array, x: Array) -> tuple[Array, Array, Array]:
        """The next Newton iterate, whether dx/dz is positive, and the relative residual of x."""
        value, matrix, rate = self._linearised(z, x)
        right = jnp.stack([(value - x).ravel(), rate.ravel()], axis=1)
        step, slope = jnp.linalg.solve(jnp.eye(x.size, dtype=x.dtype) - matrix, right).T
        slope = slope.reshape(x.shape)
        lowest = (jnp.linalg.eigvalsh(slope) if x.ndim == 2 else slope).min()
        size = jnp.abs(value).max()
        residual = jnp.abs(value - x).max() / jnp.where(size > 0, size, 1)
        return x + step.reshape(x.shape), lowest > 0, residual

    def _solve(self, z: Array, start: Array) -> tuple[Array, Array, Array]:
        """The solution x(z), whether dx/dz is positive, and the relative residual.

        Where there is no solution, the residual is large or the slope is not positive.
        """
        tolerance = 8 * jnp.finfo(start.dtype).eps

        def unfinished(state: tuple[Array, Array, Array, Array]) -> Array:
            _, positive, residual, i = state
            return positive & (residual > tolerance) & (i < 40)

        def again(state: tuple[Array, Array, Array, Array]) -> tuple[Array, Array, Array, Array]:
            x, _, _, i = state
            return *self._newton(z, x), i + 1

        one, yes = jnp.ones((), start.dtype), jnp.ones((), bool)
        first = start, yes, one, jnp.zeros((), jnp.int32)
        x, *_ = jax.lax.stop_gradient(jax.lax.while_loop(unfinished, again, first))
        # One more step, outside the loop, carries the derivative of the solution in z.
        return self._newton(z, x)

    def edge(self) -> Float[Array, ""]:
        """The right edge of the bulk of the law's nodes; NaN where no weight is positive."""
        top, zero = self._bounds()
        accuracy = 1e3 * jnp.finfo(top.dtype).eps

        def halve(_: Array, state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
            low, high, start = state
            middle = (low + high) / 2
            x, positive, residual = self._solve(middle, start)
            outside = positive & (residual < accuracy) & self._regular(middle, x)
            return (
                jnp.where(outside, low, middle),
                jnp.where(outside, middle, high),
                jnp.where(outside, x, start),
            )

        halvings = 36 if top.dtype == jnp.float64 else 18
        return jax.lax.fori_loop(0, halvings, halve, (0 * top, top, zero))[1]

    def outliers(self, count: int, halvings: int = 24) -> Float[Array, " count"]:
        """The outliers to the right of the bulk, descending; NaN in the places of missing ones.

        Args:
            count: the largest number of outliers.
            halvings: the number of steps of each bisection.
        """
        edge = self.edge()
        branches = jnp.linalg.eigvalsh(self.coupled(edge))[::-1]
        exists = positive(branches - edge)
        # The eigenvalues of F decrease in z.
        top = jnp.maximum(branches[0], edge) * 1.001

        def root(j: Array) -> Float[Array, ""]:
            def branch(z: Array) -> Float[Array, ""]:
                return jnp.linalg.eigvalsh(self.coupled(z))[-1 - j]

            def halve(_: Array, ends: tuple[Array, Array]) -> tuple[Array, Array]:
                low, high = ends
                middle = (low + high) / 2
                below = branch(middle) > middle
                return jnp.where(below, middle, low), jnp.where(below, high, middle)

            low, high = jax.lax.fori_loop(0, halvings, halve, (edge, top))
            # One step of Newton's method squares the bisection's error.
            z = (low + high) / 2
            value, slope = jax.jvp(branch, (z,), (jnp.ones_like(z),))
            return jnp.where(exists[j], z + (value - z) / (1 - slope), jnp.nan)

        return jax.lax.map(root, jnp.arange(count))

    def eigenvectors(
        self, count: int
    ) -> tuple[Float[Array, " count"], Float[Array, " count"], Float[Array, "count k"]]:
        """The outliers, and the shares eta and directions w of their eigenvectors.

        Args:
            count: the largest number of outliers; shares and directions of missing ones are 0.
        """
        values = self.outliers(count)
        exists = jnp.isfinite(values)

        def vector(parts: tuple[Array, Array]) -> tuple[Array, Array]:
            j, z = parts
            f, slope = jax.jvp(self.coupled, (z,), (jnp.ones_like(z),))
            w = jnp.linalg.eigh(f)[1][:, ::-1][:, j]
            return w, 1 / (1 - precise.multi_dot([w, slope, w]))

        # F is taken beside the outlier, at ten times the error of the bisection.
        top, _ = self._bounds()
        points = joined(jnp.where(exists, values, top), 1e-6)
        vectors, shares = jax.lax.map(vector, (jnp.arange(count), points))
        return values, jnp.where(exists, shares, 0), jnp.where(exists[:, None], vectors, 0)
