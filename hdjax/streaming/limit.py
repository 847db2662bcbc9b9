"""The deterministic equivalent of one-pass SGD: an ODE for Gram blocks, and its integration.

The time is t = k/d.  With W' the columns in frame coordinates, V_i = W'^T P_i W' the block of
eigenvalue group i (weight w_i = d_i/d, eigenvalue lambda_i^c in mixture component c of probability
p_c), A the frame, E_x the inclusion of the m student columns, e_c the unit vector of the column
that holds the mean of component c, and the moments of each component (see `Moments`),

    Y_i  = sum_c p_c (e_c E[g]^T + lambda_i^c H_c) + tau A E_x    (population gradient P_i W' Y_i)
    dV_i/dt = -gamma (V_i Y_i E_x^T + its transpose)
              + gamma^2/b w_i sum_c p_c lambda_i^c E_x C_c E_x^T
    dtheta/dt = -gamma (sum_c p_c E_c[grad_theta f] + tau theta)

for learning rate gamma/d, ridge tau and mini-batches of b.  With an optimiser's memories
(`optimisers/`) gamma Y_i E_x^T becomes (Y_i Gamma - A E_z Theta) E_z^T, where E_z is the
inclusion of all moving columns.  `field.py` computes the coefficients, `block_path` integrates.

Sources: for Gaussian data, the slides "Hitting the High-D(imensional) Notes", slides "Main Result"
(theorem on the concentration of SGD) and "Deterministic equivalent" (paper: arXiv 2308.08977), here
with Gram blocks in place of the resolvent; for mixtures, arXiv 2206.04030 and 2310.03010.
"""

from collections.abc import Callable
from typing import Any, ClassVar

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import optimistix
from jaxtyping import Array, Float, PyTree

from hdjax.arrays import decay_share
from hdjax.integrate import Integrator
from hdjax.limits import Limit
from hdjax.registry import register
from hdjax.streaming.projections import Layout

# Number of halvings of a step for a drift A that is not symmetric; the series over the shortest
# step is then accurate to (h A)^2 2^-40.
_DOUBLINGS = 20


class Side(eqx.Module):
    """The variables that move beside the columns.

    Attributes:
        theta: side parameters, a pytree.
        memory: one pytree of the same structure for each memory of the optimiser; None if there is
            no memory (loops of diffrax do not accept an empty tuple).
        accumulated: sums that a learning rate or an optimiser keeps: squared gradient norms over
            d^2 (`AdaGradNorm`), second moments (`Adam`); None if it keeps no sum.
    """

    theta: PyTree
    memory: tuple[PyTree, ...] | None = None
    accumulated: Any = None

    @property
    def parameters(self) -> tuple[PyTree, ...]:
        """The memories and theta as one tuple, in the order of an optimiser's blocks."""
        return (*(self.memory or ()), self.theta)

    @classmethod
    def of(cls, parameters: tuple[PyTree, ...], accumulated: Any) -> "Side":
        """The `Side` of `parameters` = (*memories, theta) and `accumulated`."""
        return cls(parameters[-1], parameters[:-1] or None, accumulated)


BlockState = tuple[Float[Array, "g q q"], Side]


class Coefficients(eqx.Module):
    """The coefficients of the ODE at one state; if they are frozen, the flow is explicit.

    Attributes:
        drift: gamma Y_i for plain SGD; Y_i Gamma - A Theta for an optimiser's p moving columns.
        noise: gamma^2/b w_i sum_c p_c lambda_i^c C_c for plain SGD; the same with Gamma on both
            sides in place of gamma^2 for an optimiser.
        side: the velocity of the variables beside the columns.
        layout: the kinds and numbers of columns.
    """

    drift: Float[Array, "g q p"]
    noise: Float[Array, "g p p"]
    side: Side
    layout: Layout = eqx.field(static=True)


def velocity(coefficients: Coefficients, state: BlockState) -> BlockState:
    """The time derivative of (blocks, side) at frozen coefficients."""
    parts = state[0], coefficients.drift, coefficients.noise
    # Groups are on the last axis: loops over the small axes would not vectorise.
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
    """The matrices (decay, carry, noise) of a flow of the columns over time `h`.

    The coefficients are frozen.  The moving columns become `moving decay + frozen carry`, where
    `decay` is the matrix exponential of the drift, plus columns of Gram matrix `noise`.  Without
    memories the rows of the drift that belong to moving columns are symmetric, U diag(y) U^T; with
    x = h y and phi(x) = (1 - e^{-x})/x, the noise in the basis U is multiplied entrywise by
    h phi(x_a + x_b).
    """
    p = coefficients.noise.shape[-1]
    own, rest = coefficients.drift[:, :p], coefficients.drift[:, p:]
    if coefficients.layout.memory:
        decay, integral, noise = _doubled(own, coefficients.noise, h)
        return decay, -_product(rest, integral), noise
    values, vectors = _eigh(own)
    x = h * values
    decay = _product(vectors * jnp.exp(-x)[:, None, :], vectors.mT)
    integral = _product(vectors * decay_share(x)[:, None, :], vectors.mT)
    noise = _product(_product(vectors.mT, coefficients.noise), vectors)
    noise = h * noise * decay_share(x[:, :, None] + x[:, None, :])
    noise = _product(_product(vectors, noise), vectors.mT)
    return decay, -h * _product(rest, integral), noise


def _doubled(
    own: Float[Array, "g p p"], noise: Float[Array, "g p p"], h: Float[Array, ""]
) -> tuple[Float[Array, "g p p"], Float[Array, "g p p"], Float[Array, "g p p"]]:
    """The exponential e^{-h A}, and the integrals of e^{-s A} and e^{-s A^T} N e^{-s A}, 0 < s < h.

    They are computed by series over a short time, which is then doubled.  No doubling takes
    differences of large numbers, however stiff A is.
    """
    short = h / 2**_DOUBLINGS
    eye = jnp.eye(own.shape[-1], dtype=own.dtype)[None]
    x = short * own
    # The doublings act on e^{-x} - 1, because they would amplify the rounding of e^{-x}.
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
    """The variables beside the columns after time `h` at frozen velocity."""
    return jax.tree.map(lambda value, rate: value + h * rate, side, coefficients.side)


class ScaledField(eqx.Module):
    """The right-hand side of the limit for blocks that are divided by the weights of their groups.

    Without this division the tolerances of a solver would overlook a group of tiny weight, although
    its eigenvalue may be so large that much of the risk depends on this group.  `field` is a
    `BlockField`.
    """

    field: Any

    @property
    def scale(self) -> Float[Array, "g 1 1"]:
        """The divisors of the blocks: the weights of the groups, and 1 for weights of zero."""
        weights = self.field.weights
        return jnp.where(weights > 0, weights, 1)[:, None, None]

    def divided(self, state: BlockState) -> BlockState:
        """The state (blocks / weights, side) of a state (blocks, side)."""
        return state[0] / self.scale, state[1]

    def whole(self, state: BlockState) -> BlockState:
        """The state (blocks, side) of a state (blocks / weights, side)."""
        return state[0] * self.scale, state[1]

    def coefficients(self, t: Float[Array, ""], state: BlockState) -> Coefficients:
        """The coefficients for divided blocks; their noise is divided by the weights too."""
        found = self.field.coefficients(t, self.whole(state))
        return eqx.tree_at(lambda c: c.noise, found, found.noise / self.scale)

    def norm(self, error: BlockState) -> Float[Array, ""]:
        """The root mean square of the errors of a state, with groups weighted by `shares`."""
        blocks, side = error
        square = jnp.sum(self.shares * jnp.square(blocks).mean((1, 2)))
        return jnp.sqrt(square + jnp.square(optimistix.rms_norm(side)))

    @property
    def shares(self) -> Float[Array, " g"]:
        """The share of each group in sums of 1, lambda and lambda^2 over the spectrum, averaged."""
        eigenvalues, weights = self.field.eigenvalues.mean(0), self.field.weights
        sums = jnp.stack([weights * eigenvalues**k for k in range(3)])
        total = jnp.maximum(sums.sum(1, keepdims=True), jnp.finfo(sums.dtype).tiny)
        return (sums / total).mean(0)


class FlowInterpolation(diffrax.AbstractLocalInterpolation):
    """The interpolation within a step of `ExponentialMidpoint`.

    The state at a time within the step is the exact flow from the step's start with coefficients
    that are averaged between the start's (`first`) and the midpoint's (`middle`).  It is stable
    however stiff the step is, and at the end of the step it equals the step's result.
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
    """The exponential midpoint rule for the limit of one-pass SGD, as a diffrax solver.

    A half step with the coefficients frozen at the start predicts the state at the midpoint.  The
    coefficients at this state drive the full step by its exact flow.  The rule has order 2 and no
    step restriction however large gamma lambda_max is, and blocks stay positive semidefinite.  The
    error is estimated by the flow with coefficients averaged by Simpson's rule over start, midpoint
    and end; the coefficients at the end are reused at the start of the next step.

    Users choose it for stiff spectra: `Integrator(solver=hd.streaming.ExponentialMidpoint())`.

    Raises:
        TypeError: the equation is not the limit of a `OnePassSGD`.

    Example:
        >>> integrator = hd.Integrator(solver=hd.streaming.ExponentialMidpoint())
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
                "solver: ExponentialMidpoint(); allowed: any diffrax solver (this one integrates "
                "the limit of OnePassSGD alone)"
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
    """The values of `save(state)` at times `ts` along the limit, from `state` at t = 0.

    The solver is `diffrax.Tsit5()` with rtol 1e-5 unless the integrator has others.

    Args:
        integrator: the solver and its tolerances.
        field: a `BlockField`, the right-hand side.
        state: (blocks, side) at t = 0.
        ts: (times,) increasing, from 0 on, in units of d steps.
        save: from a state to the part that is kept.
        alive: from a state to whether the limit has not diverged there.
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
    """The product of two stacks of tiny matrices, as a sum, which XLA fuses (unlike a dot)."""
    return jnp.sum(a[:, :, :, None] * b[:, None, :, :], axis=2)


def _eigh(symmetric: Float[Array, "g m m"]) -> tuple[Array, Array]:
    if symmetric.shape[-1] == 1:
        return symmetric[:, 0], jnp.ones_like(symmetric)
    return jnp.linalg.eigh(symmetric)
