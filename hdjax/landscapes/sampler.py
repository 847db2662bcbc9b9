"""Exactly the law of a gradient span algorithm, at a cost that does not depend on d.

In the previsible frame (`frame.py`) an observation at x_k is k + 2 jointly Gaussian numbers (the
value, and the derivatives along e_0, ..., e_k) and one length: the rest of the gradient has norm
s_k zeta_k with

    s_k^2 = A_kk - A_k,<k (A_<k,<k)^-1 A_<k,k,      zeta_k^2 ~ chi^2(d - k - 1)/d,

and its direction is called e_{k+1}.  All matrices are d times covariances; d enters through
eps/sqrt(d) and zeta alone, and d = infinity is the same code without noise.

The past is kept as whitened numbers, which were drawn and are never solved for.  They are of two
kinds.  The *history* of a direction, its derivatives at the points seen before it had a name, is
independent of all that is older; L_A^-1 whitens it to (0, ..., 0, zeta).  Everything else (*posts*)
is whitened by the rows [-L^-1 Y^T G, L^-1] of an inverse Cholesky factor G, after subtraction of
what the histories explain.  Both are stored packed, in order of time.

A relative nugget tau = 1e-10 on every observation keeps the factors regular; it is the exact law
of a function seen with that much isotropic noise.  Source: arXiv 2410.09973, sections 3 and 4.
"""

import functools
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PyTree

from hdjax.landscapes.frame import jet_at, jet_covariance
from hdjax.landscapes.limit import Problem
from hdjax.landscapes.rates import root

NUGGET = 1e-10
_TINY = 1e-30
# In longer runs, early steps work on a part of the factors: eighths of the steps that end a part.
_SHORT, _PARTS = 12, (3, 4, 5, 6, 7, 8)


class Draws(eqx.Module):
    """The random numbers of an observation: eps/sqrt(d) of k + 2 numbers, and zeta_k."""

    innovations: Float[Array, "*steps c"]
    length: Float[Array, "*steps"]


class Run(eqx.Module):
    """A trajectory in its own frame; rows that were not seen yet are 0.

    Attributes:
        points: x_k.
        values: f(x_k).
        gradients: g_k.
        fields: the inverse Cholesky factor of A.
        factor: the inverse Cholesky factor G of the posts.
        coupling: covariance of posts and whitened histories.
        posts: whitened posts.
        histories: whitened histories.
        ahead: the next point.
        memory: what the algorithm remembers.
    """

    points: Float[Array, "n m"]
    values: Float[Array, " n"]
    gradients: Float[Array, "n m"]
    fields: Float[Array, "n n"]
    factor: Float[Array, "p p"]
    coupling: Float[Array, "p q"]
    posts: Float[Array, " p"]
    histories: Float[Array, " q"]
    ahead: Float[Array, " m"]
    memory: PyTree


class Layout:
    """Where the packed numbers of n observations stand (host arrays, constants of the program)."""

    def __init__(self, n: int):
        self.n, self.directions, self.components = n, n + 1, n + 2
        posts = [(i, c) for i in range(n) for c in range(i + 2)]
        # A step writes all components of its row at once: room for those of the last one.
        posts += [(n, 0)] * self.components
        self.post_step, self.post_component = np.array(posts).T
        histories = [(i, j) for j in range(1, n + 1) for i in range(j)]
        self.history_step, self.history_direction = np.array(histories).T

    @staticmethod
    def offset(k: Any) -> Any:
        """Where the posts of step k begin."""
        return k * (k + 3) // 2


def start(problem: Problem, n: int) -> Run:
    """Nothing seen yet, in a frame with room for n observations."""
    layout, dtype = Layout(n), problem.masses.dtype
    p, q, m = len(layout.post_step), len(layout.history_step), layout.directions
    x = jnp.zeros(m, dtype).at[0].set(root(problem.masses.sum()))
    zeros = lambda *shape: jnp.zeros(shape, dtype)  # noqa: E731
    return Run(
        zeros(n, m), zeros(n), zeros(n, m), zeros(n, n), zeros(p, p), zeros(p, q), zeros(p),
        zeros(q), x, problem.algorithm.init(x),
    )  # fmt: skip


def observe(
    problem: Problem,
    run: Run,
    k: Int[Array, ""],
    draws: Draws,
    dimension: Float[Array, ""],
    nugget: Float[Array, ""],
) -> Run:
    """See value and gradient at the next point, x_k, and let the algorithm choose x_{k+1}."""
    n = run.values.shape[0]
    layout = Layout(n)
    x = run.ahead
    points = run.points.at[k].set(x)
    earlier = jnp.arange(n) < k
    # Directions beyond d do not exist; those after e_k have no name yet.
    number = jnp.arange(layout.directions, dtype=x.dtype)
    exists = jnp.concatenate([jnp.ones(1, bool), number < dimension])
    active = exists & (jnp.arange(layout.components) <= k + 1)

    jets = jax.vmap(lambda y: jet_at(problem.kernel, y, x))(points)
    cross = jax.vmap(jet_covariance, (0, 0, None))(jets, points, x)
    cross = jnp.where((earlier[:, None] & active[None])[:, None], cross, 0.0)
    new, variance = _own_covariance(problem, x, nugget)

    histories, posts = _explained(layout, run, k, cross, exists)
    spread = new - posts.T @ posts - histories.T @ histories
    both = active[:, None] & active[None, :]
    identity = jnp.eye(layout.components, dtype=x.dtype)
    cholesky = jnp.linalg.cholesky(jnp.where(both, spread, identity))
    inverse = jax.scipy.linalg.solve_triangular(cholesky, identity, lower=True)
    inverse = jnp.where(both, inverse, 0.0)
    innovations = jnp.where(active, draws.innovations, 0.0)

    half = jnp.vdot(x, x) / 2
    prior = jnp.concatenate([problem.mean(half)[None], jax.grad(problem.mean)(half) * x])
    seen = prior + posts.T @ run.posts + histories.T @ run.histories + cholesky @ innovations
    seen = jnp.where(active, seen, 0.0)

    a = run.fields @ jnp.where(earlier, _derivative(jets), 0.0)
    width = root(jnp.maximum(variance - a @ a, _TINY))
    fields = run.fields.at[k].set(-(a @ run.fields) / width).at[k, k].set(1 / width)
    length = jnp.where(number[k + 1] < dimension, draws.length, 0.0)
    g = seen[1:].at[k + 1].set(width * length)

    place = layout.offset(k)
    rows = -inverse @ _times_factor(layout, run.factor, posts, k)
    rows = rows + jax.lax.dynamic_update_slice(jnp.zeros_like(rows), inverse, (0, place))
    factor = jax.lax.dynamic_update_slice(run.factor, rows, (place, 0))
    coupling = jax.lax.dynamic_update_slice(run.coupling, histories.T, (place, 0))
    whitened = jax.lax.dynamic_update_slice(run.posts, innovations, (place,))
    named = run.histories.at[(k + 1) * (k + 2) // 2 - 1].set(length)

    ahead, memory = problem.algorithm.step(run.memory, k, x, seen[0], g, jnp.vdot)
    return Run(
        points,
        run.values.at[k].set(seen[0]),
        run.gradients.at[k].set(g),
        fields,
        factor,
        coupling,
        whitened,
        named,
        ahead,
        memory,
    )


def _derivative(jets: Any) -> Array:
    return jax.vmap(lambda jet: jet.derivative)(jets)


def _own_covariance(
    problem: Problem, x: Float[Array, " m"], nugget: Float[Array, ""]
) -> tuple[Float[Array, "c c"], Float[Array, ""]]:
    """Of the observation at x, with its noise; and of a derivative orthogonal to x."""
    jet = jet_at(problem.kernel, x, x)
    tau = nugget * jnp.concatenate([jet.value[None], jnp.broadcast_to(jet.derivative, x.shape)])
    covariance = jet_covariance(jet, x, x) + jnp.diag(tau + _TINY)
    variance = (1 + nugget) * jet.derivative
    if problem.noise is not None:
        noise = jet_at(problem.noise, x, x)
        covariance = covariance + jet_covariance(noise, x, x)
        variance = variance + noise.derivative
    return covariance, variance


def _explained(
    layout: Layout,
    run: Run,
    k: Int[Array, ""],
    cross: Float[Array, "n c c"],
    exists: Bool[Array, " c"],
) -> tuple[Float[Array, "q c"], Float[Array, "p c"]]:
    """Covariances of the whitened past, histories and posts, with the new observation."""
    n, c = layout.n, layout.components
    whitened = (run.fields @ cross.reshape(n, -1)).reshape(n, c, c)
    step, component = layout.history_step, layout.history_direction + 1
    known = (component <= k + 1) & exists[component]
    histories = jnp.where(known[:, None], whitened[step, component], 0.0)

    step, component = np.minimum(layout.post_step, n - 1), layout.post_component
    known = (layout.post_step < k) & exists[component]
    plain = jnp.where(known[:, None], cross[step, component], 0.0)

    def part(p: int, q: int) -> Array:
        rest = plain[:p] - run.coupling[:p, :q] @ histories[:q]
        return jnp.pad(run.factor[:p, :p] @ rest, ((0, plain.shape[0] - p), (0, 0)))

    return histories, _by_panel(layout, k, part)


def _times_factor(
    layout: Layout, factor: Float[Array, "p p"], posts: Float[Array, "p c"], k: Int[Array, ""]
) -> Float[Array, "c p"]:
    """posts^T G."""

    def part(p: int, q: int) -> Array:
        # As (G^T posts)^T: a product of this shape is twice as fast on a CPU.
        return jnp.pad((factor[:p, :p].T @ posts[:p]).T, ((0, 0), (0, factor.shape[0] - p)))

    return _by_panel(layout, k, part)


def _by_panel(layout: Layout, k: Int[Array, ""], part: Callable[[int, int], Array]) -> Array:
    """`part(p, q)` for numbers p of posts and q of histories that hold all before step k."""
    n = layout.n
    edges = [n] if n < _SHORT else [-(-n * part // 8) for part in _PARTS]
    sizes = [(layout.offset(edge), edge * (edge + 1) // 2) for edge in edges]
    branches = [functools.partial(part, p, q) for p, q in sizes]
    return jax.lax.switch((k >= jnp.asarray(edges)).sum(), branches)
