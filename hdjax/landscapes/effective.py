"""The limit of component-wise optimisers as d grows: the effective process of one coordinate.

`ComponentWise` calls `trajectory`.  In the scaled coordinates x~ = d^(1/2) x^a and
g~ = d^(1/2) g^a, which are O(1), each coordinate a follows the same scalar process

    g~_k = u~_k + sum_{l<k} R_kl kappa_33(k, l) x~_l
                + [mu' + sum_{l<k} R_kl kappa_13(k, l)] x~_k,      u~ ~ N(0, A),
    x~_{k+1} = update(g~_0, ..., g~_k; x~_0, ..., x~_k),

with A_kl = kappa_3(k, l), and kappa and its derivatives as in `limit.py`.  The order parameters are
means over this process:

    <x_k, x_l> = E x~_k x~_l,    R_kl = E dx~_k/du~_l,    f_k = mu + sum_{l<k} R_kl kappa_3(k, l).

As updates are not linear, the means are taken over many independent copies of the process, called
sites.  The response R is found without derivatives, which a sign does not have: with u~ = L xi and
A = L L^T, Gaussian integration by parts gives E x~_k xi^T = R_k L.

The coordinates of x~_0 are independent and Gaussian; the limit depends on this law.  For linear
updates the process has the limit of `limit.py`.  Component-wise optimisers are open question 4 of
arXiv 2410.09973; this limit is derived here.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.scipy.linalg import solve_triangular
from jaxtyping import Array, Float, Int, PyTree

from hdjax import precise
from hdjax.landscapes.kernels.base import Kernel
from hdjax.landscapes.optimisers import Optimiser
from hdjax.landscapes.order import OrderParameters

_TINY = 1e-30


class MeanField(eqx.Module):
    """The function, the optimiser and the start, for the effective process.

    Attributes:
        kernel: kappa.
        mean: mu, a function of |x|^2/2.
        noise: kernel of the mini-batch noise, or None.
        optimiser: the component-wise optimiser.
        radius: |x_0|.
        sites: the number of copies of the process.
    """

    kernel: Kernel
    mean: Callable
    noise: Kernel | None
    optimiser: Optimiser
    radius: Float[Array, ""]
    sites: int = eqx.field(static=True)


class _State(eqx.Module):
    """The run before step k; rows of step k and later are 0, or those of the identity in `factor`.

    Attributes:
        factor: L, the Cholesky factor of A.
        halves: |x_k|^2/2.
        points: x~_k at all sites.
        gradients: g~_k at all sites.
        x: x~ at which the next step observes.
        memory: the state of the optimiser.
    """

    factor: Float[Array, "n n"]
    halves: Float[Array, " n"]
    points: Float[Array, "n sites"]
    gradients: Float[Array, "n sites"]
    x: Float[Array, " sites"]
    memory: Any


def trajectory(
    field: MeanField, evaluations: int, save: Callable[[OrderParameters], PyTree]
) -> PyTree:
    """The limit along a run.

    Args:
        field: the function, the optimiser and the start.
        evaluations: the number of observations; the steps are 0, ..., evaluations - 1.
        save: a function of the order parameters, whose values are kept.

    Returns:
        The values of `save` after each step, stacked.
    """
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
    """Normal numbers for the sites, always the same, whose second moments are the identity.

    The second moments over the sites are exact, so that means of products of linear functions of
    these numbers have no sampling error.
    """
    drawn = jax.random.normal(jax.random.key(0), (n, sites), dtype)
    moments = precise.dot(drawn, drawn.T) / sites
    return solve_triangular(jnp.linalg.cholesky(moments), drawn, lower=True)


def _step(
    field: MeanField, normals: Float[Array, "n sites"], state: _State, k: Int[Array, ""]
) -> tuple[_State, OrderParameters]:
    """The state after an observation at x_k and the move to x_{k+1}; and the order parameters."""
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

    # x_k does not depend on the fields of step k and later.
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
