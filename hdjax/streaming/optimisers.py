"""Optimisers: what SGD keeps besides its iterate X, and how it moves both.

Those with a linear memory move blocks of columns Z = [memories | X] by the gradients a g^T alone,

    Z_{k+1} = Z_k + 1/d Z_k Theta - 1/d (a g^T + tau X_k) Gamma,      t = k/d,

with Theta and Gamma functions of t (the same for all columns of a block); their limit, their exact
sampler and their diffusions are those of SGD with more columns.  Plain SGD, heavy ball, Nesterov-
and DANA-type momentum and averages of the iterates are instances, and others are a few lines.

Extends arXiv 2308.08977 to momentum with 1 - beta of order 1/d.
"""

from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from hdjax.checks import is_concrete
from hdjax.registry import Share, register
from hdjax.schedules import Schedule, ScheduleLike, as_schedule
from hdjax.streaming.forces import Field, Forces
from hdjax.streaming.limit import BlockState
from hdjax.streaming.losses.base import Number, leaf
from hdjax.streaming.projections import Memory

Rule = tuple[Float[Array, " k"], Float[Array, "k k"]]


class Optimiser(eqx.Module):
    """How SGD moves; by itself, plain SGD."""

    memory: ClassVar[tuple[Memory, ...]] = ()
    # Whether a step is Theta/d and Gamma/d, so that its corrections of order 1/d are known.
    small_steps: ClassVar[bool] = False

    def flow(self, gamma: Float[Array, ""], t: Float[Array, ""]) -> Rule:
        """Gamma (k,) and Theta (k, k) at learning rate `gamma` and time `t`."""
        del t
        return gamma[None], jnp.zeros_like(gamma, shape=(1, 1))

    def forces(self, field: Field, state: BlockState) -> Forces:
        """What moves the iterate at `state`."""
        return field.forces(state)

    def accumulator(self, groups: int, students: int) -> Any:
        """What the optimiser sums up, at the start; None for nothing."""
        del groups, students

    def check(self, system: Any) -> None:
        """Raise ValueError for a system that the optimiser has no meaning for."""

    def doubt(self, system: Any) -> str | None:
        """Why the limit may not hold for a system's columns, if there is a reason."""
        del system


class LinearMemory(Optimiser):
    """An optimiser of the form above; subclass it for one of your own.

    Blocks are ordered [memories | X]: row i of Theta is where a block comes from, column j where it
    goes to.  A memory that is an iterate starts at X_0 and has statistics of its own (the risk at
    an average, say); any other starts at zero.

    Example:
        >>> class Slow(hd.streaming.LinearMemory):
        ...     "X follows the gradients with a delay of one unit of time."
        ...
        ...     memory = (hd.streaming.Memory("delayed"),)
        ...
        ...     def flow(self, gamma, t):
        ...         weights = jnp.stack([-gamma, 0 * gamma])
        ...         return weights, jnp.array([[-1.0, -1.0], [0.0, 0.0]])
    """

    small_steps: ClassVar[bool] = True

    def step(self, gamma: Float[Array, ""], t: Float[Array, ""], d: Float[Array, ""]) -> Rule:
        """What a step adds: Z M minus the gradient times w, as (w, M)."""
        weights, mixing = self.flow(gamma, t)
        return weights / d, mixing / d


@register("streaming.optimiser", "sgd")
class SGD(LinearMemory):
    """X_{k+1} = X_k - gamma/d a g^T.

    Example:
        >>> optimiser = hd.streaming.SGD()
    """


@register("streaming.optimiser", "momentum")
class Momentum(LinearMemory):
    """U' = beta U + gamma/d a g^T, X' = X - U', with beta < 1 that does not depend on d.

    Its limit is that of SGD with learning rate gamma/(1 - beta): the memory is of a few steps.

    Args:
        beta: in [0, 1).

    Raises:
        ValueError: another beta.

    Example:
        >>> optimiser = hd.streaming.Momentum(0.9)
    """

    memory: ClassVar[tuple[Memory, ...]] = (Memory("momentum"),)
    small_steps: ClassVar[bool] = False
    beta: Number

    def __init__(self, beta: Share):
        if is_concrete(beta) and not np.all((np.asarray(beta) >= 0) & (np.asarray(beta) < 1)):
            raise ValueError(f"beta: {beta}; allowed: at least 0 and below 1")
        self.beta = leaf(beta)

    def flow(self, gamma: Float[Array, ""], t: Float[Array, ""]) -> Rule:
        del t
        weights = jnp.stack([jnp.zeros_like(gamma), gamma / (1 - self.beta)])
        return weights, jnp.zeros_like(gamma, shape=(2, 2))

    def step(self, gamma: Float[Array, ""], t: Float[Array, ""], d: Float[Array, ""]) -> Rule:
        zero = jnp.zeros_like(gamma)
        weights = jnp.stack([-gamma, gamma]) / d
        return weights, _matrix([self.beta - 1, -self.beta], [zero, zero])


@register("streaming.optimiser", "heavy_ball")
class HeavyBall(LinearMemory):
    """Y' = (1 - damping/d) Y + 1/d a g^T, X' = X - gamma/d Y: beta = 1 - damping/d.

    A damping of 3/(1 + t) makes it Nesterov's method in continuous time.

    Args:
        damping: O(1); a number or a schedule.

    Raises:
        ValueError: negative damping.

    Example:
        >>> optimiser = hd.streaming.HeavyBall(damping=hd.schedules.PowerDecay(3.0, 1.0))
    """

    memory: ClassVar[tuple[Memory, ...]] = (Memory("momentum"),)
    damping: Schedule

    def __init__(self, damping: ScheduleLike):
        self.damping = as_schedule(damping)

    def flow(self, gamma: Float[Array, ""], t: Float[Array, ""]) -> Rule:
        zero, one = jnp.zeros_like(gamma), jnp.ones_like(gamma)
        return jnp.stack([-one, zero]), _matrix([-self.damping(t), -gamma], [zero, zero])


@register("streaming.optimiser", "dana")
class Dana(LinearMemory):
    """Y' = (1 - damping/d) Y + 1/d a g^T, X' = X - gamma/d a g^T - momentum_rate/d Y.

    Gradient step and momentum have rates of their own; schedules such as damping = delta/(1 + t)
    are those of dimension-adapted momentum (DANA).

    Args:
        damping: O(1); a number or a schedule.
        momentum_rate: O(1); a number or a schedule.

    Raises:
        ValueError: negative damping or rate.

    Example:
        >>> damping = hd.schedules.PowerDecay(4.0, 1.0)
        >>> optimiser = hd.streaming.Dana(damping, momentum_rate=0.5)
    """

    memory: ClassVar[tuple[Memory, ...]] = (Memory("momentum"),)
    damping: Schedule
    momentum_rate: Schedule

    def __init__(self, damping: ScheduleLike, momentum_rate: ScheduleLike):
        self.damping, self.momentum_rate = as_schedule(damping), as_schedule(momentum_rate)

    def flow(self, gamma: Float[Array, ""], t: Float[Array, ""]) -> Rule:
        zero, one = jnp.zeros_like(gamma), jnp.ones_like(gamma)
        mixing = _matrix([-self.damping(t), -self.momentum_rate(t)], [zero, zero])
        return jnp.stack([-one, gamma]), mixing


@register("streaming.optimiser", "averaging")
class Averaging(LinearMemory):
    """SGD and an average of its iterates, A' = A + rate/d (X - A), which starts at X_0.

    The statistics `average_risk` and `average_distance` are those of A.

    Args:
        rate: O(1), a number (exponential averages over 1/rate units of time) or a schedule:
            1/(t + s), which is `hd.schedules.PowerDecay(1/s, 1.0, s)`, gives all iterates equal
            weight (Polyak and Ruppert), with a weight of s for the start.

    Raises:
        ValueError: a negative rate.

    Example:
        >>> optimiser = hd.streaming.Averaging(hd.schedules.PowerDecay(10.0, 1.0, 0.1))
    """

    memory: ClassVar[tuple[Memory, ...]] = (Memory("average", iterate=True),)
    rate: Schedule

    def __init__(self, rate: ScheduleLike):
        self.rate = as_schedule(rate)

    def flow(self, gamma: Float[Array, ""], t: Float[Array, ""]) -> Rule:
        zero, rate = jnp.zeros_like(gamma), self.rate(t)
        return jnp.stack([zero, gamma]), _matrix([-rate, zero], [rate, zero])


def times_weights(columns: Float[Array, "*g q m"], weights: Float[Array, " k"]) -> Array:
    """Of a gradient with m columns, what each of k blocks of columns gets: (..., q, k m)."""
    shape = (*[1] * (columns.ndim - 1), weights.shape[0], 1)
    spread = columns[..., None, :] * weights.reshape(shape)
    return spread.reshape(*columns.shape[:-1], weights.shape[0] * columns.shape[-1])


def moved(
    parameters: tuple[PyTree, ...],
    slope: PyTree,
    weights: Float[Array, " k"],
    mixing: Float[Array, "k k"],
) -> tuple[PyTree, ...]:
    """What an optimiser adds to side parameters, in its order [memories | theta]."""

    def change(j: int, slope: Array, *parameters: Array) -> Array:
        kept = [mixing[i, j] * value for i, value in enumerate(parameters)]
        return sum(kept, -weights[j] * slope)

    return tuple(
        jax.tree.map(lambda *leaves, j=j: change(j, *leaves), slope, *parameters)
        for j in range(len(parameters))
    )


def _matrix(*rows: list[Any]) -> Float[Array, "k k"]:
    dtype = jnp.result_type(*[jnp.asarray(x).dtype for row in rows for x in row])
    return jnp.stack([jnp.stack([jnp.asarray(x, dtype) for x in row]) for row in rows])
