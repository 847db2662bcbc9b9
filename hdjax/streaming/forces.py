"""The interface of the limit's right-hand side that optimisers and learning-rate rules use.

From the forces on the iterate of plain SGD an optimiser computes the forces on its own iterate, and
a learning-rate rule that follows the state computes a learning rate.  Both are parts of the
right-hand side (`hdjax.streaming.field.BlockField`), so they are written for `Field`, its abstract
base class.
"""

import abc
from typing import Any, NamedTuple

import equinox as eqx
from jaxtyping import Array, Float, PyTree

from hdjax.streaming.limit import BlockState
from hdjax.streaming.losses import Loss
from hdjax.streaming.projections import Layout, Moments, Projections


class Forces(NamedTuple):
    """The forces on the iterate at one state, without the learning rate and the memories.

    Attributes:
        direction: (g, q, m) coefficients Y_i of the mean gradient of a step, P_i W' Y_i.
        noise: (g, m, m) noise of the gradients in each group, w_i sum_c p_c lambda_i^c C_c / b.
        slope: the mean gradient in the side parameters theta.
        accumulated: the velocity of the sums that the optimiser accumulates; None without any.
    """

    direction: Float[Array, "g q m"]
    noise: Float[Array, "g m m"]
    slope: PyTree
    accumulated: Any


class Field(eqx.Module):
    """The right-hand side of the limit, as functions of a state (blocks, side)."""

    loss: eqx.AbstractVar[Loss]
    ridge: eqx.AbstractVar[Float[Array, ""]]
    probabilities: eqx.AbstractVar[Float[Array, " c"]]
    eigenvalues: eqx.AbstractVar[Float[Array, "c g"]]
    weights: eqx.AbstractVar[Float[Array, " g"]]
    layout: eqx.AbstractVar[Layout]

    @abc.abstractmethod
    def law(self, blocks: Float[Array, "g q q"], component: Any) -> Projections:
        """The Gaussian law of the projections (x, x*) in one mixture component."""

    @abc.abstractmethod
    def component_moments(self, state: BlockState) -> Moments:
        """The moments of the loss in every mixture component, stacked along a leading axis."""

    @abc.abstractmethod
    def direction(self, parts: Moments) -> Float[Array, "g q m"]:
        """The coefficients Y_i of the risk's gradient, P_i grad R = P_i W' Y_i, without ridge."""

    @abc.abstractmethod
    def noise(self, parts: Moments) -> Float[Array, "g m m"]:
        """The noise of the gradients in each group, w_i sum_c p_c lambda_i^c C_c / b."""

    @abc.abstractmethod
    def penalised(self, direction: Float[Array, "g q m"]) -> Float[Array, "g q m"]:
        """The coefficients of grad R + tau X, from the coefficients `direction` of grad R."""

    @abc.abstractmethod
    def theta_gradient(self, parts: Moments) -> PyTree:
        """The gradient of the risk in theta, sum_c p_c E_c[grad_theta f], without ridge."""

    @abc.abstractmethod
    def forces(self, state: BlockState) -> Forces:
        """The forces on the iterate of plain SGD at `state`."""

    @abc.abstractmethod
    def optimised(self, state: BlockState) -> Forces:
        """The forces on the iterate of the system's optimiser at `state`."""
