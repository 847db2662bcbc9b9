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
from hdjax.streaming.increment import increment, second_order
from hdjax.streaming.limit import velocity
from hdjax.streaming.optimisers import LinearMemory
from hdjax.system import NoFluctuationsError, jacobians, reached_only

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


@eqx.filter_jit
def fluctuations(
    system: "OnePassSGD",
    ts: Float[Array, " times"],
    statistics: Callable[[GramSummary], dict[str, Array]],
    start: GramSummary | None = None,
) -> dict[str, Array]:
    """Predicted standard deviations of `statistics` at `ts`; see `System.fluctuations`.

    Derivatives of it are by forward mode.

    Raises:
        NoFluctuationsError: more groups and columns than fit.
    """
    expansion = Expansion(system, statistics)

    def rate(t: Any, state: tuple[Array, Array]) -> tuple[Array, Array]:
        return expansion.force(t, state[0]), expansion.spread(t, *state)

    def save(state: tuple[Array, Array]) -> dict[str, Array]:
        flat, covariance = state

        def std(gradient: Float[Array, "*shape n"]) -> Array:
            variance = jnp.einsum(
                "...a,ab,...b->...", gradient, covariance, gradient, precision="highest"
            )
            return gaussian.safe_sqrt(variance / expansion.dimension)

        return jax.tree.map(std, jacobians(expansion.values, flat))

    return expansion.solve(rate, save, ts, (expansion.start, expansion.covariance(start)))


@eqx.filter_jit
def bias(
    system: "OnePassSGD",
    ts: Float[Array, " times"],
    statistics: Callable[[GramSummary], dict[str, Array]],
    start: GramSummary | None = None,
) -> dict[str, Array]:
    """What the mean of `statistics` over runs has beyond the limit, to order 1/d.

    With E y = y_0 + y_1/d and a step's mean change F/d + G/d^2 at a given state,

        dy_1/dt = J y_1 + F''[P]/2 + G - (J F + dF/dt)/2,

    the last term because steps are not infinitesimal; of a statistic, phi' y_1 + phi''[P]/2.
    Derivatives of it are by forward mode.

    Args:
        system: the system.
        ts: (times,) increasing, from 0 on.
        statistics: of a summary, names to arrays.
        start: as in `fluctuations`: given, it has no variance of its own.

    Returns:
        The difference at this d (divided by d already) at `ts`.

    Raises:
        NoFluctuationsError: more groups and columns than fit, an optimiser whose steps are not of
            order 1/d (`Momentum`).

    Example:
        >>> ts = jnp.array([0.0, 1.0])
        >>> shift = hd.streaming.bias(system, ts, lambda s: {"risk": system.statistics(s)["risk"]})
    """
    if not system.optimiser.small_steps:
        raise NoFluctuationsError(
            f"bias: {type(system.optimiser).__name__} remembers single steps; allowed: optimisers "
            "whose steps are of order 1/d"
        )
    expansion = Expansion(system, statistics)

    def curvature(fn: Callable[[Array], Any], flat: Array, covariance: Array) -> Any:
        """fn''[P] / 2, as the sum over coordinates a of fn''[e_a, P e_a]."""

        def along(e: Array, column: Array) -> Any:
            def slope(flat: Array) -> Any:
                return jax.jvp(fn, (flat,), (e,))[1]

            return jax.jvp(slope, (flat,), (column,))[1]

        terms = jax.vmap(along)(jnp.eye(flat.size, dtype=flat.dtype), covariance)
        return jax.tree.map(lambda leaf: leaf.sum(0) / 2, terms)

    def rate(t: Any, state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        flat, covariance, shift = state
        force = expansion.force(t, flat)
        # J (y_1 - F/2) - dF/dt / 2, in one derivative.
        _, moved = jax.jvp(expansion.force, (t, flat), (-jnp.ones_like(t) / 2, shift - force / 2))
        bent = curvature(lambda flat: expansion.force(t, flat), flat, covariance)
        second = expansion.second_order(t, flat)
        return force, expansion.spread(t, flat, covariance), moved + bent + second

    def save(state: tuple[Array, Array, Array]) -> dict[str, Array]:
        flat, covariance, shift = state
        _, moved = jax.jvp(expansion.values, (flat,), (shift,))
        bent = curvature(expansion.values, flat, covariance)
        return jax.tree.map(lambda a, b: (a + b) / expansion.dimension, moved, bent)

    initial = (expansion.start, expansion.covariance(start), jnp.zeros_like(expansion.start))
    return expansion.solve(rate, save, ts, initial)


class Expansion:
    """The expansion of SGD in 1/sqrt(d) round its limit, on the flattened state."""

    def __init__(self, system: "OnePassSGD", statistics: Callable[[GramSummary], dict[str, Array]]):
        layout, spectrum = system.layout, system.spectrum
        if not isinstance(system.optimiser, LinearMemory):
            raise NoFluctuationsError(
                f"fluctuations: {type(system.optimiser).__name__}; known for optimisers with a "
                "linear memory"
            )
        groups, entries = spectrum.eigenvalues.shape[-1], layout.width**2
        if groups * entries > _MOST_ENTRIES:
            nodes = min(NODES, _MOST_ENTRIES // entries)
            if (
                not system.columns.follows_spectrum
                or system.probabilities.size > 1
                or (nodes < _FEWEST)
            ):
                raise NoFluctuationsError(
                    f"fluctuations: {groups} groups of {layout.width} x {layout.width} entries; "
                    f"allowed: at most {_MOST_ENTRIES} entries in all (a spectrum with random "
                    f"columns and no mixture is compressed, if it leaves {_FEWEST} nodes)"
                )
            spectrum = spectrum.compress(nodes)
        self.system, self.spectrum, self.statistics = system, spectrum, statistics
        self.dimension = spectrum.dimension
        self.field = system.field_on(spectrum)
        self.start, self.unravel = ravel_pytree(
            (system.blocks(spectrum), system.start_side(spectrum))
        )

    def covariance(self, start: GramSummary | None) -> Float[Array, "n n"]:
        """P at t = 0: that of the law, or zero where a start is given."""
        covariance = jnp.zeros((self.start.size, self.start.size), self.start.dtype)
        if start is not None:
            return covariance
        own = start_covariance(self.system.columns, self.spectrum)
        if self.system.layout.memory:
            extension = jnp.asarray(self.system.layout.extension, own.dtype)
            for axis in (1, 2, 4, 5):
                own = jnp.moveaxis(jnp.tensordot(own, extension, (axis, 0)), -1, axis)
        size = own.shape[0] * own.shape[1] ** 2
        return covariance.at[:size, :size].set(own.reshape(size, size))

    def force(self, t: Float[Array, ""], flat: Float[Array, " n"]) -> Float[Array, " n"]:
        """F, the right-hand side of the limit."""
        state = self.unravel(flat)
        return ravel_pytree(velocity(self.field.coefficients(t, state), state))[0]

    def spread(
        self, t: Float[Array, ""], flat: Float[Array, " n"], covariance: Float[Array, "n n"]
    ) -> Float[Array, "n n"]:
        """DP/dt."""
        jacobian = jax.jacfwd(self.force, argnums=1)(t, flat)
        moved = jnp.dot(jacobian, covariance, precision="highest")
        return moved + moved.T + increment(self.field, t, self.unravel(flat)).covariance()

    def second_order(self, t: Float[Array, ""], flat: Float[Array, " n"]) -> Float[Array, " n"]:
        """G, the part of order 1/d^2 of a step's mean change."""
        state = self.unravel(flat)
        blocks = second_order(self.field, t, state)
        return jnp.zeros_like(flat).at[: blocks.size].set(blocks.ravel())

    def values(self, flat: Float[Array, " n"]) -> dict[str, Array]:
        """The statistics of a state."""
        blocks, side = self.unravel(flat)
        summary = GramSummary(blocks, side, self.field.eigenvalues, self.system.layout)
        return self.statistics(summary)

    def solve(
        self,
        rate: Callable[[Any, Any], Any],
        save: Callable[[Any], dict[str, Array]],
        ts: Float[Array, " times"],
        state: Any,
    ) -> dict[str, Array]:
        """`save(state)` at `ts`; NaN from where the limit diverges."""

        def diverged(t: Any, state: Any, args: Any, **_: Any) -> Array:
            return ~(jnp.trace(self.unravel(state[0])[0].sum(0)) < _DIVERGED)

        # Jitted, both are traced once instead of at each of diffrax's looks at its loop.
        solution = diffrax.diffeqsolve(
            diffrax.ODETerm(eqx.filter_jit(lambda t, y, args: rate(t, y))),
            diffrax.Tsit5(),
            t0=jnp.zeros_like(ts[-1]),
            t1=ts[-1],
            dt0=None,
            y0=state,
            saveat=diffrax.SaveAt(ts=ts, fn=eqx.filter_jit(lambda t, y, args: save(y))),
            stepsize_controller=diffrax.PIDController(rtol=_RTOL, atol=_ATOL),
            max_steps=_MOST_STEPS,
            event=diffrax.Event(diverged),
            # What reverse mode needs would double the time to compile.
            adjoint=diffrax.ForwardMode(),
            throw=False,
        )
        return reached_only(solution.ts, solution.ys)


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
