"""The spread of one-pass SGD round its limit at finite d: the linear-noise equation.

With y the stacked Gram blocks, sqrt(d) (y_SGD - y) tends to a Gaussian process of covariance P,

    dP/dt = J P + P J^T + Sigma,    J = dF/dy by autodiff of the limit's right-hand side F,

where Sigma is the covariance of one step's increment.  For one student column (m = 1) and Gaussian
data that increment is xi_i = -gamma (u_i e^T + e u_i^T) + gamma^2 lambda_i w_i g^2 e e^T with
u_i = g W'^T P_i a; given r = L z the projections W'^T P_i a are Gaussian with mean lambda_i K_i z,
K_i = V_i L^{-T}, and covariance delta_ij lambda_i V_i - lambda_i lambda_j K_i K_j^T.  So Sigma
needs only E[g z], E[g^2], E[g^2 z z^T], E[g^3 z] and E[g^4].
The standard deviation of a statistic phi is
sqrt(grad phi^T P grad phi / d).  (Homogenised SGD has the right mean and the wrong spread.)

Extends arXiv 2308.08977; P starts from the covariance of the start's law, or from 0 at a given one.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from hdjax import gaussian
from hdjax.streaming.columns import LinearColumns, group_gram
from hdjax.streaming.field import BlockField, GramSummary
from hdjax.streaming.limit import reached_only, velocity
from hdjax.streaming.moments import mean_over_samples
from hdjax.system import NoFluctuationsError

if TYPE_CHECKING:
    from hdjax.streaming.model import OnePassSGD

# Beyond this many groups the spectrum of random columns is replaced by a Gauss rule of so many
# nodes (its error is far below that of the linear-noise expansion), and given columns are refused:
# the covariance has (groups q^2)^2 entries.
NODES = 12
_MOST_GROUPS = 32
# Error bars need two digits.
_RTOL, _ATOL = 1e-4, 1e-7
# A limit that diverges has no error bars: stop rather than follow it.
_MOST_STEPS, _DIVERGED = 4096, 1e4


def fluctuations(
    system: "OnePassSGD",
    ts: Float[Array, " times"],
    statistics: Callable[[GramSummary], dict[str, Array]],
    start: GramSummary | None = None,
) -> dict[str, Array]:
    """Predicted standard deviations of `statistics` at `ts`; see `System.fluctuations`.

    Raises:
        NoFluctuationsError: several student columns, a mixture, side parameters, or more groups
            of given columns than fit.
    """
    layout = system.layout
    if layout.students != 1 or layout.means or system.theta is not None:
        raise NoFluctuationsError("fluctuations: known for one student column on Gaussian data")
    if system.probabilities.shape[0] != 1:
        raise NoFluctuationsError("fluctuations: not known for mixtures")
    spectrum = system.spectrum
    if spectrum.eigenvalues.shape[-1] > _MOST_GROUPS:
        if not system.columns.follows_spectrum:
            raise NoFluctuationsError(
                f"fluctuations: {spectrum.eigenvalues.shape[-1]} groups of given columns; allowed: "
                f"at most {_MOST_GROUPS}, or random columns"
            )
        spectrum = spectrum.compress(NODES)
    field = system.field_on(spectrum)
    blocks = system.columns.blocks(spectrum)
    g, q = blocks.shape[:2]
    size = g * q * q
    covariance = jnp.zeros((size, size), blocks.dtype)
    if start is None:
        covariance = start_covariance(system.columns, spectrum).reshape(size, size)

    def rate(t: Any, state: tuple[Array, Array], args: Any) -> tuple[Array, Array]:
        blocks, covariance = state

        def force(flat: Array) -> Array:
            state = (flat.reshape(g, q, q), None)
            return velocity(args.coefficients(t, state), state)[0].ravel()

        flat = blocks.ravel()
        jacobian = jax.jacfwd(force)(flat)
        moved = jnp.dot(jacobian, covariance, precision="highest")
        noise = increment_covariance(args, t, blocks).reshape(size, size)
        return force(flat).reshape(g, q, q), moved + moved.T + noise

    def save(t: Any, state: tuple[Array, Array], args: Any) -> dict[str, Array]:
        blocks, covariance = state

        def values(blocks: Array) -> dict[str, Array]:
            return statistics(GramSummary(blocks, None, args.eigenvalues, layout))

        def std(gradient: Float[Array, "*shape g q q"]) -> Array:
            flat = gradient.reshape(*gradient.shape[:-3], size)
            variance = jnp.einsum("...a,ab,...b->...", flat, covariance, flat, precision="highest")
            return gaussian.safe_sqrt(variance / spectrum.dimension)

        return jax.tree.map(std, jax.jacrev(values)(blocks))

    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(eqx.filter_jit(rate)),
        diffrax.Tsit5(),
        t0=jnp.zeros_like(ts[-1]),
        t1=ts[-1],
        dt0=None,
        y0=(blocks, covariance),
        args=field,
        saveat=diffrax.SaveAt(ts=ts, fn=eqx.filter_jit(save)),
        stepsize_controller=diffrax.PIDController(rtol=_RTOL, atol=_ATOL),
        max_steps=_MOST_STEPS,
        event=diffrax.Event(lambda t, y, args, **_: ~(jnp.trace(y[0].sum(0)) < _DIVERGED)),
        throw=False,
    )
    return reached_only(solution)


def increment_covariance(
    field: BlockField, t: Float[Array, ""], blocks: Float[Array, "g q q"]
) -> Float[Array, "g q q g q q"]:
    """Sigma: d times the covariance of the blocks' change in one step, over the time 1/d."""
    g, q = blocks.shape[:2]
    law = field.law(blocks, 0)
    gz, g2, g2zz, g3z, g4 = gradient_moments(field, law)
    factor = law.factor
    # K_i = V_i L^{-T}, by columns: L K_i^T = V_i.
    solve = jax.vmap(lambda v: gaussian.solve_transpose(factor.T[::-1, ::-1], v[::-1])[::-1])
    k = solve(blocks).mT
    lam = field.eigenvalues[0]
    lk = lam[:, None, None] * k
    mean = jnp.einsum("gab,b->ga", lk, gz, precision="highest")
    # Covariances of u_i = g p_i and s = g^2 in one sample.
    eye = jnp.eye(factor.shape[0], dtype=blocks.dtype)
    uu = jnp.einsum("iab,bc,jdc->iajd", lk, g2zz - g2 * eye, lk, precision="highest")
    own = g2 * lam[:, None, None] * blocks
    uu = uu.at[jnp.arange(g), :, jnp.arange(g)].add(own)
    uu = uu - jnp.einsum("ia,jd->iajd", mean, mean)
    us = jnp.einsum("iab,b->ia", lk, g3z, precision="highest") - mean * g2
    ss = g4 - g2**2

    gamma, b = field.learning_rate(t), field.batch_size
    beta = gamma**2 * lam * field.weights
    # xi = linear map of (u, s): entry (a, c) of group i is -gamma (u_a e_c + e_a u_c) + beta s e e.
    e = jnp.zeros(q, blocks.dtype).at[0].set(1)
    lift = jnp.einsum("ax,c->acx", jnp.eye(q, dtype=blocks.dtype), e)
    lift = -gamma * (lift + lift.transpose(1, 0, 2))
    corner = jnp.outer(e, e)
    cross = jnp.einsum("acx,ix,j,df->iacjdf", lift, us, beta, corner) / b**2
    both = jnp.einsum("acx,ixjy,dfy->iacjdf", lift, uu, lift, precision="highest") / b
    squares = jnp.einsum("i,ac,j,df->iacjdf", beta, corner, beta, corner) * (ss / b**3)
    return both + cross + cross.transpose(3, 4, 5, 0, 1, 2) + squares


def gradient_moments(field: BlockField, law: Any) -> tuple[Array, ...]:
    """E[g z], E[g^2], E[g^2 z z^T], E[g^3 z], E[g^4] for one student column, by quadrature."""
    loss = field.loss

    def integrand(z: Float[Array, " n"], noise: Float[Array, " k"]) -> tuple[Array, ...]:
        x, teacher = law.at(z)
        gradient, _ = loss.gradient(x, teacher, 0, noise, None)
        s = gradient[0]
        return s * z, s**2, s**2 * jnp.outer(z, z), s**3 * z, s**4

    return mean_over_samples(integrand, loss, law)


def start_covariance(columns: Any, spectrum: Any) -> Float[Array, "g q q g q q"]:
    """D times the covariance of the start's blocks: zero where they are given."""
    g, q = spectrum.eigenvalues.shape[-1], columns.layout.width
    result = jnp.zeros((g, q, q, g, q, q), spectrum.weights.dtype)
    if not isinstance(columns, LinearColumns):
        return result
    random = columns.layout.to_frame(columns.mix_random)
    s = random.T @ random
    d = jnp.zeros((g, q, q), s.dtype)
    if columns.given is not None:
        mix = columns.layout.to_frame(columns.mix_given)
        d = jnp.einsum("fa,gfh,hb->gab", mix, group_gram(columns.given, spectrum), mix)
    # Wick: rows of the columns are independent Gaussian vectors round the given ones.
    half = d + (spectrum.weights / 2)[:, None, None] * s[None]

    def pair(left: str, right: str) -> Array:
        first = jnp.einsum(f"g{left},{right}->gabcd", half, s)
        return first + jnp.einsum(f"{left},g{right}->gabcd", s, half)

    each = pair("ac", "bd") + pair("ad", "bc")
    return result.at[jnp.arange(g), :, :, jnp.arange(g)].set(each)
