"""Component-wise optimisers, for `ComponentWise`: each coordinate of x is moved by itself.

These optimisers look at the entries of gradients, so that they are not invariant under rotations
and no gradient span algorithms.  An entry of a gradient is O(d^-1/2); optimisers are therefore
written in the coordinates

    x~ = d^(1/2) x^a,      g~ = d^(1/2) g^a,

which are O(1).  In the coordinates of R^d a rate eta and an offset epsilon become eta/d^(1/2) and
epsilon/d^(1/2).  With a rate of order 1 in R^d, Adam would leave the region |x| = O(1) at once.

An optimiser that you write yourself is a module with two methods:

    class Cubic(Optimiser):
        rate: jax.Array

        def init(self, x):
            return None                                 # the state: arrays like x, or scalars

        def update(self, state, k, x, g):
            return x - self.rate * g**3, state
"""

import abc
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PyTree

from hdjax.checks import Checked, is_concrete
from hdjax.landscapes._arguments import numbers
from hdjax.registry import NonNegative, register
from hdjax.schedules import Schedule, ScheduleLike, as_schedule

__all__ = [
    "Adam",
    "Optimiser",
    "RMSProp",
    "SignDescent",
]

Scalar = Float[Array, ""]
Entries = Float[Array, " entries"]


class Optimiser(Checked):
    """A component-wise optimiser, in coordinates that are O(1)."""

    @abc.abstractmethod
    def init(self, x: Entries) -> PyTree:
        """The state of the optimiser at the start: scalars, and arrays of the shape of x."""

    @abc.abstractmethod
    def update(
        self, state: PyTree, k: Int[Array, ""], x: Entries, g: Entries
    ) -> tuple[Entries, PyTree]:
        """The next point x_{k+1}, entry by entry, and the next state of the optimiser.

        Args:
            state: the state of the optimiser at step k.
            k: the step.
            x: entries of x_k, scaled to be O(1).
            g: the same entries of g_k, scaled to be O(1).
        """


@register("landscapes.algorithm", "adam")
class Adam(Optimiser):
    """Adam (Kingma and Ba, 2015): x' = x - eta_k m^/(v^^(1/2) + epsilon).

    m and v are moving averages of g and g^2, with m^ = m/(1 - beta1^(k+1)) and
    v^ = v/(1 - beta2^(k+1)).

    Args:
        rate: eta_k, a number or a schedule (of t = k); eta_k/d^(1/2) in the coordinates of R^d.
        beta1: decay of the average of the gradient, in [0, 1).
        beta2: decay of the average of the squared gradient, in [0, 1).
        epsilon: offset, at least 0; epsilon/d^(1/2) in the coordinates of R^d.

    Raises:
        TypeError, ValueError: an argument is not allowed.

    Example:
        >>> optimiser = Adam(0.2, beta2=0.99)
    """

    rate: Schedule
    beta1: Scalar
    beta2: Scalar
    epsilon: Scalar

    def __init__(
        self,
        rate: ScheduleLike,
        beta1: NonNegative = 0.9,
        beta2: NonNegative = 0.999,
        epsilon: NonNegative = 1e-8,
    ):
        self.rate = as_schedule(rate)
        self.beta1, self.beta2 = _forgetting("beta1", beta1), _forgetting("beta2", beta2)
        self.epsilon = numbers("epsilon", epsilon, "at least 0")

    def init(self, x: Entries) -> PyTree:
        return jnp.zeros_like(x), jnp.zeros_like(x)

    def update(
        self, state: PyTree, k: Int[Array, ""], x: Entries, g: Entries
    ) -> tuple[Entries, PyTree]:
        first = self.beta1 * state[0] + (1 - self.beta1) * g
        second = self.beta2 * state[1] + (1 - self.beta2) * g**2
        count = (k + 1).astype(x.dtype)
        mean, square = first / (1 - self.beta1**count), second / (1 - self.beta2**count)
        return x - _rate(self.rate, k, x) * _quotient(mean, square, self.epsilon), (first, second)


@register("landscapes.algorithm", "rmsprop")
class RMSProp(Optimiser):
    """RMSProp (Tieleman and Hinton, 2012): x' = x - eta_k g/(v^(1/2) + epsilon).

    v is the moving average of g^2, which starts at 0 and includes the current step.

    Args:
        rate: eta_k, as for `Adam`.
        decay: decay of the average, in [0, 1).
        epsilon: offset, as for `Adam`.

    Raises:
        TypeError, ValueError: an argument is not allowed.

    Example:
        >>> optimiser = RMSProp(0.1, decay=0.9)
    """

    rate: Schedule
    decay: Scalar
    epsilon: Scalar

    def __init__(self, rate: ScheduleLike, decay: NonNegative = 0.9, epsilon: NonNegative = 1e-8):
        self.rate, self.decay = as_schedule(rate), _forgetting("decay", decay)
        self.epsilon = numbers("epsilon", epsilon, "at least 0")

    def init(self, x: Entries) -> PyTree:
        return jnp.zeros_like(x)

    def update(
        self, state: PyTree, k: Int[Array, ""], x: Entries, g: Entries
    ) -> tuple[Entries, PyTree]:
        square = self.decay * state + (1 - self.decay) * g**2
        return x - _rate(self.rate, k, x) * _quotient(g, square, self.epsilon), square


@register("landscapes.algorithm", "sign_descent")
class SignDescent(Optimiser):
    """Sign descent, x' = x - eta_k sign(g).

    Args:
        rate: eta_k, as for `Adam`: in R^d every coordinate moves by eta_k/d^(1/2).

    Raises:
        TypeError, ValueError: another rate.

    Example:
        >>> optimiser = SignDescent(0.2)
    """

    rate: Schedule

    def __init__(self, rate: ScheduleLike):
        self.rate = as_schedule(rate)

    def init(self, x: Entries) -> PyTree:
        return None

    def update(
        self, state: PyTree, k: Int[Array, ""], x: Entries, g: Entries
    ) -> tuple[Entries, PyTree]:
        return x - _rate(self.rate, k, x) * jnp.sign(g), state


def _rate(schedule: Schedule, k: Int[Array, ""], x: Entries) -> Scalar:
    """The rate eta_k in the dtype of x."""
    return schedule(k.astype(x.dtype)).astype(x.dtype)


def _quotient(mean: Entries, square: Entries, epsilon: Scalar) -> Entries:
    """The quotient mean/(square^(1/2) + epsilon); 0 where `square` is 0, without any gradient."""
    moved = square > 0
    root = jnp.sqrt(jnp.where(moved, square, 1.0)) + epsilon
    return jnp.where(moved, mean / root, 0.0)


def _forgetting(name: str, value: Any) -> Scalar:
    """The decay of a moving average as an array; raises ValueError outside of [0, 1)."""
    beta = numbers(name, value, "at least 0")
    if is_concrete(beta) and float(np.asarray(beta)) >= 1:
        raise ValueError(f"{name}: {float(np.asarray(beta))}; allowed: at least 0 and below 1")
    return beta
