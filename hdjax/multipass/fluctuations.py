"""The predicted spread of the loss of multi-pass SGD at finite n, for error bars of `compare`.

There are three theories, and `theory` chooses the best that is affordable.

"exact" iterates the fourth moments of the residual, in small problems (`moments.py`).

"closed" iterates the second moments of the residual exactly, and closes the fourth moments as for
a Gaussian vector, in problems of some hundred samples with a constant rate (`moments.py`).  It
keeps the differences between samples: row norms, initial residuals, and the part of its residual
that a sample loses when it is drawn.

"linear noise" is the leading order in 1/n for a problem whose samples are alike.  Let v_j =
rho_j^2/2n be the loss per sample in direction j, l = L/n and h_j = m_j lambda_j^2/n.  A step that
draws sample i, of residual r_i, changes sum_j f_j v_j by (-gamma r_i z_i + gamma^2/2 r_i^2 f.h)/n
with z_i = sum_j f_j lambda_j rho_j u_ji.  If the pairs (r_i, z_i) of the n samples are distributed
like jointly Gaussian ones, sqrt(n) (v_SGD - v) tends to a Gaussian process of a covariance P with

    dP/dt = J P + P J^T + C,    J = -2 gamma diag(lambda) + gamma^2 h 1^T,    P(0) = 0,
    C = 4 gamma^2 l diag(lambda^2 v) + gamma^2 [a a^T - 2 gamma^2 l^2 h h^T],
    a = 2 lambda v - 2 gamma l h,

and the variance of the loss per sample is 1^T P 1/n.  The first term of C alone is the noise of
homogenised SGD (arXiv 2205.07069); the others are derived here, like those of one-pass SGD.  The
equation neglects that a draw changes the residual of the drawn sample by the factor
1 - gamma |a_i|^2, which matters the more the larger d/n: for d > n/2 the equation is refused.

docs/multipass.md has measured errors of the three theories, and `linear_noise_error` estimates that
of the last.  "closed" and "linear noise" are theories of small noise: where they predict a standard
deviation of more than half the loss, the prediction is NaN.
"""

from collections.abc import Callable
from typing import Any, Literal

import diffrax
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from hdjax.arrays import jacobians
from hdjax.multipass.least_squares import MultiPass, required
from hdjax.multipass.moments import chain, closed_variances, exact_variances
from hdjax.schedules import Constant
from hdjax.spectra import Spectrum
from hdjax.system import NoFluctuationsError

# The largest cost n (p + 1)^4 of a step of the exact theory: about a millisecond.
_MOST_EXACT = 10**6
# The largest cost n (p + 1)^2 of a product of the closed theory, which takes some hundred products
# for each record.
_MOST_CLOSED = 4 * 10**6
# The ratio of standard deviation and loss above which theories of small noise give NaN.
_MOST_NOISE = 0.5
# The number of Gauss nodes for each of the two measures; P is a matrix of twice this size.
_NODES = 24
# The tolerance of the equation of P: two digits suffice for error bars.  The integrator of the
# system may say otherwise.
_RTOL = 1e-4


def theory(system: MultiPass) -> Literal["exact", "closed", "linear noise"]:
    """The theory that predicts the spread of the loss of a system: the best that is affordable.

    Args:
        system: SGD on a problem, sampled with replacement and without a ridge.

    Raises:
        NoFluctuationsError: the system has no problem, another sampling or a ridge; or only the
            linear-noise equation is affordable, and d > n/2.
    """
    if system.sampling != "replacement":
        raise NoFluctuationsError(
            f"sampling: {system.sampling!r}; allowed with fluctuations: 'replacement'"
        )
    if system.ridge is not None:
        raise NoFluctuationsError("ridge: given; allowed with fluctuations: None")
    if system.problem is None:
        raise NoFluctuationsError("problem: None; allowed with fluctuations: a Problem")
    n, d = system.problem.matrix.shape
    size = min(n, d) + 1
    if n * size**4 <= _MOST_EXACT:
        return "exact"
    if n * size**2 <= _MOST_CLOSED and isinstance(system.learning_rate, Constant):
        return "closed"
    if 2 * d > n:
        raise NoFluctuationsError(
            f"problem: n = {n}, d = {d}; allowed with fluctuations: d <= n/2, or a constant "
            f"learning rate and n (min(n, d) + 1)^2 <= {_MOST_CLOSED} (otherwise the residuals of "
            "SGD are too far from Gaussian)"
        )
    return "linear noise"


def fluctuations(
    system: MultiPass,
    ts: Float[Array, " times"],
    statistics: Callable[[dict[str, Array]], dict[str, Array]],
) -> dict[str, Array]:
    """Predicted standard deviations at `ts` of statistics that depend on the loss alone.

    Statistics that depend on other quadratic statistics get NaN, as do times at which an
    approximate theory predicts a standard deviation of more than half the loss.  Derivatives are by
    forward mode.

    Args:
        system: SGD on a problem.
        ts: (times,) increasing times in epochs.
        statistics: the statistics by name, as a function of loss and quadratic statistics.

    Raises:
        NoFluctuationsError: as for `theory`.
    """
    found = theory(system)
    curve = system.limit(ts).values
    if found == "linear noise":
        variances = linear_noise_variances(system, ts)
    else:
        problem, rate = required(system.problem), system.learning_rate
        recursion, steps = chain(problem), jnp.round(ts * problem.samples).astype(int)
        if found == "exact":
            variances = exact_variances(recursion, rate, steps)
        else:
            variances = closed_variances(recursion, rate(ts[0]), steps)
    spread = jnp.sqrt(jnp.maximum(variances, 0))
    if found != "exact":
        spread = jnp.where(spread <= _MOST_NOISE * curve["loss"], spread, jnp.nan)
    slopes = jax.vmap(lambda state: jacobians(statistics, state))(curve)

    def std(slope: dict[str, Array]) -> Array:
        own = jnp.abs(slope["loss"])
        of_others = [jnp.abs(slope[name]) > 0 for name in slope if name != "loss"]
        predicted = own * spread.reshape(-1, *[1] * (own.ndim - 1))
        for other in of_others:
            predicted = jnp.where(other, jnp.nan, predicted)
        return predicted

    return {name: std(slope) for name, slope in slopes.items()}


def linear_noise_variances(system: MultiPass, ts: Float[Array, " times"]) -> Float[Array, " times"]:
    """The variance of the loss per sample at `ts` by the linear-noise equation.

    The two measures of `system.modes` are compressed to Gauss rules of 24 nodes each.
    """
    modes = system.modes
    measures = [modes.residuals**2 / 2 / modes.samples, modes.multiplicities / modes.samples]
    rules = [_compressed(modes.eigenvalues, weights) for weights in measures]
    eigenvalues = jnp.concatenate([nodes for nodes, _ in rules])
    zeros = [jnp.zeros_like(weights) for _, weights in rules]
    start = jnp.concatenate([rules[0][1], zeros[1]])
    h = jnp.concatenate([zeros[0], rules[1][1]]) * eigenvalues**2
    floor = modes.floor / modes.samples

    def rate(t: Any, state: tuple[Array, Array], args: Any) -> tuple[Array, Array]:
        v, covariance = state
        gamma, loss = system.learning_rate(t), floor + v.sum()
        force = -2 * gamma * eigenvalues * v + gamma**2 * loss * h
        coupled = gamma**2 * jnp.outer(h, covariance.sum(0))
        moved = -2 * gamma * eigenvalues[:, None] * covariance + coupled
        a = 2 * eigenvalues * v - 2 * gamma * loss * h
        noise = jnp.diag(4 * loss * eigenvalues**2 * v) + jnp.outer(a, a)
        noise = noise - 2 * gamma**2 * loss**2 * jnp.outer(h, h)
        return force, moved + moved.T + gamma**2 * noise

    size = eigenvalues.size
    found = system.solver.integrator(
        rate,
        (start, jnp.zeros((size, size), start.dtype)),
        ts,
        lambda state: jnp.maximum(state[1].sum(), 0),
        solver=diffrax.Tsit5(),
        rtol=_RTOL,
        reverse=False,
    )
    return found.values / modes.samples


def _compressed(
    eigenvalues: Float[Array, " p"], weights: Float[Array, " p"]
) -> tuple[Float[Array, " q"], Float[Array, " q"]]:
    """The Gauss rule of the measure with the given weights at the given eigenvalues."""
    mass = weights.sum()
    unit = jnp.where(mass == 0, 1, mass)
    one = jnp.ones_like(mass)
    rule = Spectrum(eigenvalues, weights / unit, one).compress(_NODES)
    return rule.eigenvalues, rule.weights * mass
