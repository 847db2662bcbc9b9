"""The right-hand side of the limit, `BlockField`, and the summary `GramSummary` of a state.

`BlockField` computes the coefficients of the block ODE of `limit.py` from the moments of the loss.
A `GramSummary` holds the Gram blocks V_i and the side parameters of a simulation or of the limit;
statistics are functions of it.

Source: the slides "Hitting the High-D(imensional) Notes", slides "Why?" (statistics are functions
of W^T q(K) W) and "Deterministic equivalent of phi" (paper: arXiv 2308.08977).
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from hdjax import precise
from hdjax.schedules import Schedule
from hdjax.streaming.forces import Field, Forces
from hdjax.streaming.limit import BlockState, Coefficients, Side
from hdjax.streaming.losses import Loss
from hdjax.streaming.moments import moments
from hdjax.streaming.optimisers.linear import Optimiser, Rule, moved, times_weights
from hdjax.streaming.optimisers.state_rates import StateRate
from hdjax.streaming.projections import Layout, Moments, Projections


class GramSummary(eqx.Module):
    """The summary of a state: the Gram blocks of its columns and the variables beside them.

    Attributes:
        blocks: (g, q, q) V_i = W'^T P_i W' for each group i of equal eigenvalues, of the columns W'
            in frame coordinates (`natural` has the blocks of W = [X | X* | means]).
        side: side parameters, memories of them and accumulated sums.
        eigenvalues: (components, g) eigenvalue of each group in each mixture component.
        layout: the kinds and numbers of columns.
    """

    blocks: Float[Array, "*times g q q"]
    side: Side
    eigenvalues: Float[Array, "*times c g"]
    layout: Layout = eqx.field(static=True)

    @property
    def state(self) -> BlockState:
        """The pair (blocks, side) that the limit integrates."""
        return self.blocks, self.side

    @property
    def theta(self) -> PyTree:
        """The side parameters theta of the state."""
        return self.side.theta

    @property
    def natural(self) -> Float[Array, "*times g k k"]:
        """The Gram blocks W^T P_i W of the columns W = [X | X* | means]."""
        first = self.layout.first
        return self.with_memories[..., first:, first:]

    @property
    def with_memories(self) -> Float[Array, "*times g q q"]:
        """The Gram blocks of [memories | X | X* | means], which a `GramStart` may take."""
        frame = jnp.asarray(self.layout.frame, self.blocks.dtype)
        return precise.einsum("ca,...cd,db->...ab", frame, self.blocks, frame)

    def moment(self, function: Callable[[Array], Array]) -> Float[Array, "k k"]:
        """The matrix W^T q(K) W for W = [X | X* | means] and the K of the first component.

        Args:
            function: q, from the eigenvalues (g,) to numbers (g,).

        >>> # the curvature-weighted overlaps W^T K^2 W of a summary: summary.moment(jnp.square)
        """
        return precise.einsum("g,gab->ab", function(self.eigenvalues[0]), self.natural)

    @property
    def overlaps(self) -> Float[Array, "k k"]:
        """The overlaps W^T W: inner products of the columns W = [X | X* | means]."""
        return self.natural.sum(axis=-3)

    def at(self, memory: int) -> "GramSummary":
        """The summary of plain SGD with the optimiser's memory of this index, an iterate, as X."""
        m, layout = self.layout.students, self.layout
        index = np.r_[memory * m : (memory + 1) * m, layout.moving : layout.width]
        blocks = self.blocks[..., index[:, None], index[None]]
        side = Side(self.side.parameters[memory])
        layout = dataclasses.replace(layout, memory=())
        return GramSummary(blocks, side, self.eigenvalues, layout)


def law_of(
    layout: Layout,
    eigenvalues: Float[Array, "c g"],
    blocks: Float[Array, "g q q"],
    component: Any,
) -> Projections:
    """The Gaussian law of the projections (x, x*) in one mixture component, from Gram blocks."""
    seen = slice(layout.first, layout.first + layout.seen)
    covariance = precise.einsum("g,gab->ab", eigenvalues[component], blocks[:, seen, seen])
    frame = jnp.asarray(layout.frame[seen, seen], blocks.dtype)
    mean = blocks.sum(0)[seen, seen.stop + component] if layout.means else None
    return Projections(covariance, frame, layout.students, mean)


class BlockField(Field):
    """The right-hand side of the limit on the groups of one spectrum.

    All parameters are leaves, so fields of systems that differ in numbers stack and `vmap`.
    """

    loss: Loss
    learning_rate: Schedule | StateRate
    optimiser: Optimiser
    ridge: Float[Array, ""]
    probabilities: Float[Array, " c"]
    eigenvalues: Float[Array, "c g"]
    weights: Float[Array, " g"]
    layout: Layout = eqx.field(static=True)
    batch_size: int = eqx.field(static=True)

    def law(self, blocks: Float[Array, "g q q"], component: Any) -> Projections:
        """The Gaussian law of the projections (x, x*) in one mixture component."""
        return law_of(self.layout, self.eigenvalues, blocks, component)

    def component_moments(self, state: BlockState) -> Moments:
        """The moments of the loss in every mixture component, stacked along a leading axis."""
        blocks, side = state

        def one(component: Array) -> Moments:
            return moments(self.loss, self.law(blocks, component), component, side.theta)

        return jax.vmap(one)(jnp.arange(self.probabilities.shape[0]))

    def direction(self, parts: Moments) -> Float[Array, "g q m"]:
        """The coefficients Y_i of the risk's gradient, P_i grad R = P_i W' Y_i, without ridge."""
        layout, m = self.layout, self.layout.students
        first, last = layout.first, layout.first + layout.seen
        weighted = self.probabilities[:, None] * self.eigenvalues
        seen = precise.einsum("cg,cnm->gnm", weighted, parts.stein)
        direction = jnp.zeros((seen.shape[0], layout.width, m), seen.dtype)
        direction = direction.at[:, first:last].set(seen)
        if layout.means:
            direction = direction.at[:, last:].add(
                (self.probabilities[:, None] * parts.gradient)[None]
            )
        return direction

    def noise(self, parts: Moments) -> Float[Array, "g m m"]:
        """The noise of the gradients in each group, w_i sum_c p_c lambda_i^c C_c / b."""
        weighted = self.probabilities[:, None] * self.eigenvalues * self.weights[None]
        noise = precise.einsum("cg,cij->gij", weighted, parts.noise)
        return noise / self.batch_size

    def penalised(self, direction: Float[Array, "g q m"]) -> Float[Array, "g q m"]:
        """The coefficients of grad R + tau X, from the coefficients `direction` of grad R."""
        students = slice(self.layout.first, self.layout.moving)
        frame = jnp.asarray(self.layout.frame[:, students], direction.dtype)
        return direction + (self.ridge * frame)[None]

    def rate(self, t: Float[Array, ""], state: BlockState) -> Float[Array, ""]:
        """The learning rate gamma at time `t` and `state`."""
        if isinstance(self.learning_rate, StateRate):
            return self.learning_rate.rate(self, state)
        return self.learning_rate(t)

    def rule(self, t: Float[Array, ""], state: BlockState) -> Rule:
        """The optimiser's (Gamma, Theta): weights of the gradient and mixing of its blocks."""
        return self.optimiser.flow(self.rate(t, state), t)

    def theta_gradient(self, parts: Moments) -> PyTree:
        """The gradient of the risk in theta, sum_c p_c E_c[grad_theta f], without ridge."""
        return jax.tree.map(lambda g: jnp.tensordot(self.probabilities, g, 1), parts.theta_gradient)

    def forces(self, state: BlockState) -> Forces:
        """The forces on the iterate of plain SGD at `state`."""
        side = state[1]
        parts = self.component_moments(state)
        noise = self.noise(parts)
        slope = jax.tree.map(
            lambda g, theta: g + self.ridge * theta, self.theta_gradient(parts), side.theta
        )
        follows = isinstance(self.learning_rate, StateRate) and self.learning_rate.accumulates
        accumulated = jnp.einsum("gii->", noise) if follows else None
        return Forces(self.penalised(self.direction(parts)), noise, slope, accumulated)

    def optimised(self, state: BlockState) -> Forces:
        """The forces on the iterate of the system's optimiser at `state`."""
        return self.optimiser.forces(self, state)

    def coefficients(self, t: Float[Array, ""], state: BlockState) -> Coefficients:
        """The coefficients of the block ODE at time `t` and `state` = (blocks, side)."""
        _, side = state
        layout = self.layout
        forces = self.optimised(state)
        weights, mixing = self.rule(t, state)
        drift = times_weights(forces.direction, weights)
        if layout.memory:
            moving = jnp.asarray(layout.frame[:, : layout.moving], drift.dtype)
            kept = jnp.kron(mixing, jnp.eye(layout.students, dtype=drift.dtype))
            drift = drift - precise.dot(moving, kept)[None]
        change = moved(side.parameters, forces.slope, weights, mixing)
        return Coefficients(
            drift=drift,
            noise=times_weights(times_weights(forces.noise, weights).mT, weights),
            side=Side.of(change, forces.accumulated),
            layout=layout,
        )
