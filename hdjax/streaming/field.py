"""The coefficients of the block ODE, and the summary that simulation and limit share."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from hdjax.schedules import Schedule
from hdjax.streaming.learning_rates import StateRate
from hdjax.streaming.limit import BlockState, Coefficients
from hdjax.streaming.losses import Loss
from hdjax.streaming.moments import moments
from hdjax.streaming.projections import Layout, Moments, Projections


class GramSummary(eqx.Module):
    """Gram blocks of the columns, group by group: all that the limit knows of X, and theta.

    `blocks` (g, q, q) are V_i = W'^T P_i W' in frame coordinates (`natural` gives W's), with the
    `eigenvalues` (components, g) that they belong to and `theta` the side parameters.
    """

    blocks: Float[Array, "*times g q q"]
    theta: PyTree
    eigenvalues: Float[Array, "*times c g"]
    layout: Layout = eqx.field(static=True)

    @property
    def natural(self) -> Float[Array, "*times g q q"]:
        """Blocks of W = [X | X* | means]."""
        frame = jnp.asarray(self.layout.frame, self.blocks.dtype)
        return jnp.einsum("ca,...cd,db->...ab", frame, self.blocks, frame, precision="highest")

    def moment(self, function: Callable[[Array], Array]) -> Float[Array, "q q"]:
        """W^T q(K) W for any function q of the (first component's) eigenvalues.

        >>> # the curvature-weighted overlaps W^T K^2 W of a summary: summary.moment(jnp.square)
        """
        return jnp.einsum(
            "g,gab->ab", function(self.eigenvalues[0]), self.natural, precision="highest"
        )

    @property
    def overlaps(self) -> Float[Array, "q q"]:
        """W^T W, the inner products of all columns."""
        return self.natural.sum(axis=-3)


class BlockField(eqx.Module):
    """The right-hand side of the limit for one spectrum (leaves only: it stacks and vmaps)."""

    loss: Loss
    learning_rate: Schedule | StateRate
    ridge: Float[Array, ""]
    probabilities: Float[Array, " c"]
    eigenvalues: Float[Array, "c g"]
    weights: Float[Array, " g"]
    layout: Layout = eqx.field(static=True)
    batch_size: int = eqx.field(static=True)

    def law(self, blocks: Float[Array, "g q q"], component: Any) -> Projections:
        """The law of the projections (x, x*) in one mixture component."""
        n = self.layout.seen
        covariance = jnp.einsum(
            "g,gab->ab", self.eigenvalues[component], blocks[:, :n, :n], precision="highest"
        )
        frame = jnp.asarray(self.layout.frame[:n, :n], blocks.dtype)
        mean = blocks.sum(0)[:n, n + component] if self.layout.means else None
        return Projections(covariance, frame, self.layout.students, mean)

    def component_moments(self, state: BlockState) -> Moments:
        """The moments of every component, stacked along a leading axis."""
        blocks, theta = state

        def one(component: Array) -> Moments:
            return moments(self.loss, self.law(blocks, component), component, theta)

        return jax.vmap(one)(jnp.arange(self.probabilities.shape[0]))

    def direction(self, parts: Moments) -> Float[Array, "g q m"]:
        """Y_i with P_i grad R = P_i W' Y_i, without the ridge."""
        n, m, width = self.layout.seen, self.layout.students, self.layout.width
        weighted = self.probabilities[:, None] * self.eigenvalues
        seen = jnp.einsum("cg,cnm->gnm", weighted, parts.stein, precision="highest")
        direction = jnp.zeros((seen.shape[0], width, m), seen.dtype).at[:, :n].set(seen)
        if self.layout.means:
            direction = direction.at[:, n:].add(
                (self.probabilities[:, None] * parts.gradient)[None]
            )
        return direction

    def noise(self, parts: Moments) -> Float[Array, "g m m"]:
        """w_i sum_c p_c lambda_i^c C_c / b."""
        weighted = self.probabilities[:, None] * self.eigenvalues * self.weights[None]
        noise = jnp.einsum("cg,cij->gij", weighted, parts.noise, precision="highest")
        return noise / self.batch_size

    def penalised(self, direction: Float[Array, "g q m"]) -> Float[Array, "g q m"]:
        """Y_i with the ridge: of grad R + tau X."""
        frame = jnp.asarray(self.layout.frame[:, : self.layout.students], direction.dtype)
        return direction + (self.ridge * frame)[None]

    def rate(self, t: Float[Array, ""], state: BlockState) -> Float[Array, ""]:
        """Gamma: of the time, or of the state."""
        if isinstance(self.learning_rate, StateRate):
            return self.learning_rate.rate(self, state)
        return self.learning_rate(t)

    def theta_gradient(self, parts: Moments) -> PyTree:
        """sum_c p_c E_c[grad_theta f]."""
        return jax.tree.map(lambda g: jnp.tensordot(self.probabilities, g, 1), parts.theta_gradient)

    def coefficients(self, t: Float[Array, ""], state: BlockState) -> Coefficients:
        """The frozen coefficients at time `t` and `state` = (blocks, theta)."""
        _, theta = state
        parts = self.component_moments(state)
        gamma = self.rate(t, state)
        return Coefficients(
            drift=gamma * self.penalised(self.direction(parts)),
            noise=gamma**2 * self.noise(parts),
            theta=jax.tree.map(
                lambda g, value: -gamma * (g + self.ridge * value),
                self.theta_gradient(parts),
                theta,
            ),
        )
