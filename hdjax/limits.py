"""What a limit returns: values at the times that it reached, and a code that says how it ended."""

from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PyTree

from hdjax.codes import Code


class Limit(eqx.Module):
    """What `System.limit` returns.

    Attributes:
        values: a pytree of arrays with a leading axis of times; NaN at times that were not reached.
        reached: (times,) whether the solution got there.
        code: a `Code`, as an integer.
    """

    values: PyTree[Array]
    reached: Bool[Array, " times"]
    code: Int[Array, ""]

    @classmethod
    def whole(cls, values: PyTree[Array], ts: Float[Array, " times"]) -> "Limit":
        """A limit in closed form or by a recursion, which gets everywhere.

        Example:
            >>> ts = jnp.arange(3.0)
            >>> int(Limit.whole(jnp.exp(-ts), ts).code)
            0
        """
        return cls(values, jnp.ones(len(ts), bool), jnp.asarray(Code.FINE, jnp.int32))

    @classmethod
    def of(cls, solution: diffrax.Solution) -> "Limit":
        """What diffrax saved at given times, with its result as a code.

        An event stands for a divergence.
        """
        reached = jnp.isfinite(jnp.asarray(solution.ts))
        return cls(masked(solution.ys, reached), reached, code_of(solution.result))

    def at(self, index: Any) -> PyTree[Array]:
        """The values at one of the times."""
        return jax.tree.map(lambda value: value[index], self.values)


def code_of(result: diffrax.RESULTS) -> Int[Array, ""]:
    """The code of diffrax's result.

    Example:
        >>> int(code_of(diffrax.RESULTS.max_steps_reached)) == Code.STEPS_EXHAUSTED
        True
    """
    known = (
        (diffrax.RESULTS.successful, Code.FINE),
        (diffrax.RESULTS.event_occurred, Code.DIVERGED),
        (diffrax.RESULTS.max_steps_reached, Code.STEPS_EXHAUSTED),
        (diffrax.RESULTS.dt_min_reached, Code.STEP_TOO_SMALL),
    )
    # What is left are the ways in which the root of an implicit step is missed.
    code = jnp.asarray(Code.NO_ROOT, jnp.int32)
    for own, ours in known:
        code = jnp.where(result == own, jnp.asarray(ours, jnp.int32), code)
    return code


def masked(values: PyTree[Array], reached: Bool[Array, " times"]) -> PyTree[Array]:
    """Values with a leading axis of times, NaN where a solution did not get.

    Example:
        >>> masked(jnp.ones(2), jnp.array([True, False])).tolist()
        [1.0, nan]
    """

    def mask(value: Array) -> Array:
        return jnp.where(reached.reshape(-1, *[1] * (value.ndim - 1)), value, jnp.nan)

    return jax.tree.map(mask, values)
