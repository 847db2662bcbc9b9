"""Learning rates of one-pass SGD that are functions of the state: Polyak, greedy, AdaGrad-norm.

They are given as the `learning_rate` of a `OnePassSGD`; the limit and the simulations evaluate them
at their Gram blocks.  With A = <X - X*, grad R>, I the trace of the noise of a step (Gaussian data:
(tr K/d) E|g|^2 / b) and Hess the second derivative of the risk summed along this noise (Gaussian
data: (tr K^2/d) tr(H_1 C) / b),

    d/dt |X - X*|^2 = -2 gamma A + gamma^2 I,           gamma_Polyak = A / I,
    d/dt R = -gamma |grad R|^2 + gamma^2/2 Hess,        gamma_greedy = |grad R|^2 / Hess.

Polyak's learning rate makes the distance decrease fastest.  The greedy learning rate, an idealised
line search, makes the risk decrease fastest.  A ridge adds tau X to grad R.

Sources: for A and I the slides "Hitting the High-D(imensional) Notes", slide "Intuition-Critical
Threshold" (paper: arXiv 2308.08977); for the three rules arXiv 2405.19585.
"""

import abc
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from hdjax import precise
from hdjax.checks import Checked
from hdjax.registry import Positive, Slot, declare, register
from hdjax.streaming.forces import Field
from hdjax.streaming.limit import BlockState
from hdjax.streaming.losses.base import Number, leaf
from hdjax.streaming.optimisers.linear import SGD, LinearMemory, Optimiser
from hdjax.streaming.projections import Layout

declare("streaming.rate", Slot(number="constant", includes=("schedule",)))


class StateRate(Checked):
    """A learning rate gamma = O(1) that is a function of the Gram blocks of the state.

    A simulation evaluates the function at the blocks of its current state, at each step; direct SGD
    evaluates it once for each block of a few steps.
    """

    # Whether the rule needs the sum of squared gradient norms (`Side.accumulated`).
    accumulates: ClassVar[bool] = False

    @abc.abstractmethod
    def rate(self, field: Field, state: BlockState) -> Float[Array, ""]:
        """The learning rate at `state` = (blocks, side) on the groups of `field`."""

    def check(self, layout: Layout, optimiser: Optimiser) -> None:
        """Raise ValueError for a layout or an optimiser for which the rule is not defined."""
        if not isinstance(optimiser, SGD):
            raise ValueError(
                f"learning_rate: {type(self).__name__} with {type(optimiser).__name__}; allowed: "
                "a number or a schedule (the rule is defined for plain SGD)"
            )


@register("streaming.rate", "polyak")
class Polyak(StateRate):
    """Polyak's learning rate gamma = factor A / I; 0 where A < 0.

    It is `factor` times half the critical learning rate (`critical_learning_rate`).

    Args:
        factor: 1 makes |X - X*|^2 decrease fastest, 2 keeps it constant.

    Raises:
        ValueError: a factor that is not positive; a system with m != s, for which |X - X*| is not
            defined.

    Example:
        >>> rate = hd.streaming.optimisers.Polyak()
    """

    factor: Number

    def __init__(self, factor: Positive = 1.0):
        self.factor = leaf(factor)

    def rate(self, field: Field, state: BlockState) -> Float[Array, ""]:
        aligned, noise = distance_terms(field, state)
        ratio = jnp.where(noise > 0, aligned / jnp.where(noise > 0, noise, 1), 0)
        return self.factor * jnp.maximum(ratio, 0)

    def check(self, layout: Layout, optimiser: Optimiser) -> None:
        super().check(layout, optimiser)
        check_centred(layout)


@register("streaming.rate", "greedy")
class Greedy(StateRate):
    """The greedy learning rate |grad R|^2 / Hess, at which the risk decreases fastest.

    It is an idealised exact line search.  On ill-conditioned problems without noise SGD is much
    slower with it than with the best constant learning rate.

    Args:
        largest: upper bound of the learning rate, which is also taken where the risk is not convex
            along the noise (Hess <= 0).

    Raises:
        ValueError: `largest` not positive.

    Example:
        >>> rate = hd.streaming.optimisers.Greedy(largest=10.0)
    """

    largest: Number

    def __init__(self, largest: Positive = 100.0):
        self.largest = leaf(largest)

    def rate(self, field: Field, state: BlockState) -> Float[Array, ""]:
        blocks, side = state
        parts, m = field.component_moments(state), field.layout.students
        direction, slope = field.direction(parts), field.theta_gradient(parts)
        descent = precise.einsum(
            "gam,gab,gbm->",
            *(direction, blocks, field.penalised(direction)),
        )
        for g, value in zip(jax.tree.leaves(slope), jax.tree.leaves(side.theta), strict=True):
            descent = descent + jnp.sum(g * (g + field.ridge * value))
        weighted = field.probabilities[:, None] * field.eigenvalues
        bent = precise.einsum(
            "cg,cij,gji->",
            *(weighted, parts.stein[:, :m], field.noise(parts)),
        )
        ratio = jnp.where(bent > 0, descent / jnp.where(bent > 0, bent, 1), self.largest)
        return jnp.clip(ratio, 0, self.largest)


@register("streaming.rate", "adagrad_norm")
class AdaGradNorm(StateRate):
    """AdaGrad-norm, the learning rate scale / sqrt(offset^2 + sum_{j<k} |G_j|^2 / d^2) at step k.

    G_j (d, m) is the mini-batch gradient of step j.  In the limit the sum is the time integral of
    (tr K/d) E|g|^2 / b (Gaussian data).

    Args:
        scale: O(1), positive.
        offset: O(1), positive; the learning rate of the first step is scale/offset.

    Raises:
        ValueError: a scale or an offset that is not positive.

    Example:
        >>> rate = hd.streaming.optimisers.AdaGradNorm(scale=1.0, offset=1.0)
    """

    accumulates: ClassVar[bool] = True
    scale: Number
    offset: Number

    def __init__(self, scale: Positive = 1.0, offset: Positive = 1.0):
        self.scale, self.offset = leaf(scale), leaf(offset)

    def rate(self, field: Field, state: BlockState) -> Float[Array, ""]:
        return self.scale / jnp.sqrt(self.offset**2 + state[1].accumulated)

    def check(self, layout: Layout, optimiser: Optimiser) -> None:
        if not isinstance(optimiser, LinearMemory):
            super().check(layout, optimiser)


def distance_terms(field: Field, state: BlockState) -> tuple[Array, Array]:
    """The pair (A, I): <X - X*, grad R> and the trace of the noise of a step.

    Both are those of the optimiser of `field`.
    """
    students = slice(field.layout.first, field.layout.moving)
    forces = field.optimised(state)
    aligned = precise.einsum("gab,gba->", state[0][:, students], forces.direction)
    return aligned, jnp.einsum("gii->", forces.noise)


def check_centred(layout: Layout) -> None:
    """Raise ValueError unless there are as many student as teacher columns."""
    if not layout.centred:
        raise ValueError(
            f"system: {layout.students} student and {layout.teachers} teacher columns; allowed: "
            "as many of each, so that |X - X*| exists"
        )
