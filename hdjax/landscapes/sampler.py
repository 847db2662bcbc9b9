"""Exactly the law of a gradient span algorithm, at a cost that does not depend on d.

In the previsible frame (`frame.py`) an observation at x_k is k + 2 jointly Gaussian numbers (the
value, and the derivatives along e_0, ..., e_k) and one length: the rest of the gradient has norm
s_k zeta_k with

    s_k^2 = A_kk - A_k,<k (A_<k,<k)^-1 A_<k,k,      zeta_k^2 ~ chi^2(d - k - 1)/d,

and its direction is called e_{k+1}.  All matrices are d times covariances; d enters through
eps/sqrt(d) and zeta alone, and d = infinity is the same code without noise.

The past is kept as whitened numbers, which were drawn and are never solved for: the histories of
directions (`histories.py`), and the k + 2 numbers of each step, whitened given the histories by an
inverse Cholesky factor of C_kl - H_k^T H_l (`panels.py`).

A relative nugget tau = 1e-10 on every observation keeps the factors regular; it is the exact law
of a function seen with that much isotropic noise.  Source: arXiv 2410.09973, sections 3 and 4.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PyTree

from hdjax.landscapes import histories, panels
from hdjax.landscapes.frame import jet_at, jet_covariance
from hdjax.landscapes.histories import Observations
from hdjax.landscapes.limit import Problem
from hdjax.landscapes.rates import root

NUGGET = 1e-10
_TINY = 1e-30


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
        fields: B, the inverse Cholesky factor of A.
        lengths: zeta_k, the whitened history of e_{k+1}.
        aside: of the steps as `Observations`.
        along: the same.
        innovations: the other whitened numbers.
        panels: the inverse Cholesky factor that whitened them.
        ahead: the next point.
        memory: what the algorithm remembers.
    """

    points: Float[Array, "n m"]
    values: Float[Array, " n"]
    gradients: Float[Array, "n m"]
    fields: Float[Array, "n n"]
    lengths: Float[Array, " n"]
    aside: Float[Array, "n c n"]
    along: Float[Array, "n n"]
    innovations: Float[Array, "n c"]
    panels: panels.Panels
    ahead: Float[Array, " m"]
    memory: PyTree


def start(problem: Problem, n: int) -> Run:
    """Nothing seen yet, in a frame with room for n observations."""
    dtype, m = problem.masses.dtype, n + 1
    zeros = lambda *shape: jnp.zeros(shape, dtype)  # noqa: E731
    x = zeros(m).at[0].set(root(problem.masses.sum()))
    return Run(
        zeros(n, m), zeros(n), zeros(n, m), zeros(n, n), zeros(n), zeros(n, m, n), zeros(n, n),
        zeros(n, m), panels.empty(n, dtype), x, problem.algorithm.init(x),
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
    x, points = run.ahead[:n], run.points[:, :n]
    earlier = jnp.arange(n) < k
    # Directions beyond d do not exist; those after e_k have no name yet.
    exists = jnp.arange(n + 1, dtype=x.dtype) < dimension
    active = jnp.append(True, exists[:n]) & (jnp.arange(n + 1) <= k + 1)

    jets = jax.vmap(lambda y: jet_at(problem.kernel, y, x))(points)
    new = histories.observation(run.fields, jets, points, x, earlier)

    def covariance(first: int, end: int) -> Float[Array, "steps b c"]:
        """Of the components at some steps with the new ones, given the histories."""
        steps, b = slice(first, end), end + 1
        seen = Observations(points[steps], run.aside[steps, :b, :end], run.along[steps, :end])
        own = jax.tree.map(lambda leaf: leaf[steps], jets)
        plain = jax.vmap(jet_covariance, (0, 0, None))(own, seen.point, x)[:, :b]
        known = earlier[steps, None, None] & active[None, None]
        return jnp.where(known, plain - histories.explained(seen, new), 0.0)

    half = jnp.vdot(x, x) / 2
    mean = jnp.append(problem.mean(half), jax.grad(problem.mean)(half) * x)
    mean = mean + histories.mean(new, run.lengths)
    spread, variance = _own_covariance(problem, x, nugget)
    spread = spread - histories.explained(new, new)[0]
    whitened, more, square = panels.whiten(run.panels, run.innovations, k, covariance)
    mean, spread = mean + more, spread - square

    both = active[:, None] & active[None, :]
    identity = jnp.eye(n + 1, dtype=x.dtype)
    cholesky = jnp.linalg.cholesky(jnp.where(both, spread, identity))
    inverse = jax.scipy.linalg.solve_triangular(cholesky, identity, lower=True)
    inverse = jnp.where(both, inverse, 0.0)
    # What is written below depends on all that was read, so that XLA writes it in place.
    new, point, inverse = jax.lax.optimization_barrier((new, run.ahead, inverse))
    innovations = jnp.where(active, draws.innovations, 0.0)
    seen = jnp.where(active, mean + cholesky @ innovations, 0.0)

    along = new.along[0]
    width = root(jnp.maximum(variance - along @ along, _TINY))
    row = (-(along @ run.fields) / width).at[k].set(1 / width)
    length = jnp.where(exists[k + 1], draws.length, 0.0)
    g = jnp.append(seen[1:], 0.0).at[k + 1].set(width * length)

    ahead, memory = problem.algorithm.step(run.memory, k, run.ahead, seen[0], g, jnp.vdot)
    return Run(
        run.points.at[k].set(point),
        run.values.at[k].set(seen[0]),
        run.gradients.at[k].set(g),
        run.fields.at[k].set(row),
        run.lengths.at[k].set(length),
        run.aside.at[k].set(new.aside[0]),
        run.along.at[k].set(along),
        run.innovations.at[k].set(innovations),
        panels.with_rows(run.panels, k, inverse, whitened),
        ahead,
        memory,
    )


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
