"""Steady states of the limit, and whether they are stable.

A steady state y of dy/dt = F(y) has F(y) = 0; it is stable where every eigenvalue of the Jacobian
dF/dy has a negative real part, and the largest real part is the rate at which the limit leaves it
(or comes to it).  y holds what moves: the entries of the Gram blocks V_i that belong to a moving
column (each once, V_i being symmetric), side parameters, and what an optimiser sums up.

The floor of the risk at a constant learning rate is one; so are the plateaus of committees, before
their units specialise, which are unstable.  Source: the limit of arXiv 2308.08977; for committees
D. Saad, S. Solla, "On-line learning in soft committee machines" (Phys. Rev. E 52, 1995).
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

from hdjax.registry import OneOf, register
from hdjax.streaming.field import GramSummary
from hdjax.streaming.limit import BlockState, velocity
from hdjax.streaming.losses.base import check_positive
from hdjax.streaming.onepass import OnePass
from hdjax.system import is_concrete

# The Jacobian is dense.
_MOST = 2048


class SteadyState(eqx.Module):
    """A steady state of the limit.

    Attributes:
        summary: the state, NaN where none was found.
        found: whether F vanishes there to rounding, with blocks that are Gram matrices.
        eigenvalues: (n,) of the Jacobian, in units of 1/t (complex).
    """

    summary: GramSummary
    found: Bool[Array, ""]
    eigenvalues: Complex[Array, " n"]

    @property
    def growth(self) -> Float[Array, ""]:
        """The largest real part: at this rate the limit leaves (> 0), or comes (< 0)."""
        return jnp.max(jnp.real(self.eigenvalues))


def steady_state(
    system: OnePass, start: GramSummary | None = None, *, horizon: Any = 100.0
) -> SteadyState:
    """The steady state that the limit comes near to by the time `horizon`.

    The limit is integrated up to there, and its end is where a Levenberg-Marquardt search for a
    root begins: so an unstable state is found from a start whose symmetry keeps the limit at it.

    Args:
        system: a learning rate that varies is frozen at `horizon`.
        start: from where; None: the law of the start.
        horizon: t = k/d of the limit; 0 searches from the start itself.

    Raises:
        ValueError: more than 2048 unknowns.
        FloatingPointError: no steady state was found (inside jit and vmap: `found` says so).

    Example:
        >>> noisy = eqx.tree_at(lambda s: s.loss, system, hd.streaming.LeastSquares(sigma=0.5))
        >>> floor = steady_state(noisy, horizon=10.0)
        >>> risk = noisy.statistics(floor.summary)["risk"]
        >>> round(float(risk), 6)  # sigma^2/2 / (1 - gamma/2) at gamma = 1/2
        0.166667
        >>> bool(floor.growth < 0)
        True
    """
    origin = system.start() if start is None else start
    unknowns = _count(origin)
    if unknowns > _MOST:
        raise ValueError(
            f"system: {unknowns} unknowns in its steady state; allowed: {_MOST} (compression=1e-3 "
            "makes the limit one of a few groups)"
        )
    check_positive("horizon", horizon, strict=False)
    t = jnp.asarray(horizon, origin.blocks.dtype)
    if not is_concrete(t) or t > 0:
        near = system.limit(jnp.stack([t]), start, save=lambda summary: summary.state)
        blocks, side = near.at(0)
        origin = eqx.tree_at(lambda s: (s.blocks, s.side), origin, (blocks, side))
    state = _solve(system, origin, t)
    if is_concrete(state.found) and not bool(state.found):
        raise FloatingPointError(
            "steady_state: none was found near the limit's end; allowed: a later horizon, a start "
            "nearer to it, or a learning rate below stability"
        )
    return state


def stability(system: OnePass, summary: GramSummary) -> Complex[Array, " n"]:
    """Eigenvalues of the limit's Jacobian at a state (n,), in units of 1/t.

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
) -> "steady":
    """A statistic at the steady state nearest to where the state is; or "growth", its stability.

    Args:
        statistic: which one.
    """
    return steady(statistic)


@register("streaming.statistic", "steady", _steady)
@dataclasses.dataclass(frozen=True)
class steady:
    """The statistic of the steady state nearest to where the state is (no integration).

    Args:
        name: one of the system's own statistics, taken at that steady state, or "growth".

    Example:
        >>> floor = steady("risk")
    """

    name: str

    def __call__(self, system: OnePass, summary: GramSummary) -> Array:
        """Its value; NaN, which is recorded as a divergence, where no steady state was found."""
        state = _solve(system, summary, jnp.zeros((), summary.blocks.dtype))
        if self.name == "growth":
            return jnp.where(state.found, state.growth, jnp.nan)
        return system.statistics(state.summary)[self.name]


@eqx.filter_jit
def _solve(system: OnePass, near: GramSummary, t: Float[Array, ""]) -> SteadyState:
    """The root of F(t, .) that the search comes to from `near`."""
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
    """F(t, y) of the vector y of what moves; from a state to y, and back.

    What does not move is taken from `summary`.
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
    """Rows and columns of the entries of a block that move, each pair once."""
    rows, columns = np.triu_indices(summary.layout.width)
    moving = rows < summary.layout.moving
    return rows[moving], columns[moving]


def _count(summary: GramSummary) -> int:
    side = sum(leaf.size for leaf in jax.tree.leaves(summary.side))
    return summary.blocks.shape[0] * len(_moving(summary)[0]) + side
