"""The covariance of the expansion round the limit, as a matrix.

It obeys the linear-noise equation

    dP/dt = J P + P J^T + Sigma,    P(0) = P_0,

together with the limit y itself and, for the 1/d shift of means, with the shift y_1 of y,

    dy_1/dt = J y_1 + u(t, y, P),    y_1(0) = 0.

A step takes the mean J of its two ends in an exponential, and what is left of J P + P J^T + Sigma
as linear in time, so that it is of order two for modes of any speed (`stiff.py`).
"""

from collections.abc import Callable
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from hdjax.streaming.expansion import Expansion
from hdjax.streaming.stiff import (
    StepDoubling,
    doublings,
    exponential_step,
    own_rate,
    propagators,
    unused,
)

# Error bars need two digits, unless the system's integrator says otherwise.
RTOL = 1e-3
# The matrices of a step, this many of them, are to stay within a processor's cache: a step takes
# a hundred products of two of them.
_MATRICES, _CACHE = 24, 2**24
# A Cayley transform brings a mode of h lambda to rest in 2^k substeps if 4^k is far above that.
_SHORT = 7


def fits(expansion: Expansion) -> bool:
    """Whether the covariance is small enough to be integrated as a matrix."""
    itemsize = expansion.origin[0].dtype.itemsize
    return _MATRICES * itemsize * expansion.size**2 <= _CACHE


def integrate(
    expansion: Expansion,
    save: Callable[[Any], PyTree[Array]],
    ts: Float[Array, " times"],
    push: Callable[[Array, Array, Array], Array] | None = None,
) -> PyTree[Array]:
    """`save(state)` at `ts` of state (y, P), or (y, P, y_1) if `push` gives u; NaN if it diverges.

    Derivatives of it are by forward mode.
    """
    state = expansion.start, expansion.start_covariance
    if push is not None:
        state = *state, jnp.zeros_like(state[0])

    def advance(t: Any, state: Any, h: Any) -> Any:
        flat, covariance, *shift = state
        end = step(expansion, t, flat, h)

        def at(part: tuple[Array, Array]) -> tuple[Array, Array]:
            return expansion.linear(*part)

        # One after the other, they are compiled once.
        times = jnp.stack([t, t + h])
        jacobians, noises = jax.lax.map(at, (times, jnp.stack([flat, end])))
        mean, half = jacobians.mean(0), (jacobians[1] - jacobians[0]) / 2
        moved = jnp.dot(half, covariance, precision="highest")
        turned = noises[1] - noises[0] + 2 * (moved + moved.T)
        later, moves = _propagated(mean, covariance, noises.mean(0) + turned / 2, turned, h)
        result, driven = (end, (later + later.T) / 2), push
        if driven is None:
            return result
        states = jnp.stack([flat, end]), jnp.stack([covariance, later])
        sources = jax.lax.map(lambda part: driven(*part), (times, *states))
        bent = sources[1] - sources[0] + 2 * jnp.dot(half, shift[0], precision="highest")
        return *result, moves(shift[0], sources.mean(0) + bent / 2, bent)

    found = expansion.integrator(
        unused,
        state,
        ts,
        save,
        # Jitted, it is traced once instead of at each of diffrax's looks at its loop.
        only_solver=StepDoubling(eqx.filter_jit(advance)),
        rtol=RTOL,
        alive=lambda state: expansion.alive(state[0]),
        # What reverse mode needs would double the time to compile.
        only_adjoint=diffrax.ForwardMode(),
        stops=ts,
        norm=expansion.norm,
    )
    return found.values


def step(
    expansion: Expansion, t: Float[Array, ""], flat: Float[Array, " n"], h: Float[Array, ""]
) -> Float[Array, " n"]:
    """The limit after a time `h`."""
    local = expansion.local(t, flat)

    def source(end: Array, z: Array) -> Array:
        return expansion.force(jnp.where(end, t + h, t), z) - own_rate(local, z)

    return exponential_step(propagators(local, h), flat, source)


def _propagated(
    jacobian: Float[Array, "n n"],
    covariance: Float[Array, "n n"],
    last: Float[Array, "n n"],
    change: Float[Array, "n n"],
    h: Float[Array, ""],
) -> tuple[Array, Callable[[Array, Array, Array], Array]]:
    """P after a time `h` with J frozen and a Sigma that comes to `last` by a linear `change`.

    By the Cayley transform A = (1 - x/2)^-1 (1 + x/2), x = J h/2^k, and k doublings.  It is stable
    at any h, and its noise (1 - x/2)^-1 Sigma (1 - x/2)^-T gives every mode its stationary
    covariance, however fast it is; an even power of A leaves no alternating sign to extrapolate.
    Also returns the same for vectors with sources on one side.
    """
    size = jnp.abs(jacobian).sum(-1).max() * h
    count = jnp.maximum(doublings(size, _SHORT, 0.5), 1)
    short = h * jnp.exp2(-count.astype(h.dtype))
    eye = jnp.eye(len(jacobian), dtype=jacobian.dtype)
    inverse = jnp.linalg.inv(eye - short / 2 * jacobian)
    # A - 1 rather than A: doubling would amplify the latter's rounding.
    loss = short * jnp.dot(inverse, jacobian, precision="highest")

    def both(loss: Array, matrix: Array) -> Array:
        """L M + M L^T + L M L^T."""
        left = jnp.matmul(loss, matrix, precision="highest")
        return left + jnp.matmul(matrix + left, loss.T, precision="highest")

    def sided(loss: Array, vector: Array) -> Array:
        return jnp.matmul(vector, loss.T, precision="highest")

    def run(first: Array, sources: Array, grow: Any) -> Array:
        """From sources (last, change), over the short time, to the state after `h`."""

        def double(_: Any, parts: Any) -> Any:
            loss, sources, linear, time = parts
            # int s < time of E(s) times the sources, and of s E(s) times the change.
            later = linear + time * sources[1]
            found = jnp.stack([sources[0], sources[1], later])
            found = found + grow(loss, found)
            square = 2 * loss + jnp.dot(loss, loss, precision="highest")
            return square, sources + found[:2], linear + found[2], 2 * time

        start = loss, sources, short / 2 * sources[1], short
        total, sources, linear, _ = jax.lax.fori_loop(0, count, double, start)
        return first + grow(total, first) + sources[0] - linear / jnp.where(h == 0, 1, h)

    sources = jnp.matmul(inverse, jnp.stack([last, change]), precision="highest")
    sources = short * jnp.matmul(sources, inverse.T, precision="highest")

    def vectors(first: Array, last: Array, change: Array) -> Array:
        pushed = short * jnp.dot(jnp.stack([last, change]), inverse.T, precision="highest")
        return run(first, pushed, sided)

    return run(covariance, sources, both), vectors
