"""The covariance P of the expansion round the limit, integrated as a matrix.

`fluctuations.py` uses this module for states small enough for a matrix.  The covariance obeys the
linear-noise equation

    dP/dt = J P + P J^T + Sigma,    P(0) = P_0,

which is integrated together with the limit y.  For the 1/d bias of means also the shift y_1 of y is
integrated:

    dy_1/dt = J y_1 + u(t, y, P),    y_1(0) = 0.

A step takes the mean of J at its two ends in a matrix exponential, and the rest of
J P + P J^T + Sigma as linear in time.  It is therefore of order two for modes of any speed
(`stiff.py`).
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from hdjax import precise
from hdjax.streaming.expansion import Expansion
from hdjax.streaming.stiff import (
    StepDoubling,
    doublings,
    exponential_step,
    own_rate,
    propagators,
    unused,
)

# The relative tolerance of error bars, unless the system's integrator has one: two digits suffice.
RTOL = 1e-3
# A step works on this number of matrices, which must fit into a processor's cache of this number
# of bytes: it takes a hundred products of two matrices.
_MATRICES, _CACHE = 24, 2**24
# A Cayley transform with 2^k substeps makes a mode lambda stationary over a time h if 4^k is far
# above h lambda.
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
    """The values of `save(state)` at `ts`, NaN where the limit has diverged.

    The state is (y, P), or (y, P, y_1) if `push` is given.  JAX differentiates this function in
    forward mode only.

    Args:
        expansion: drift, noise and start.
        save: from a state to the part that is kept.
        ts: (times,) increasing, from 0 on, in units of d steps.
        push: the source u of y_1, a function of (t, y, P).
    """
    state = expansion.start, expansion.start_covariance
    if push is not None:
        state = *state, jnp.zeros_like(state[0])

    def advance(t: Any, state: Any, h: Any) -> Any:
        flat, covariance, *shift = state
        end = step(expansion, t, flat, h)

        def at(part: tuple[Array, Array]) -> tuple[Array, Array]:
            return expansion.linear(*part)

        # The two ends are mapped one after the other, so that the function is compiled once.
        times = jnp.stack([t, t + h])
        jacobians, noises = jax.lax.map(at, (times, jnp.stack([flat, end])))
        mean, half = jacobians.mean(0), (jacobians[1] - jacobians[0]) / 2
        moved = precise.dot(half, covariance)
        turned = noises[1] - noises[0] + 2 * (moved + moved.T)
        later, moves = _propagated(mean, covariance, noises.mean(0) + turned / 2, turned, h)
        result, driven = (end, (later + later.T) / 2), push
        if driven is None:
            return result
        states = jnp.stack([flat, end]), jnp.stack([covariance, later])
        sources = jax.lax.map(lambda part: driven(*part), (times, *states))
        bent = sources[1] - sources[0] + 2 * precise.dot(half, shift[0])
        return *result, moves(shift[0], sources.mean(0) + bent / 2, bent)

    found = expansion.integrator(
        unused,
        state,
        ts,
        save,
        # The jit has the step traced once, and not each time that diffrax traces its loop.
        only_solver=StepDoubling(eqx.filter_jit(advance)),
        rtol=RTOL,
        alive=lambda state: expansion.alive(state[0]),
        reverse=False,
        stops=ts,
        norm=expansion.norm,
    )
    return found.values


def step(
    expansion: Expansion, t: Float[Array, ""], flat: Float[Array, " n"], h: Float[Array, ""]
) -> Float[Array, " n"]:
    """The flattened state of the limit after a time `h`, from `flat` at time `t`."""
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
    """The covariance after a time `h` at frozen J, and a function for vectors.

    The noise Sigma varies linearly in time, by `change` in all, and is `last` at the end.  The step
    is the Cayley transform A = (1 - x/2)^-1 (1 + x/2), x = J h/2^k, followed by k doublings.  It is
    stable at any h.  With its noise (1 - x/2)^-1 Sigma (1 - x/2)^-T every mode has its stationary
    covariance, however fast the mode is.  The power 2^k of A is even, so that no mode alternates in
    sign from step to step.  The returned function propagates a vector with a source likewise.
    """
    size = jnp.abs(jacobian).sum(-1).max() * h
    count = jnp.maximum(doublings(size, _SHORT, 0.5), 1)
    short = h * jnp.exp2(-count.astype(h.dtype))
    eye = jnp.eye(len(jacobian), dtype=jacobian.dtype)
    inverse = jnp.linalg.inv(eye - short / 2 * jacobian)
    # The doublings act on A - 1, because they would amplify the rounding of A.
    loss = short * precise.dot(inverse, jacobian)

    def both(loss: Array, matrix: Array) -> Array:
        """The change L M + M L^T + L M L^T of a matrix M under 1 + L on both sides."""
        left = precise.matmul(loss, matrix)
        return left + precise.matmul(matrix + left, loss.T)

    def sided(loss: Array, vector: Array) -> Array:
        return precise.matmul(vector, loss.T)

    def run(first: Array, sources: Array, grow: Any) -> Array:
        """The state after `h`, from the sources (last, change) integrated over the short time."""

        def double(_: Any, parts: Any) -> Any:
            loss, sources, linear, time = parts
            # `sources` are integrals over s < time of E(s) times (last, change), and `linear` is
            # the integral of s E(s) times the change.
            later = linear + time * sources[1]
            found = jnp.stack([sources[0], sources[1], later])
            found = found + grow(loss, found)
            square = 2 * loss + precise.dot(loss, loss)
            return square, sources + found[:2], linear + found[2], 2 * time

        start = loss, sources, short / 2 * sources[1], short
        total, sources, linear, _ = jax.lax.fori_loop(0, count, double, start)
        return first + grow(total, first) + sources[0] - linear / jnp.where(h == 0, 1, h)

    sources = precise.matmul(inverse, jnp.stack([last, change]))
    sources = short * precise.matmul(sources, inverse.T)

    def vectors(first: Array, last: Array, change: Array) -> Array:
        pushed = short * precise.dot(jnp.stack([last, change]), inverse.T)
        return run(first, pushed, sided)

    return run(covariance, sources, both), vectors
