"""How far a step goes: the multiplier gamma_k of the direction -g, or of a conjugate direction p.

A rate knows the step k, the value f(x_k), the slope -<g, p> and the norm |p|; for the direction
p = -g these are |g|^2 and |g|.  Steps are O(1): x_{k+1} = x_k + gamma_k p.
"""

import abc
from collections.abc import Callable
from typing import Annotated, Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from hdjax.landscapes._arguments import numbers
from hdjax.landscapes.kernels import Kernel
from hdjax.landscapes.stationary import Stationary
from hdjax.registry import In, Positive, Real, Slot, Values, declare, register
from hdjax.schedules import Schedule, as_schedule

Scalar = Float[Array, ""]


declare("landscapes.rate", Slot(number="constant", given=("kernel",), includes=("schedule",)))


# What `as_rate` takes; in a config a number or a table.
RateLike = Annotated[Any, In("landscapes.rate")]


class Rate(eqx.Module):
    """gamma_k, a function of what is known after step k."""

    @abc.abstractmethod
    def __call__(self, k: Int[Array, ""], f: Scalar, slope: Scalar, norm: Scalar) -> Scalar:
        """The multiplier of the direction p, with slope = -<g, p> and norm = |p|."""


class Scheduled(Rate):
    """gamma_k = schedule(k), a schedule of `hdjax.schedules` at t = k; made of a number too."""

    schedule: Schedule

    def __call__(self, k: Int[Array, ""], f: Scalar, slope: Scalar, norm: Scalar) -> Scalar:
        return self.schedule(k.astype(f.dtype)).astype(f.dtype)


@register("landscapes.rate", "steps")
class Steps(Rate):
    """gamma_k = values[k], the last one for ever after.

    Args:
        values: (n,) finite numbers.

    Raises:
        ValueError: otherwise.

    Example:
        >>> algorithm = hd.landscapes.GradientDescent(Steps([0.7, 0.6, 1.2]))
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
    """gamma_k = length/|p|: steps of one length.

    Args:
        length: positive.

    Raises:
        ValueError: otherwise.

    Example:
        >>> algorithm = hd.landscapes.GradientDescent(Normalised(0.3))
    """

    length: Scalar

    def __init__(self, length: Positive):
        self.length = numbers("length", length, "positive")

    def __call__(self, k: Int[Array, ""], f: Scalar, slope: Scalar, norm: Scalar) -> Scalar:
        return divide(self.length, norm)


@register("landscapes.rate", "clipped")
class Clipped(Rate):
    """gamma_k = rate min(1, threshold/|p|).

    Args:
        rate: positive.
        threshold: positive norm from which on it clips.

    Raises:
        ValueError: otherwise.

    Example:
        >>> algorithm = hd.landscapes.GradientDescent(Clipped(0.5, threshold=0.6))
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
    """gamma_k = factor (f(x_k) - lowest)/slope; the slope is |g|^2 along -g.

    Args:
        lowest: the value to reach.
        factor: positive.

    Raises:
        ValueError: otherwise.

    Example:
        >>> algorithm = hd.landscapes.GradientDescent(Polyak(lowest=-1.5))
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
    """The step that is best on average, given value and gradient (arXiv 2305.01377).

    gamma_k |p| minimises E[f(x + r p/|p|) | f(x), grad f(x)] over r >= 0, for a stationary kernel
    and a constant mean.  Where no finite r does (values far above the mean), the run ends as
    diverged.

    Args:
        kernel: the landscape's stationary kernel; its variance does not matter.
        mean: the landscape's mean; a number for the rate to go by where that is no constant.

    Raises:
        TypeError: a kernel that is not stationary.

    Example:
        >>> rate = RandomFunctionDescent(hd.landscapes.SquaredExponential())
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
        """Raise ValueError on a landscape of another kernel or mean (concrete ones)."""
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
                f"kernel: {self.kernel} of RandomFunctionDescent; allowed: that of the landscape "
                f"up to its variance, {kernel}"
            )
        means = jax.vmap(mean)(halves)
        constant = float(jnp.ptp(means)) <= tolerance
        if constant and abs(float(means[0] - self.mean)) > tolerance * (1 + abs(float(means[0]))):
            raise ValueError(
                f"mean: {float(self.mean)} of RandomFunctionDescent; allowed: that of the "
                f"landscape, {float(means[0])}"
            )


def as_rate(value: Any) -> Rate:
    """A `Rate`, or what a learning rate may be given as (see `hdjax.schedules.as_schedule`).

    Raises:
        TypeError, ValueError: none of these.
    """
    return value if isinstance(value, Rate) else Scheduled(as_schedule(value))


def divide(numerator: Scalar, denominator: Scalar) -> Scalar:
    """numerator/denominator, and 0 where a gradient of norm 0 leaves no direction."""
    safe = jnp.where(denominator == 0, 1.0, denominator)
    return jnp.where(denominator == 0, jnp.zeros_like(numerator), numerator / safe)


def root(square: Scalar) -> Scalar:
    """Sqrt of a squared norm, 0 (with derivative 0) where rounding left it negative."""
    return jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1.0)), 0.0)
