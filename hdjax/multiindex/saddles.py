"""Saddle to saddle: the profiled flow over all its time scales, by freezing what is learnt.

From a Haar start the flow waits for a time of order d^{s-1} at each saddle.  In the odds factor R
(R^T R = Y = G (I - G)^{-1}) it is R' = 2 R S, and the steps

    h = c/|S|,   R <- Runge-Kutta 4 of R' = 2 R S     (R grows by at most e^{2c})

take O(log d) of them whatever the times are.  A direction whose odds exceed `_BIG` is learnt: the
tensors are rotated into the frame [learnt | active] (rotating S instead puts its small parts under
a floor of rounding), and R becomes its Schur complement on the rest.  A direction that still turns
is held at large odds until it rests.  Times are carried as logarithms.
"""

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from hdjax.multiindex.averaging import energy_gradient
from hdjax.multiindex.leaps import exponents
from hdjax.multiindex.links import Link, Tensors, transform
from hdjax.multiindex.problem import Problem
from hdjax.multiindex.small import jacobi_svd, product, whitened
from hdjax.multiindex.starts import haar_odds
from hdjax.system import Simulator, System, is_concrete

_BIG = 1e7
# The velocity of a direction, relative to |S|, at which it counts as resting.
_TILT = 1e-4
# Ticks of a decade of time.
_TICKS = 2**12


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


class Escapes(eqx.Module):
    """The summary of a saddle-to-saddle run.

    Attributes:
        cosines: squared cosines of the principal angles, largest first.
        escapes: log10 of min(t, T_j), T_j the time at which the j-th passed the level.
    """

    cosines: Float[Array, " r"]
    escapes: Float[Array, " r"]


class SaddleToSaddle(System):
    """The profiled flow from Haar starts at any d, on the clock log10 t.

    Needs 64-bit numbers: at d = 10^12 and leap 3, S is of order 10^-24 and times of order 10^24.

    Args:
        link: f*, a `Link`.
        dimension: d >= q + r, any number: the cost does not depend on it beyond log d.
        directions: q; None: r.
        start: M at the start (q, r); None: Haar.
        level: the squared cosine whose passing is an escape.
        step: c; relative errors of times are of order 1e-7 at 0.02.

    Raises:
        ValueError: without 64-bit numbers; a level outside (0, 1); a step outside (0, 0.5].

    Example:
        >>> import hdjax as hd
        >>> link = hd.multiindex.from_coefficients({(1, 0): 0.8, (0, 2): 0.6})
        >>> system = hd.multiindex.SaddleToSaddle(link, dimension=1e12)
        >>> system.exponents.tolist()
        [0.0, 1.0]
    """

    family: ClassVar[str] = "multiindex"
    time_label: ClassVar[str] = "log10 of flow time"
    labels: ClassVar[Mapping[str, str]] = {
        "cosines": "squared cosines of the principal angles",
        "escapes": "log10 of the escape time",
        "exponents": "predicted exponent of d",
        "largest": "largest squared cosine",
        "smallest": "smallest squared cosine",
    }

    problem: Problem
    level: Float[Array, ""]
    step: Float[Array, ""]
    exponents: Float[Array, " r"]

    def __init__(
        self,
        link: Link,
        dimension: Any,
        *,
        directions: int | None = None,
        start: Any = None,
        level: Any = 0.5,
        step: Any = 0.02,
    ):
        if not jax.config.read("jax_enable_x64"):
            raise ValueError(
                "SaddleToSaddle: single precision; allowed after "
                "jax.config.update('jax_enable_x64', True), because S falls to d^{1-s}"
            )
        # As an array: one program serves all dimensions.
        self.problem = Problem(link, jnp.asarray(dimension, jnp.float64), directions, start)
        self.level, self.step = jnp.asarray(level, jnp.float64), jnp.asarray(step, jnp.float64)
        self.exponents = jnp.asarray(exponents(link), jnp.float64)
        self.validate()

    def validate(self, *, compared: bool = False, realised: bool = False) -> None:
        self.problem.check()
        for name, value, most in (("level", self.level, 0.999), ("step", self.step, 0.5)):
            if is_concrete(value) and not 0 < float(value) <= most:
                raise ValueError(f"{name}: {float(value)}; allowed: above 0, up to {most}")

    def simulator(self, method: Any = None, horizon: Any = None) -> Simulator:
        """The freezing algorithm."""
        if method is not None:
            raise TypeError(f"method: {method!r}; allowed with SaddleToSaddle: None")
        return SaddleSimulator(self)

    def start(self) -> Escapes:
        r = self.problem.link.variables
        return Escapes(jnp.zeros(r, jnp.float64), jnp.zeros(r, jnp.float64))

    def statistics(self, summary: Escapes) -> dict[str, Array]:
        return {
            "cosines": summary.cosines,
            "escapes": summary.escapes,
            "exponents": self.exponents,
            "largest": summary.cosines[0],
            "smallest": summary.cosines[-1],
        }


class SaddleSimulator(Simulator):
    """One realisation of `SaddleToSaddle`; a tick is 2^-12 of a decade of time."""

    system: SaddleToSaddle

    def init(self, key: Key[Array, ""]) -> SaddleState:
        problem = self.system.problem
        q, r = problem.directions, problem.link.variables
        if problem.matrix is None:
            factor = haar_odds(key, problem.dimension, q, r)
        else:
            gap = jnp.eye(q, dtype=jnp.float64) - product(problem.matrix, problem.matrix.T)
            values, vectors = jnp.linalg.eigh(gap)
            root = 1 / jnp.sqrt(jnp.maximum(values, 1 / _BIG))
            factor = product((vectors * root[None, :]).T, problem.matrix)
        return start_of(problem.link, factor, self.system.level)

    def advance(
        self, state: SaddleState, k0: Int[Array, ""], k1: Int[Array, ""], key: Key[Array, ""]
    ) -> SaddleState:
        record = k1.astype(jnp.float64) * (math.log(10) / _TICKS)
        state = eqx.tree_at(lambda s: s.record, state, record)
        return follow(state, self.system.level, self.system.step)

    def summary(self, state: SaddleState) -> Escapes:
        time, odds = state.last
        # Log odds are linear in t within a step.
        passed = jnp.exp(state.record - state.log_time) - jnp.exp(time - state.log_time)
        whole = -jnp.expm1(time - state.log_time)
        share = jnp.where(state.stuck, 1.0, jnp.clip(passed / whole, 0, 1))
        inner = jnp.isfinite(state.log_odds) & jnp.isfinite(odds)
        ends = jnp.where(inner, odds, 0), jnp.where(inner, state.log_odds, 0)
        middle = jnp.where(inner, ends[0] + share * (ends[1] - ends[0]), state.log_odds)
        escapes = jnp.minimum(state.escapes, state.record) / math.log(10)
        return Escapes(jax.nn.sigmoid(middle), escapes)

    def ticks(self, ts: Float[np.ndarray, " times"]) -> Int[np.ndarray, " times"]:
        """The nearest tick of log10 t."""
        return np.round(np.asarray(ts, np.float64) * _TICKS).astype(np.int64)

    def times(self, ticks: Int[np.ndarray, " times"]) -> Float[np.ndarray, " times"]:
        """Ticks as log10 t."""
        return np.asarray(ticks, np.float64) / _TICKS

    def bytes_per_run(self) -> int:
        link = self.system.problem.link
        return 8 * 10 * sum(link.variables**k for k in range(link.degree + 1))


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
        link.tensors, square, jnp.asarray(0), minus, odds, (minus, odds), escapes,
        jnp.asarray(False), minus,
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
    triangle = jnp.linalg.qr(product(state.factor, frame) + jnp.diag(jnp.where(active, 0.0, 1.0)), mode="r")
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
