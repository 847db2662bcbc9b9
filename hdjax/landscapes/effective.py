"""The limit d -> infinity of component-wise optimisers: one coordinate, in its own mean field.

With x~ = d^(1/2) x^a and g~ = d^(1/2) g^a, each coordinate follows the scalar process

    g~_k = u~_k + sum_{l<k} R_kl kappa_33(k, l) x~_l
                + [mu' + sum_{l<k} R_kl kappa_13(k, l)] x~_k,      u~ ~ N(0, A),
    x~_{k+1} = update(g~_0, ..., g~_k; x~_0, ..., x~_k),

A_kl = kappa_3(k, l), and the order parameters are means over it: <x_k, x_l> = E x~_k x~_l, R_kl =
E dx~_k/du~_l, f_k = mu + sum_{l<k} R_kl kappa_3(k, l).  Updates are not linear, so the means are
taken over many sites.  The response needs no derivative (a sign has none): with u~ = L xi, A =
L L^T, Gaussian integration by parts is E x~_k xi^T = R_k L.

The start is spread over the axes like a Gaussian vector, which the limit depends on.  For linear
updates it is the recursion of `limit.py`.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.scipy.linalg import solve_triangular
from jaxtyping import Array, Float, Int, PyTree

from hdjax import precise
from hdjax.landscapes.kernels import Kernel
from hdjax.landscapes.optimisers import Optimiser
from hdjax.landscapes.order import OrderParameters

_TINY = 1e-30


class MeanField(eqx.Module):
    """What the process needs to know; see `hdjax.landscapes.ComponentWise`."""

    kernel: Kernel
    mean: Callable
    noise: Kernel | None
    optimiser: Optimiser
    radius: Float[Array, ""]
    sites: int = eqx.field(static=True)


class _State(eqx.Module):
    """Rows k and later are 0, those of `factor` the identity's."""

    factor: Float[Array, "n n"]
    halves: Float[Array, " n"]
    points: Float[Array, "n sites"]
    gradients: Float[Array, "n sites"]
    x: Float[Array, " sites"]
    memory: Any


def trajectory(
    field: MeanField, evaluations: int, save: Callable[[OrderParameters], PyTree]
) -> PyTree:
    """`save(order parameters)` after each of the steps 0, ..., evaluations - 1, stacked."""
    n, dtype = evaluations, field.radius.dtype
    start, *normals = _normals(n + 1, field.sites, dtype)
    x = field.radius * start
    empty = jnp.zeros((n, field.sites), dtype)
    memory = field.optimiser.init(x)
    state = _State(jnp.eye(n, dtype=dtype), jnp.zeros(n, dtype), empty, empty, x, memory)

    def step(state: _State, k: Int[Array, ""]) -> tuple[_State, PyTree]:
        state, order = _step(field, jnp.stack(normals), state, k)
        return state, save(order)

    return jax.lax.scan(step, state, jnp.arange(n))[1]


def _normals(n: int, sites: int, dtype: Any) -> Float[Array, "n sites"]:
    """Normals, always the same, whose second moments over the sites are exactly the identity.

    What is linear in them then has no sampling error.
    """
    drawn = jax.random.normal(jax.random.key(0), (n, sites), dtype)
    moments = precise.dot(drawn, drawn.T) / sites
    return solve_triangular(jnp.linalg.cholesky(moments), drawn, lower=True)


def _step(
    field: MeanField, normals: Float[Array, "n sites"], state: _State, k: Int[Array, ""]
) -> tuple[_State, OrderParameters]:
    """Observe at x_k and move to x_{k+1}."""
    n, sites = normals.shape
    earlier, present = jnp.arange(n) < k, jnp.arange(n) == k
    x = state.x

    def against(rows: Float[Array, "n sites"], row: Float[Array, " sites"]) -> Array:
        return precise.dot(rows, row) / sites

    points = state.points.at[k].set(x)
    overlaps = against(points, x)
    half = overlaps[k] / 2
    halves = state.halves.at[k].set(half)
    distances = jnp.where(present, 0.0, jnp.maximum(half + halves - overlaps, 0.0))

    def derivatives(b: Array, t: Array, h: Array) -> tuple[Array, Array, Array]:
        jet = field.kernel.jet(half, b, t, h)
        return jet.derivative, jet.response, jet.own_response

    third, response, own = jax.vmap(derivatives)(halves, overlaps, distances)
    variance = third[k]
    if field.noise is not None:
        variance += field.noise.jet(half, half, 2 * half, jnp.zeros_like(half)).derivative
    third = jnp.where(earlier, third, 0.0)
    row = solve_triangular(state.factor, third, lower=True)
    width = jnp.sqrt(jnp.maximum(variance - jnp.dot(row, row), _TINY))

    # x_k has not seen the fields of k and later.
    moments = jnp.where(earlier, against(normals, x), 0.0)
    R = solve_triangular(state.factor, moments, lower=True, trans=1)
    value = field.mean(half) + jnp.dot(R, third)
    factor = state.factor.at[k].set(jnp.where(present, width, row))

    slope = jax.grad(field.mean)(half) + jnp.dot(R, own)
    pulled = precise.dot(R * response, points)
    g = precise.dot(factor[k], normals) + pulled + slope * x
    gradients = state.gradients.at[k].set(g)

    rows = ((points, x), (gradients, g), (gradients, x), (points, g))
    order = OrderParameters(k, value, *[against(*pair) for pair in rows])
    ahead, memory = field.optimiser.update(state.memory, k, x, g)
    return _State(factor, halves, points, gradients, ahead, memory), order
