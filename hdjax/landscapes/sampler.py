"""Exactly the law of a gradient span algorithm, at a cost that does not depend on d.

In the previsible frame (`frame.py`) an observation at x_k is k + 2 jointly Gaussian numbers (the
value, and the derivatives along e_0, ..., e_k) and one length: the rest of the gradient has norm
s_k zeta_k with

    s_k^2 = A_kk - A_k,<k (A_<k,<k)^-1 A_<k,k,      zeta_k^2 ~ chi^2(d - k - 1)/d,

and its direction is called e_{k+1}.  All matrices are d times covariances; d enters through
eps/sqrt(d) and zeta alone, and d = infinity is the same code without noise.

The past is kept as whitened numbers, which were drawn and are never solved for: the histories of
directions (`histories.py`), and the k + 2 numbers of each step, whitened given the histories by a
Cholesky factor of C_kl - H_k^T H_l.  The factor is cut into panels of several steps; with L a
panel's own part and K its rows to the left, the rows L^-1 [-K, 1] are kept, which whiten its
covariances with a new observation once those of earlier panels are.

A relative nugget tau = 1e-10 on every observation keeps the factors regular; it is the exact law
of a function seen with that much isotropic noise.  Source: arXiv 2410.09973, sections 3 and 4.
"""

import itertools
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PyTree

from hdjax.landscapes import histories
from hdjax.landscapes.frame import jet_at, jet_covariance
from hdjax.landscapes.histories import Observations
from hdjax.landscapes.limit import Problem
from hdjax.landscapes.rates import root

NUGGET = 1e-10
_TINY = 1e-30
# Longer runs are cut where these fifths of their steps end: panels of about the same size.
_SHORT, _FIFTHS = 12, (2, 3, 4, 5)


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
        panels: L^-1 [-K, 1] of each, with rows for as many components as its last step has.
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
    panels: list[Float[Array, "_ _ _"]]
    ahead: Float[Array, " m"]
    memory: PyTree


def start(problem: Problem, n: int) -> Run:
    """Nothing seen yet, in a frame with room for n observations."""
    dtype, m, panels, q = problem.masses.dtype, n + 1, [], 0
    zeros = lambda *shape: jnp.zeros(shape, dtype)  # noqa: E731
    for first, end in _panels(n):
        q += (end - first) * (end + 1)
        panels.append(zeros(end - first, end + 1, q))
    x = zeros(m).at[0].set(root(problem.masses.sum()))
    return Run(
        zeros(n, m), zeros(n), zeros(n, m), zeros(n, n), zeros(n), zeros(n, m, n), zeros(n, n),
        zeros(n, m), panels, x, problem.algorithm.init(x),
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
    whitened: list[Array] = []
    for (first, end), panel in zip(_panels(n), run.panels, strict=True):

        def solve(first: int = first, end: int = end, panel: Array = panel) -> tuple[Array, ...]:
            rest = covariance(first, end).reshape(-1, n + 1)
            part = panel.reshape(rest.shape[0], -1) @ jnp.concatenate([*whitened, rest])
            seen = run.innovations[first:end, : end + 1]
            return part, part.T @ part, part.T @ seen.ravel()

        part, square, seen = _if(k > first, solve)
        whitened.append(part)
        spread, mean = spread - square, mean + seen

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

    panels = [
        _with_rows(panel, k - first, inverse, whitened[: i + 1])
        for i, ((first, _), panel) in enumerate(zip(_panels(n), run.panels, strict=True))
    ]
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
        panels,
        ahead,
        memory,
    )


def _panels(n: int) -> list[tuple[int, int]]:
    """The steps that panels begin with, and those before which they end."""
    ends = [n] if n < _SHORT else [-(-n * fifths // 5) for fifths in _FIFTHS]
    return list(itertools.pairwise([0, *ends]))


def _if(condition: Bool[Array, ""], function: Callable[[], PyTree]) -> PyTree:
    """The function's value, or zeros."""
    shapes = jax.eval_shape(function)
    zeros = lambda: jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)  # noqa: E731
    return jax.lax.cond(condition, function, zeros)


def _with_rows(
    panel: Float[Array, "steps b q"],
    place: Int[Array, ""],
    inverse: Float[Array, "c c"],
    whitened: list[Float[Array, "_ c"]],
) -> Float[Array, "steps b q"]:
    """The panel with an observation's rows at `place`, if that is one of its steps.

    For whitened covariances W of earlier panels and Y of this one's earlier rows, and the inverse
    Cholesky factor of what they leave, its row is that factor times ([-W^T, 1] - Y^T panel).
    """
    steps, b, q = panel.shape
    inside = (place >= 0) & (place < steps)
    own = inverse[:b, :b]

    def rows() -> Array:
        *before, part = [own @ part[:, :b].T for part in whitened]
        left = jnp.concatenate([*before, jnp.zeros_like(part)], axis=1)
        rows = -left - part @ panel.reshape(-1, q)
        return jax.lax.dynamic_update_slice(rows, own, (0, q - part.shape[1] + place * b))

    # Outside, nothing is written.
    return panel.at[jnp.where(inside, place, steps)].set(_if(inside, rows), mode="drop")


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
