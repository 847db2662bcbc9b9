"""The limit of SGD with momentum and batches as n and d grow: a recursion in the step k.

With Omega_j = 1 + Delta - gamma zeta (lambda_j + delta), the distance of the mean path from its
end in direction j, over the distance at the start, obeys

    p_j(k+1) = Omega_j p_j(k) - Delta p_j(k-1),    p_j(0) = p_j(-1) = 1.

Let a be the variance of the iterate's coordinate j at step k, e its variance at step k - 1, and c
the covariance of both.  One step makes of them

    a' = Omega^2 a - 2 Omega Delta c + Delta^2 e + kappa lambda_j 2 L/n,
    c' = Omega a - Delta c,    e' = a,

with kappa = gamma^2 zeta (1 - zeta) n/(n - 1) and L = L(mean path) + 1/2 sum_j m_j lambda_j a_j.
The factor n/(n - 1), which is exact for batches drawn without replacement, tends to 1.

`MomentumSGD` takes a solver as an option: `Recursion` iterates these equations, and `Squaring`
multiplies powers of their matrix.  `discrete_volterra` solves the equation of the loss alone that
follows from them, as a check of both.

Sources: slides "Hitting the High-D(imensional) Notes", frame "Large batch: SGD+M"; arXiv
2206.01029 ("Trajectory of Mini-Batch Momentum", the discrete Volterra equation).
"""

from typing import Any

import jax
import jax.numpy as jnp
import jax.scipy.linalg
import numpy as np
from jax import lax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Int

from hdjax import precise
from hdjax.checks import Checked
from hdjax.multipass.least_squares import Batched
from hdjax.multipass.limit import Save
from hdjax.registry import register
from hdjax.schedules import Constant


@register("multipass.solver", "recursion")
class Recursion(Checked):
    """The limit step by step, at O(p) operations a step, for any schedule and ridge.

    Example:
        >>> solver = Recursion()
    """

    def check(self, system: Batched) -> None:
        """Accept every system."""

    def __call__(self, system: Batched, steps: Int[Array, " times"], save: Save) -> Any:
        flow, modes, delta = system.flow, system.modes, system.momentum
        dtype = modes.floor.dtype

        def step(k: Int[Array, ""], state: tuple[Array, ...]) -> tuple[Array, ...]:
            p, before, a, c, e = state
            gamma = system.learning_rate(k.astype(dtype))
            omega = _omega(system, gamma)
            loss = flow.loss(p, a)
            noise = _kappa(system, gamma) * modes.eigenvalues * 2 * loss / modes.samples
            return omega * p - delta * before, p, *_next(omega, delta, a, c, e, noise)

        def record(carry: tuple[Any, Array], now: Int[Array, ""]) -> tuple[Any, Any]:
            state, last = carry
            state = lax.fori_loop(last, now, step, state)
            return (state, now), save(flow.values(state[0], state[2]))

        one = jnp.ones_like(modes.eigenvalues)
        zero = jnp.zeros_like(one)
        start = (one, one, zero, zero, zero), jnp.zeros_like(steps[0])
        return lax.scan(record, start, steps)[1]


@register("multipass.solver", "squaring")
class Squaring(Checked):
    """The limit of long runs by powers of the recursion's matrix: log2(k) products of size 3 p + 1.

    For a constant learning rate without ridge, the second moments E rho_k^2, E rho_k rho_{k-1} and
    E rho_{k-1}^2 of the residuals, together with a constant 1 for the floor of the loss, obey a
    linear recursion.  Its state after k steps is a product of the powers 1, 2, 4, ... of the
    matrix, and all recorded times advance together.  Variances are differences of second moments
    and squared means divided by lambda_j, so that their error is rounding over lambda_j;
    `Recursion` is better for ill-conditioned problems with quadratic statistics.

    Example:
        >>> problem = hd.multipass.gaussian_problem(40, 20, key=jax.random.key(0))
        >>> options = {"batch_fraction": 0.25, "momentum": 0.3, "solver": Squaring()}
        >>> system = hd.multipass.MomentumSGD(problem, 0.5, **options)
        >>> bool(hd.limit(system, [0, 1e6]).limit["loss"][-1] < 1e-6)
        True
    """

    def check(self, system: Batched) -> None:
        """Raise ValueError if the system has a schedule or a ridge."""
        if not isinstance(system.learning_rate, Constant) or system.ridge is not None:
            raise ValueError(
                "solver: Squaring() with a schedule or a ridge; allowed: Recursion() or None"
            )

    def __call__(self, system: Batched, steps: Int[Array, " times"], save: Save) -> Any:
        flow, modes, delta = system.flow, system.modes, system.momentum
        gamma = system.learning_rate(0.0)
        omega = _omega(system, gamma)
        scale = modes.multiplicities * modes.eigenvalues
        share = _kappa(system, gamma) * scale * modes.eigenvalues * 2 / modes.samples
        square = modes.residuals**2
        start, unravel = ravel_pytree((square, square, square, jnp.ones_like(modes.floor)))

        def step(state: Float[Array, " s"]) -> Float[Array, " s"]:
            a, c, e, one = unravel(state)
            noise = share * (modes.floor * one + jnp.sum(a) / 2)
            return ravel_pytree((*_next(omega, delta, a, c, e, noise), one))[0]

        def double(carry: tuple[Array, ...]) -> tuple[Array, ...]:
            left, moments, paths, matrix, pair = carry
            odd = (left % 2 == 1)[:, None]
            moments = jnp.where(odd, _apply("ts,rs->tr", moments, matrix), moments)
            paths = jnp.where(odd[..., None], _apply("tps,prs->tpr", paths, pair), paths)
            matrix, pair = _apply("rs,st->rt", matrix, matrix), _apply("prs,pst->prt", pair, pair)
            return left // 2, moments, paths, matrix, pair

        zero = jnp.zeros_like(omega)
        pair = jnp.stack([omega, zero - delta, zero + 1, zero], -1).reshape(-1, 2, 2)
        count = steps.shape[0]
        begin = (
            steps,
            jnp.tile(start, (count, 1)),
            jnp.ones((count, omega.shape[0], 2), omega.dtype),
            jax.jacfwd(step)(jnp.zeros_like(start)),
            pair,
        )
        _, moments, paths, _, _ = lax.while_loop(lambda carry: carry[0].max() > 0, double, begin)

        def at(moments: Array, p: Array) -> Any:
            spread = unravel(moments)[0] - flow.residuals(p) ** 2
            empty = scale == 0
            return save(flow.values(p, jnp.where(empty, 0, spread / jnp.where(empty, 1, scale))))

        return jax.vmap(at)(moments, paths[..., 0])


def discrete_volterra(
    system: Batched, steps: int
) -> tuple[Int[Array, " times"], Float[Array, " times"]]:
    """The loss per sample by the discrete Volterra equation, as a check of the two solvers.

        L(k) = L(mean path) + sum_{l < k} K(k - 1 - l) L(l),
        K(k) = kappa/n sum_j m_j lambda_j^2 h_j(k)^2,
        h_j(k+1) = Omega_j h_j(k) - Delta h_j(k-1),    h_j(0) = 1,    h_j(-1) = 0.

    The cost is O(steps^2 + steps p).  Source: arXiv 2206.01029.

    Args:
        system: a system with a constant learning rate.
        steps: the last step.

    Returns:
        Steps k, and losses per sample L/n, (steps + 1,) each.

    Raises:
        TypeError: another system than `MomentumSGD`.
        ValueError: the learning rate is a schedule, or `steps` is no integer of at least 1.

    Example:
        >>> problem = hd.multipass.Problem(jnp.eye(4), jnp.ones(4))
        >>> system = hd.multipass.MomentumSGD(problem, 0.5, batch_fraction=0.25, momentum=0.3)
        >>> ks, loss = discrete_volterra(system, 100)
    """
    if not isinstance(system, Batched):
        raise TypeError(f"system: {type(system).__name__}; allowed: MomentumSGD")
    if not isinstance(system.learning_rate, Constant):
        raise ValueError("learning_rate: a schedule; allowed with discrete_volterra: a number")
    if not isinstance(steps, int | np.integer) or steps < 1:
        raise ValueError(f"steps: {steps!r}; allowed: an integer of at least 1")
    modes, flow, gamma = system.modes, system.flow, system.learning_rate(0.0)
    omega = _omega(system, gamma)

    def move(pair: tuple[Array, Array], _: None) -> tuple[tuple[Array, Array], Array]:
        now, before = pair
        return (omega * now - system.momentum * before, now), now

    one = jnp.ones_like(omega)
    _, paths = lax.scan(move, (one, one), length=steps + 1)
    _, responses = lax.scan(move, (one, jnp.zeros_like(omega)), length=steps)
    mean = jax.vmap(lambda p: modes.mean_loss(flow.residuals(p)))(paths)
    weights = modes.multiplicities * modes.eigenvalues**2
    kernel = _kappa(system, gamma) / modes.samples * precise.dot(responses**2, weights)
    index = jnp.arange(steps + 1)
    lag = index[:, None] - index[None, :] - 1
    matrix = jnp.eye(steps + 1) - jnp.where(lag >= 0, kernel[jnp.maximum(lag, 0)], 0)
    loss = jax.scipy.linalg.solve_triangular(matrix, mean, lower=True)
    return index, loss / modes.samples


def _omega(system: Batched, gamma: Float[Array, ""]) -> Float[Array, " p"]:
    """The coefficient Omega_j = 1 + Delta - gamma zeta (lambda_j + delta) of each direction."""
    return 1 + system.momentum - gamma * system.batch_fraction * system.flow.rates


def _kappa(system: Batched, gamma: Float[Array, ""]) -> Float[Array, ""]:
    """The constant kappa = gamma^2 zeta (1 - zeta) n/(n - 1)."""
    zeta, n = system.batch_fraction, system.modes.samples
    return gamma**2 * zeta * (1 - zeta) * n / jnp.maximum(n - 1, 1)


def _next(omega: Array, delta: Array, a: Array, c: Array, e: Array, noise: Array) -> tuple:
    """The second moments (a, c, e) of the module's opening after one more step."""
    return omega**2 * a - 2 * omega * delta * c + delta**2 * e + noise, omega * a - delta * c, a


def _apply(product: str, left: Array, right: Array) -> Array:
    return precise.einsum(product, left, right)
