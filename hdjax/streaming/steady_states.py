"""Steady states of the limit, and their stability.

A steady state y of the limit dy/dt = F(y) has F(y) = 0.  It is stable if every eigenvalue of the
Jacobian dF/dy has a negative real part; the largest real part is the rate at which the limit leaves
or approaches the steady state.  The vector y contains the moving variables: the entries of the Gram
blocks V_i that belong to a moving column (each entry of the symmetric V_i once), the side
parameters, and the sums that an optimiser accumulates.

Two examples are the floor of the risk at a constant learning rate, and the unstable plateau of a
committee before its units specialise.

Sources: the limit of `limit.py`; for committees D. Saad and S. Solla, "On-line learning in soft
committee machines" (Phys. Rev. E 52, 1995).
"""

import dataclasses
from typing import Annotated, Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optimistix
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Complex, Float

from hdjax.checks import checked, is_concrete
from hdjax.registry import NonNegative, OneOf, register
from hdjax.schedules import Constant, Schedule
from hdjax.streaming.field import GramSummary
from hdjax.streaming.limit import BlockState, velocity
from hdjax.streaming.onepass import OnePass

__all__ = [
    "AtSteadyState",
    "SteadyState",
    "stability",
    "steady_state",
]

# The largest number of unknowns, since the Jacobian is dense.
_MOST = 2048


class SteadyState(eqx.Module):
    """A steady state of the limit.

    Attributes:
        summary: the steady state; NaN if none was found.
        found: whether F vanishes at the state up to rounding, and its blocks are Gram matrices.
        eigenvalues: (n,) complex eigenvalues of the Jacobian dF/dy, in units of 1/t.
    """

    summary: GramSummary
    found: Bool[Array, ""]
    eigenvalues: Complex[Array, " n"]

    @property
    def growth(self) -> Float[Array, ""]:
        """The largest real part of the eigenvalues.

        It is the rate at which the limit leaves (> 0) or approaches (< 0) the steady state.
        """
        return jnp.max(jnp.real(self.eigenvalues))


@checked
def steady_state(
    system: OnePass, start: GramSummary | None = None, *, horizon: NonNegative = 100.0
) -> SteadyState:
    """The steady state near which the limit is at time `horizon`.

    The limit is integrated up to `horizon`, where a Levenberg-Marquardt search for a root of F
    begins.  An unstable steady state is found from a start whose symmetry keeps the limit near it.

    Args:
        system: the system; a learning rate that depends on t is frozen at `horizon`.
        start: the summary at t = 0; None: the law of the start.
        horizon: the time t = k/d at which the search begins; 0: the search begins at the start.

    Raises:
        ValueError: more than 2048 unknowns, or a negative horizon.
        FloatingPointError: no steady state was found (inside jit and vmap `found` is False
            instead).

    Example:
        >>> loss = hd.streaming.losses.LeastSquares(sigma=0.5)
        >>> noisy = eqx.tree_at(lambda s: s.loss, system, loss)
        >>> floor = steady_state(noisy, horizon=10.0)
        >>> risk = noisy.statistics(floor.summary)["risk"]
        >>> round(float(risk), 6)  # sigma^2/2 / (1 - gamma/2) at gamma = 1/2
        0.166667
        >>> bool(floor.growth < 0)
        True
    """
    if not (start is None or isinstance(start, GramSummary)):
        raise TypeError(f"start: {start!r}; allowed: a GramSummary or None")
    origin = system.start() if start is None else start
    unknowns = _count(origin)
    if unknowns > _MOST:
        raise ValueError(
            f"system: {unknowns} unknowns in its steady state; allowed: {_MOST} at most (with "
            "compression=1e-3 the limit has few groups)"
        )
    t = jnp.asarray(horizon, origin.blocks.dtype)
    if not is_concrete(t) or t > 0:
        near = system.limit(jnp.stack([t]), start, save=lambda summary: summary.state)
        blocks, side = near.at(0)
        origin = eqx.tree_at(lambda s: (s.blocks, s.side), origin, (blocks, side))
    state = _solve(system, origin, t)
    if is_concrete(state.found) and not bool(state.found):
        raise FloatingPointError(
            "steady_state: none was found near the limit at the horizon; allowed: a later horizon, "
            "a start nearer to a steady state, or a learning rate at which the limit is stable"
        )
    return state


@checked
def stability(system: OnePass, summary: GramSummary) -> Complex[Array, " n"]:
    """The eigenvalues (n,) of the limit's Jacobian dF/dy at a state, in units of 1/t.

    Args:
        system: the system; the Jacobian is that at t = 0.
        summary: the state.

    Example:
        >>> eigenvalues = stability(system, system.start())
    """
    rate, pack, _ = _reduced(system, summary, jnp.zeros((), summary.blocks.dtype))
    return jnp.linalg.eigvals(jax.jacfwd(rate)(pack(summary.state)))


_TAKEN = ("risk", "distance", "gradient_norm", "overlaps")


def _steady(
    statistic: Annotated[
        str, OneOf("risk", "distance", "gradient_norm", "overlaps", "growth")
    ] = "risk",
) -> "AtSteadyState":
    """A statistic of the steady state near the current state, or "growth" for its stability.

    Args:
        statistic: the name of the statistic.
    """
    return AtSteadyState(statistic)


@register("streaming.statistic", "steady", _steady)
@checked
@dataclasses.dataclass(frozen=True)
class AtSteadyState:
    """A statistic of the steady state near the current state, for records along a run or the limit.

    A search for a root of F begins at the current state; nothing is integrated.

    Args:
        name: a statistic of the system, taken at the steady state, or "growth" (the largest real
            part of an eigenvalue of the Jacobian there).

    Example:
        >>> floor = AtSteadyState("risk")
    """

    name: str

    def __call__(self, system: OnePass, summary: GramSummary) -> Array:
        """The value of the statistic; NaN, recorded as a divergence, without a steady state.

        Raises:
            ValueError: a learning rate that depends on time, or an unknown statistic.
        """
        rate = system.learning_rate
        if isinstance(rate, Schedule) and not isinstance(rate, Constant):
            raise ValueError(
                f"learning_rate: {type(rate).__name__}, which depends on t; allowed with "
                "AtSteadyState: a constant rate, or one that follows the state"
            )
        names = [*jax.eval_shape(system.statistics, summary), "growth"]
        if self.name not in names:
            raise ValueError(f"name: {self.name!r}; allowed: {', '.join(names)}")
        state = _solve(system, summary, jnp.zeros((), summary.blocks.dtype))
        if self.name == "growth":
            return jnp.where(state.found, state.growth, jnp.nan)
        return system.statistics(state.summary)[self.name]


@eqx.filter_jit
def _solve(system: OnePass, near: GramSummary, t: Float[Array, ""]) -> SteadyState:
    """The root of F(t, .) that a search from `near` finds."""
    rate, pack, unpack = _reduced(system, near, t)
    y = pack(near.state)
    eps = float(jnp.finfo(y.dtype).eps)
    solver = optimistix.LevenbergMarquardt(rtol=eps**0.75, atol=eps**0.75)
    y = optimistix.root_find(rate, solver, y, max_steps=256, throw=False).value
    blocks, side = unpack(y)
    scale = jnp.maximum(jnp.max(jnp.abs(y)), 1)
    least = jnp.min(jnp.linalg.eigvalsh(blocks))
    found = (jnp.max(jnp.abs(rate(y))) < eps**0.5 * scale) & (least > -(eps**0.5) * scale)
    blocks = jnp.where(found, blocks, jnp.nan)
    summary = eqx.tree_at(lambda s: (s.blocks, s.side), near, (blocks, side))
    return SteadyState(summary, found, jnp.linalg.eigvals(jax.jacfwd(rate)(y)))


def _reduced(system: OnePass, summary: GramSummary, t: Float[Array, ""]) -> Any:
    """The functions F(t, .) of the vector y, `pack` from a state to y, and `unpack` back.

    Entries of the blocks that do not move are taken from `summary`.
    """
    rows, columns = _moving(summary)
    _, unravel = ravel_pytree((summary.blocks[:, rows, columns], summary.side))
    own = system.field()
    matches = own.eigenvalues.shape == summary.eigenvalues.shape
    field = own if matches else system.field_on(system.spectrum)

    def pack(state: BlockState) -> Float[Array, " n"]:
        blocks, side = state
        return ravel_pytree((blocks[:, rows, columns], side))[0]

    def unpack(y: Float[Array, " n"]) -> BlockState:
        entries, side = unravel(y)
        blocks = summary.blocks.at[:, rows, columns].set(entries)
        return blocks.at[:, columns, rows].set(entries), side

    def rate(y: Float[Array, " n"], args: Any = None) -> Float[Array, " n"]:
        state = unpack(y)
        return pack(velocity(field.coefficients(t, state), state))

    return rate, pack, unpack


def _moving(summary: GramSummary) -> tuple[np.ndarray, np.ndarray]:
    """Row and column indices of the entries of a block that move, each pair once."""
    rows, columns = np.triu_indices(summary.layout.width)
    moving = rows < summary.layout.moving
    return rows[moving], columns[moving]


def _count(summary: GramSummary) -> int:
    side = sum(leaf.size for leaf in jax.tree.leaves(summary.side))
    return summary.blocks.shape[0] * len(_moving(summary)[0]) + side
