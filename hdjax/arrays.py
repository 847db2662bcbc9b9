"""Small functions of arrays and pytrees that several families use.

`all_finite` and `cast` act on the floating-point leaves of a pytree, `decay_share` is
(1 - e^{-x})/x without cancellation, `whole_steps` counts steps, and `jacobians` differentiates
statistics one at a time.
"""

from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PyTree

P = ParamSpec("P")
T = TypeVar("T")


def all_finite(tree: PyTree) -> Bool[Array, ""]:
    """Whether all floating-point numbers of a pytree are finite.

    Args:
        tree: a pytree with at least one floating-point array; other leaves are ignored.

    Example:
        >>> bool(all_finite({"a": jnp.ones(3), "b": jnp.array(jnp.inf)}))
        False
    """
    leaves = [leaf for leaf in jax.tree.leaves(tree) if eqx.is_inexact_array(leaf)]
    return jnp.stack([jnp.isfinite(leaf).all() for leaf in leaves]).all()


def cast(tree: PyTree, dtype: Any) -> PyTree:
    """The pytree with its floating-point arrays converted to `dtype`.

    Args:
        tree: a pytree; leaves that are not floating-point arrays stay as they are.
        dtype: a floating-point dtype; None returns the tree unchanged.

    Example:
        >>> cast({"a": jnp.ones(3)}, "float32")["a"].dtype
        dtype('float32')
    """
    if dtype is None:
        return tree
    return jax.tree.map(lambda x: x.astype(dtype) if eqx.is_inexact_array(x) else x, tree)


def decay_share(x: Array) -> Array:
    """The mean of e^{-s} over s from 0 to x, (1 - e^{-x})/x, with the value 1 at x = 0.

    Args:
        x: any shape.

    Example:
        >>> decay_share(jnp.array([0.0, 1e-12])).round(6).tolist()
        [1.0, 1.0]
    """
    zero = x == 0
    safe = jnp.where(zero, 1, x)
    # The Taylor polynomial at 0 has the right derivative too.
    return jnp.where(zero, 1 - x / 2, -jnp.expm1(-safe) / safe)


def whole_steps(ts: Float[Array, "*shape"]) -> Int[Array, "*shape"]:
    """The numbers of whole steps at times `ts` in units of a step, as a clock of steps counts them.

    A time within its rounding of an integer is that integer.

    Example:
        >>> whole_steps(jnp.array([0.0, 1.5, 3.0 - 5e-16])).tolist()
        [0, 1, 3]
    """
    nearest = jnp.round(ts)
    rounding = 8 * jnp.finfo(ts.dtype).eps * jnp.maximum(jnp.abs(ts), 1)
    return jnp.where(jnp.abs(ts - nearest) <= rounding, nearest, jnp.floor(ts)).astype(int)


def jacobians(statistics: Callable[[Any], dict[str, Array]], state: Any) -> dict[str, Any]:
    """The derivative of each statistic with respect to `state`, each by a reverse pass of its own.

    A statistic without a derivative at `state` (the square root of 0, say) has NaN as its own
    derivative.  In a joint reverse pass that NaN would reach the derivatives of all statistics.

    Args:
        statistics: maps a state to a dictionary from names to arrays.
        state: a pytree of arrays.

    Returns:
        For each name the Jacobian, in the structure of `state`.

    Example:
        >>> found = jacobians(lambda x: {"root": jnp.sqrt(x), "square": x**2}, jnp.array(0.0))
        >>> float(found["square"])
        0.0
    """
    names = jax.eval_shape(statistics, state)
    return {
        name: jax.jacrev(lambda state, name=name: statistics(state)[name])(state) for name in names
    }
