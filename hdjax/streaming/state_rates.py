"""Learning rates that follow the state, in the limit as in a simulation.

With A = <X - X*, grad R>, I the trace of a step's noise (Gaussian data: (tr K/d) E|g|^2 / b) and
Hess the risk's second derivative along that noise (Gaussian data: (tr K^2/d) tr(H_1 C) / b),

    d/dt |X - X*|^2 = -2 gamma A + gamma^2 I,
    d/dt R = -gamma |grad R|^2 + gamma^2/2 Hess,        gamma_greedy = |grad R|^2 / Hess.

Polyak's rate A / I makes the distance fall fastest, the greedy one (an idealised line search) the
risk.  A ridge adds tau X to grad R.
Sources: arXiv 2308.08977 and 2405.19585, sections on learning rates.
"""

import abc
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from hdjax import precise
from hdjax.registry import Positive, Slot, declare, register
from hdjax.streaming.forces import Field
from hdjax.streaming.limit import BlockState
from hdjax.streaming.losses.base import Number, check_positive, leaf
from hdjax.streaming.optimisers import SGD, LinearMemory, Optimiser
from hdjax.streaming.projections import Layout

declare("streaming.rate", Slot(number="constant", includes=("rate",)))


class StateRate(eqx.Module):
    """A learning rate gamma = O(1) that is a function of the state, through its Gram blocks.

    A simulation evaluates it on its own blocks, at each step (direct SGD: at each block of steps,
    a few at a time).
    """

    # Whether the rule asks for the sum of squared gradient norms (`Side.accumulated`).
    accumulates: ClassVar[bool] = False

    @abc.abstractmethod
    def rate(self, field: Field, state: BlockState) -> Float[Array, ""]:
        """The rate at `state` = (blocks, side) of the groups of `field`."""

    def check(self, layout: Layout, optimiser: Optimiser) -> None:
        """Raise ValueError for columns or an optimiser that the rule has no meaning for."""
        if not isinstance(optimiser, SGD):
            raise ValueError(
                f"learning_rate: {type(self).__name__} with {type(optimiser).__name__}; allowed: "
                "a number or a schedule (the rule is made for plain SGD)"
            )


@register("streaming.rate", "polyak")
class Polyak(StateRate):
    """gamma = factor A / I, half the critical rate times `factor`; 0 where A < 0.

    Args:
        factor: 1 makes |X - X*|^2 fall fastest, 2 keeps it constant.

    Raises:
        ValueError: a factor that is not positive; a system with m != s, which has no distance.

    Example:
        >>> rate = hd.streaming.Polyak()
    """

    factor: Number

    def __init__(self, factor: Positive = 1.0):
        check_positive("factor", factor, strict=True)
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
    """gamma = |grad R|^2 / Hess, at which the risk falls fastest: an idealised line search.

    On ill-conditioned problems without noise it is much slower than the best constant.

    Args:
        largest: the rate where that is larger, or where the risk is not convex along the noise
            (Hess <= 0).

    Raises:
        ValueError: `largest` not positive.

    Example:
        >>> rate = hd.streaming.Greedy(largest=10.0)
    """

    largest: Number

    def __init__(self, largest: Positive = 100.0):
        check_positive("largest", largest, strict=True)
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
    """gamma_k = scale / sqrt(offset^2 + sum_{j<k} |gradient_j|^2 / d^2), AdaGrad's scalar form.

    In the limit the sum is the integral of (tr K/d) E|g|^2 / b (Gaussian data).

    Args:
        scale: O(1).
        offset: O(1), so that the first rate is scale/offset.

    Raises:
        ValueError: a scale or an offset that is not positive.

    Example:
        >>> rate = hd.streaming.AdaGradNorm(scale=1.0, offset=1.0)
    """

    accumulates: ClassVar[bool] = True
    scale: Number
    offset: Number

    def __init__(self, scale: Positive = 1.0, offset: Positive = 1.0):
        for name, value in (("scale", scale), ("offset", offset)):
            check_positive(name, value, strict=True)
        self.scale, self.offset = leaf(scale), leaf(offset)

    def rate(self, field: Field, state: BlockState) -> Float[Array, ""]:
        return self.scale / jnp.sqrt(self.offset**2 + state[1].accumulated)

    def check(self, layout: Layout, optimiser: Optimiser) -> None:
        if not isinstance(optimiser, LinearMemory):
            super().check(layout, optimiser)


def distance_terms(field: Field, state: BlockState) -> tuple[Array, Array]:
    """A = <X - X*, grad R> and I, the trace of a step's noise, of the field's optimiser."""
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
