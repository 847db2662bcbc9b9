"""How flows are integrated, reduced or in R^d, for every simulator and limit of the family.

Overlaps start at order d^{-1/2}.  The absolute tolerance has to be far below it: otherwise the
escape from the start is the integrator's noise.
"""

from collections.abc import Callable
from typing import Any

import diffrax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from hdjax.integrate import Integrator
from hdjax.limits import Limit


def flow_path(
    integrator: Integrator,
    rate: Callable[[Any], Any],
    state: Any,
    ts: Float[Array, " times"],
    dimension: Float[Array, ""],
    save: Callable[[Any], PyTree[Array]],
    *,
    begin: Any = 0.0,
    rtol: float = 1e-8,
) -> Limit:
    """The path of a flow in dimension d from `state` at the time `begin`: `save(state)` at `ts`.

    The integrator uses `diffrax.Dopri8()` and `rtol` unless it has its own solver and tolerance.  A
    `Joint` flow of small ratio is stiff, and needs `diffrax.Kvaerno5()`.

    Args:
        integrator: how the flow is integrated.
        rate: from a state to its velocity.
        state: the state at `begin`.
        ts: increasing times.
        dimension: d, from which the absolute tolerance is scaled.
        save: what is kept of a state.
        begin: the time of `state`.
        rtol: the relative tolerance.
    """
    return integrator(
        lambda t, y, args: rate(y),
        state,
        ts,
        save,
        solver=diffrax.Dopri8(),
        rtol=rtol,
        size=1 / jnp.sqrt(dimension),
        begin=begin,
    )
