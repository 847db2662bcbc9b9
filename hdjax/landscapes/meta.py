"""Meta-optimisation: the best parameters of an algorithm, found by descent on the limit itself.

    minimise  f_n(theta), the value of the limit after n steps,

over parameters theta of an algorithm: step sizes, momentum, or a whole matrix of prefactors.  The
optimisation is local; nothing proves that an optimum is global.  The source, arXiv 2410.09973,
names this as its open question 3.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, PyTree

from hdjax.checks import checked
from hdjax.landscapes.algorithms import Algorithm, GradientDescent, HeavyBall, LowerTriangular
from hdjax.landscapes.landscape import Landscape
from hdjax.landscapes.rates import Steps
from hdjax.registry import Size

__all__ = [
    "Optimum",
    "algorithm_family",
    "optimise",
]

# The value of every step size from which the optimisation starts.
_START = 0.7


class Optimum(eqx.Module):
    """The result of `optimise`.

    Attributes:
        parameters: the parameters that were found.
        value: f_n at these parameters.
        gradient_norm: Euclidean norm of the gradient of f_n at these parameters; it is small at a
            local optimum.
    """

    parameters: PyTree
    value: Float[Array, ""]
    gradient_norm: Float[Array, ""]


def optimise(
    make_system: Callable[[Any], Landscape],
    parameters: PyTree,
    steps: Size,
    iterations: Size = 200,
) -> Optimum:
    """The parameters that minimise the limit of f(x_n), by L-BFGS.

    Args:
        make_system: a function from parameters to a system.
        parameters: a pytree of numbers and arrays, from which the optimisation starts.
        steps: n, at least 1.
        iterations: the number of iterations of L-BFGS, at least 1.

    Returns:
        The last parameters.  They are a local optimum if `gradient_norm` is small.

    Raises:
        ValueError: fewer than one step or iteration.

    Example:
        >>> import hdjax as hd
        >>> def with_rate(gamma):
        ...     steps = hd.landscapes.rates.Steps(gamma[None])
        ...     algorithm = hd.landscapes.algorithms.GradientDescent(steps)
        ...     kernel = hd.landscapes.kernels.SquaredExponential()
        ...     return hd.landscapes.GradientSpan(kernel, algorithm, jnp.inf)
        >>> best = optimise(with_rate, jnp.asarray(0.5), steps=1)
        >>> round(float(best.parameters), 4), round(float(best.value), 4)
        (1.0, -0.6065)
    """
    if steps < 1 or iterations < 1:
        raise ValueError(f"steps, iterations: {steps}, {iterations}; allowed: at least 1")
    parameters = jax.tree.map(lambda x: jnp.asarray(x, jnp.result_type(float)), parameters)
    last = np.array([float(steps)])

    def objective(parameters: PyTree) -> Array:
        return make_system(parameters).limit(last, save=lambda order: order.value).values[0]

    optimiser = optax.lbfgs()
    evaluate = optax.value_and_grad_from_state(objective)

    @jax.jit
    def descend(parameters: PyTree) -> Optimum:
        def iterate(carry: tuple[PyTree, PyTree], _: None) -> tuple[tuple[PyTree, PyTree], None]:
            parameters, state = carry
            value, gradient = evaluate(parameters, state=state)
            updates, state = optimiser.update(
                gradient, state, parameters, value=value, grad=gradient, value_fn=objective
            )
            return (optax.apply_updates(parameters, updates), state), None

        start = (parameters, optimiser.init(parameters))
        (found, _), _ = jax.lax.scan(iterate, start, None, length=iterations)
        value, gradient = jax.value_and_grad(objective)(found)
        return Optimum(found, value, optax.tree.norm(gradient))

    # The L-BFGS of Optax mixes dtypes and ranks, which strict settings of JAX refuse.
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        return descend(parameters)


@checked
def algorithm_family(name: str, steps: Size) -> tuple[Callable[[Any], Algorithm], PyTree]:
    """A family of algorithms for `optimise`, and parameters from which to start.

    Args:
        name: "constant" (one step size), "schedule" (one step size for each step), "heavy_ball"
            (rate and momentum) or "lower_triangular" (all prefactors of gradients).
        steps: the number n of steps.

    Returns:
        A function from parameters to an algorithm, and the parameters from which to start.

    Raises:
        ValueError: another name.

    Example:
        >>> make, start = algorithm_family("schedule", steps=3)
        >>> start.shape, type(make(start)).__name__
        ((3,), 'GradientDescent')
    """
    whole = jnp.tril(jnp.full((steps, steps), _START))
    families: dict[str, tuple[Callable[[Any], Algorithm], PyTree]] = {
        "constant": (lambda gamma: GradientDescent(Steps(gamma[None])), jnp.asarray(_START)),
        "schedule": (lambda gammas: GradientDescent(Steps(gammas)), jnp.full(steps, _START)),
        "heavy_ball": (lambda both: HeavyBall(both[0], both[1]), jnp.array([_START, 0.3])),
        "lower_triangular": (LowerTriangular, whole),
    }
    if name not in families:
        raise ValueError(f"name: {name!r}; allowed: {', '.join(families)}")
    return families[name]
