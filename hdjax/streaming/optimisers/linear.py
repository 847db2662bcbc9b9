"""Optimisers with a linear memory: plain SGD, momentum, heavy ball, DANA, iterate averages.

A user gives one as the `optimiser` of a `OnePassSGD`, or writes a subclass of `LinearMemory`.  Such
an optimiser moves blocks of columns Z = [memories | X] linearly, by the gradients a g^T alone:

    Z_{k+1} = Z_k + 1/d Z_k Theta - 1/d (a g^T + tau X_k) Gamma,      t = k/d.

The matrices Theta and Gamma are functions of t and act on blocks: every column of a block has the
same coefficients.  The limit, the exact sampler and the diffusions are those of SGD with more
columns.  Optimisers that are not linear (clipping, signs, Adam) are in `transformed.py`.

The equation extends that of arXiv 2308.08977 to momentum with 1 - beta of order 1/d.
"""

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from hdjax.checks import Checked
from hdjax.registry import Share, register
from hdjax.schedules import Schedule, ScheduleLike, as_schedule
from hdjax.streaming.forces import Field, Forces
from hdjax.streaming.limit import BlockState
from hdjax.streaming.losses.base import Number, leaf
from hdjax.streaming.projections import Memory

Rule = tuple[Float[Array, " k"], Float[Array, "k k"]]


class Optimiser(Checked):
    """The base class of optimisers; its implementations of the methods are those of plain SGD."""

    memory: ClassVar[tuple[Memory, ...]] = ()
    # Whether a step is (Theta/d, Gamma/d); its corrections of order 1/d are then known.
    small_steps: ClassVar[bool] = False

    def flow(self, gamma: Float[Array, ""], t: Float[Array, ""]) -> Rule:
        """The pair (Gamma (k,), Theta (k, k)) at learning rate `gamma` and time `t`."""
        del t
        return gamma[None], jnp.zeros_like(gamma, shape=(1, 1))

    def forces(self, field: Field, state: BlockState) -> Forces:
        """The forces on the iterate at `state` = (blocks, side)."""
        return field.forces(state)

    def accumulator(self, groups: int, students: int) -> Any:
        """The sums that the optimiser accumulates, at the start; None if it accumulates none."""
        del groups, students

    def check(self, system: Any) -> None:
        """Raise ValueError for a system with which the optimiser cannot be used."""

    def doubt(self, system: Any) -> str | None:
        """A warning that the limit may not hold for the columns of a system; None: no doubt."""
        del system


class LinearMemory(Optimiser):
    """An optimiser Z_{k+1} = Z_k + Z_k Theta / d - (a g^T + tau X_k) Gamma / d; users subclass it.

    The blocks of columns Z = [memories | X] are in this order; entry (i, j) of Theta is the
    coefficient with which block i enters the change of block j.  A memory that is an iterate starts
    at X_0 and has statistics of its own (such as the risk of an average); any other memory starts
    at zero.

    Example:
        >>> class Slow(hd.streaming.optimisers.LinearMemory):
        ...     "X follows the gradients with a delay of one unit of time."
        ...
        ...     memory = (hd.streaming.projections.Memory("delayed"),)
        ...
        ...     def flow(self, gamma, t):
        ...         weights = jnp.stack([-gamma, 0 * gamma])
        ...         return weights, jnp.array([[-1.0, -1.0], [0.0, 0.0]])
    """

    small_steps: ClassVar[bool] = True

    def step(self, gamma: Float[Array, ""], t: Float[Array, ""], d: Float[Array, ""]) -> Rule:
        """The pair (w, M) of a step, which adds Z M - (a g^T + tau X) w to Z."""
        weights, mixing = self.flow(gamma, t)
        return weights / d, mixing / d


@register("streaming.optimiser", "sgd")
class SGD(LinearMemory):
    """Plain SGD, X_{k+1} = X_k - gamma/d a g^T.

    Example:
        >>> optimiser = hd.streaming.optimisers.SGD()
    """


@register("streaming.optimiser", "momentum")
class Momentum(LinearMemory):
    """Momentum with a beta < 1 that does not depend on d.

        U_{k+1} = beta U_k + gamma/d a g^T,    X_{k+1} = X_k - U_{k+1}

    The momentum remembers about 1/(1 - beta) steps, a time that vanishes as d grows.  The limit is
    therefore that of plain SGD with learning rate gamma/(1 - beta).

    Args:
        beta: in [0, 1).

    Raises:
        ValueError: a beta outside [0, 1).

    Example:
        >>> optimiser = hd.streaming.optimisers.Momentum(0.9)
    """

    memory: ClassVar[tuple[Memory, ...]] = (Memory("momentum"),)
    small_steps: ClassVar[bool] = False
    beta: Number

    def __init__(self, beta: Share):
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
    """Heavy-ball momentum whose memory is of order d steps, beta = 1 - damping/d.

        Y_{k+1} = (1 - damping/d) Y_k + 1/d a g^T,    X_{k+1} = X_k - gamma/d Y_k

    With a damping of 3/(1 + t) it is Nesterov's method in continuous time.

    Args:
        damping: O(1), at least 0; a number or a schedule.

    Raises:
        ValueError: negative damping.

    Example:
        >>> optimiser = hd.streaming.optimisers.HeavyBall(damping=hd.schedules.PowerDecay(3.0, 1.0))
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
    """Dimension-adapted momentum (DANA): a gradient step and a momentum step with separate rates.

        Y_{k+1} = (1 - damping/d) Y_k + 1/d a g^T
        X_{k+1} = X_k - gamma/d a g^T - momentum_rate/d Y_k

    The damping of DANA is a schedule such as delta/(1 + t).

    Args:
        damping: O(1), at least 0; a number or a schedule.
        momentum_rate: O(1), at least 0; a number or a schedule.

    Raises:
        ValueError: negative damping or momentum rate.

    Example:
        >>> damping = hd.schedules.PowerDecay(4.0, 1.0)
        >>> optimiser = hd.streaming.optimisers.Dana(damping, momentum_rate=0.5)
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
    """Plain SGD with an average A of its iterates, A_{k+1} = A_k + rate/d (X_k - A_k), A_0 = X_0.

    The statistics `average_risk` and `average_distance` are the risk and the squared distance to X*
    of A.

    Args:
        rate: O(1), at least 0: a number, for an exponential average over 1/rate units of time, or a
            schedule.  The schedule 1/(t + s), `hd.schedules.PowerDecay(1/s, 1.0, s)`, gives all
            iterates equal weight (Polyak-Ruppert average) and the start a weight of s.

    Raises:
        ValueError: a negative rate.

    Example:
        >>> optimiser = hd.streaming.optimisers.Averaging(hd.schedules.PowerDecay(10.0, 1.0, 0.1))
    """

    memory: ClassVar[tuple[Memory, ...]] = (Memory("average", iterate=True),)
    rate: Schedule

    def __init__(self, rate: ScheduleLike):
        self.rate = as_schedule(rate)

    def flow(self, gamma: Float[Array, ""], t: Float[Array, ""]) -> Rule:
        zero, rate = jnp.zeros_like(gamma), self.rate(t)
        return jnp.stack([zero, gamma]), _matrix([-rate, zero], [rate, zero])


def times_weights(columns: Float[Array, "*g q m"], weights: Float[Array, " k"]) -> Array:
    """The columns (..., q, m) times each of the k weights, side by side: (..., q, k m)."""
    shape = (*[1] * (columns.ndim - 1), weights.shape[0], 1)
    spread = columns[..., None, :] * weights.reshape(shape)
    return spread.reshape(*columns.shape[:-1], weights.shape[0] * columns.shape[-1])


def moved(
    parameters: tuple[PyTree, ...],
    slope: PyTree,
    weights: Float[Array, " k"],
    mixing: Float[Array, "k k"],
) -> tuple[PyTree, ...]:
    """The change of the side parameters (*memories, theta) in a step with this rule.

    `slope` is the gradient in theta; (weights, mixing) are the rule of the optimiser.
    """

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
