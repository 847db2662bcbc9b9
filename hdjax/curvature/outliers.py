"""Outliers of a deterministic equivalent whose Stieltjes transform is known by iteration alone.

On a span of finite dimension, P the projection on it, P (z - A)^{-1} P tends to (z - F(z))^{-1}.
So outliers are where det(z - F(z)) = 0, and a simple one's eigenvector has the share

    eta = 1/(1 - w^T F'(z) w),     w the null vector of z - F(z),

of its squared norm on the span, in the direction w.  Outliers that coincide have a space: their w
are those of one decomposition, taken beside the crossing, where F' is diagonal in them.
"""

import abc

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def joined(points: Float[Array, " k"], close: float) -> Float[Array, " k"]:
    """Points in order, those that coincide up to `close` replaced by one beside the first."""

    def join(first: Array, point: Array) -> tuple[Array, Array]:
        first = jnp.where(jnp.abs(point - first) < close * jnp.abs(point), first, point)
        return first, first

    return jax.lax.scan(join, points[0], points)[1] * (1 + close)


class OutlierTheory(eqx.Module):
    """A law that has F(z) to the right of its bulk."""

    @abc.abstractmethod
    def coupled(self, z: Float[Array, ""]) -> Float[Array, "k k"]:
        """F(z)."""

    def outliers(
        self, above: Float[Array, ""], count: int, halvings: int = 24
    ) -> Float[Array, " count"]:
        """The outliers above a point outside the bulk, descending; NaN where there are fewer.

        Args:
            above: z, to the right of the bulk (where the iteration converges).
            count: how many at most.
            halvings: of each bisection.
        """
        branches = jnp.linalg.eigvalsh(self.coupled(above))[::-1]
        # Branches fall as z grows.
        top = jnp.maximum(branches[0], above) * 1.001

        def root(j: Array) -> Float[Array, ""]:
            def halve(_: Array, ends: tuple[Array, Array]) -> tuple[Array, Array]:
                low, high = ends
                middle = (low + high) / 2
                below = jnp.linalg.eigvalsh(self.coupled(middle))[-1 - j] > middle
                return jnp.where(below, middle, low), jnp.where(below, high, middle)

            low, high = jax.lax.fori_loop(0, halvings, halve, (above, top))
            return jnp.where(branches[j] > above, (low + high) / 2, jnp.nan)

        return jax.lax.map(root, jnp.arange(count))

    def eigenvectors(
        self, above: Float[Array, ""], count: int
    ) -> tuple[Float[Array, " count"], Float[Array, " count"], Float[Array, "count k"]]:
        """Outliers as `outliers` has them, their shares eta and directions w (0 where none is)."""
        values = self.outliers(above, count)
        exists = jnp.isfinite(values)

        def vector(parts: tuple[Array, Array]) -> tuple[Array, Array]:
            j, z = parts
            f, slope = jax.jvp(self.coupled, (z,), (jnp.ones_like(z),))
            w = jnp.linalg.eigh(f)[1][:, ::-1][:, j]
            return w, 1 / (1 - jnp.linalg.multi_dot([w, slope, w], precision="highest"))

        # Beside the outlier, ten times as far as the bisection can tell.
        points = joined(jnp.where(exists, values, above), 1e-6)
        vectors, shares = jax.lax.map(vector, (jnp.arange(count), points))
        return values, jnp.where(exists, shares, 0), jnp.where(exists[:, None], vectors, 0)
