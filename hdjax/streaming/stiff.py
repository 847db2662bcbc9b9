"""Integration steps for the expansion that are stable and of order two, however stiff the limit is.

`covariance.py` and `adjoint.py` take their steps with this module.  A fast mode that has become
stationary follows the slow modes: its state at the end of a step is determined by the coefficients
there.  A rule that freezes coefficients in the middle of a step is of order one in such modes,
which make up a share of about gamma tr K / 2d of the risk.  Here the source n of a mode varies
linearly over a step and ends at its value n_1 at the end of the step:

    dz/dt = D z + n(t, z),   z(h) = e^{h D} z(0) + int_0^h e^{(h-s) D} (n_0 + (n_1 - n_0) s/h) ds

D is the part of the Jacobian within each group.  n_1 depends on z(h) and is found by fixed-point
iteration; the coupling between groups is a contraction wherever SGD is stable.
"""

from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import diffrax
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from hdjax import precise

# The number of iterations for n_1; each multiplies the error by the gain of the fast modes.
_ITERATIONS = 6
# In a short time the fastest mode changes by a relative 2^-_SHORT.
_SHORT = 8


class StepDoubling(diffrax.AbstractAdaptiveSolver):
    """An adaptive diffrax solver made from a rule of order two by step doubling.

    A step is taken whole and as two halves.  A third of the difference is the error of the halves,
    which Richardson's extrapolation removes.  The interpolation within a step is linear, so records
    must be at ends of steps.

    Args:
        advance: the rule, a function of (t, state, h) that returns the state at t + h.
    """

    advance: Callable[[Any, Any, Any], Any]
    term_structure: ClassVar = diffrax.ODETerm
    interpolation_cls: ClassVar = diffrax.LocalLinearInterpolation

    def order(self, terms: Any) -> int:
        return 2

    def init(self, terms: Any, t0: Any, t1: Any, y0: Any, args: Any) -> None:
        return None

    def step(
        self, terms: Any, t0: Any, t1: Any, y0: Any, args: Any, solver_state: Any, made_jump: Any
    ) -> Any:
        del terms, args, solver_state, made_jump
        h = t1 - t0

        def one(last: Any, part: tuple[Array, Array, Array]) -> tuple[Any, Any]:
            goes_on, t, h = part
            start = jax.tree.map(lambda a, b: jnp.where(goes_on, a, b), last, y0)
            end = self.advance(t, start, h)
            return end, end

        # The step, its first half and its second half are done in a scan, and so compiled once.
        parts = (
            jnp.array([False, False, True]),
            jnp.stack([t0, t0, t0 + h / 2]),
            jnp.stack([h, h / 2, h / 2]),
        )
        _, ends = jax.lax.scan(one, y0, parts)
        whole, halves = (jax.tree.map(lambda end, k=k: end[k], ends) for k in (0, 2))
        error = jax.tree.map(lambda a, b: (a - b) / 3, halves, whole)
        y1 = jax.tree.map(jnp.add, halves, error)
        dense = {"y0": y0, "y1": y1}
        return y1, error, dense, None, diffrax.RESULTS.successful

    def func(self, terms: Any, t0: Any, y0: Any, args: Any) -> Any:
        return terms.vf(t0, y0, args)


def unused(t: Any, state: Any, args: Any) -> Any:
    """A right-hand side of zero: diffrax asks for one, and `StepDoubling` does not evaluate it."""
    return jax.tree.map(jnp.zeros_like, state)


class Propagators(NamedTuple):
    """The matrices of an exponential step over a time h, for the part D of each group.

    Attributes:
        flow: e^{hD}.
        constant: the integral of e^{(h-s)D} over s from 0 to h.
        linear: the integral of e^{(h-s)D} s/h over s from 0 to h.
        h: the length of the step.
    """

    flow: Float[Array, "g e e"]
    constant: Float[Array, "g e e"]
    linear: Float[Array, "g e e"]
    h: Float[Array, ""]

    def apply(
        self, blocks: Float[Array, "g e e"], z: Float[Array, "*k n"], beside: Any
    ) -> Float[Array, "*k n"]:
        """The product of one of the three matrices with flattened states.

        `beside` is the value of this matrix for D = 0, which holds for the side parameters.
        """
        rest = z.at[..., : blocks.shape[0] * blocks.shape[1]].set(0)
        return own_rate(blocks, z) + beside * rest


def own_rate(local: Float[Array, "g e e"], z: Float[Array, "*k n"]) -> Float[Array, "*k n"]:
    """The product D z for flattened states z; it is zero in the side parameters."""
    groups, entries, _ = local.shape
    pairs = z[..., : groups * entries].reshape(*z.shape[:-1], groups, entries)
    pairs = precise.einsum("gab,...gb->...ga", local, pairs)
    rest = jnp.zeros_like(z[..., groups * entries :])
    return jnp.concatenate([pairs.reshape(*z.shape[:-1], -1), rest], axis=-1)


def propagators(local: Float[Array, "g e e"], h: Float[Array, ""]) -> Propagators:
    """The `Propagators` of D = `local` over a time `h`.

    They are computed by series over a short time, which is doubled as often as the stiffest group
    requires.
    """
    count = doublings(jnp.abs(local).sum(-1).max() * h, _SHORT)
    short = h * jnp.exp2(-count.astype(h.dtype))
    eye = jnp.eye(local.shape[-1], dtype=local.dtype)[None]
    x = short * local

    def product(a: Array, b: Array) -> Array:
        return precise.matmul(a, b)

    square = product(x, x)
    # The doublings act on e^{x} - 1, because they would amplify the rounding of e^{x}.
    loss = x + square / 2 + product(square, x) / 6
    once = short * (eye + x / 2 + square / 6)
    # The integral of s e^{sD} over s from 0 to the short time.
    twice = short**2 * (eye / 2 + x / 3 + square / 8)

    def double(k: Any, parts: tuple[Array, Array, Array, Array]) -> tuple[Array, ...]:
        loss, once, twice, time = parts
        later = twice + time * once
        return (
            2 * loss + product(loss, loss),
            2 * once + product(loss, once),
            twice + later + product(loss, later),
            2 * time,
        )

    loss, once, twice, _ = jax.lax.fori_loop(0, count, double, (loss, once, twice, short))
    return Propagators(eye + loss, once, once - twice / jnp.where(h == 0, 1, h), h)


def doublings(size: Float[Array, ""], short: int, power: float = 1.0) -> Array:
    """The number of doublings from a short time to a step of `size` = h |D|."""
    need = short + power * jnp.log2(jnp.maximum(size, 1e-9))
    return jnp.clip(jnp.ceil(jnp.where(jnp.isfinite(need), need, 0)), 0, 60).astype(jnp.int32)


def exponential_step(
    parts: Propagators,
    first: Float[Array, "*k n"],
    source: Callable[[Array, Array], Array],
) -> Float[Array, "*k n"]:
    """The state z(h) at the end of a step from z(0) = `first`.

    `source(end, z)` is n at the start (`end` False) or at the end (`end` True) of the step.
    """
    moved = parts.apply(parts.flow, first, 1.0)

    def iterate(i: Array, state: tuple[Array, Array]) -> tuple[Array, Array]:
        z, begun = state
        found = source(i > 0, z)
        begun = jnp.where(i > 0, begun, found)
        base = moved + parts.apply(parts.constant, begun, parts.h)
        return base + parts.apply(parts.linear, found - begun, parts.h / 2), begun

    # One loop evaluates the source at both ends, so that it is compiled once.
    start = first, jnp.zeros_like(first)
    return jax.lax.fori_loop(0, _ITERATIONS + 1, iterate, start)[0]
