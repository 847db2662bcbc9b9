"""The profiled flow over all its time scales, by freezing what is learnt.

From a Haar start the flow waits for a time of order d^{s-1} at each saddle.  In the odds factor R
(R^T R = Y = G (I - G)^{-1}) it is R' = 2 R S, and the steps

    h = c/|S|,   R <- Runge-Kutta 4 of R' = 2 R S     (R grows by at most e^{2c})

take O(log d) of them whatever the times are.  A direction whose odds exceed `_BIG` is learnt: the
tensors are rotated into the frame [learnt | active] (rotating S instead puts its small parts under
a floor of rounding), and R becomes its Schur complement on the rest.  A direction that still turns
is held at large odds until it rests, also at an unstable saddle.  Times are carried as logarithms.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from hdjax.checks import is_concrete
from hdjax.multiindex.averaging import energy_gradient
from hdjax.multiindex.leaps import learnable
from hdjax.multiindex.links import Link
from hdjax.multiindex.small import jacobi_svd, orthonormalised, product, whitened
from hdjax.multiindex.tensors import Tensors, transform

_BIG = 1e7
# Odds to which a direction that still turns is set back.
_HELD = 1e6
# The velocity of a direction, relative to |S|, at which it counts as resting, and the rate at which
# a small lean may grow: from a Haar start the lean is of order d^{-1/2}, and an unstable direction
# keeps the flow at a saddle that it leaves slowly, perhaps after the next escape.
_TILT = 1e-4
_GROWTH = 1e-3
# A start of exact symmetry never leaves such a saddle: after so many holds it is frozen.
_MOST_HOLDS = 400
# Steps towards the limit of a direction that rests.
_DRIVES = 40


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
        holds: how often the directions of large odds were held since the last was learnt.
        most: how many can be learnt (relevant ones, the rank of R): beyond is rounding alone.
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
    holds: Int[Array, ""]
    most: int = eqx.field(static=True)


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
        ValueError: without 64-bit numbers; a link in power sums.

    Example:
        >>> link = hd.multiindex.from_coefficients({(2,): 1.0})
        >>> times = jnp.exp(escape_times(link, jnp.array([[1e-3]])))
        >>> abs(times[0] / 125001.72 - 1) < 1e-6
        Array(True, dtype=bool)
    """
    check_dense(link)
    if factor.dtype != jnp.float64:
        raise ValueError(f"factor: {factor.dtype}; allowed: float64 (jax_enable_x64)")
    level, step = jnp.asarray(level, jnp.float64), jnp.asarray(step, jnp.float64)
    most = learnable(link) if is_concrete(link) else link.variables
    state = start_of(link, factor, level, most)
    state = eqx.tree_at(lambda s: s.record, state, jnp.asarray(700.0))
    return follow(state, level, step).escapes


def start_of(
    link: Link, factor: Float[Array, "q r"], level: Float[Array, ""], most: int
) -> SaddleState:
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
        jnp.asarray(0),
        min(q, most),
    )


def check_dense(link: Link) -> None:
    """Raise ValueError on a link in power sums, whose small parts of S are rounding."""
    if not link.is_dense:
        raise ValueError("link: in power sums, which lose small parts of S; allowed: link.dense()")


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
        state.holds,
        state.most,
    )
    return _select(stuck, eqx.tree_at(lambda s: s.stuck, state, stuck), moved)


def _freeze(state: SaddleState) -> SaddleState:
    """Directions of large odds are learnt if they rest for good, otherwise held at `_HELD`."""
    r = state.factor.shape[0]
    index = jnp.arange(r)
    active = index >= state.learnt
    values, frame = _ordered(state.factor, state.learnt)
    big = (values > _BIG) & active
    small = active & ~big
    link = _link(state)

    def slope(frame: Array) -> Array:
        """S at G = projection on what is learnt or big, on the active directions, over |S|."""
        s = energy_gradient(link, product(frame * jnp.where(small, 0, 1.0)[None, :], frame.T))
        s = jnp.where(active[:, None] & active[None, :], s, 0)
        return s / jnp.maximum(jnp.sqrt(jnp.sum(s**2)), 1e-300)

    def turn(x: Array) -> Array:
        """The velocity of the big directions when they lean by x towards the small ones."""
        x = jnp.where(small[:, None] & big[None, :], x, 0)
        leaning = frame + product(frame, x)
        s = product(product(frame.T, slope(leaning)), leaning)
        velocity = s - product(x, jnp.where(big[:, None] & big[None, :], s, 0))
        return jnp.where(small[:, None] & big[None, :], velocity, 0)

    still = jnp.zeros_like(frame)
    speed = jnp.sqrt(jnp.sum(turn(still) ** 2))
    # A gradient flow: its linearisation is symmetric.
    growth = jax.jacfwd(turn)(still).reshape(r * r, r * r)
    unstable = jnp.linalg.eigvalsh((growth + growth.T) / 2)[-1] > _GROWTH
    turning = ((speed > _TILT) | unstable) & (state.holds < _MOST_HOLDS)

    held = jnp.sqrt(jnp.where(big, _HELD, values))[:, None] * frame.T
    held = jnp.where(active[:, None] & active[None, :], held, 0)

    def drive(_: Any, frame: Array) -> Array:
        return orthonormalised(frame + product(slope(frame), jnp.where(big[None, :], frame, 0)))

    frame = jax.lax.fori_loop(0, _DRIVES, drive, frame)
    learnt = state.learnt + big.sum()
    later = index >= learnt
    basis = jnp.diag(jnp.where(active, 0.0, 1.0))
    triangle = jnp.linalg.qr(product(state.factor, frame) + basis, mode="r")
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
        state.stuck | (learnt >= state.most),
        state.record,
        jnp.where(turning, state.holds + 1, 0),
        state.most,
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
