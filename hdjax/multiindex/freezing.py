"""The profiled flow over all its time scales, by freezing the directions that are learnt.

From a Haar start the flow waits at each saddle for a time of order d^{s-1}, s the leap.  In the
odds factor R (R^T R = Y = G (I - G)^{-1}) the flow is R' = 2 R S, and Runge-Kutta steps of the size

    h = c/|S|     (R grows by at most e^{2c} in a step)

reach any time in O(log d) steps.  A direction whose odds exceed `_BIG` is frozen if it is
stationary and stable.  Then it counts as learnt, the tensors are rotated into the frame
[learnt | active], and R is replaced by its Schur complement on the active directions.  (Rotating S
instead of the tensors would bury its small parts under rounding.)  A direction of large odds that
still turns, or that is at an unstable saddle, is held at the odds `_HELD` until it can be frozen.
Times are carried as logarithms.

`SaddleToSaddle` (`saddles.py`) runs the algorithm from many starts; `escape_times` runs it once.
Source of the saddle-to-saddle dynamics: arXiv 2310.19793.
"""

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from hdjax.checks import checked, is_concrete
from hdjax.multiindex.averaging import energy_gradient
from hdjax.multiindex.leaps import learnable
from hdjax.multiindex.links.link import Link
from hdjax.multiindex.problem import check_overlap
from hdjax.multiindex.small import jacobi_svd, orthonormalised, product, whitened
from hdjax.multiindex.tensors import Tensors, transform
from hdjax.registry import Positive, Values

__all__ = [
    "escape_times",
]

_BIG = 1e7
# Odds to which a direction that cannot be frozen yet is set back.
_HELD = 1e6
# A direction is stationary if its velocity, relative to |S|, is below _TILT, and stable if no small
# tilt of it grows faster than _GROWTH.  From a Haar start the tilt is of order d^{-1/2}: the flow
# leaves the saddle of an unstable direction slowly, perhaps after the next escape.
_TILT = 1e-4
_GROWTH = 1e-3
# A start of exact symmetry never leaves an unstable saddle: its direction is frozen after so many
# holds.
_MOST_HOLDS = 400
# Iterations that drive a stationary direction to its limit.
_DRIVES = 40
# Without a horizon the flow is followed up to this logarithm of t, which is near overflow.
_LATEST = 700.0


class SaddleState(eqx.Module):
    """The state of the freezing algorithm in one run.

    Attributes:
        tensors: Hermite tensors of the link in the frame [learnt | active].
        factor: R (r, r) on the active directions; rows and columns of learnt directions are zero.
        learnt: the number of learnt directions.
        log_time: log t after the last step.
        log_odds: logarithms of the odds, largest first; inf for learnt directions.
        last: log t and log odds before the last step, from which records are interpolated.
        escapes: logarithms of the times at which the odds passed the level; inf before that.
        stuck: whether no direction moves any more.
        record: logarithm of the time up to which the run is asked to go.
        holds: how often directions of large odds were held since a direction was frozen.
        most: the number of directions that can be learnt (relevant ones, at most the rank of R);
            beyond it the odds are rounding alone.
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


@checked
def escape_times(
    link: Link,
    start: Values,
    *,
    level: Positive = 0.5,
    step: Positive = 0.02,
) -> Float[Array, " r"]:
    """log10 of the times at which the squared cosines pass `level`, in the order of learning.

    They are the values of the statistic `escapes` of `SaddleToSaddle`, for one start and without a
    last time.  The entry of a direction that is never learnt is infinite.

    Args:
        link: f*, the link of the target, with dense tensors.
        start: the overlap M at the start, an array or lists (q, r), such as `haar_overlap` draws.
        level: the squared cosine whose passing is an escape, in (0, 1).
        step: c; steps are c/|S|, and relative errors of times are of order 1e-6 at 0.02.

    Raises:
        ValueError: 64-bit numbers are not enabled or M is in float32; M is no overlap of this link;
            a level outside (0, 1) or a step outside (0, 0.5]; a link in power sums.

    Example:
        >>> link = hd.multiindex.links.from_coefficients({(2,): 1.0})
        >>> times = 10 ** escape_times(link, jnp.array([[1e-3]]))
        >>> abs(times[0] / 125001.22 - 1) < 1e-5
        Array(True, dtype=bool)
    """
    check_dense(link)
    start = jnp.asarray(start)
    if start.dtype != jnp.float64:
        raise ValueError(f"start: {start.dtype}; allowed: float64 (jax_enable_x64)")
    if start.ndim != 2 or start.shape[1] != link.variables:
        raise ValueError(f"start: shape {start.shape}; allowed: (q, {link.variables}), M = W^T W*")
    check_overlap(start)
    check_options(level, step)
    level, step = jnp.asarray(level, jnp.float64), jnp.asarray(step, jnp.float64)
    most = learnable(link) if is_concrete(link) else link.variables
    state = start_of(link, odds_of(start), level, most)
    state = eqx.tree_at(lambda s: s.record, state, jnp.asarray(_LATEST))
    return follow(state, level, step).escapes / math.log(10)


def check_options(level: Any, step: Any) -> None:
    """Raise ValueError unless a concrete level is in (0, 0.999] and a concrete step in (0, 0.5]."""
    for name, value, most in (("level", level, 0.999), ("step", step, 0.5)):
        if is_concrete(value) and not 0 < float(value) <= most:
            raise ValueError(f"{name}: {float(value)}; allowed: above 0, up to {most}")


def odds_of(matrix: Float[Array, "q r"]) -> Float[Array, "q r"]:
    """The odds factor R of an overlap M; a direction of odds beyond `_BIG` is as good as learnt."""
    gap = jnp.eye(matrix.shape[0], dtype=matrix.dtype) - product(matrix, matrix.T)
    values, vectors = jnp.linalg.eigh(gap)
    root = 1 / jnp.sqrt(jnp.maximum(values, 1 / _BIG))
    return product((vectors * root[None, :]).T, matrix)


def start_of(
    link: Link, factor: Float[Array, "q r"], level: Float[Array, ""], most: int
) -> SaddleState:
    """The state at t = 0 with the odds factor R, made square because only R^T R matters."""
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
    """Raise ValueError if the link is in power sums, in which small parts of S are rounding."""
    if not link.is_dense:
        raise ValueError("link: in power sums, which lose small parts of S; allowed: link.dense()")


def follow(state: SaddleState, level: Float[Array, ""], step: Float[Array, ""]) -> SaddleState:
    """Step until log t passes `state.record`, and freeze directions on the way."""

    def going(state: SaddleState) -> Array:
        return (state.log_time < state.record) & ~state.stuck

    def stepping(state: SaddleState) -> Array:
        return going(state) & (_largest(state) <= _BIG)

    def stage(state: SaddleState) -> SaddleState:
        # Freezing is expensive and rare: under vmap all lanes step until every one is ready for it.
        state = jax.lax.while_loop(stepping, lambda s: _step(s, level, step), state)
        frozen = _freeze(state)
        return _select(going(state) & (_largest(state) > _BIG), frozen, state)

    return jax.lax.while_loop(going, stage, state)


def _step(state: SaddleState, level: Float[Array, ""], c: Float[Array, ""]) -> SaddleState:
    """One Runge-Kutta step of R' = 2 R S, which records the crossings of the level in it."""
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
    """Freeze the directions of large odds if they are stationary and stable, else hold them."""
    r = state.factor.shape[0]
    index = jnp.arange(r)
    active = index >= state.learnt
    values, frame = _ordered(state.factor, state.learnt)
    big = (values > _BIG) & active
    small = active & ~big
    link = _link(state)

    def slope(frame: Array) -> Array:
        """S/|S| on the active directions, at G the projection on learnt and large directions."""
        s = energy_gradient(link, product(frame * jnp.where(small, 0, 1.0)[None, :], frame.T))
        s = jnp.where(active[:, None] & active[None, :], s, 0)
        return s / jnp.maximum(jnp.sqrt(jnp.sum(s**2)), 1e-300)

    def turn(x: Array) -> Array:
        """The velocity of the large directions when they are tilted by x towards the small ones."""
        x = jnp.where(small[:, None] & big[None, :], x, 0)
        leaning = frame + product(frame, x)
        s = product(product(frame.T, slope(leaning)), leaning)
        velocity = s - product(x, jnp.where(big[:, None] & big[None, :], s, 0))
        return jnp.where(small[:, None] & big[None, :], velocity, 0)

    still = jnp.zeros_like(frame)
    speed = jnp.sqrt(jnp.sum(turn(still) ** 2))
    # The linearisation of a gradient flow is symmetric.
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
    """Odds and their directions: learnt ones (basis vectors) first, then by decreasing odds."""
    r = factor.shape[0]
    values, vectors = jacobi_svd(factor)
    # Columns of learnt directions are zero, so that the rotations keep their basis vectors.
    active = jnp.arange(r) >= learnt
    order = jnp.argsort(jnp.where(active, -values, -jnp.inf), stable=True)
    return values[order], vectors[:, order]


def _log_odds(factor: Array, learnt: Array) -> Array:
    """Logarithms of the odds, largest first; inf for learnt directions."""
    values, _ = jacobi_svd(factor)
    values = jnp.where(jnp.arange(factor.shape[0]) >= learnt, values, jnp.inf)
    return jnp.log(-jnp.sort(-values))


def _largest(state: SaddleState) -> Array:
    """The largest odds of an active direction."""
    return jnp.exp(jnp.max(jnp.where(jnp.isfinite(state.log_odds), state.log_odds, -jnp.inf)))


def _log_level(level: Array) -> Array:
    return jnp.log(level) - jnp.log1p(-level)


def _link(state: SaddleState) -> Link:
    return Link(state.tensors, jnp.zeros(()), None, state.factor.shape[0])


def _select(chosen: Array, first: Any, second: Any) -> Any:
    return jax.tree.map(lambda a, b: jnp.where(chosen, a, b), first, second)
