"""Gradient span algorithms, each written once against an abstract inner product.

    x_{k+1} = h_k x_0 + sum_{j <= k} h_kj grad f(x_j).

The prefactors h may depend on the values f(x_j) and the inner products of x_0 and of all gradients
seen so far.  An algorithm combines opaque vectors linearly and asks `dot` for their inner products;
it never takes a norm or looks at an entry.  The same object therefore runs in R^d (`explicit.py`),
in the coordinates of the exact sampler (`sampler.py`), and in the limit (`limit.py`), whose basis
is not orthonormal.

Source: arXiv 2410.09973, Definition 2.1 (general gradient span algorithm).

An algorithm that you write yourself is a module with two methods:

    class Damped(Algorithm):
        rate: jax.Array

        def init(self, x):
            return x                                    # the state of the algorithm

        def step(self, state, k, x, f, g, dot):
            return x - self.rate / (1 + dot(g, g)) * g, x

The state consists of scalars and vectors, or of stacks of vectors along leading axes.
"""

import abc
import warnings
from collections.abc import Callable
from typing import Annotated, Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PyTree

from hdjax import precise
from hdjax.checks import Checked, is_concrete
from hdjax.landscapes._arguments import numbers
from hdjax.landscapes.rates import Rate, RateLike, as_rate, divide, root
from hdjax.registry import NonNegative, OneOf, Positive, Slot, Values, declare, register
from hdjax.schedules import Schedule, ScheduleLike, as_schedule

__all__ = [
    "Algorithm",
    "BarzilaiBorwein",
    "ConjugateGradient",
    "GradientDescent",
    "HeavyBall",
    "LowerTriangular",
    "Nesterov",
    "SphereDescent",
]

Scalar = Float[Array, ""]
Vector = Float[Array, "..."]
Dot = Callable[[Any, Any], Scalar]


declare("landscapes.algorithm", Slot(given=("kernel", "mean", "radius", "noise")))


class Algorithm(Checked):
    """A gradient span algorithm on opaque vectors."""

    @abc.abstractmethod
    def init(self, x: Vector) -> PyTree:
        """The state of the algorithm at the start x_0."""

    @abc.abstractmethod
    def step(
        self, state: PyTree, k: Int[Array, ""], x: Vector, f: Scalar, g: Vector, dot: Dot
    ) -> tuple[Vector, PyTree]:
        """The next point x_{k+1}, and the next state of the algorithm.

        Args:
            state: the state of the algorithm at step k.
            k: the step.
            x: the point x_k.
            f: the value f(x_k).
            g: the gradient at x_k.
            dot: the function that computes the inner product of two vectors.
        """

    def check(self, radius: Float[Array, ""]) -> None:
        """Raise ValueError if the algorithm cannot start at |x_0| = `radius` (concrete)."""


@register("landscapes.algorithm", "gradient_descent")
class GradientDescent(Algorithm):
    """Gradient descent, x_{k+1} = x_k - gamma_k g_k.

    Args:
        rate: gamma_k = O(1): a number, a schedule (of t = k), or a `Rate` such as `Normalised`,
            `Clipped`, `Polyak`, `RandomFunctionDescent`.

    Raises:
        TypeError, ValueError: the rate is none of these.

    Example:
        >>> algorithm = GradientDescent(0.5)
    """

    rate: Rate

    def __init__(self, rate: RateLike):
        self.rate = as_rate(rate)

    def init(self, x: Vector) -> PyTree:
        return None

    def step(
        self, state: PyTree, k: Int[Array, ""], x: Vector, f: Scalar, g: Vector, dot: Dot
    ) -> tuple[Vector, PyTree]:
        return x - _steepest(self.rate, k, f, g, dot) * g, state


@register("landscapes.algorithm", "heavy_ball")
class HeavyBall(Algorithm):
    """Gradient descent with momentum, the heavy ball method of Polyak (1964).

        x_{k+1} = x_k - gamma_k g_k + beta_k (x_k - x_{k-1}),    x_{-1} = x_0

    Args:
        rate: gamma_k, as for `GradientDescent`.
        momentum: beta_k, a number or a schedule (of t = k).

    Raises:
        TypeError, ValueError: the rate or the momentum is none of these.

    Example:
        >>> algorithm = HeavyBall(0.3, momentum=0.5)
    """

    rate: Rate
    momentum: Schedule

    def __init__(self, rate: RateLike, momentum: ScheduleLike):
        self.rate, self.momentum = as_rate(rate), as_schedule(momentum)

    def init(self, x: Vector) -> PyTree:
        return x

    def step(
        self, state: PyTree, k: Int[Array, ""], x: Vector, f: Scalar, g: Vector, dot: Dot
    ) -> tuple[Vector, PyTree]:
        beta = self.momentum(k.astype(f.dtype)).astype(f.dtype)
        return x - _steepest(self.rate, k, f, g, dot) * g + beta * (x - state), x


@register("landscapes.algorithm", "nesterov")
class Nesterov(Algorithm):
    """Nesterov's accelerated gradient descent.

        z_{k+1} = x_k - gamma_k g_k,    x_{k+1} = z_{k+1} + beta_k (z_{k+1} - z_k),    z_0 = x_0

    The x_k are the points at which the function is evaluated (Nesterov's y_k), and the recorded
    values and gradients are those at x_k.

    Args:
        rate: gamma_k, as for `GradientDescent`.
        momentum: beta_k, a number or a schedule (of t = k).

    Raises:
        TypeError, ValueError: the rate or the momentum is none of these.

    Example:
        >>> algorithm = Nesterov(0.3, momentum=0.6)
    """

    rate: Rate
    momentum: Schedule

    def __init__(self, rate: RateLike, momentum: ScheduleLike):
        self.rate, self.momentum = as_rate(rate), as_schedule(momentum)

    def init(self, x: Vector) -> PyTree:
        return x

    def step(
        self, state: PyTree, k: Int[Array, ""], x: Vector, f: Scalar, g: Vector, dot: Dot
    ) -> tuple[Vector, PyTree]:
        beta = self.momentum(k.astype(f.dtype)).astype(f.dtype)
        ahead = x - _steepest(self.rate, k, f, g, dot) * g
        return ahead + beta * (ahead - state), ahead


_FORMULAS = ("FR", "PR", "PR+", "HS")


@register("landscapes.algorithm", "conjugate_gradient")
class ConjugateGradient(Algorithm):
    """Conjugate gradients, x_{k+1} = x_k + gamma_k p_k with p_k = -g_k + beta_k p_{k-1}.

    With y = g_k - g_{k-1}, beta_k is |g_k|^2/|g_{k-1}|^2 (Fletcher-Reeves, FR),
    <g_k, y>/|g_{k-1}|^2 (Polak-Ribiere, PR), the positive part of PR (PR+), or
    <g_k, y>/<p_{k-1}, y> (Hestenes-Stiefel, HS).

    Args:
        rate: gamma_k along p_k, as for `GradientDescent`.
        formula: the formula of beta_k: "FR", "PR", "PR+" or "HS".

    Raises:
        TypeError, ValueError: another rate or formula.

    Example:
        >>> algorithm = ConjugateGradient(0.3, formula="PR+")
    """

    rate: Rate
    formula: str = eqx.field(static=True)

    def __init__(
        self,
        rate: RateLike,
        formula: Annotated[str, OneOf("FR", "PR", "PR+", "HS")] = "PR+",
    ):
        if formula not in _FORMULAS:
            raise ValueError(f"formula: {formula!r}; allowed: {', '.join(_FORMULAS)}")
        self.rate, self.formula = as_rate(rate), formula

    def init(self, x: Vector) -> PyTree:
        return jnp.zeros_like(x), jnp.zeros_like(x)

    def step(
        self, state: PyTree, k: Int[Array, ""], x: Vector, f: Scalar, g: Vector, dot: Dot
    ) -> tuple[Vector, PyTree]:
        last, direction = state
        change = g - last
        if self.formula == "FR":
            beta = divide(dot(g, g), dot(last, last))
        elif self.formula == "HS":
            beta = divide(dot(g, change), dot(direction, change))
        else:
            beta = divide(dot(g, change), dot(last, last))
            beta = jnp.maximum(beta, 0.0) if self.formula == "PR+" else beta
        # At k = 0 both remembered vectors are 0, and beta = 0.
        p = beta * direction - g
        gamma = self.rate(k, f, -dot(g, p), root(dot(p, p)))
        return x + gamma * p, (g, p)


@register("landscapes.algorithm", "barzilai_borwein")
class BarzilaiBorwein(Algorithm):
    """Gradient descent with one of the two rates of Barzilai and Borwein (1988).

    With s = x_k - x_{k-1} and y = g_k - g_{k-1}, gamma_k is |s|^2/|<s, y>| (variant 1) or
    |<s, y>|/|y|^2 (variant 2), clipped to [low, high].

    Args:
        initial: gamma_0, positive.
        variant: 1 or 2.
        low: the smallest rate, at least 0.
        high: the largest rate, positive or infinite.

    Raises:
        ValueError: a rate out of range, or another variant.

    Example:
        >>> algorithm = BarzilaiBorwein(0.1, variant=1, high=10.0)
    """

    initial: Scalar
    low: Scalar
    high: Scalar
    variant: int = eqx.field(static=True)

    def __init__(
        self,
        initial: Positive,
        variant: Annotated[int, OneOf(1, 2)] = 1,
        low: NonNegative = 0.0,
        high: Positive = np.inf,
    ):
        if variant not in (1, 2):
            raise ValueError(f"variant: {variant!r}; allowed: 1, 2")
        self.initial = numbers("initial", initial, "positive")
        self.low = numbers("low", low, "at least 0")
        self.high = numbers("high", high, "positive or infinite")
        self.variant = variant

    def init(self, x: Vector) -> PyTree:
        return x, jnp.zeros_like(x)

    def step(
        self, state: PyTree, k: Int[Array, ""], x: Vector, f: Scalar, g: Vector, dot: Dot
    ) -> tuple[Vector, PyTree]:
        s, y = x - state[0], g - state[1]
        product = jnp.abs(dot(s, y))
        pair = (dot(s, s), product) if self.variant == 1 else (product, dot(y, y))
        rate = divide(*pair)
        gamma = jnp.where(k == 0, self.initial, jnp.clip(rate, self.low, self.high))
        return x - gamma * g, (x, g)


@register("landscapes.algorithm", "sphere_descent")
class SphereDescent(Algorithm):
    """Gradient descent on the sphere of radius |x_0|, by projection.

        x_{k+1} = |x_k| (x_k - gamma_k g~)/|x_k - gamma_k g~|,    g~ = g_k - <x_k, g_k>/|x_k|^2 x_k

    Args:
        rate: gamma_k along -g~, as for `GradientDescent`.

    Raises:
        TypeError, ValueError: another rate.

    Example:
        >>> algorithm = SphereDescent(0.1)
    """

    rate: Rate

    def __init__(self, rate: RateLike):
        self.rate = as_rate(rate)

    def init(self, x: Vector) -> PyTree:
        return None

    def step(
        self, state: PyTree, k: Int[Array, ""], x: Vector, f: Scalar, g: Vector, dot: Dot
    ) -> tuple[Vector, PyTree]:
        square = dot(x, x)
        tangent = g - dot(x, g) / square * x
        moved = x - _steepest(self.rate, k, f, tangent, dot) * tangent
        return root(square) * divide(jnp.ones_like(f), root(dot(moved, moved))) * moved, state

    def check(self, radius: Float[Array, ""]) -> None:
        if is_concrete(radius) and np.any(np.asarray(radius) == 0):
            raise ValueError("radius: 0; allowed with SphereDescent: positive")


@register("landscapes.algorithm", "lower_triangular")
class LowerTriangular(Algorithm):
    """Any algorithm with fixed prefactors, x_{k+1} = x_0 - sum_{j <= k} H_kj g_j.

    Args:
        matrix: (n, n) H; entries above the diagonal are not used.  After n steps the point stays.

    Raises:
        ValueError: H is not a square matrix.

    Warns:
        UserWarning: a zero on the diagonal.  The most recent gradient is then not used in a step,
            and the proof of arXiv 2410.09973 (which divides by its prefactor) does not apply; the
            sampler and the limit of this package do.

    Example:
        >>> algorithm = LowerTriangular([[0.5, 0.0], [0.4, 0.6]])
    """

    matrix: Float[Array, "n n"]

    def __init__(self, matrix: Values):
        self.matrix = numbers("matrix", matrix, "finite", ndim=2)
        n, m = self.matrix.shape
        if n != m or n == 0:
            raise ValueError(f"matrix: shape {(n, m)}; allowed: (n, n)")
        if is_concrete(self.matrix) and not np.all(np.diagonal(np.asarray(self.matrix))):
            warnings.warn(
                "matrix: a zero on the diagonal; allowed by the proof of arXiv 2410.09973: other "
                "numbers (with it, the most recent gradient is not used in that step)",
                stacklevel=2,
            )

    def init(self, x: Vector) -> PyTree:
        return x, jnp.zeros((self.matrix.shape[0], *x.shape), x.dtype)

    def step(
        self, state: PyTree, k: Int[Array, ""], x: Vector, f: Scalar, g: Vector, dot: Dot
    ) -> tuple[Vector, PyTree]:
        origin, gradients = state
        n = self.matrix.shape[0]
        # For k >= n the update is dropped and the last row is used, so that the point stays.
        gradients = gradients.at[k].set(g, mode="drop")
        row = self.matrix[jnp.minimum(k, n - 1)]
        row = jnp.where(jnp.arange(n) <= k, row, 0.0).astype(g.dtype)
        total = precise.tensordot(row, gradients, axes=1)
        return origin - total, (origin, gradients)


def _steepest(rate: Rate, k: Int[Array, ""], f: Scalar, g: Vector, dot: Dot) -> Scalar:
    """The multiplier gamma_k of the direction -g."""
    square = dot(g, g)
    return rate(k, f, square, root(square))
