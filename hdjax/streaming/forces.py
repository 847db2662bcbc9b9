"""What optimisers and rules for the learning rate know of the limit's right-hand side.

An optimiser turns the forces on plain SGD into those on its own iterates, and a rule that follows
the state makes a learning rate of them.  Both are parts of the right-hand side
(`hdjax.streaming.field.BlockField`) and are written against `Field`, its abstract base.
"""

import abc
from typing import Any, NamedTuple

import equinox as eqx
from jaxtyping import Array, Float, PyTree

from hdjax.streaming.limit import BlockState
from hdjax.streaming.losses import Loss
from hdjax.streaming.projections import Layout, Moments, Projections


class Forces(NamedTuple):
    """What moves the iterate at one state, before learning rate and memories.

    `direction` (g, q, m) and `noise` (g, m, m) are those of the steps taken, `slope` that of the
    side parameters, `accumulated` the velocity of what the optimiser sums up, or None.
    """

    direction: Float[Array, "g q m"]
    noise: Float[Array, "g m m"]
    slope: PyTree
    accumulated: Any


class Field(eqx.Module):
    """The forces on plain SGD at a state (blocks, side), from the moments of the loss there."""

    loss: eqx.AbstractVar[Loss]
    ridge: eqx.AbstractVar[Float[Array, ""]]
    probabilities: eqx.AbstractVar[Float[Array, " c"]]
    eigenvalues: eqx.AbstractVar[Float[Array, "c g"]]
    weights: eqx.AbstractVar[Float[Array, " g"]]
    layout: eqx.AbstractVar[Layout]

    @abc.abstractmethod
    def law(self, blocks: Float[Array, "g q q"], component: Any) -> Projections:
        """The law of the projections (x, x*) in one mixture component."""

    @abc.abstractmethod
    def component_moments(self, state: BlockState) -> Moments:
        """The moments of every component, stacked along a leading axis."""

    @abc.abstractmethod
    def direction(self, parts: Moments) -> Float[Array, "g q m"]:
        """Y_i with P_i grad R = P_i W' Y_i, without the ridge."""

    @abc.abstractmethod
    def noise(self, parts: Moments) -> Float[Array, "g m m"]:
        """w_i sum_c p_c lambda_i^c C_c / b."""

    @abc.abstractmethod
    def penalised(self, direction: Float[Array, "g q m"]) -> Float[Array, "g q m"]:
        """Y_i with the ridge: of grad R + tau X."""

    @abc.abstractmethod
    def theta_gradient(self, parts: Moments) -> PyTree:
        """sum_c p_c E_c[grad_theta f]."""

    @abc.abstractmethod
    def forces(self, state: BlockState) -> Forces:
        """What moves plain SGD at `state`."""

    @abc.abstractmethod
    def optimised(self, state: BlockState) -> Forces:
        """What moves the field's own optimiser at `state`."""
