"""Steps of the expansion that are stable, and of order two, however stiff the limit is.

Modes of eigenvalue lambda that have come to rest follow slower ones: their state at the end of a
step is that of the coefficients there.  A rule that freezes coefficients in the middle of a step
falls to order one in those modes, a share of the risk of about gamma tr K / 2d.  Here what drives a
mode varies linearly over a step, and is that of the step's own end:

    dz/dt = D z + n(t, z),   z(h) = e^{h D} z(0) + int_0^h e^{(h-s) D} (n_0 + (n_1 - n_0) s/h) ds

for n_1 by fixed-point iteration, D being each group's own part of the Jacobian; its coupling to
others contracts, as it must where SGD is stable.
"""

from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import diffrax
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

# Iterations for n_1: what a first guess is wrong by falls by the gain of the fast modes each time.
_ITERATIONS = 6
# A short time is one in which the fastest mode moves by a relative 2^-_SHORT.
_SHORT = 8


class StepDoubling(diffrax.AbstractAdaptiveSolver):
    """An adaptive solver from a rule of order two.

    A step is taken whole and as two halves; a third of their difference is the error of the halves,
    which Richardson's extrapolation takes away.

    Records must fall on ends of steps: between them it is linear.

    Args:
        advance: (t, state, h) to the state at t + h.
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

        # One after the other, they are compiled once: whole, first half, second half.
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
    """A right-hand side for diffrax, which a `StepDoubling` does not evaluate."""
    return jax.tree.map(jnp.zeros_like, state)


class Propagators(NamedTuple):
    """Of each group's own part D over a time h: e^{hD}, and int_0^h e^{(h-s)D} times 1 and s/h."""

    flow: Float[Array, "g e e"]
    constant: Float[Array, "g e e"]
    linear: Float[Array, "g e e"]
    h: Float[Array, ""]

    def apply(
        self, blocks: Float[Array, "g e e"], z: Float[Array, "*k n"], beside: Any
    ) -> Float[Array, "*k n"]:
        """One of the three applied to flattened states; `beside` is its value for D = 0."""
        rest = z.at[..., : blocks.shape[0] * blocks.shape[1]].set(0)
        return own_rate(blocks, z) + beside * rest


def own_rate(local: Float[Array, "g e e"], z: Float[Array, "*k n"]) -> Float[Array, "*k n"]:
    """D z of flattened states."""
    groups, entries, _ = local.shape
    pairs = z[..., : groups * entries].reshape(*z.shape[:-1], groups, entries)
    pairs = jnp.einsum("gab,...gb->...ga", local, pairs, precision="highest")
    rest = jnp.zeros_like(z[..., groups * entries :])
    return jnp.concatenate([pairs.reshape(*z.shape[:-1], -1), rest], axis=-1)


def propagators(local: Float[Array, "g e e"], h: Float[Array, ""]) -> Propagators:
    """By series over a short time, doubled as often as the stiffest group needs."""
    count = doublings(jnp.abs(local).sum(-1).max() * h, _SHORT)
    short = h * jnp.exp2(-count.astype(h.dtype))
    eye = jnp.eye(local.shape[-1], dtype=local.dtype)[None]
    x = short * local

    def product(a: Array, b: Array) -> Array:
        return jnp.matmul(a, b, precision="highest")

    square = product(x, x)
    # e^{x} - 1 rather than e^{x}: doubling would amplify the latter's rounding.
    loss = x + square / 2 + product(square, x) / 6
    once = short * (eye + x / 2 + square / 6)
    # int_0^h s e^{sD} ds
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
    """How often a short time must be doubled for a step of `size` = h |D|."""
    need = short + power * jnp.log2(jnp.maximum(size, 1e-9))
    return jnp.clip(jnp.ceil(jnp.where(jnp.isfinite(need), need, 0)), 0, 60).astype(jnp.int32)


def exponential_step(
    parts: Propagators,
    first: Float[Array, "*k n"],
    source: Callable[[Array, Array], Array],
) -> Float[Array, "*k n"]:
    """Z at the end of a step from `first`, n being `source(end, z)` with `end` False or True."""
    moved = parts.apply(parts.flow, first, 1.0)

    def iterate(i: Array, state: tuple[Array, Array]) -> tuple[Array, Array]:
        z, begun = state
        found = source(i > 0, z)
        begun = jnp.where(i > 0, begun, found)
        base = moved + parts.apply(parts.constant, begun, parts.h)
        return base + parts.apply(parts.linear, found - begun, parts.h / 2), begun

    # Both ends in one loop, they are compiled once.
    start = first, jnp.zeros_like(first)
    return jax.lax.fori_loop(0, _ITERATIONS + 1, iterate, start)[0]
