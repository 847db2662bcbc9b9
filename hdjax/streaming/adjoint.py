"""The variance of single statistics round the limit, by one adjoint equation for each.

`fluctuations.py` uses this module for states too large for a covariance matrix: memory is linear in
the state.  A statistic with gradient g_t at time t has d times the variance

    Var = g(0)^T P_0 g(0) + int_0^t g(s)^T Sigma(s) g(s) ds,    -dg/ds = J(s)^T g,  g(t) = g_t.

The equations of all records and entries of statistics are solved together, backwards over the steps
of the limit.  Just before a record g has components at all speeds of the limit, so steps halve
towards the record down to the shortest time scale.  The integral over a step is Simpson's, and g is
extrapolated from a step and its two halves, as the limit is (`stiff.py`).  Standard deviations are
right to about 1e-3 on stiff spectra, whatever the tolerances (power law 1.5: 1.1e-3), and to 4e-5
on others.
"""

from collections.abc import Callable
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from hdjax.arrays import jacobians
from hdjax.streaming.covariance import RTOL, step
from hdjax.streaming.expansion import Expansion
from hdjax.streaming.field import GramSummary
from hdjax.streaming.stiff import StepDoubling, exponential_step, own_rate, propagators, unused
from hdjax.system import NoFluctuationsError

# The largest number of bytes of the adjoint states, and of the limit at the ends of its steps; and
# the number of adjoint states of each statistic that a step holds.
_BUDGET, _STATES = 2**30, 16
# The largest number of steps of the limit.
_STEPS = 2**13
# The largest number of halvings of the time before a record, and the length of the last interval
# relative to the shortest time scale.
_HALVINGS, _SHORTEST = 40, 0.25


def variances(
    expansion: Expansion,
    ts: Float[Array, " times"],
    statistics: Callable[[GramSummary], dict[str, Array]],
) -> dict[str, Array]:
    """The variances of `statistics` at `ts`, times d; NaN at times that the limit did not reach.

    JAX differentiates this function in forward mode only.

    Raises:
        NoFluctuationsError: states and statistics that do not fit into memory.
    """
    shapes = jax.eval_shape(lambda flat: expansion.values(statistics, flat), expansion.start)
    lanes = len(ts) * sum(leaf.size for leaf in jax.tree.leaves(shapes))
    row = expansion.size * expansion.start.dtype.itemsize
    most = min(_STEPS, _BUDGET // row)
    if lanes * _STATES * row > _BUDGET or most < _STEPS // 64:
        raise NoFluctuationsError(
            f"fluctuations: {lanes} entries of statistics at all times, each with a state of "
            f"{expansion.size} numbers; allowed: {_BUDGET >> 20} MiB in all, for {_STATES} states "
            "of each entry (fewer times or statistics, or a compression)"
        )
    times, states, records = _limit(expansion, ts, most)

    def slopes(flat: Float[Array, " n"]) -> dict[str, Array]:
        return jacobians(lambda y: expansion.values(statistics, y), flat)

    gradients = jax.lax.map(slopes, records)
    flat, unravel = ravel_pytree(jax.tree.map(lambda shape: jnp.zeros(shape.shape), shapes))
    leaves = [leaf.reshape(len(ts), -1, expansion.size) for leaf in jax.tree.leaves(gradients)]
    variance = _backwards(expansion, ts, times, states, jnp.concatenate(leaves, axis=1))
    return jax.vmap(unravel)(variance.astype(flat.dtype))


def _limit(
    expansion: Expansion, ts: Float[Array, " times"], most: int
) -> tuple[Float[Array, " steps"], Float[Array, "steps n"], Float[Array, "times n"]]:
    """Times and states at the ends of the limit's steps, and states at `ts`.

    Times that were not reached are infinite, and states at `ts` that were not reached are NaN.
    """

    def speed(t: Float[Array, ""]) -> Float[Array, ""]:
        return jnp.abs(expansion.local(t, expansion.start)).sum(-1).max()

    gaps = jnp.diff(ts, prepend=0.0)[:, None] * 0.5 ** np.arange(1.0, _HALVINGS + 1)[None]
    short = gaps * jax.lax.map(speed, ts)[:, None] < _SHORTEST
    stops = ts[:, None] - jnp.where(short, 0, gaps)
    own = expansion.integrator
    saveat = diffrax.SaveAt(subs=[diffrax.SubSaveAt(ts=ts), diffrax.SubSaveAt(t0=True, steps=True)])
    problem = own.problem(
        unused,
        expansion.start,
        ts[-1],
        only_solver=StepDoubling(eqx.filter_jit(lambda t, flat, h: step(expansion, t, flat, h))),
        rtol=RTOL,
        alive=expansion.alive,
        stops=jnp.concatenate([ts, stops.ravel()]),
        most=most,
        norm=lambda error: expansion.norm((error,)),
    )
    solution = problem.solve(saveat, diffrax.ForwardMode())
    saved: Any = solution.ts, solution.ys
    (reached, times), (records, states) = saved
    return times, states, jnp.where(jnp.isfinite(reached)[:, None], records, jnp.nan)


def _backwards(
    expansion: Expansion,
    ts: Float[Array, " times"],
    times: Float[Array, " steps"],
    states: Float[Array, "steps n"],
    gradients: Float[Array, "times k n"],
) -> Float[Array, "times k"]:
    """The variances, times d, of statistics that have these `gradients` at `ts`."""
    shape = gradients.shape[:2]

    def pull(t: Array, flat: Array, g: Float[Array, "lanes n"]) -> Float[Array, "lanes n"]:
        """The products J^T g at time `t` and state `flat`."""
        _, transposed = jax.vjp(lambda y: expansion.force(t, y), flat)
        return jax.vmap(lambda g: transposed(g)[0])(g)

    def over(k: Array, lanes: tuple[Array, Array]) -> tuple[Array, Array]:
        """The adjoint states and variances after going from the end of step k to its start."""
        g, variance = lanes
        t0, t1, first, last = times[k], times[k + 1], states[k], states[k + 1]
        h, middle = t1 - t0, step(expansion, t0, first, (t1 - t0) / 2)
        points = jnp.stack([t0, t0 + h / 2, t1]), jnp.stack([first, middle, last])

        def back(later: Array, part: tuple[Array, Array, Array]) -> tuple[Array, Array]:
            goes_on, begin, end = part
            start = jnp.where(goes_on, later, g)
            (t, y), (s, z) = (tuple(x[i] for x in points) for i in (begin, end))
            local = expansion.local(t, y).mT

            def source(end: Array, g: Array) -> Array:
                return pull(jnp.where(end, s, t), jnp.where(end, z, y), g) - own_rate(local, g)

            found = exponential_step(propagators(local, t - s), start, source)
            return found, found

        # The step, its second half and its first half are done in a scan, and so compiled once.
        order = jnp.array([False, False, True]), jnp.array([2, 2, 1]), jnp.array([0, 1, 0])
        _, found = jax.lax.scan(back, g, order)
        begun = found[2] + (found[2] - found[0]) / 3

        def noise(part: tuple[Array, Array, Array]) -> Array:
            return expansion.noise(*part)

        rates = jax.lax.map(noise, (*points, jnp.stack([begun, found[1], g])))
        gained = h / 6 * (rates[0] + 4 * rates[1] + rates[2])
        # A step does not contribute to records before its end.
        counts = jnp.repeat(t1 <= ts, shape[1])
        return jnp.where(counts[:, None], begun, g), variance + jnp.where(counts, gained, 0)

    lanes = gradients.reshape(-1, gradients.shape[-1])
    steps = jnp.isfinite(times).sum() - 1
    start = lanes, jnp.zeros_like(lanes[:, 0])
    g, variance = jax.lax.fori_loop(0, steps, lambda i, x: over(steps - 1 - i, x), start)
    return (variance + expansion.start_variance(g)).reshape(shape)
