"""The limit of SGD on a fixed least-squares problem as n and d grow, by two solvers.

The mean path of the iterates is gradient flow (`flow.py`).  The variance sigma_j of the iterate's
coordinate on the j-th right singular vector solves

    d sigma_j/dt = -2 gamma (lambda_j + delta) sigma_j + 2 gamma^2/n lambda_j L(t),
    L = L(mean path) + 1/2 sum_j m_j lambda_j sigma_j,    sigma_j(0) = 0,    t = k/n,

with the ridge delta and m_j noise directions at the eigenvalue lambda_j (`modes.py`); the equations
are coupled through the loss L alone.  The loss in direction j is v_j = rho_j^2/2 +
m_j lambda_j sigma_j/2, with rho_j the residual of the mean path.  Integrating sigma out gives the
Volterra equation

    L(t) = L(mean path) + int_0^t K(t - s) L(s) ds,
    K(t) = gamma^2/n sum_j m_j lambda_j^2 exp(-2 gamma (lambda_j + delta) t).

`MultiPassSGD` takes a solver as an option: `BlockODE` integrates the equations, and `Spectral`
evaluates their closed form.  `volterra` solves the Volterra equation as a check of both.

Sources: slides "Hitting the High-D(imensional) Notes", frame "Our framework" (homogenised SGD, of
which these are the moments); arXiv 2102.04396 and 2205.07069 (Volterra equation).
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
from hdjax.checks import Checked, checked, is_concrete
from hdjax.integrate import Integrator
from hdjax.limits import Limit
from hdjax.multipass.least_squares import MultiPass
from hdjax.registry import In, register

Save = Callable[[dict[str, Array]], PyTree[Array]]


class Solver(Checked):
    """A way to compute the limit of a `MultiPass` system.

    Attributes:
        integrator: the integrator for equations besides the limit, such as that of its spread.
    """

    integrator: eqx.AbstractVar[Integrator]

    @abc.abstractmethod
    def __call__(self, system: MultiPass, ts: Float[Array, " times"], save: Save) -> Limit:
        """The values of `save(statistics)` along the limit, at the times `ts` in epochs."""

    @abc.abstractmethod
    def check(self, system: MultiPass) -> None:
        """Raise ValueError if this solver cannot compute the limit of `system`."""


@register("multipass.solver", "block_ode")
class BlockODE(Solver):
    """The equations of the variances, integrated by diffrax: O(p) operations in a step.

    This solver serves any learning rate, ridge and `Modes` of p eigenvalues.

    Args:
        integrator: the solver and its tolerances; None: `diffrax.Tsit5()` to rtol 1e-6.  Absolute
            tolerances are in units of 2 L(0)/n.  `diffrax.Kvaerno5()` is of no use here, as its
            linear systems are dense (all equations are coupled).

    Example:
        >>> solver = BlockODE(hd.Integrator(rtol=1e-9))
    """

    integrator: Integrator

    def __init__(self, integrator: Annotated[Integrator, In("integrator")] | None = None):
        self.integrator = Integrator() if integrator is None else integrator

    def check(self, system: MultiPass) -> None:
        """Accept every system."""

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
    """The closed form of the limit by one eigendecomposition: O(p^3) once, then O(p^2) a time.

    For a constant learning rate without ridge the losses v_j in the directions solve a linear
    system whose matrix is diagonal plus rank one.  With v_j = u_j y_j, u_j = sqrt(m_j) lambda_j,
    the matrix is symmetric:

        dy/dt = -(2 gamma diag(lambda) - gamma^2/n u u^T) y + gamma^2/n u floor.

    Variances are differences of v_j and rho_j^2/2, divided by m_j lambda_j/2, so that their error
    is rounding over lambda_j; `BlockODE` is better for ill-conditioned problems with quadratic
    statistics.  The closed form has no derivatives where eigenvalues coincide.

    Example:
        >>> solver = Spectral()
    """

    @property
    def integrator(self) -> Integrator:
        """The default integrator: this solver has no option for other equations."""
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


@checked
def volterra(
    system: MultiPass, horizon: float, steps: int
) -> tuple[Float[Array, " times"], Float[Array, " times"]]:
    """The loss per sample by the Volterra equation, as a check of the two solvers.

    The integral is taken by the trapezoid rule on `steps` equal intervals, whose error is of
    second order; the cost is O(steps^2 + steps p).  Source: arXiv 2102.04396, 2205.07069.

    Args:
        system: a system with a constant learning rate.
        horizon: the last time, in epochs.
        steps: number of intervals.

    Returns:
        Times in epochs, and losses per sample L/n, (steps + 1,) each.

    Raises:
        ValueError: the learning rate is a schedule, or `steps` is below 1.

    Example:
        >>> problem = hd.multipass.Problem(jnp.eye(3), jnp.ones(3))
        >>> ts, loss = volterra(hd.multipass.MultiPassSGD(problem, 0.5), 1.0, 100)
    """
    if not isinstance(system.learning_rate, schedules.Constant):
        raise ValueError("learning_rate: a schedule; allowed with volterra: a number")
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
