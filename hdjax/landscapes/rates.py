"""Step sizes of gradient span algorithms: constants, schedules and adaptive rules.

A `Rate` gives the multiplier gamma_k of a direction p in x_{k+1} = x_k + gamma_k p; p is -g_k, or a
conjugate direction.  It may depend on the step k, the value f(x_k), the slope -<g_k, p> and the
norm |p|, which are |g_k|^2 and |g_k| for p = -g_k.  Multipliers are O(1), without a factor of d.
The algorithms of `algorithms.py` take a rate as an option.
"""

import abc
from collections.abc import Callable
from typing import Annotated, Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from hdjax.checks import Checked
from hdjax.landscapes._arguments import numbers
from hdjax.landscapes.kernels.base import Kernel
from hdjax.landscapes.kernels.stationary import Stationary
from hdjax.registry import In, NonNegative, Positive, Real, Slot, Values, declare, register
from hdjax.schedules import Schedule, as_schedule

__all__ = [
    "Clipped",
    "Normalised",
    "Polyak",
    "RandomFunctionDescent",
    "Rate",
    "Scheduled",
    "Steps",
]

Scalar = Float[Array, ""]


declare("landscapes.rate", Slot(number="constant", given=("kernel",), includes=("schedule",)))


class Rate(Checked):
    """A rule for the multiplier gamma_k of the direction of step k."""

    @abc.abstractmethod
    def __call__(self, k: Int[Array, ""], f: Scalar, slope: Scalar, norm: Scalar) -> Scalar:
        """The multiplier gamma_k of the direction p.

        Args:
            k: the step.
            f: the value f(x_k).
            slope: -<g_k, p>.
            norm: |p|.
        """


# The type of the values that `as_rate` accepts; in a config a number or a table.
RateLike = Annotated[NonNegative | Rate | Schedule | Callable, In("landscapes.rate")]


class Scheduled(Rate):
    """The rate gamma_k = schedule(k), with a schedule of `hdjax.schedules` at t = k.

    `as_rate` makes one of a number too.

    Attributes:
        schedule: the schedule.
    """

    schedule: Schedule

    def __call__(self, k: Int[Array, ""], f: Scalar, slope: Scalar, norm: Scalar) -> Scalar:
        return self.schedule(k.astype(f.dtype)).astype(f.dtype)


@register("landscapes.rate", "steps")
class Steps(Rate):
    """The rate gamma_k = values[k]; after n steps it stays at the last value.

    Args:
        values: (n,) finite numbers, n >= 1.

    Raises:
        ValueError: no values, or values that are not finite.

    Example:
        >>> algorithm = hd.landscapes.algorithms.GradientDescent(Steps([0.7, 0.6, 1.2]))
    """

    values: Float[Array, " n"]

    def __init__(self, values: Values):
        self.values = numbers("values", values, "finite", ndim=1)
        if not self.values.shape[0]:
            raise ValueError("values: none; allowed: at least one step size")

    def __call__(self, k: Int[Array, ""], f: Scalar, slope: Scalar, norm: Scalar) -> Scalar:
        return self.values[jnp.minimum(k, self.values.shape[0] - 1)]


@register("landscapes.rate", "normalised")
class Normalised(Rate):
    """The rate gamma_k = length/|p|, with which all steps have the same length.

    Args:
        length: the length |x_{k+1} - x_k|, positive.

    Raises:
        ValueError: the length is not positive.

    Example:
        >>> algorithm = hd.landscapes.algorithms.GradientDescent(Normalised(0.3))
    """

    length: Scalar

    def __init__(self, length: Positive):
        self.length = numbers("length", length, "positive")

    def __call__(self, k: Int[Array, ""], f: Scalar, slope: Scalar, norm: Scalar) -> Scalar:
        return divide(self.length, norm)


@register("landscapes.rate", "clipped")
class Clipped(Rate):
    """The rate gamma_k = rate min(1, threshold/|p|): gradient clipping.

    Args:
        rate: the rate where |p| is below the threshold, positive.
        threshold: the norm |p| from which on the direction is clipped, positive.

    Raises:
        ValueError: an argument is not positive.

    Example:
        >>> algorithm = hd.landscapes.algorithms.GradientDescent(Clipped(0.5, threshold=0.6))
    """

    rate: Scalar
    threshold: Scalar

    def __init__(self, rate: Positive, threshold: Positive):
        self.rate = numbers("rate", rate, "positive")
        self.threshold = numbers("threshold", threshold, "positive")

    def __call__(self, k: Int[Array, ""], f: Scalar, slope: Scalar, norm: Scalar) -> Scalar:
        return self.rate * jnp.minimum(1.0, divide(self.threshold, norm))


@register("landscapes.rate", "polyak")
class Polyak(Rate):
    """Polyak's rate gamma_k = factor (f(x_k) - lowest)/slope; the slope is |g_k|^2 along -g_k.

    Args:
        lowest: the value f_* to reach.
        factor: a positive factor.

    Raises:
        ValueError: `lowest` is not finite, or `factor` is not positive.

    Example:
        >>> algorithm = hd.landscapes.algorithms.GradientDescent(Polyak(lowest=-1.5))
    """

    lowest: Scalar
    factor: Scalar

    def __init__(self, lowest: Real, factor: Positive = 1.0):
        self.lowest = numbers("lowest", lowest, "finite")
        self.factor = numbers("factor", factor, "positive")

    def __call__(self, k: Int[Array, ""], f: Scalar, slope: Scalar, norm: Scalar) -> Scalar:
        return self.factor * divide(f - self.lowest, slope)


@register("landscapes.rate", "random_function_descent")
class RandomFunctionDescent(Rate):
    """The step of Random Function Descent: the best step on average, given value and gradient.

    The length r = gamma_k |p| minimises E[f(x + r p/|p|) | f(x), grad f(x)] over r >= 0, for a
    stationary kernel and a constant mean.  At values far above the mean there may be no finite
    minimiser; the run then ends as diverged.  Source: arXiv 2305.01377.

    Args:
        kernel: the stationary kernel of the landscape; its variance does not matter.
        mean: the mean of the landscape; if that is no constant, a number to use in its place.

    Raises:
        TypeError: the kernel is not stationary.

    Example:
        >>> rate = RandomFunctionDescent(hd.landscapes.kernels.SquaredExponential())
    """

    kernel: Stationary
    mean: Scalar

    def __init__(self, kernel: Any, mean: Real = 0.0):
        if not isinstance(kernel, Stationary):
            raise TypeError(f"kernel: {type(kernel).__name__}; allowed: a stationary kernel")
        self.kernel, self.mean = kernel, numbers("mean", mean, "finite")

    def __call__(self, k: Int[Array, ""], f: Scalar, slope: Scalar, norm: Scalar) -> Scalar:
        # Along a unit vector the slope is <g, p>/|p|.
        return divide(self.kernel.descent_length(self.mean - f, divide(slope, norm)), norm)

    def check(self, kernel: Kernel, mean: Callable) -> None:
        """Raise ValueError if the landscape has another kernel or mean; both must be concrete."""
        halves = jnp.asarray([0.1, 0.5, 2.0], self.mean.dtype)
        a, b = halves[:, None, None], halves[None, :, None]
        t = 2 * jnp.sqrt(a * b) * jnp.asarray([1.0, 0.3, -0.8], a.dtype)[None, None, :]
        points = [x.ravel() for x in jnp.broadcast_arrays(a, b, t, a + b - t)]

        def correlations(kernel: Kernel) -> Float[Array, " points"]:
            values = jax.vmap(kernel)(*points)
            return values / values[0]

        tolerance = float(jnp.finfo(a.dtype).eps) ** 0.5
        gap = jnp.abs(correlations(self.kernel) - correlations(kernel)).max()
        if not float(gap) <= tolerance:
            raise ValueError(
                f"kernel: {self.kernel} of RandomFunctionDescent; allowed: the kernel of the "
                f"landscape up to its variance, {kernel}"
            )
        means = jax.vmap(mean)(halves)
        constant = float(jnp.ptp(means)) <= tolerance
        if constant and abs(float(means[0] - self.mean)) > tolerance * (1 + abs(float(means[0]))):
            raise ValueError(
                f"mean: {float(self.mean)} of RandomFunctionDescent; allowed: the mean of the "
                f"landscape, {float(means[0])}"
            )


def as_rate(value: Any) -> Rate:
    """A `Rate` from a rate, a number or a schedule (see `hdjax.schedules.as_schedule`).

    Raises:
        TypeError, ValueError: another value.
    """
    return value if isinstance(value, Rate) else Scheduled(as_schedule(value))


def divide(numerator: Scalar, denominator: Scalar) -> Scalar:
    """The quotient numerator/denominator; 0 where the denominator is 0, as for a zero gradient."""
    safe = jnp.where(denominator == 0, 1.0, denominator)
    return jnp.where(denominator == 0, jnp.zeros_like(numerator), numerator / safe)


def root(square: Scalar) -> Scalar:
    """The square root of a squared norm; 0, with derivative 0, where the square is not positive."""
    return jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1.0)), 0.0)
