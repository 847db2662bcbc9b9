"""The deterministic equivalent of one-pass SGD: an ODE for Gram blocks, t = k/d.

With W' the columns in frame coordinates, V_i = W'^T P_i W' the block of eigenvalue group i (weight
w_i = d_i/d, eigenvalue lambda_i^c in mixture component c of probability p_c), E_x the inclusion of
the m student columns, and the moments of each component (see `Moments`),

    Y_i  = sum_c p_c (e_c E[g]^T + lambda_i^c H_c) + tau A E_x          (population gradient W' Y_i)
    dV_i/dt = -gamma (V_i Y_i E_x^T + its transpose)
              + gamma^2/b w_i sum_c p_c lambda_i^c E_x C_c E_x^T
    dtheta/dt = -gamma (sum_c p_c E_c[grad_theta f] + tau theta)

for learning rate gamma/d, ridge tau and mini-batches of b; with an optimiser's memories
(`optimisers.py`) gamma Y_i E_x^T becomes (Y_i Gamma - A E_z Theta) E_z^T, E_z including all moving
columns.  Sources: arXiv 2308.08977 (Gaussian data), arXiv 2206.04030 and 2310.03010 (mixtures); e_c
selects the column of component c's mean.
"""

from collections.abc import Callable
from typing import Any, ClassVar

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import optimistix
from jaxtyping import Array, Float, PyTree

from hdjax.integrate import Integrator
from hdjax.limits import Limit
from hdjax.registry import register
from hdjax.streaming.projections import Layout

# Halvings of a step of a drift that is not symmetric: its series is then right to (h A)^2 2^-40.
_DOUBLINGS = 20


class Side(eqx.Module):
    """What moves beside the columns.

    Attributes:
        theta: side parameters, a pytree.
        memory: the same for each memory of the optimiser; None rather than an empty tuple, which
            diffrax's loops do not take.
        accumulated: what a learning rate or an optimiser sums up along the way: squared gradient
            norms over d^2 (`AdaGradNorm`), second moments (`Adam`).
    """

    theta: PyTree
    memory: tuple[PyTree, ...] | None = None
    accumulated: Any = None

    @property
    def parameters(self) -> tuple[PyTree, ...]:
        """In an optimiser's order: memories, then theta."""
        return (*(self.memory or ()), self.theta)

    @classmethod
    def of(cls, parameters: tuple[PyTree, ...], accumulated: Any) -> "Side":
        """From parameters in an optimiser's order."""
        return cls(parameters[-1], parameters[:-1] or None, accumulated)


BlockState = tuple[Float[Array, "g q q"], Side]


class Coefficients(eqx.Module):
    """What the right-hand side is made of at one state; frozen, its flow is explicit.

    For plain SGD `drift` is gamma Y_i and `noise` gamma^2/b w_i sum_c p_c lambda_i^c C_c; an
    optimiser's p moving columns have Y_i Gamma - A Theta, and Gamma on both sides of the noise.
    `side` is the velocity of what moves beside the columns.
    """

    drift: Float[Array, "g q p"]
    noise: Float[Array, "g p p"]
    side: Side
    layout: Layout = eqx.field(static=True)


def velocity(coefficients: Coefficients, state: BlockState) -> BlockState:
    """The time derivative of (blocks, side) at frozen coefficients."""
    parts = state[0], coefficients.drift, coefficients.noise
    # Groups last: loops over the small axes would not vectorise.
    blocks, drift, noise = (jnp.moveaxis(part, 0, -1) for part in parts)
    inclusion = jnp.eye(blocks.shape[0], noise.shape[0], dtype=blocks.dtype)[:, :, None]

    def product(a: Float[Array, "i j #g"], b: Float[Array, "j k #g"]) -> Float[Array, "i k g"]:
        return jnp.sum(a[:, :, None] * b[None], axis=1)

    # The drift moves the first p columns and, by symmetry, rows.
    moved = product(inclusion, noise) / 2 - product(blocks, drift)
    moved = product(moved, inclusion.swapaxes(0, 1))
    return jnp.moveaxis(moved + moved.swapaxes(0, 1), -1, 0), coefficients.side


def column_flow(
    coefficients: Coefficients, h: Float[Array, ""]
) -> tuple[Float[Array, "g p p"], Float[Array, "g f p"], Float[Array, "g p p"]]:
    """What time `h` at frozen coefficients does to the columns: decay, carry and noise.

    The moving columns become `moving decay + frozen carry` (the matrix exponential of the drift)
    plus columns of Gram matrix `noise`.  Without memories the drift's own rows are symmetric,
    U diag(y) U^T; with x = h y and phi(x) = (1 - e^{-x})/x, the noise in the basis U is multiplied
    entrywise by h phi(x_a + x_b).
    """
    p = coefficients.noise.shape[-1]
    own, rest = coefficients.drift[:, :p], coefficients.drift[:, p:]
    if coefficients.layout.memory:
        decay, integral, noise = _doubled(own, coefficients.noise, h)
        return decay, -_product(rest, integral), noise
    values, vectors = _eigh(own)
    x = h * values
    decay = _product(vectors * jnp.exp(-x)[:, None, :], vectors.mT)
    integral = _product(vectors * _phi(x)[:, None, :], vectors.mT)
    noise = _product(_product(vectors.mT, coefficients.noise), vectors)
    noise = h * noise * _phi(x[:, :, None] + x[:, None, :])
    noise = _product(_product(vectors, noise), vectors.mT)
    return decay, -h * _product(rest, integral), noise


def _doubled(
    own: Float[Array, "g p p"], noise: Float[Array, "g p p"], h: Float[Array, ""]
) -> tuple[Float[Array, "g p p"], Float[Array, "g p p"], Float[Array, "g p p"]]:
    """E = e^{-h A}, and the integrals of e^{-s A} and e^{-s A^T} N e^{-s A} over s < h.

    By series over a short time, doubled: no step takes differences, however stiff A is.
    """
    short = h / 2**_DOUBLINGS
    eye = jnp.eye(own.shape[-1], dtype=own.dtype)[None]
    x = short * own
    # e^{-x} - 1 rather than e^{-x}: doubling would amplify the latter's rounding.
    loss = -x + _product(x, x) / 2
    sheared = _product(x.mT, noise)
    state = (loss, short * (eye - x / 2), short * (noise - (sheared + sheared.mT) / 2))

    def double(_: Any, state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        loss, integral, noise = state
        decay = eye + loss
        later = _product(_product(decay.mT, noise), decay)
        return 2 * loss + _product(loss, loss), integral + _product(integral, decay), noise + later

    loss, integral, noise = jax.lax.fori_loop(0, _DOUBLINGS, double, state)
    return eye + loss, integral, noise


def flow(coefficients: Coefficients, state: BlockState, h: Float[Array, ""]) -> BlockState:
    """The exact flow of the blocks over time `h` at frozen coefficients."""
    blocks, side = state
    p = coefficients.noise.shape[-1]
    decay, carry, noise = column_flow(coefficients, h)
    moving, frozen = blocks[:, :, :p], blocks[:, :, p:]
    moved = _product(moving, decay) + _product(frozen, carry)
    columns = jnp.concatenate([moved, frozen], axis=-1)
    rows = _product(decay.mT, columns[:, :p]) + _product(carry.mT, columns[:, p:])
    result = jnp.concatenate([rows, columns[:, p:]], axis=1).at[:, :p, :p].add(noise)
    return result, advance_side(coefficients, side, h)


def advance_side(coefficients: Coefficients, side: Side, h: Float[Array, ""]) -> Side:
    """What moves beside the columns after time `h` at frozen velocity."""
    return jax.tree.map(lambda value, rate: value + h * rate, side, coefficients.side)


class ScaledField(eqx.Module):
    """The limit of blocks that are divided by their groups' weights.

    Tolerances would not see a group of tiny weight, whose eigenvalue may be so large that much of
    the risk depends on it.  `field` is a `BlockField`.
    """

    field: Any

    @property
    def scale(self) -> Float[Array, "g 1 1"]:
        """What blocks are divided by."""
        weights = self.field.weights
        return jnp.where(weights > 0, weights, 1)[:, None, None]

    def divided(self, state: BlockState) -> BlockState:
        """(blocks over weights, side)."""
        return state[0] / self.scale, state[1]

    def whole(self, state: BlockState) -> BlockState:
        """(blocks, side)."""
        return state[0] * self.scale, state[1]

    def coefficients(self, t: Float[Array, ""], state: BlockState) -> Coefficients:
        """Those of the divided blocks: the noise is that of one eigendirection times d."""
        found = self.field.coefficients(t, self.whole(state))
        return eqx.tree_at(lambda c: c.noise, found, found.noise / self.scale)

    def norm(self, error: BlockState) -> Float[Array, ""]:
        """Root mean square of errors, with groups by their shares."""
        blocks, side = error
        square = jnp.sum(self.shares * jnp.square(blocks).mean((1, 2)))
        return jnp.sqrt(square + jnp.square(optimistix.rms_norm(side)))

    @property
    def shares(self) -> Float[Array, " g"]:
        """What groups have of sums of 1, lambda and lambda^2 over the spectrum, on average."""
        eigenvalues, weights = self.field.eigenvalues.mean(0), self.field.weights
        sums = jnp.stack([weights * eigenvalues**k for k in range(3)])
        total = jnp.maximum(sums.sum(1, keepdims=True), jnp.finfo(sums.dtype).tiny)
        return (sums / total).mean(0)


class FlowInterpolation(diffrax.AbstractLocalInterpolation):
    """Within a step: the flow at the mean of coefficients that move from first to middle linearly.

    Stable however stiff the step is, and equal to the step's result at its end.
    """

    t0: Any
    t1: Any
    y0: BlockState
    first: Coefficients
    middle: Coefficients

    def evaluate(self, t0: Any, t1: Any = None, left: bool = True) -> Any:
        del left
        if t1 is not None:
            return jax.tree.map(jnp.subtract, self.evaluate(t1), self.evaluate(t0))
        share = (t0 - self.t0) / (self.t1 - self.t0)
        mean = jax.tree.map(lambda a, b: a + share * (b - a), self.first, self.middle)
        return flow(mean, self.y0, t0 - self.t0)


@register("solver", "exponential_midpoint")
class ExponentialMidpoint(diffrax.AbstractAdaptiveSolver):
    """The exponential midpoint rule for the block ODE, as a diffrax solver.

    A half step with the coefficients frozen at the start predicts the middle; their values there
    drive the full step by its exact flow.  Order 2, no step restriction however large
    gamma lambda_max, and blocks stay positive semidefinite.  The error estimate compares with
    coefficients averaged by Simpson's rule over start, middle and end; the end's are the next
    step's start.

    Only for `diffrax.ODETerm(velocity_of)` with a `BlockField` as `args`.
    """

    term_structure: ClassVar = diffrax.ODETerm
    interpolation_cls: ClassVar = FlowInterpolation

    def order(self, terms: Any) -> int:
        return 2

    def error_order(self, terms: Any) -> int:
        return 3

    def init(self, terms: Any, t0: Any, t1: Any, y0: BlockState, args: Any) -> Coefficients:
        if not isinstance(args, ScaledField):
            raise TypeError(
                "solver: ExponentialMidpoint(); allowed: for the limit of one-pass SGD alone"
            )
        return args.coefficients(t0, y0)

    def step(
        self,
        terms: Any,
        t0: Any,
        t1: Any,
        y0: BlockState,
        args: Any,
        solver_state: Coefficients,
        made_jump: Any,
    ) -> Any:
        del terms, made_jump
        h, first = t1 - t0, solver_state
        middle = args.coefficients(t0 + h / 2, flow(first, y0, h / 2))
        y1 = flow(middle, y0, h)
        last = args.coefficients(t1, y1)
        mean = jax.tree.map(lambda a, b, c: (a + 4 * b + c) / 6, first, middle, last)
        error = jax.tree.map(jnp.subtract, flow(mean, y0, h), y1)
        dense = {"y0": y0, "first": first, "middle": middle}
        return y1, error, dense, last, diffrax.RESULTS.successful

    def func(self, terms: Any, t0: Any, y0: BlockState, args: Any) -> BlockState:
        return velocity(args.coefficients(t0, y0), y0)


def block_path(
    integrator: Integrator,
    field: Any,
    state: BlockState,
    ts: Float[Array, " times"],
    save: Callable[[BlockState], PyTree[Array]],
    alive: Callable[[BlockState], Array],
) -> Limit:
    """`save(state)` at `ts` along the limit, from `state` at t = 0.

    By `diffrax.Tsit5()` and to rtol 1e-5 unless the integrator says otherwise.

    Args:
        integrator: how it is integrated.
        field: a `BlockField`.
        state: (blocks, side).
        ts: (times,) increasing, from 0 on.
        save: what to keep of a state.
        alive: whether a state is still a result.
    """
    scaled = ScaledField(field)
    return integrator(
        lambda t, y, args: velocity(args.coefficients(t, y), y),
        scaled.divided(state),
        ts,
        lambda state: save(scaled.whole(state)),
        rtol=1e-5,
        alive=lambda state: alive(scaled.whole(state)),
        args=scaled,
        norm=scaled.norm,
    )


def _product(a: Float[Array, "g i j"], b: Float[Array, "g j k"]) -> Float[Array, "g i k"]:
    """Products of many tiny matrices, written so that they fuse (a batched dot does not)."""
    return jnp.sum(a[:, :, :, None] * b[:, None, :, :], axis=2)


def _eigh(symmetric: Float[Array, "g m m"]) -> tuple[Array, Array]:
    if symmetric.shape[-1] == 1:
        return symmetric[:, 0], jnp.ones_like(symmetric)
    return jnp.linalg.eigh(symmetric)


def _phi(x: Array) -> Array:
    """(1 - e^{-x})/x, with its value 1 at 0."""
    zero = x == 0
    safe = jnp.where(zero, 1, x)
    return jnp.where(zero, 1, -jnp.expm1(-safe) / safe)
