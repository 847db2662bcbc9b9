"""The spread of one-pass SGD round its limit at finite d: the linear-noise equation.

With y the stacked Gram blocks and side parameters, sqrt(d) (y_SGD - y) tends to a Gaussian process
of covariance P,

    dP/dt = J P + P J^T + Sigma,    J = dF/dy by autodiff of the limit's right-hand side F,

where Sigma is the covariance of one step's increment (`increment.py`).  The standard deviation of a
statistic phi is sqrt(grad phi^T P grad phi / d).  (Homogenised SGD has the right mean and the wrong
spread.)

Extends arXiv 2308.08977; P starts from the covariance of the start's law, or from 0 at a given one.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from hdjax import gaussian
from hdjax.streaming.columns import LinearColumns, group_gram
from hdjax.streaming.field import GramSummary
from hdjax.streaming.increment import increment
from hdjax.streaming.limit import BlockState, reached_only, velocity
from hdjax.system import NoFluctuationsError

if TYPE_CHECKING:
    from hdjax.streaming.model import OnePassSGD

# The covariance has the square of this many entries. With more, the spectrum of random columns is
# replaced by a Gauss rule (its error is far below that of the linear-noise expansion).
_MOST_ENTRIES = 128
NODES, _FEWEST = 12, 4
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
        NoFluctuationsError: more groups and columns than fit.
    """
    layout, spectrum = system.layout, system.spectrum
    groups, entries = spectrum.eigenvalues.shape[-1], layout.width**2
    if groups * entries > _MOST_ENTRIES:
        nodes = min(NODES, _MOST_ENTRIES // entries)
        if not system.columns.follows_spectrum or system.probabilities.size > 1 or nodes < _FEWEST:
            raise NoFluctuationsError(
                f"fluctuations: {groups} groups of {layout.width} x {layout.width} entries; "
                f"allowed: at most {_MOST_ENTRIES} entries in all (a spectrum with random columns "
                f"and no mixture is compressed, if it leaves {_FEWEST} nodes)"
            )
        spectrum = spectrum.compress(nodes)
    field = system.field_on(spectrum)
    initial = (system.columns.blocks(spectrum), system.theta)
    flat, unravel = ravel_pytree(initial)
    covariance = jnp.zeros((flat.size, flat.size), flat.dtype)
    if start is None:
        own = start_covariance(system.columns, spectrum).reshape(initial[0].size, -1)
        covariance = covariance.at[: own.shape[0], : own.shape[0]].set(own)

    def rate(t: Any, state: tuple[Array, Array], args: Any) -> tuple[Array, Array]:
        flat, covariance = state

        def force(flat: Array) -> Array:
            state = unravel(flat)
            return ravel_pytree(velocity(args.coefficients(t, state), state))[0]

        moved = jnp.dot(jax.jacfwd(force)(flat), covariance, precision="highest")
        noise = increment(args, t, unravel(flat)).covariance()
        return force(flat), moved + moved.T + noise

    def save(t: Any, state: tuple[Array, Array], args: Any) -> dict[str, Array]:
        flat, covariance = state

        def values(flat: Array) -> dict[str, Array]:
            blocks, theta = unravel(flat)
            return statistics(GramSummary(blocks, theta, args.eigenvalues, layout))

        def std(gradient: Float[Array, "*shape n"]) -> Array:
            variance = jnp.einsum(
                "...a,ab,...b->...", gradient, covariance, gradient, precision="highest"
            )
            return gaussian.safe_sqrt(variance / spectrum.dimension)

        return jax.tree.map(std, jax.jacrev(values)(flat))

    def diverged(t: Any, state: Any, args: Any, **_: Any) -> Array:
        blocks: BlockState = unravel(state[0])
        return ~(jnp.trace(blocks[0].sum(0)) < _DIVERGED)

    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(eqx.filter_jit(rate)),
        diffrax.Tsit5(),
        t0=jnp.zeros_like(ts[-1]),
        t1=ts[-1],
        dt0=None,
        y0=(flat, covariance),
        args=field,
        saveat=diffrax.SaveAt(ts=ts, fn=eqx.filter_jit(save)),
        stepsize_controller=diffrax.PIDController(rtol=_RTOL, atol=_ATOL),
        max_steps=_MOST_STEPS,
        event=diffrax.Event(diverged),
        throw=False,
    )
    return reached_only(solution)


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
