"""Where SGD on a fixed least-squares problem goes as n and d grow.

The mean path is gradient flow; the variance of coordinate j of the iterate solves

    d sigma_j/dt = -2 gamma (lambda_j + delta) sigma_j + 2 gamma^2/n lambda_j L(t),
    L = L(mean path) + 1/2 sum_j m_j lambda_j sigma_j,    sigma_j(0) = 0,    t = k/n,

coupled through the loss L alone (ridge delta; v_j = rho_j^2/2 of the mean path + lambda_j
sigma_j/2 is the loss in direction j).  Integrating sigma out gives the Volterra equation
L = F + K * L, K(t) = gamma^2/n sum_j m_j lambda_j^2 exp(-2 gamma (lambda_j + delta) t).

Sources: arXiv 2102.04396, 2205.07069, 2206.01029.
"""

import abc
from collections.abc import Callable
from typing import Annotated, Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.scipy.linalg
from jaxtyping import Array, Float, PyTree

from hdjax import precise, schedules
from hdjax.arrays import decay_share
from hdjax.checks import is_concrete
from hdjax.integrate import Integrator
from hdjax.limits import Limit
from hdjax.multipass.least_squares import MultiPass
from hdjax.registry import In, register

Save = Callable[[dict[str, Array]], PyTree[Array]]


class Solver(eqx.Module):
    """How the limit is computed.

    Attributes:
        integrator: how equations beside the limit, such as that of its spread, are integrated.
    """

    integrator: eqx.AbstractVar[Integrator]

    @abc.abstractmethod
    def __call__(self, system: MultiPass, ts: Float[Array, " times"], save: Save) -> Limit:
        """`save(statistics)` at `ts`."""

    @abc.abstractmethod
    def check(self, system: MultiPass) -> None:
        """Raise ValueError for systems that it does not serve."""


@register("multipass.solver", "block_ode")
class BlockODE(Solver):
    """The equations above by diffrax: any learning rate, ridge and measure; O(p) a step.

    Args:
        integrator: None: `diffrax.Tsit5()` to rtol 1e-6; absolute tolerances are in units of
            2 L(0)/n.  `diffrax.Kvaerno5()` is of no use here (the equations are coupled).

    Example:
        >>> solver = BlockODE(hd.Integrator(rtol=1e-9))
    """

    integrator: Integrator

    def __init__(self, integrator: Annotated[Integrator, In("integrator")] | None = None):
        self.integrator = Integrator() if integrator is None else integrator

    def check(self, system: MultiPass) -> None:
        """It serves all systems."""

    def __call__(self, system: MultiPass, ts: Float[Array, " times"], save: Save) -> Limit:
        flow, modes, schedule = system.flow, system.modes, system.learning_rate
        unit = 2 * modes.mean_loss(modes.residuals) / modes.samples
        unit = jnp.where(unit == 0, 1, unit)

        def rate(t: Any, state: tuple[Array, Array], args: Any) -> tuple[Array, Array]:
            accumulated, variances = state
            gamma = schedule(t)
            loss = flow.loss(flow.decay(accumulated), unit * variances)
            noise = 2 * gamma**2 * loss / (modes.samples * unit)
            return gamma, noise * modes.eigenvalues - 2 * gamma * flow.rates * variances

        def record(state: tuple[Array, Array]) -> Any:
            accumulated, variances = state
            return save(flow.values(flow.decay(accumulated), unit * variances))

        start = jnp.zeros_like(ts[-1]), jnp.zeros_like(modes.eigenvalues)
        return self.integrator(rate, start, ts, record, solver=diffrax.Tsit5(), rtol=1e-6)


@register("multipass.solver", "spectral")
class Spectral(Solver):
    """The closed form by one eigendecomposition: any time at the same cost, O(p^3) once.

    For a constant rate without ridge the v_j solve a linear system whose matrix is diagonal plus
    rank one; with v_j = u_j y_j, u_j = sqrt(m_j) lambda_j, it is symmetric,

        dy/dt = -(2 gamma diag(lambda) - gamma^2/n u u^T) y + gamma^2/n u floor.

    Variances are differences, exact to rounding over lambda_j: ill-conditioned problems with
    quadratic statistics are better left to `BlockODE`.  It has no derivatives where eigenvalues
    coincide.

    Example:
        >>> solver = Spectral()
    """

    @property
    def integrator(self) -> Integrator:
        """The equations' own choice."""
        return Integrator()

    def check(self, system: MultiPass) -> None:
        if not isinstance(system.learning_rate, schedules.Constant) or system.ridge is not None:
            raise ValueError(
                "solver: Spectral() with a schedule or a ridge; allowed: BlockODE() or None"
            )
        empty = system.modes.multiplicities == 0
        if is_concrete(empty) and bool(empty.any()):
            raise ValueError(
                "solver: Spectral() with a rule that has nodes without noise (Lanczos); allowed: "
                "BlockODE() or None"
            )

    def __call__(self, system: MultiPass, ts: Float[Array, " times"], save: Save) -> Limit:
        modes, flow = system.modes, system.flow
        gamma = system.learning_rate(jnp.zeros_like(ts[-1]))
        coupling = gamma**2 / modes.samples
        unit = jnp.sqrt(modes.multiplicities) * modes.eigenvalues
        zero = unit == 0
        matrix = 2 * gamma * jnp.diag(modes.eigenvalues) - coupling * jnp.outer(unit, unit)
        mu, vectors = jnp.linalg.eigh(matrix)
        start = jnp.where(zero, 0, modes.residuals**2 / 2 / jnp.where(zero, 1, unit))
        head = precise.dot(start, vectors)
        force = coupling * modes.floor * precise.dot(unit, vectors)

        def at(t: Array) -> Any:
            grown = t * decay_share(mu * t)
            state = head * jnp.exp(-mu * t) + force * grown
            losses = unit * precise.dot(vectors, state)
            decay = flow.decay(gamma * t)
            residuals = flow.residuals(decay)
            scale = modes.multiplicities * modes.eigenvalues
            variances = (2 * losses - residuals**2) / jnp.where(zero, 1, scale)
            variances = jnp.where(zero, 0, variances)
            return save(flow.values(decay, variances))

        return Limit.whole(jax.vmap(at)(ts), ts)


def volterra(
    system: MultiPass, horizon: float, steps: int
) -> tuple[Float[Array, " times"], Float[Array, " times"]]:
    """The loss per sample by the Volterra equation, as a check of the other forms.

    The trapezoid rule on `steps` equal intervals, of second order; O(steps^2 + steps p).

    Args:
        system: with a constant learning rate.
        horizon: the last time.
        steps: number of intervals.

    Returns:
        Times and losses per sample, (steps + 1,) each.

    Raises:
        ValueError: a schedule, or fewer than one step.

    Example:
        >>> problem = hd.multipass.Problem(jnp.eye(3), jnp.ones(3))
        >>> ts, loss = volterra(hd.multipass.MultiPassSGD(problem, 0.5), 1.0, 100)
    """
    if not isinstance(system.learning_rate, schedules.Constant):
        raise ValueError("learning_rate: a schedule; allowed with volterra: a constant")
    if steps < 1:
        raise ValueError(f"steps: {steps}; allowed: at least 1")
    modes, flow = system.modes, system.flow
    ts = jnp.linspace(0.0, horizon, steps + 1)
    gamma, h = system.learning_rate(0.0), horizon / steps
    mean = jax.vmap(lambda t: modes.mean_loss(flow.residuals(flow.decay(gamma * t))))(ts)

    def kernel(t: Array) -> Array:
        decay = jnp.exp(-2 * gamma * flow.rates * t)
        weights = modes.multiplicities * modes.eigenvalues**2
        return gamma**2 / modes.samples * precise.dot(weights, decay)

    lags = jax.vmap(kernel)(ts)
    index = jnp.arange(steps + 1)
    gap = index[:, None] - index[None, :]
    share = jnp.where((gap == 0) | (index[None, :] == 0), h / 2, h)
    share = jnp.where(index[:, None] == 0, 0.0, share)
    matrix = jnp.where(gap >= 0, share * lags[jnp.abs(gap)], 0.0)
    matrix = jnp.eye(steps + 1) - matrix
    loss = jax.scipy.linalg.solve_triangular(matrix, mean, lower=True)
    return ts, loss / modes.samples
