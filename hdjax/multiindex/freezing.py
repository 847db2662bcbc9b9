"""The profiled flow over all its time scales, by freezing what is learnt.

From a Haar start the flow waits for a time of order d^{s-1} at each saddle.  In the odds factor R
(R^T R = Y = G (I - G)^{-1}) it is R' = 2 R S, and the steps

    h = c/|S|,   R <- Runge-Kutta 4 of R' = 2 R S     (R grows by at most e^{2c})

take O(log d) of them whatever the times are.  A direction whose odds exceed `_BIG` is learnt: the
tensors are rotated into the frame [learnt | active] (rotating S instead puts its small parts under
a floor of rounding), and R becomes its Schur complement on the rest.  A direction that still turns
is held at large odds until it rests.  Times are carried as logarithms.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from hdjax.multiindex.averaging import energy_gradient
from hdjax.multiindex.links import Link, Tensors, transform
from hdjax.multiindex.small import jacobi_svd, product, whitened

_BIG = 1e7
# The velocity of a direction, relative to |S|, at which it counts as resting.
_TILT = 1e-4


class SaddleState(eqx.Module):
    """Where a run is.

    Attributes:
        tensors: of the link, in the frame [learnt | active].
        factor: R (r, r) on the active directions; its rows and columns of learnt ones are zero.
        learnt: how many are learnt.
        log_time: log t.
        log_odds: log of the odds, largest first, inf for those learnt.
        last: log t and log odds one step before, between which records interpolate.
        escapes: log of the times at which the odds passed the level, inf before.
        stuck: no direction moves any more.
        record: log of the time asked for.
    """

    tensors: Tensors
    factor: Float[Array, "r r"]
    learnt: Int[Array, ""]
    log_time: Float[Array, ""]
    log_odds: Float[Array, " r"]
    last: tuple[Float[Array, ""], Float[Array, " r"]]
    escapes: Float[Array, " r"]
    stuck: Array
    record: Float[Array, ""]


def escape_times(
    link: Link,
    factor: Float[Array, "q r"],
    *,
    level: Any = 0.5,
    step: Any = 0.02,
) -> Float[Array, " r"]:
    """Log of the times at which the squared cosines pass `level`, in the order of learning.

    Infinite for directions that are never learnt.

    Args:
        link: f*, a `Link`.
        factor: the odds factor R at the start.
        level: a squared cosine.
        step: c.

    Raises:
        ValueError: without 64-bit numbers.

    Example:
        >>> link = from_coefficients({(2,): 1.0})
        >>> times = jnp.exp(escape_times(link, jnp.array([[1e-3]])))
        >>> abs(times[0] / 125001.72 - 1) < 1e-6
        Array(True, dtype=bool)
    """
    if factor.dtype != jnp.float64:
        raise ValueError(f"factor: {factor.dtype}; allowed: float64 (jax_enable_x64)")
    level, step = jnp.asarray(level, jnp.float64), jnp.asarray(step, jnp.float64)
    state = start_of(link, factor, level)
    state = eqx.tree_at(lambda s: s.record, state, jnp.asarray(700.0))
    return follow(state, level, step).escapes


def start_of(link: Link, factor: Float[Array, "q r"], level: Float[Array, ""]) -> SaddleState:
    """The state at t = 0 of odds factor R: only R^T R matters, so R becomes square."""
    q, r = factor.shape
    square = jnp.linalg.qr(factor, mode="r") if q > 1 else factor
    square = jnp.concatenate([square, jnp.zeros((max(r - q, 0), r), factor.dtype)])
    odds = _log_odds(square, jnp.asarray(0))
    minus = jnp.asarray(-jnp.inf, factor.dtype)
    escapes = jnp.where(odds >= _log_level(level), minus, jnp.inf)
    return SaddleState(
        link.tensors,
        square,
        jnp.asarray(0),
        minus,
        odds,
        (minus, odds),
        escapes,
        jnp.asarray(False),
        minus,
    )


def follow(state: SaddleState, level: Float[Array, ""], step: Float[Array, ""]) -> SaddleState:
    """Step until `state.record` is passed, freezing on the way."""

    def going(state: SaddleState) -> Array:
        return (state.log_time < state.record) & ~state.stuck

    def stepping(state: SaddleState) -> Array:
        return going(state) & (_largest(state) <= _BIG)

    def stage(state: SaddleState) -> SaddleState:
        # Freezing is dear and rare: under vmap all lanes step until each is ready for it.
        state = jax.lax.while_loop(stepping, lambda s: _step(s, level, step), state)
        frozen = _freeze(state)
        return _select(going(state) & (_largest(state) > _BIG), frozen, state)

    return jax.lax.while_loop(going, stage, state)


def _step(state: SaddleState, level: Float[Array, ""], c: Float[Array, ""]) -> SaddleState:
    """One Runge-Kutta step of R' = 2 R S, with the crossings of the level in it."""
    link = _link(state)
    active = jnp.arange(state.factor.shape[0]) >= state.learnt
    basis = jnp.diag(jnp.where(active, 0.0, 1.0))

    def slope(factor: Array) -> Array:
        s = energy_gradient(link, basis + whitened(factor))
        return jnp.where(active[:, None] & active[None, :], s, 0)

    first = slope(state.factor)
    size = jnp.sqrt(jnp.sum(first**2))
    stuck = (size == 0) | (_largest(state) == 0)
    h = c / jnp.where(stuck, 1, size)

    def rate(factor: Array) -> Array:
        return 2 * product(factor, slope(factor))

    k1 = 2 * product(state.factor, first)
    k2 = rate(state.factor + h / 2 * k1)
    k3 = rate(state.factor + h / 2 * k2)
    k4 = rate(state.factor + h * k3)
    factor = state.factor + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
    log_h = jnp.log(h)
    log_time = jnp.logaddexp(state.log_time, log_h)
    odds, old, mark = _log_odds(factor, state.learnt), state.log_odds, _log_level(level)
    crossed = (old < mark) & (odds >= mark)
    inside = crossed & jnp.isfinite(odds)
    share = jnp.where(inside, mark - old, 0) / jnp.where(inside, odds - old, 1)
    at = jnp.logaddexp(state.log_time, log_h + jnp.log(jnp.where(inside, share, 1)))
    moved = SaddleState(
        state.tensors,
        factor,
        state.learnt,
        log_time,
        odds,
        (state.log_time, old),
        jnp.where(crossed, at, state.escapes),
        stuck,
        state.record,
    )
    return _select(stuck, eqx.tree_at(lambda s: s.stuck, state, stuck), moved)


def _freeze(state: SaddleState) -> SaddleState:
    """Directions of large odds are learnt if they rest, otherwise held at the root of `_BIG`."""
    r = state.factor.shape[0]
    index = jnp.arange(r)
    active = index >= state.learnt
    values, vectors = _ordered(state.factor, state.learnt)
    big = (values > _BIG) & active
    n = big.sum()
    link = _link(state)

    def slope(frame: Array) -> Array:
        """S at G = projection on what is learnt or big, on the active directions, over |S|."""
        kept = jnp.where(active & ~big, 0.0, 1.0)
        s = energy_gradient(link, product(frame * kept[None, :], frame.T))
        s = jnp.where(active[:, None] & active[None, :], s, 0)
        return s / jnp.maximum(jnp.sqrt(jnp.sum(s**2)), 1e-300)

    moved = product(slope(vectors), jnp.where(big[None, :], vectors, 0))
    rest = jnp.where((active & ~big)[:, None], product(vectors.T, moved), 0)
    turning = jnp.sqrt(jnp.sum(rest**2)) > _TILT

    held_values = jnp.where(big, jnp.sqrt(_BIG), values)
    held = jnp.where(active, jnp.sqrt(held_values), 0)[:, None] * vectors.T
    held = jnp.where(active[None, :], held, 0)

    def drive(_: Any, frame: Array) -> Array:
        pushed = frame + product(slope(frame), jnp.where(big[None, :], frame, 0))
        return jnp.linalg.qr(pushed)[0]

    frame = jax.lax.fori_loop(0, 100, drive, vectors)
    learnt = state.learnt + n
    later = index >= learnt
    triangle = jnp.linalg.qr(
        product(state.factor, frame) + jnp.diag(jnp.where(active, 0.0, 1.0)), mode="r"
    )
    schur = jnp.where(later[:, None] & later[None, :], triangle, 0)
    factor = jnp.where(turning, held, schur)
    learnt = jnp.where(turning, state.learnt, learnt)
    return SaddleState(
        _select(turning, state.tensors, transform(state.tensors, frame.T)),
        factor,
        learnt,
        state.log_time,
        _log_odds(factor, learnt),
        state.last,
        state.escapes,
        state.stuck | (learnt == r),
        state.record,
    )


def _ordered(factor: Array, learnt: Array) -> tuple[Array, Array]:
    """Odds and their directions, those learnt (basis vectors) first, then the largest."""
    r = factor.shape[0]
    values, vectors = jacobi_svd(factor)
    # Of the learnt columns, which are zero, the rotations keep the basis vectors.
    active = jnp.arange(r) >= learnt
    order = jnp.argsort(jnp.where(active, -values, -jnp.inf), stable=True)
    return values[order], vectors[:, order]


def _log_odds(factor: Array, learnt: Array) -> Array:
    values, _ = jacobi_svd(factor)
    values = jnp.where(jnp.arange(factor.shape[0]) >= learnt, values, jnp.inf)
    return jnp.log(-jnp.sort(-values))


def _largest(state: SaddleState) -> Array:
    """The largest active odds, bounded by the Frobenius norm where there is a single one."""
    return jnp.exp(jnp.max(jnp.where(jnp.isfinite(state.log_odds), state.log_odds, -jnp.inf)))


def _log_level(level: Array) -> Array:
    return jnp.log(level) - jnp.log1p(-level)


def _link(state: SaddleState) -> Link:
    return Link(state.tensors, jnp.zeros(()), None, state.factor.shape[0])


def _select(chosen: Array, first: Any, second: Any) -> Any:
    return jax.tree.map(lambda a, b: jnp.where(chosen, a, b), first, second)
