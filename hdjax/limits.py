"""What `System.limit` returns: values at the times that were reached, and a result code.

A deterministic equivalent is an ODE, a recursion or a closed form.  `Limit.of` makes the return
value from a solution of diffrax, and `Limit.whole` from values that exist at all times.
"""

from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PyTree

from hdjax.codes import Code


class Limit(eqx.Module):
    """The deterministic equivalent of a system at given times, as `System.limit` returns it.

    Attributes:
        values: a pytree of arrays with a leading axis of times; NaN at times that were not reached.
        reached: (times,) whether the solution reached each time.
        code: a `hdjax.codes.Code`, as an integer array: how the solution ended.
    """

    values: PyTree[Array]
    reached: Bool[Array, " times"]
    code: Int[Array, ""]

    @classmethod
    def whole(cls, values: PyTree[Array], ts: Float[Array, " times"]) -> "Limit":
        """A limit in closed form or by a recursion, which reaches every time.

        Args:
            values: a pytree of arrays with a leading axis of times.
            ts: (times,) the times.

        Example:
            >>> ts = jnp.arange(3.0)
            >>> int(Limit.whole(jnp.exp(-ts), ts).code)
            0
        """
        return cls(values, jnp.ones(len(ts), bool), jnp.asarray(Code.FINE, jnp.int32))

    @classmethod
    def of(cls, solution: diffrax.Solution) -> "Limit":
        """The limit that diffrax integrated, from its solution with `SaveAt(ts=...)`.

        An event that ended the integration counts as a divergence, since `hdjax.integrate` stops
        only at states that are not alive.

        Args:
            solution: a solution that was computed with `throw=False`.
        """
        reached = jnp.isfinite(jnp.asarray(solution.ts))
        return cls(masked(solution.ys, reached), reached, code_of(solution.result))

    def at(self, index: Any) -> PyTree[Array]:
        """The values at the times with position `index`: an integer, a slice or an array."""
        return jax.tree.map(lambda value: value[index], self.values)


def code_of(result: diffrax.RESULTS) -> Int[Array, ""]:
    """The `Code` that corresponds to a result of diffrax, as an integer array.

    Args:
        result: `diffrax.Solution.result`, traced or concrete.

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
    # The other results of diffrax are failures to find the root of an implicit step.
    code = jnp.asarray(Code.NO_ROOT, jnp.int32)
    for own, ours in known:
        code = jnp.where(result == own, jnp.asarray(ours, jnp.int32), code)
    return code


def masked(values: PyTree[Array], reached: Bool[Array, " times"]) -> PyTree[Array]:
    """Values with a leading axis of times, replaced by NaN at times that were not reached.

    Args:
        values: a pytree of floating-point arrays (times, ...).
        reached: (times,) whether the solution reached each time.

    Example:
        >>> masked(jnp.ones(2), jnp.array([True, False])).tolist()
        [1.0, nan]
    """

    def mask(value: Array) -> Array:
        return jnp.where(reached.reshape(-1, *[1] * (value.ndim - 1)), value, jnp.nan)

    return jax.tree.map(mask, values)
