"""A Gaussian random function that stands for a network: kernel and mean fitted to observed curves.

With a stationary isotropic kernel C and a constant mean mu, the curve of a gradient span algorithm
is deterministic as d grows (`hdjax.landscapes`; arXiv 2410.09973, section 2.2 for these random
functions).  The fit chooses mu and the numbers of C whose limit is closest to the costs f_k and the
squared gradient norms |g_k|^2 that a network showed in its first steps,

    min  1/n sum_k [(f_k - f_k^lim)/range(f)]^2 + 1/n sum_k [log |g_k|^2 - log |g_k^lim|^2]^2,

by Levenberg-Marquardt in the logarithms of C's numbers.  The limits of later steps, other rates and
other algorithms are then predictions.  A network need not be such a function, and where a
prediction fails, it is not.  `Training` takes a fit as its theory.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optimistix
from jaxtyping import Array, Float, Int, Key

from hdjax import random
from hdjax.checks import Checked, checked, is_concrete
from hdjax.landscapes import GradientSpan
from hdjax.landscapes.algorithms import Algorithm
from hdjax.landscapes.kernels import Stationary
from hdjax.networks.simulate import Direct, Trainable, TrainingSummary
from hdjax.random import Stream
from hdjax.registry import Size, Values

# Length scales of the kernel from which the fit starts, in units of the distance that descent along
# a straight line would take.
_LENGTHS = np.geomspace(0.1, 100.0, 25)
_TOLERANCE = 1e-8


class KernelFit(eqx.Module):
    """The result of `fit_kernel`.

    Attributes:
        theory: the fitted system, at d = infinity.
        cost_error: root mean square of f_k - f_k^lim over the fitted steps.
        gradient_error: root mean square of log |g_k|^2 - log |g_k^lim|^2 over the fitted steps.
        converged: whether the least-squares solver converged.
    """

    theory: GradientSpan
    cost_error: Float[Array, ""]
    gradient_error: Float[Array, ""]
    converged: Array


@checked
def fit_kernel(
    kernel: Stationary,
    algorithm: Algorithm,
    cost: Values,
    gradient_norm: Values,
    *,
    max_steps: Size = 200,
) -> KernelFit:
    """Fit a stationary kernel and a constant mean to the curve of an algorithm.

    Args:
        kernel: the kind of kernel; its `beta`, if any, is the first guess, and first guesses of
            `var` and `scale` are found from the curve.
        algorithm: the algorithm of `hdjax.landscapes` that made the curve.
        cost: (n,) costs at the steps 0, 1, ..., n - 1, of a run or a mean over runs.
        gradient_norm: (n,) squared norms of the full gradient at these steps.
        max_steps: the largest number of steps of the least-squares solver.

    Raises:
        TypeError: the kernel is not stationary.
        ValueError: the curves have different shapes or fewer than 3 steps, they are not finite, or
            a gradient or the change of the cost is zero.

    Example:
        >>> algorithm = hd.landscapes.algorithms.GradientDescent(0.5)
        >>> true = hd.landscapes.GradientSpan(
        ...     hd.landscapes.kernels.SquaredExponential(2.0, 1.5), algorithm, jnp.inf, mean=1.0)
        >>> seen = true.limit(
        ...     np.arange(8.0), save=lambda order: (order.value, order.gradient_norm))
        >>> fit = fit_kernel(hd.landscapes.kernels.SquaredExponential(), algorithm, *seen.values)
        >>> round(float(fit.theory.kernel.scale), 4)
        1.5
    """
    dtype = jnp.result_type(float)
    curves = jnp.asarray(cost, dtype), jnp.asarray(gradient_norm, dtype)
    n = curves[0].shape[0] if curves[0].ndim else 0
    if n < 3 or any(curve.shape != (n,) for curve in curves):
        shapes = [curve.shape for curve in curves]
        raise ValueError(f"cost, gradient_norm: shapes {shapes}; allowed: (n,) each, from 3 on")
    if is_concrete(curves):
        values, squares = (np.asarray(curve) for curve in curves)
        if not (np.isfinite(values).all() and np.isfinite(squares).all() and squares.min() > 0):
            raise ValueError(
                f"cost, gradient_norm: {values.min():.3g} to {values.max():.3g}, "
                f"{squares.min():.3g} to {squares.max():.3g}; allowed: finite costs, positive "
                "squared norms"
            )
        if np.ptp(values) == 0:
            raise ValueError(f"cost: {values[0]} at every step; allowed: a cost that moves")
    return _fit(kernel, algorithm, *curves, max_steps)


class Fitted(Checked):
    """The Gaussian random function fitted to the first steps of trainings, as a `theory`.

    The trainings are run, and the fit is made, where the limit is computed: in the same program.

    Args:
        kernel: as for `fit_kernel`.
        training: the training that is observed, a `Training` on all samples at every step
            (`batch=None`).
        made_by: the algorithm of `hdjax.landscapes` that the optimiser of `training` is.
        algorithm: the algorithm whose limit is predicted.
        steps: the number of observed steps.
        runs: the number of starts that the observed curves are averaged over.
        key: the key of these starts.

    Raises:
        TypeError: the kernel is not stationary.
        ValueError: the training is on mini-batches, or there are fewer than 2 steps or 1 run.

    Example:
        >>> import optax
        >>> data = hd.datasets.digits()
        >>> def network(key):
        ...     return hd.networks.MLP(64, [16], key=key)
        >>> parts = network, hd.networks.cross_entropy, data.inputs, data.classes
        >>> observed = hd.networks.Training(*parts, optax.sgd(0.03))
        >>> descent = hd.landscapes.algorithms.GradientDescent
        >>> algorithms = descent(0.03), descent(0.1)
        >>> theory = Fitted(
        ...     hd.landscapes.kernels.Matern32(), observed, *algorithms, steps=10, runs=2,
        ...     key=jax.random.key(0))
        >>> predicted = hd.networks.Training(*parts, optax.sgd(0.1), theory=theory)
    """

    kernel: Stationary
    training: Any
    made_by: Algorithm
    algorithm: Algorithm
    key: Key[Array, ""]
    steps: Size = eqx.field(static=True)
    runs: Size = eqx.field(static=True)

    def __init__(
        self,
        kernel: Stationary,
        training: Trainable,
        made_by: Algorithm,
        algorithm: Algorithm,
        *,
        steps: Size,
        runs: Size,
        key: Key[Array, ""],
    ):
        self.kernel, self.training, self.key = kernel, training, key
        self.made_by, self.algorithm, self.steps, self.runs = made_by, algorithm, steps, runs
        if training.batch is not None:
            raise ValueError(
                f"training: on batches of {training.batch}; allowed: on all samples (batch=None)"
            )
        if steps < 2 or runs < 1:
            raise ValueError(f"steps, runs: {steps}, {runs}; allowed: at least 2, at least 1")

    @property
    def unfitted(self) -> GradientSpan:
        """The system of the prediction, with the first guess of the kernel's numbers."""
        return GradientSpan(self.kernel, self.algorithm, jnp.inf)

    def fit(self) -> KernelFit:
        """The fit to observed trainings, with the algorithm of the prediction in its theory."""
        seen = _observed(self.training, self.steps, self.runs, self.key)
        fit = fit_kernel(self.kernel, self.made_by, seen.cost, seen.gradient_norm)
        return eqx.tree_at(lambda fit: fit.theory.algorithm, fit, self.algorithm)


def _observed(training: Any, steps: int, runs: int, key: Key[Array, ""]) -> TrainingSummary:
    """Mean summaries of `runs` trainings at the steps 0, ..., steps."""
    simulator = Direct().simulator(training)

    def one(run: Int[Array, ""]) -> TrainingSummary:
        own = random.at(random.stream(key, Stream.FIT), run)

        def step(state: Any, k: Array) -> tuple[Any, TrainingSummary]:
            return simulator.advance(state, k, k + 1, own), simulator.summary(state)

        return jax.lax.scan(step, simulator.init(own), jnp.arange(steps + 1))[1]

    batch_size = simulator.side_by_side() or runs
    curves = jax.lax.map(one, jnp.arange(runs), batch_size=batch_size if batch_size > 1 else None)
    return jax.tree.map(lambda curve: curve.mean(0), curves)


@eqx.filter_jit
def _fit(
    kernel: Stationary,
    algorithm: Algorithm,
    cost: Float[Array, " n"],
    gradient_norm: Float[Array, " n"],
    max_steps: Size,
) -> KernelFit:
    n = cost.shape[0]
    horizon = GradientSpan(kernel, algorithm, jnp.inf).horizon(np.array([n - 1.0]))
    spread = cost.max() - cost.min()

    def theory(logs: Stationary, mean: Array) -> GradientSpan:
        return GradientSpan(jax.tree.map(jnp.exp, logs), algorithm, jnp.inf, mean=mean)

    def errors(system: GradientSpan) -> tuple[Array, Array]:
        value, norm = system.limit(
            jnp.arange(n, dtype=cost.dtype),
            save=lambda order: (order.value, order.gradient_norm),
            horizon=horizon,
        ).values
        return value - cost, jnp.log(norm) - jnp.log(gradient_norm)

    def residuals(parameters: tuple[Stationary, Array], _: None) -> Array:
        of_cost, of_gradient = errors(theory(*parameters))
        return jnp.concatenate([of_cost / spread, of_gradient]) / jnp.sqrt(float(n))

    def guess(length: Array) -> tuple[Stationary, Array]:
        """The kernel of a length, with the variance that gives the first gradient, and the mean."""
        shaped = eqx.tree_at(lambda k: (k.var, k.scale), kernel, (jnp.ones_like(length), length))
        slope = -shaped.derivatives(jnp.zeros_like(length))[1]
        shaped = eqx.tree_at(lambda k: k.var, shaped, gradient_norm[0] / slope)
        return jax.tree.map(jnp.log, shaped), cost[0]

    # The distance that descent along a straight line takes: the drop of the cost over its slope.
    way = spread / jnp.sqrt(gradient_norm.max())
    guesses = jax.vmap(guess)(jnp.asarray(_LENGTHS, cost.dtype) * way)
    sizes = jax.vmap(lambda guess: jnp.square(residuals(guess, None)).sum())(guesses)
    best = jnp.argmin(jnp.where(jnp.isfinite(sizes), sizes, jnp.inf))
    solver = optimistix.LevenbergMarquardt(rtol=_TOLERANCE, atol=_TOLERANCE)
    found = optimistix.least_squares(
        residuals,
        solver,
        jax.tree.map(lambda leaf: leaf[best], guesses),
        max_steps=max_steps,
        throw=False,
    )
    system = theory(*found.value)
    of_cost, of_gradient = errors(system)
    return KernelFit(
        system,
        jnp.sqrt((of_cost**2).mean()),
        jnp.sqrt((of_gradient**2).mean()),
        found.result == optimistix.RESULTS.successful,
    )
