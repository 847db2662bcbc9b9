"""Distinguished learning rates of one-pass SGD: critical, at the edge of stability, optimal.

They are computed from a system or a spectrum, for users who choose a learning rate.  With
A = <X - X*, grad R> and I the trace of the noise of a step (Gaussian data: (tr K/d) E|g|^2 / b),

    d/dt |X - X*|^2 = -2 gamma A + gamma^2 I,           gamma_critical = 2 A / I.

Rules that follow the state during a run are in `optimisers/state_rates.py`.

Sources: the slides "Hitting the High-D(imensional) Notes", slide "Intuition-Critical Threshold" and
the theorem "Convergence of strongly convex" (papers: arXiv 2308.08977 and 2405.19585).
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optimistix
import scipy
from jaxtyping import Array, Float

from hdjax.checks import checked
from hdjax.registry import PositiveFloat, Size, register
from hdjax.schedules import PiecewiseConstant, Schedule
from hdjax.schedules.base import Multiple
from hdjax.spectra import Spectrum
from hdjax.streaming.field import GramSummary
from hdjax.streaming.onepass import OnePass
from hdjax.streaming.optimisers.state_rates import StateRate, check_centred, distance_terms

__all__ = [
    "critical_learning_rate",
    "optimal_schedule",
    "stability_threshold",
    "strongly_convex_rate",
]


@register("streaming.rate", "critical")
class Critical(Multiple):
    """The learning rate of a config that is a multiple of the start's `critical_learning_rate`.

    Args:
        factor: the learning rate as a multiple of the critical rate.

    Example:
        >>> float(Critical(0.5).factor)
        0.5
    """


@checked
def critical_learning_rate(system: OnePass, summary: GramSummary | None = None) -> Float[Array, ""]:
    """The learning rate 2 A / I, at which d/dt |X - X*|^2 = 0.

    The distance |X - X*| decreases at smaller learning rates and increases at larger ones.

    Args:
        system: a system with as many teacher as student columns.
        summary: the state at which A and I are taken; None: the start.

    Returns:
        gamma = O(1), the step being gamma/d (negative if every learning rate increases the
        distance).

    Raises:
        ValueError: m != s, for which |X - X*| is not defined.

    Example:
        >>> bool(critical_learning_rate(system) > 0)
        True
    """
    check_centred(system.layout)
    if summary is None:
        summary = system.start()
    aligned, noise = distance_terms(system.field(), summary.state)
    return 2 * aligned / noise


@checked
def stability_threshold(
    spectrum: Spectrum, *, batch_size: Size = 1, exact: bool = False
) -> Float[Array, ""]:
    """The constant learning rate above which least squares (f = |x - x*|^2/2) is unstable.

    In the limit the threshold is gamma = 2 b / (tr K/d).  At finite d the mean of the risk is
    stable up to the root gamma of

        (1/b) sum_i x_i / (2 - (1 + 1/b) x_i) = 1,    x_i = gamma lambda_i / d,

    where the sum is over all d eigenvalues: for the identity and b = 1, gamma = 2 d/(d + 2).

    Args:
        spectrum: the spectrum of the covariance K.
        batch_size: number b of samples averaged in each step.
        exact: True: the threshold at the d of the spectrum; False: in the limit.

    Returns:
        gamma = O(1), the step being gamma/d.

    Example:
        >>> round(float(stability_threshold(hd.spectra.identity(8), exact=True)), 6)
        1.6
    """
    b = batch_size
    limit = 2 * b / jnp.dot(spectrum.weights, spectrum.eigenvalues)
    if not exact:
        return limit
    d = spectrum.dimension
    pole = 2 * d / ((1 + 1 / b) * spectrum.eigenvalues.max())

    def excess(gamma: Float[Array, ""], args: Any) -> Float[Array, ""]:
        x = gamma * spectrum.eigenvalues / d
        # The excess is large but finite at the pole, where bisection begins.
        left = jnp.maximum(2 - (1 + 1 / b) * x, jnp.finfo(x.dtype).eps)
        return jnp.dot(spectrum.multiplicities, x / left) / b - 1

    upper = jnp.minimum(limit, pole)
    eps = float(jnp.finfo(upper.dtype).eps)
    solver = optimistix.Bisection(rtol=4 * eps, atol=4 * eps)
    options = {"lower": jnp.zeros_like(upper), "upper": upper}
    return optimistix.root_find(excess, solver, upper / 2, options=options).value


@checked
def strongly_convex_rate(
    spectrum: Spectrum, convexity: float, smoothness: float, share: float = 0.5
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """A learning rate gamma with linear convergence, and its guaranteed rate a.

    In the limit |X - X*|^2 <= e^{-a t} |X_0 - X*|^2 for every loss f whose second derivatives in x
    lie in [convexity, smoothness] and whose minimum is at x = x* (so there is no label noise):

        gamma = 2 share convexity / (smoothness^2 tr K/d),
        a = 4 share (1 - share) (convexity/smoothness)^2 lambda_min / (tr K/d).

    Source: the slides "Hitting the High-D(imensional) Notes", theorem "Convergence of strongly
    convex", which has share = 1/2.

    Args:
        spectrum: the spectrum of the covariance K.
        convexity: lower bound of the second derivatives of f in x, positive.
        smoothness: upper bound of the second derivatives of f in x.
        share: between 0 and 1; 1/2 gives the largest a.

    Returns:
        gamma = O(1), the step being gamma/d, and a in units of 1/t.

    Raises:
        ValueError: 0 < convexity <= smoothness or 0 < share < 1 does not hold.

    Example:
        >>> gamma, a = strongly_convex_rate(hd.spectra.identity(100), 1.0, 2.0)
    """
    if not 0 < convexity <= smoothness:
        raise ValueError(
            f"convexity, smoothness: {convexity}, {smoothness}; allowed: "
            "0 < convexity <= smoothness"
        )
    if not 0 < share < 1:
        raise ValueError(f"share: {share}; allowed: between 0 and 1")
    kappa = jnp.dot(spectrum.weights, spectrum.eigenvalues)
    gamma = 2 * share * convexity / (smoothness**2 * kappa)
    least = spectrum.eigenvalues.min()
    return gamma, 4 * share * (1 - share) * (convexity / smoothness) ** 2 * least / kappa


@checked
def optimal_schedule(
    system: OnePass,
    horizon: PositiveFloat,
    *,
    statistic: str = "risk",
    pieces: Size = 12,
    family: Callable[[Float[Array, " n"]], Schedule] | None = None,
    parameters: Float[Array, " n"] | None = None,
    iterations: Size = 50,
) -> Schedule:
    """A learning rate schedule that minimises a statistic of the limit at time `horizon`.

    L-BFGS searches for a local minimum, with the gradient of the limit through its integrator.

    Args:
        system: the system; the search replaces its learning rate.
        horizon: the time t = k/d at which the statistic is taken.
        statistic: the name of a scalar of `system.statistics`.
        pieces: number of equal intervals of constant learning rate, used if no family is given;
            the parameters are then the logarithms of these learning rates.
        family: a function from parameters to a schedule that JAX can differentiate.
        parameters: (n,) where the search begins; None (without a family): the system's learning
            rate in the middle of each interval.
        iterations: the largest number of iterations of L-BFGS.

    Returns:
        The schedule, to be used as a `learning_rate`.

    Raises:
        TypeError: a learning rate that follows the state, and no `parameters`.
        ValueError: a horizon, pieces or iterations that are not positive, a family without
            parameters, a statistic that is not a scalar, a limit that diverges at the first
            parameters.

    Example:
        >>> best = optimal_schedule(system, 1.0, pieces=2, iterations=3)
    """
    dtype = jnp.result_type(float)
    edges = jnp.linspace(0, horizon, pieces + 1, dtype=dtype)

    def equal_pieces(logarithms: Float[Array, " n"]) -> Schedule:
        return PiecewiseConstant(edges[1:-1], jnp.exp(logarithms))

    make = equal_pieces if family is None else family
    if family is None:
        if parameters is None:
            if isinstance(system.learning_rate, StateRate):
                raise TypeError(
                    f"system.learning_rate: {system.learning_rate!r}; allowed without parameters: "
                    "a number or a schedule"
                )
            parameters = jnp.log(jax.vmap(system.learning_rate)((edges[:-1] + edges[1:]) / 2))
    elif parameters is None:
        raise ValueError("parameters: None; allowed with a family: an array")
    parameters = jnp.asarray(parameters, dtype)
    ts = jnp.asarray([0.0, horizon], dtype)

    def objective(parameters: Float[Array, " n"]) -> Float[Array, ""]:
        scheduled = eqx.tree_at(lambda s: s.learning_rate, system, make(parameters))
        final = scheduled.limit(ts, save=lambda summary: scheduled.statistics(summary)[statistic])
        end = final.values[1]
        return jnp.where(jnp.isfinite(end), end, jnp.inf)

    if statistic not in system.statistics(system.start()):
        names = ", ".join(system.statistics(system.start()))
        raise ValueError(f"statistic: {statistic!r}; allowed: {names}")
    first = jax.eval_shape(objective, parameters)
    if first.shape != ():
        raise ValueError(f"statistic: {statistic!r} of shape {first.shape}; allowed: a scalar")
    best, value = _minimise(objective, parameters, iterations)
    if not np.isfinite(value):
        raise ValueError(
            f"parameters: {parameters}, at which the limit diverges before the horizon; allowed: "
            "parameters of a schedule at which it does not (smaller learning rates)"
        )
    return make(best)


def _minimise(
    objective: Callable[[Array], Array], parameters: Float[Array, " n"], iterations: Size
) -> tuple[Float[Array, " n"], float]:
    """The parameters and the value at the minimum of `objective` that L-BFGS finds.

    L-BFGS runs on the host: within a compiled program it would contain four copies of the limit.
    """
    value_and_slope = jax.jit(jax.value_and_grad(objective))
    first = float(value_and_slope(parameters)[0])
    # At parameters where the limit diverges the search sees a value above all accepted values.
    worst = 2 * abs(first) + 1

    def called(x: np.ndarray) -> tuple[float, np.ndarray]:
        value, slope = value_and_slope(jnp.asarray(x, parameters.dtype))
        if not jnp.isfinite(value):
            return worst, np.zeros_like(x)
        return float(value), np.asarray(slope, np.float64)

    if not np.isfinite(first):
        return parameters, first
    options = {"maxiter": iterations, "ftol": 0.0}
    found = scipy.optimize.minimize(
        called, np.asarray(parameters), jac=True, method="L-BFGS-B", options=options
    )
    return jnp.asarray(found.x, parameters.dtype), float(found.fun)
