"""The spread of one-pass SGD about its limit at finite d, by the linear-noise equation.

A step of `stiefel_sgd.py` moves the overlap by B/d + O(d^{-3/2}) with

    B = -gamma (g_u z^T - P M) - gamma^2/2 g_u g_u^T M,    P = g_u u^T (horizontal) or its symmetric
                                                           part (embedded projection),

so that sqrt(d) (M_SGD - M) tends to a Gaussian process on vectors vec M, of covariance C,

    dC/dt = J C + C J^T + Cov(vec B),    J the derivative of the limit's dM/dt in M, by autodiff,

and the standard deviation of a statistic phi is sqrt(grad phi^T C grad phi / d).  C(0) is 0 at a
given start, and the identity at a Haar start, whose entries of M are normals of variance 1/d.  Like
every Gaussian limit at a saddle, the prediction holds for times of order 1 and not of order log d.

`StiefelSGD.fluctuations` calls this module.  The derivation follows that of one-pass SGD on
projected models (arXiv 2308.08977).
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from hdjax import gaussian, precise
from hdjax.multiindex.problem import OverlapSummary
from hdjax.multiindex.small import product
from hdjax.multiindex.stiefel_steps import StiefelSteps

# Error bars need two digits, unless the system's integrator has its own tolerance.
_RTOL = 1e-4
# Gauss-Hermite nodes and weights of the label noise, in which B is quadratic and Cov B quartic.
_NOISE = ((0.0, 2 / 3), (np.sqrt(3), 1 / 6), (-np.sqrt(3), 1 / 6))


def fluctuations(
    system: StiefelSteps,
    ts: Float[Array, " times"],
    statistics: Callable[[OverlapSummary], dict[str, Array]],
    start: OverlapSummary | None = None,
) -> dict[str, Array]:
    """Predicted standard deviations of `statistics` at the times `ts` (see `System.fluctuations`).

    Args:
        system: one-pass SGD on the Stiefel manifold.
        ts: increasing times, in units of d steps.
        statistics: from a summary to its statistics.
        start: a given start, without variance; None: the law of the start, with its variance.
    """
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
        return statistics(OverlapSummary.of(flat.reshape(shape)))

    def save(state: tuple[Array, Array]) -> dict[str, Array]:
        flat, covariance = state

        def std(gradient: Float[Array, "*shape n"]) -> Array:
            variance = precise.einsum("...a,ab,...b->...", gradient, covariance, gradient)
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
    """The covariance (n, n) of vec B, n = q r: of d times the change of the overlap in a step."""
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
        """B and B B^T, averaged over the label noise unless each sample is used twice."""
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
    """The system's quadrature rule, with twice the nodes where Cov B is then exact."""
    rule = system.rule
    if system.polynomial and isinstance(rule, gaussian.GaussHermite):
        return dataclasses.replace(rule, points=2 * rule.points)
    return rule
