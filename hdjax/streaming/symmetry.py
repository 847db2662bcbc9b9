"""Detection of symmetric starts, at which the limit keeps an overlap of zero but SGD does not.

`OnePassSGD.validate` warns of such a start.  If the overlap of X with the target X* is zero in law
and has no velocity in the limit, then the limit never finds X*.  A run starts with an overlap of
order d^{-1/2}, which may grow.
"""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from hdjax.schedules import Constant
from hdjax.streaming.accuracy import start_error
from hdjax.streaming.field import GramSummary
from hdjax.streaming.onepass import OnePass
from hdjax.streaming.optimisers.linear import SGD


def never_leaves(system: OnePass) -> bool:
    """Whether the limit keeps the overlap of X with X* at zero for ever.

    The numbers of `system` must be concrete.
    """
    m, s = system.layout.students, system.layout.teachers
    if not s:
        return False
    # The symmetry is one of the gradient, so it is tested with plain SGD and a constant rate.
    plain = eqx.tree_at(
        lambda system: (system.optimiser, system.learning_rate), system, (SGD(), Constant(1.0))
    )
    start, frame, p = _start(system), plain.layout.frame, system.layout.moving
    blocks = np.asarray(start.with_memories)
    target = np.abs(blocks[:, p : p + s, p : p + s]).max()
    if np.abs(blocks[:, :p, p : p + s]).max() > 0 or target == 0:
        return False
    rate = _rate(plain, start.blocks[:, p - m :, p - m :])
    change = np.abs((frame.T @ np.asarray(rate) @ frame)[:, :m, m : m + s]).max()
    # A velocity within the error of the expectations counts as zero.
    return bool(change <= max(1e-6, start_error(system)) * float(jnp.abs(rate).max()))


# The jit compiles one program; without it each operation would be a program of its own.
@eqx.filter_jit
def _start(system: OnePass) -> GramSummary:
    return system.start()


@eqx.filter_jit
def _rate(system: OnePass, blocks: Float[Array, "g q q"]) -> Float[Array, "g q q"]:
    side = system.start_side(system.limit_spectrum[0])
    return system.vector_field(jnp.zeros(()), (blocks, side))[0]
