"""How flows are integrated, reduced or in R^d.

Overlaps start at order d^{-1/2}: the absolute tolerance has to be far below it, or the escape is
noise.
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
    """`save(state)` at `ts` along a flow in dimension d, from `state` at the time `begin`.

    By `diffrax.Dopri8()` and to `rtol` unless the integrator says otherwise; a `Joint` flow of
    small ratio is stiff and wants `diffrax.Kvaerno5()`.
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
