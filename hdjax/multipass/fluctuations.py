"""The spread of multi-pass SGD round its limit at finite n: the linear-noise equation.

With v_j = rho_j^2/2n the loss per sample in direction j, l = L/n and h_j = m_j lambda_j^2/n, a
step moves sum_j f_j v_j by (-gamma r_i z_i + gamma^2/2 r_i^2 f.h)/n, where r_i is the residual of
the sample drawn and z_i = sum_j f_j lambda_j rho_j u_ji.  If the pairs (r_i, z_i) of the n samples
are spread like jointly Gaussian ones, sqrt(n) (v_SGD - v) tends to a Gaussian process of covariance

    dP/dt = J P + P J^T + C,    J = -2 gamma diag(lambda) + gamma^2 h 1^T,    P(0) = 0,
    C = 4 gamma^2 l diag(lambda^2 v) + gamma^2 [a a^T - 2 gamma^2 l^2 h h^T],
    a = 2 lambda v - 2 gamma l h,

and the variance of the loss per sample is 1^T P 1/n.  The first part of C alone is homogenised
SGD's.  Extends arXiv 2206.01029, in the way of the one-pass equation.

A sample that is drawn changes its own residual by a factor 1 - gamma |a_i|^2, which makes residuals
heavier-tailed than Gaussian ones, the more so the larger d/n.  For Gaussian A the predicted spread
is 0.87 to 1.07 times the measured one at d = n/2 and 0.80 to 1.01 times at d = 3n/4; above d = n/2
it is refused.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from hdjax.spectra import Spectrum
from hdjax.system import NoFluctuationsError, reached_only

if TYPE_CHECKING:
    from hdjax.multipass.model import MultiPassSGD

# Gauss nodes for each of the two measures; P has the square of their sum.
_NODES = 24
# Error bars need two digits.
_RTOL, _ATOL = 1e-4, 1e-7
_MOST_STEPS = 16**4


def fluctuations(
    system: "MultiPassSGD",
    ts: Float[Array, " times"],
    statistics: Callable[[dict[str, Array]], dict[str, Array]],
) -> dict[str, Array]:
    """Predicted standard deviations at `ts` of statistics that depend on the loss alone.

    Those that depend on other quadratic statistics get NaN.  Derivatives are by forward mode.

    Raises:
        NoFluctuationsError: with a ridge, or more than half as many dimensions as samples.
    """
    modes = system.modes
    if system.ridge is not None:
        raise NoFluctuationsError("ridge: it predicts no fluctuations; allowed: None")
    problem = system.problem
    if problem is None or 2 * problem.matrix.shape[1] > problem.samples:
        raise NoFluctuationsError(
            "problem: fluctuations are predicted for d <= n/2; with a larger d the residuals of "
            "SGD are too far from Gaussian"
        )
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

    end, size = ts[-1], eigenvalues.size
    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(eqx.filter_jit(rate)),
        diffrax.Tsit5(),
        t0=jnp.zeros_like(end),
        t1=end,
        dt0=None,
        y0=(start, jnp.zeros((size, size), start.dtype)),
        saveat=diffrax.SaveAt(ts=ts, fn=lambda t, y, args: jnp.maximum(y[1].sum(), 0)),
        stepsize_controller=diffrax.PIDController(rtol=_RTOL, atol=_ATOL),
        max_steps=_MOST_STEPS,
        # What reverse mode needs would double the time to compile.
        adjoint=diffrax.ForwardMode(),
        throw=False,
    )
    variances = reached_only(solution.ts, solution.ys)
    spread = jnp.sqrt(variances / modes.samples)
    curve = system.limit(ts)
    slopes = jax.vmap(jax.jacrev(statistics))(curve)

    def std(slope: dict[str, Array]) -> Array:
        own = jnp.abs(slope["loss"])
        of_others = [jnp.abs(slope[name]) > 0 for name in slope if name != "loss"]
        predicted = own * spread.reshape(-1, *[1] * (own.ndim - 1))
        for other in of_others:
            predicted = jnp.where(other, jnp.nan, predicted)
        return predicted

    return {name: std(slope) for name, slope in slopes.items()}


def _compressed(
    eigenvalues: Float[Array, " p"], weights: Float[Array, " p"]
) -> tuple[Float[Array, " q"], Float[Array, " q"]]:
    """The Gauss rule of a measure of any mass."""
    mass = weights.sum()
    unit = jnp.where(mass == 0, 1, mass)
    one = jnp.ones_like(mass)
    rule = Spectrum(eigenvalues, weights / unit, one).compress(_NODES)
    return rule.eigenvalues, rule.weights * mass
