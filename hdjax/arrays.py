"""Small functions of arrays and pytrees that every family uses."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, PyTree


def all_finite(tree: PyTree) -> Bool[Array, ""]:
    """Whether all floating numbers of a pytree are finite.

    Example:
        >>> bool(all_finite({"a": jnp.ones(3), "b": jnp.array(jnp.inf)}))
        False
    """
    leaves = [leaf for leaf in jax.tree.leaves(tree) if eqx.is_inexact_array(leaf)]
    return jnp.stack([jnp.isfinite(leaf).all() for leaf in leaves]).all()


def cast(tree: PyTree, dtype: Any) -> PyTree:
    """The tree with its floating arrays in `dtype`; None: as they are.

    Example:
        >>> cast({"a": jnp.ones(3)}, "float32")["a"].dtype
        dtype('float32')
    """
    if dtype is None:
        return tree
    return jax.tree.map(lambda x: x.astype(dtype) if eqx.is_inexact_array(x) else x, tree)


def decay_share(x: Array) -> Array:
    """(1 - e^{-x})/x, with its value 1 at 0: the mean of e^{-s} over s from 0 to x.

    Example:
        >>> decay_share(jnp.array([0.0, 1e-12])).tolist()
        [1.0, 1.0]
    """
    zero = x == 0
    safe = jnp.where(zero, 1, x)
    return jnp.where(zero, 1, -jnp.expm1(-safe) / safe)


def jacobians(statistics: Callable[[Any], dict[str, Array]], state: Any) -> dict[str, Any]:
    """The derivative of each statistic by itself, in reverse mode.

    Together, one that has none at `state` (0/0, the root of 0) would make those of the others NaN.

    Args:
        statistics: of a state, names to arrays.
        state: a pytree of arrays.

    Example:
        >>> found = jacobians(lambda x: {"root": jnp.sqrt(x), "square": x**2}, jnp.array(0.0))
        >>> float(found["square"])
        0.0
    """
    names = jax.eval_shape(statistics, state)
    return {
        name: jax.jacrev(lambda state, name=name: statistics(state)[name])(state) for name in names
    }
