"""The spread of one-pass SGD round its limit at finite d: the linear-noise equation.

With y the stacked Gram blocks and side parameters, sqrt(d) (y_SGD - y) tends to a Gaussian process
of covariance P,

    dP/dt = J P + P J^T + Sigma,    J = dF/dy by autodiff of the limit's right-hand side F,

where Sigma is the covariance of one step's increment (`increment.py`).  The standard deviation of a
statistic phi is sqrt(grad phi^T P grad phi / d).  (Homogenised SGD has the right mean and the wrong
spread.)

Extends arXiv 2308.08977; P starts from the covariance of the start's law, or from 0 at a given one.

Where a spectrum has many groups, y holds the blocks on the few nodes of the system's reduction: the
variance of a statistic is a sum over the spectrum as the limit is one.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from hdjax import gaussian
from hdjax.spectra import Spectrum
from hdjax.streaming.columns import LinearColumns, group_gram
from hdjax.streaming.field import GramSummary
from hdjax.streaming.increment import increment, second_order
from hdjax.streaming.limit import BlockState, flow, velocity
from hdjax.streaming.optimisers import LinearMemory
from hdjax.system import NoFluctuationsError, jacobians

if TYPE_CHECKING:
    from hdjax.streaming.model import OnePassSGD

# The covariance of so many entries of the blocks is integrated as it is; with more, on the nodes
# that leave an error of TOLERANCE, if those have no more than _MOST.
_FEW, _MOST = 128, 512
TOLERANCE = 1e-3
# Error bars need two digits, unless the system's integrator says otherwise.
_RTOL = 1e-3
# Halvings of a step of the stiff solver; one at least, for an even power.
_DOUBLINGS = 6
# A limit that diverges has no error bars: stop rather than follow it.
_DIVERGED = 1e4


def many_groups(system: "OnePassSGD") -> bool:
    """Whether the covariance of the blocks of all groups is integrated on a few nodes instead."""
    return system.spectrum.eigenvalues.shape[-1] * _entries(system) > _FEW


def _entries(system: "OnePassSGD") -> int:
    width = system.layout.width
    return width * (width + 1) // 2


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
        NoFluctuationsError: more nodes and columns than fit.
    """
    expansion = Expansion(system, statistics, start)

    def save(state: tuple[Array, Array]) -> dict[str, Array]:
        flat, covariance = state

        def std(gradient: Float[Array, "*shape n"]) -> Array:
            variance = jnp.einsum(
                "...a,ab,...b->...", gradient, covariance, gradient, precision="highest"
            )
            return gaussian.safe_sqrt(variance / expansion.dimension)

        return jax.tree.map(std, jacobians(expansion.values, flat))

    return expansion.solve(save, ts, (expansion.start, expansion.covariance))


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
        NoFluctuationsError: more nodes and columns than fit, an optimiser whose steps are not of
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
    expansion = Expansion(system, statistics, start)

    def curvature(fn: Callable[[Array], Any], flat: Array, covariance: Array) -> Any:
        """fn''[P] / 2, as the sum over coordinates a of fn''[e_a, P e_a]."""

        def along(e: Array, column: Array) -> Any:
            def slope(flat: Array) -> Any:
                return jax.jvp(fn, (flat,), (e,))[1]

            return jax.jvp(slope, (flat,), (column,))[1]

        terms = jax.vmap(along)(jnp.eye(flat.size, dtype=flat.dtype), covariance)
        return jax.tree.map(lambda leaf: leaf.sum(0) / 2, terms)

    def push(
        t: Float[Array, ""], flat: Float[Array, " n"], covariance: Float[Array, "n n"]
    ) -> Float[Array, " n"]:
        """Of dy_1/dt, what does not depend on y_1."""
        # (J F + dF/dt) / 2, in one derivative.
        force = expansion.force(t, flat)
        _, steps = jax.jvp(expansion.force, (t, flat), (jnp.ones_like(t) / 2, force / 2))
        bent = curvature(lambda flat: expansion.force(t, flat), flat, covariance)
        return bent + expansion.second_order(t, flat) - steps

    def save(state: tuple[Array, Array, Array]) -> dict[str, Array]:
        flat, covariance, shift = state
        _, moved = jax.jvp(expansion.values, (flat,), (shift,))
        bent = curvature(expansion.values, flat, covariance)
        return jax.tree.map(lambda a, b: (a + b) / expansion.dimension, moved, bent)

    initial = (expansion.start, expansion.covariance, jnp.zeros_like(expansion.start))
    return expansion.solve(save, ts, initial, push)


class StiffMidpoint(diffrax.AbstractAdaptiveSolver):
    """A midpoint rule that is stable at any step, for a limit with its covariance.

    A step is taken whole and as two halves; a third of their difference is the error of the halves,
    which Richardson's extrapolation takes away.

    Records must fall on ends of steps: between them it is linear.

    Args:
        advance: (t, state, h) to the state at t + h.
    """

    advance: Callable[[Any, Any, Any], Any]
    term_structure: ClassVar = diffrax.ODETerm
    interpolation_cls: ClassVar = diffrax.LocalLinearInterpolation

    def order(self, terms: Any) -> int:
        return 2

    def init(self, terms: Any, t0: Any, t1: Any, y0: Any, args: Any) -> None:
        return None

    def step(
        self, terms: Any, t0: Any, t1: Any, y0: Any, args: Any, solver_state: Any, made_jump: Any
    ) -> Any:
        del terms, args, solver_state, made_jump
        h = t1 - t0

        def one(last: Any, part: tuple[Array, Array, Array]) -> tuple[Any, Any]:
            goes_on, t, h = part
            start = jax.tree.map(lambda a, b: jnp.where(goes_on, a, b), last, y0)
            end = self.advance(t, start, h)
            return end, end

        # One after the other, they are compiled once: whole, first half, second half.
        parts = (
            jnp.array([False, False, True]),
            jnp.stack([t0, t0, t0 + h / 2]),
            jnp.stack([h, h / 2, h / 2]),
        )
        _, ends = jax.lax.scan(one, y0, parts)
        whole, halves = (jax.tree.map(lambda end, k=k: end[k], ends) for k in (0, 2))
        error = jax.tree.map(lambda a, b: (a - b) / 3, halves, whole)
        y1 = jax.tree.map(jnp.add, halves, error)
        dense = {"y0": y0, "y1": y1}
        return y1, error, dense, None, diffrax.RESULTS.successful

    def func(self, terms: Any, t0: Any, y0: Any, args: Any) -> Any:
        return terms.vf(t0, y0, args)


class Expansion:
    """The expansion of SGD in 1/sqrt(d) round its limit, on the flattened state.

    The state holds each pair of columns of a block once, blocks being symmetric, and the side
    parameters.  Blocks are divided by their groups' weights: tolerances would not see a group of
    tiny weight, whose eigenvalue may be so large that much of the risk depends on it.
    """

    def __init__(
        self,
        system: "OnePassSGD",
        statistics: Callable[[GramSummary], dict[str, Array]],
        start: GramSummary | None,
    ):
        if not isinstance(system.optimiser, LinearMemory):
            raise NoFluctuationsError(
                f"fluctuations: {type(system.optimiser).__name__}; known for optimisers with a "
                "linear memory"
            )
        spectrum = system.spectrum if system.reduction is None else system.reduction.spectrum
        groups, width = spectrum.eigenvalues.shape[-1], system.layout.width
        if groups * _entries(system) > _MOST:
            raise NoFluctuationsError(
                f"fluctuations: {groups} groups of {_entries(system)} products of columns; "
                f"allowed: at most {_MOST} in all (a spectrum that all components of a mixture "
                "share is reduced to a few nodes: a larger compression leaves fewer)"
            )
        self.system, self.statistics = system, statistics
        self.spectrum, self.dimension = spectrum, spectrum.dimension
        self.field = system.field_on(spectrum)
        self.rows, self.columns = np.triu_indices(width)
        if start is None:
            blocks, side = system.blocks(spectrum), system.start_side(spectrum)
        else:
            blocks, side = start.state
            if blocks.shape[0] != groups:
                blocks = system.gathered(blocks)
        self.scale = jnp.where(spectrum.weights > 0, spectrum.weights, 1)[:, None]
        pairs = blocks[:, self.rows, self.columns]
        self.start, self.unravel = ravel_pytree((pairs / self.scale, side))
        scales = jax.tree.map(jnp.ones_like, side)
        self.scales, _ = ravel_pytree((jnp.broadcast_to(self.scale, pairs.shape), scales))
        size = groups * width**2
        entries = np.arange(size).reshape(groups, width, width)[:, self.rows, self.columns]
        beside = np.arange(size, size + self.start.size - entries.size)
        # Where the state's entries are among those of whole blocks.
        self.entries = np.concatenate([entries.ravel(), beside])
        # P at t = 0: that of the law, or zero where a start is given.
        self.covariance = jnp.zeros((self.start.size, self.start.size), self.start.dtype)
        if start is None:
            own = start_covariance(system, spectrum)
            own = own.reshape(size, size)[entries.ravel()][:, entries.ravel()]
            self.covariance = self.covariance.at[: entries.size, : entries.size].set(own)
            self.covariance = self.scaled(self.covariance)

    def scaled(self, covariance: Float[Array, "n n"]) -> Float[Array, "n n"]:
        """The covariance of the state from that of blocks and side parameters."""
        return covariance / self.scales[:, None] / self.scales[None]

    def unpack(self, flat: Float[Array, " n"]) -> BlockState:
        """The state (blocks, side)."""
        pairs, side = self.unravel(flat)
        width = self.system.layout.width
        blocks = jnp.zeros((pairs.shape[0], width, width), pairs.dtype)
        pairs = pairs * self.scale
        blocks = blocks.at[:, self.rows, self.columns].set(pairs)
        return blocks.at[:, self.columns, self.rows].set(pairs), side

    def pack(self, state: BlockState) -> Float[Array, " n"]:
        """The flattened state."""
        blocks, side = state
        return ravel_pytree((blocks[:, self.rows, self.columns] / self.scale, side))[0]

    def force(self, t: Float[Array, ""], flat: Float[Array, " n"]) -> Float[Array, " n"]:
        """F, the right-hand side of the limit."""
        state = self.unpack(flat)
        return self.pack(velocity(self.field.coefficients(t, state), state))

    def linear(
        self, t: Float[Array, ""], flat: Float[Array, " n"]
    ) -> tuple[Float[Array, "n n"], Float[Array, "n n"]]:
        """J and Sigma of dP/dt = J P + P J^T + Sigma."""
        jacobian = jax.jacfwd(self.force, argnums=1)(t, flat)
        noise = increment(self.field, t, self.unpack(flat)).covariance()
        return jacobian, self.scaled(noise[self.entries][:, self.entries])

    def second_order(self, t: Float[Array, ""], flat: Float[Array, " n"]) -> Float[Array, " n"]:
        """G, the part of order 1/d^2 of a step's mean change."""
        blocks = second_order(self.field, t, self.unpack(flat))[:, self.rows, self.columns]
        return jnp.zeros_like(flat).at[: blocks.size].set((blocks / self.scale).ravel())

    def values(self, flat: Float[Array, " n"]) -> dict[str, Array]:
        """The statistics of a state."""
        blocks, side = self.unpack(flat)
        summary = GramSummary(blocks, side, self.field.eigenvalues, self.system.layout)
        return self.statistics(summary)

    def solve(
        self,
        save: Callable[[Any], dict[str, Array]],
        ts: Float[Array, " times"],
        state: Any,
        push: Callable[[Array, Array, Array], Array] | None = None,
    ) -> dict[str, Array]:
        """`save(state)` at `ts`, from (y, P) or (y, P, y_1) at t = 0; NaN after a divergence.

        `push` is the part of dy_1/dt beside J y_1.
        """

        def rate(t: Any, state: Any, args: Any) -> Any:
            flat, covariance, *shift = state
            jacobian, noise = self.linear(t, flat)
            moved = jnp.dot(jacobian, covariance, precision="highest")
            result = self.force(t, flat), moved + moved.T + noise
            if push is None:
                return result
            changed = jnp.dot(jacobian, shift[0], precision="highest")
            return *result, changed + push(t, flat, covariance)

        def advance(t: Any, state: Any, h: Any) -> Any:
            """A step by the midpoint rule, stable at any length."""
            flat, covariance, *shift = state
            begin = self.unpack(flat)
            middle = flow(self.field.coefficients(t, begin), begin, h / 2)
            end = flow(self.field.coefficients(t + h / 2, middle), begin, h)
            middle = self.pack(middle)
            jacobian, noise = self.linear(t + h / 2, middle)
            eye = [] if push is None else [jnp.eye(flat.size, dtype=flat.dtype)]
            loss, noise, *integral = _propagated(jacobian, noise, eye, h)
            later = _congruent(loss, covariance) + noise
            result = self.pack(end), (later + later.T) / 2
            if push is None:
                return result
            source = push(t + h / 2, middle, (covariance + later) / 2)
            moved = shift[0] + jnp.dot(loss, shift[0], precision="highest")
            return *result, moved + jnp.dot(integral[0], source, precision="highest")

        def alive(state: Any) -> Array:
            return jnp.trace(self.unpack(state[0])[0].sum(0)) < _DIVERGED

        own = self.system.integrator
        rtol, atol = own.tolerances(_RTOL)
        explicit = isinstance(own.solver, diffrax.AbstractERK)
        # Jitted, each is traced once instead of at each of diffrax's looks at its loop.
        return own.integrate(
            eqx.filter_jit(rate),
            own.solver if explicit else StiffMidpoint(eqx.filter_jit(advance)),
            state,
            ts,
            save,
            alive,
            rtol,
            atol,
            # What reverse mode needs would double the time to compile.
            diffrax.ForwardMode(),
            clipped=not explicit,
        )


def _propagated(
    jacobian: Float[Array, "n n"],
    noise: Float[Array, "n n"],
    vectors: list[Float[Array, "n k"]],
    h: Float[Array, ""],
) -> list[Array]:
    """E - 1, and the integrals over s < h of E Sigma E^T and of E `vectors`, for E = e^{s J}.

    By the Cayley transform A = (1 - x/2)^-1 (1 + x/2), x = J h/2^k, and k doublings.  It is stable
    at any h, and its noise (1 - x/2)^-1 Sigma (1 - x/2)^-T gives every mode its stationary
    covariance, however fast it is; an even power of A leaves no alternating sign to extrapolate.
    """
    short = h / 2**_DOUBLINGS
    inverse = jnp.linalg.inv(jnp.eye(len(jacobian), dtype=jacobian.dtype) - short / 2 * jacobian)
    # A - 1 rather than A: doubling would amplify the latter's rounding.
    loss = short * jnp.dot(inverse, jacobian, precision="highest")
    noise = short * jnp.linalg.multi_dot([inverse, noise, inverse.T], precision="highest")
    integrals = [short * jnp.dot(inverse, v, precision="highest") for v in vectors]

    def double(_: Any, state: list[Array]) -> list[Array]:
        loss, noise, *integrals = state
        later = [2 * v + jnp.dot(loss, v, precision="highest") for v in integrals]
        square = jnp.dot(loss, loss, precision="highest")
        return [2 * loss + square, noise + _congruent(loss, noise), *later]

    return jax.lax.fori_loop(0, _DOUBLINGS, double, [loss, noise, *integrals])


def _congruent(loss: Float[Array, "n n"], matrix: Float[Array, "n n"]) -> Float[Array, "n n"]:
    """(1 + L) M (1 + L)^T."""
    half = matrix + jnp.dot(loss, matrix, precision="highest")
    return half + jnp.dot(half, loss.T, precision="highest")


def start_covariance(system: "OnePassSGD", spectrum: Spectrum) -> Float[Array, "g q q g q q"]:
    """The covariance of the start's blocks, times d; zero for blocks that are given.

    `spectrum` is the system's own, or that of its reduction.
    """
    columns, layout = system.columns, system.layout
    g, q = spectrum.eigenvalues.shape[-1], layout.width
    result = jnp.zeros((g, q, q, g, q, q), spectrum.weights.dtype)
    if not isinstance(columns, LinearColumns):
        return result
    random = columns.layout.to_frame(columns.mix_random)
    s = random.T @ random
    d = jnp.zeros((g, *s.shape), s.dtype)
    if columns.given is not None:
        mix = columns.layout.to_frame(columns.mix_given)
        gram = group_gram(columns.given, system.spectrum)
        gram = gram if spectrum is system.spectrum else system.gathered(gram)
        d = jnp.einsum("fa,gfh,hb->gab", mix, gram, mix)
    # Wick: rows of the columns are independent Gaussian vectors round the given ones.
    half = d + (spectrum.weights / 2)[:, None, None] * s[None]
    half, s = system.extended(system.extended(half).mT).mT, system.extended(system.extended(s).T).T

    def pair(left: str, right: str) -> Array:
        first = jnp.einsum(f"g{left},{right}->gabcd", half, s)
        return first + jnp.einsum(f"{left},g{right}->gabcd", s, half)

    each = pair("ac", "bd") + pair("ad", "bc")
    return result.at[jnp.arange(g), :, :, jnp.arange(g)].set(each)
