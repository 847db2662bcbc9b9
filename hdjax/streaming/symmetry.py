"""Starts that the limit never leaves, while SGD does.

Where the overlap with the target is zero in law and the limit's overlap has no velocity, the limit
never finds X*; a run starts off that symmetry by d^{-1/2}.
"""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from hdjax.schedules import Constant
from hdjax.streaming.accuracy import start_error
from hdjax.streaming.field import GramSummary
from hdjax.streaming.limit import BlockState
from hdjax.streaming.onepass import OnePass
from hdjax.streaming.optimisers import SGD


def never_leaves(system: OnePass) -> bool:
    """Whether the limit of a system with concrete numbers keeps an overlap of zero for ever."""
    m, s = system.layout.students, system.layout.teachers
    if not s:
        return False
    # The symmetry is that of the gradient, whatever an optimiser or a rate makes of it.
    plain = eqx.tree_at(
        lambda system: (system.optimiser, system.learning_rate), system, (SGD(), Constant(1.0))
    )
    start, frame = _start(plain), plain.layout.frame

    def natural(blocks: Array) -> np.ndarray:
        return frame.T @ np.asarray(blocks) @ frame

    def cross(blocks: Array) -> float:
        return float(np.abs(natural(blocks)[:, :m, m : m + s]).max())

    target = np.abs(natural(start.blocks)[:, m : m + s, m : m + s]).max()
    if cross(start.blocks) > 0 or target == 0:
        return False
    rate = _rate(plain, start.state)
    # A velocity within the error of expectations is none.
    return cross(rate) <= max(1e-6, start_error(system)) * float(jnp.abs(rate).max())


# Compiled: one by one their operations would each be a program.
@eqx.filter_jit
def _start(system: OnePass) -> GramSummary:
    return system.start()


@eqx.filter_jit
def _rate(system: OnePass, state: BlockState) -> Float[Array, "g q q"]:
    return system.vector_field(jnp.zeros(()), state)[0]
