"""The best algorithm of a kind: descent of the limit itself in the numbers of an algorithm.

    minimise  f_n(theta), the value of the limit after n steps,

over step sizes, momentum or a whole matrix theta.  Local optimisation: that an optimum is global is
not proven.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, PyTree

from hdjax.landscapes.algorithms import Algorithm, GradientDescent, HeavyBall, LowerTriangular
from hdjax.landscapes.landscape import Landscape
from hdjax.landscapes.rates import Steps

_START = 0.7  # of every step size


class Optimum(eqx.Module):
    """What `optimise` found.

    Attributes:
        parameters: the best parameters.
        value: f_n there.
        gradient_norm: Euclidean norm of the gradient there; small at a local optimum.
    """

    parameters: PyTree
    value: Float[Array, ""]
    gradient_norm: Float[Array, ""]


def optimise(
    make_system: Callable[[Any], Landscape],
    parameters: PyTree,
    steps: int,
    iterations: int = 200,
) -> Optimum:
    """Minimise the limit's value after `steps` steps, by L-BFGS from `parameters`.

    Args:
        make_system: the system with given parameters.
        parameters: a pytree of numbers and arrays, where to start.
        steps: n, at least 1.
        iterations: of L-BFGS.

    Returns:
        A local optimum; whether it is one is to be seen from `gradient_norm`.

    Raises:
        ValueError: fewer than one step or iteration.

    Example:
        >>> import hdjax as hd
        >>> def with_rate(gamma):
        ...     algorithm = hd.landscapes.GradientDescent(hd.landscapes.Steps(gamma[None]))
        ...     return hd.landscapes.GradientSpan(
        ...         hd.landscapes.SquaredExponential(), algorithm, jnp.inf)
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

    # Optax mixes dtypes and ranks.
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        return descend(parameters)


def algorithm_family(name: str, steps: int) -> tuple[Callable[[Any], Algorithm], PyTree]:
    """A family of algorithms with free numbers, and where to start in it.

    Args:
        name: "constant" (one step size), "schedule" (one for each step), "heavy_ball" (rate and
            momentum) or "lower_triangular" (all prefactors).
        steps: how many steps are free.

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
