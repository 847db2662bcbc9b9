"""The spread of one-pass SGD round its limit at finite d: the linear-noise equation.

A step of `stiefel_sgd.py` moves the overlap by B/d + O(d^{-3/2}) with

    B = -gamma (g_u z^T - P M) - gamma^2/2 g_u g_u^T M,    P = g_u u^T (horizontal) or its symmetric
                                                           part (embedded projection),

so sqrt(d) (M_SGD - M) tends to a Gaussian process on vectors vec M, of covariance C,

    dC/dt = J C + C J^T + Cov(vec B),    J the derivative of dM/dt by autodiff of the limit's,

and the standard deviation of a statistic phi is sqrt(grad phi^T C grad phi / d).  C(0) is 0 at a
given start and the identity at a Haar one, whose entries are normals of variance 1/d.  As for any
Gaussian limit round a saddle, times are of order 1 and not log d.

In the way of the one-pass equation of projected models (arXiv 2308.08977).
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from hdjax import gaussian
from hdjax.multiindex.problem import Overlap
from hdjax.multiindex.small import product
from hdjax.multiindex.stiefel_steps import StiefelSteps

# Error bars need two digits, unless the system's integrator says otherwise.
_RTOL = 1e-4
# Gauss and Hermite's nodes of label noise: B is quadratic in it, Cov B of degree four.
_NOISE = ((0.0, 2 / 3), (np.sqrt(3), 1 / 6), (-np.sqrt(3), 1 / 6))


def fluctuations(
    system: StiefelSteps,
    ts: Float[Array, " times"],
    statistics: Callable[[Overlap], dict[str, Array]],
    start: Overlap | None = None,
) -> dict[str, Array]:
    """Predicted standard deviations of `statistics` at `ts`; see `System.fluctuations`."""
    matrix = system.problem.start() if start is None else start.matrix
    shape, n = matrix.shape, matrix.size
    random = start is None and system.problem.matrix is None
    covariance = jnp.eye(n, dtype=matrix.dtype) * (1.0 if random else 0.0)

    def force(flat: Float[Array, " n"]) -> Float[Array, " n"]:
        return system.velocity(flat.reshape(shape)).ravel()

    def rate(state: tuple[Array, Array]) -> tuple[Array, Array]:
        flat, covariance = state
        moved = product(jax.jacfwd(force)(flat), covariance)
        noise = increment_covariance(system, flat.reshape(shape))
        return force(flat), moved + moved.T + noise

    def values(flat: Float[Array, " n"]) -> dict[str, Array]:
        return statistics(Overlap.of(flat.reshape(shape)))

    def save(state: tuple[Array, Array]) -> dict[str, Array]:
        flat, covariance = state

        def std(gradient: Float[Array, "*shape n"]) -> Array:
            variance = jnp.einsum(
                "...a,ab,...b->...", gradient, covariance, gradient, precision="highest"
            )
            return gaussian.safe_sqrt(variance / system.problem.dimension)

        return jax.tree.map(std, jax.jacfwd(values)(flat))

    return system.integrator(
        lambda t, y, args: rate(y),
        (matrix.ravel(), covariance),
        ts,
        save,
        solver=diffrax.Tsit5(),
        rtol=_RTOL,
    ).values


def increment_covariance(system: StiefelSteps, matrix: Float[Array, "q r"]) -> Float[Array, "n n"]:
    """The covariance of vec B, n = q r: of d times the move of the overlap in a step."""
    q, r = matrix.shape
    gamma, again = system.learning_rate, system.reuse is not None

    def increment(normals: Float[Array, " normals"], noise: Any) -> Float[Array, " n"]:
        pull, u, z = system.sample(matrix, normals, noise)
        inner = pull[:, None] * u[None, :]
        if system.projection == "embedded":
            inner = (inner + inner.T) / 2
        first = pull[:, None] * z[None, :] - product(inner, matrix)
        second = product(pull[:, None] * pull[None, :], matrix)
        return (-gamma * first - gamma**2 / 2 * second).ravel()

    def moments(normals: Float[Array, " normals"]) -> tuple[Array, Array]:
        """B and B B^T, averaged over the label noise where they are polynomials of it."""
        if again:
            move = increment(normals, normals[-1])
            return move, move[:, None] * move[None, :]
        noise, weights = (jnp.asarray(x, matrix.dtype) for x in zip(*_NOISE, strict=True))
        moves = jax.vmap(lambda noise: increment(normals, noise))(noise)
        weighted = weights[:, None] * moves
        return weighted.sum(0), product(weighted.T, moves)

    mean, square = gaussian.expectation(moments, r + q + again, _rule(system), matrix.dtype)
    return square - mean[:, None] * mean[None, :]


def _rule(system: StiefelSteps) -> gaussian.Rule:
    """The system's; twice as fine where that is exact for the noise matrix of a polynomial."""
    rule = system.rule
    if system.polynomial and isinstance(rule, gaussian.GaussHermite):
        return dataclasses.replace(rule, points=2 * rule.points)
    return rule
