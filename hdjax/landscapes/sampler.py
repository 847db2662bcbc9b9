"""A sampler of the exact law of a gradient span algorithm, at a cost that does not depend on d.

`Previsible` (`simulate.py`) and `fluctuations.py` call `observe` step by step.  In the previsible
frame (`frame.py`) an observation at x_k consists of k + 2 jointly Gaussian numbers, the value and
the derivatives along e_0, ..., e_k, and of one length: the part of the gradient outside of
span(e_0, ..., e_k) has norm s_k zeta_k with

    s_k^2 = A_kk - A_k,<k (A_<k,<k)^-1 A_<k,k,      zeta_k^2 ~ chi^2(d - k - 1)/d,

and the direction of this part is called e_{k+1}.  All matrices are d times covariances.  The
dimension enters only through the innovations eps/sqrt(d) and through zeta_k, and d = infinity is
the same code with eps = 0 and zeta_k = 1.

Past observations are kept as whitened innovations, as they were drawn, so that no system is ever
solved against data.  They are the histories of directions (`histories.py`), and the k + 2 numbers
of each step, whitened given the histories by an inverse Cholesky factor of C_kl - H_k^T H_l, where
C_kl are the covariances of the observations at steps k and l (`panels.py`).

A relative nugget tau = 1e-10 on every observation keeps the factors regular.  The law is then the
exact one of a function that is observed with isotropic white noise of relative variance tau.

Source: arXiv 2410.09973, sections 2.4.1 (previsible sampling), 5.3 (previsible coordinates) and
5.4.3 (induction over steps).
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
    """The random numbers of observations.

    Attributes:
        innovations: eps/sqrt(d), with independent standard normal eps, for each component.
        length: zeta_k.
    """

    innovations: Float[Array, "*steps c"]
    length: Float[Array, "*steps"]


class Run(eqx.Module):
    """A trajectory in its previsible frame; rows of steps that were not made yet are 0.

    Attributes:
        points: x_k in the frame.
        values: f(x_k).
        gradients: g_k in the frame.
        fields: B, the inverse Cholesky factor of A.
        lengths: zeta_k, the whitened history of e_{k+1}.
        aside: `Observations.aside` of each step.
        along: `Observations.along` of each step.
        innovations: the whitened value and derivatives of each step.
        panels: the inverse Cholesky factor that whitens values and derivatives.
        ahead: the point of the next observation.
        memory: the state of the algorithm.
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
    """The start of a run, with arrays for n observations.

    Args:
        problem: the function, the algorithm and |x_0|.
        n: the number of observations of the whole run.
    """
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
    """The run after an observation at x_k and the algorithm's choice of x_{k+1}.

    Args:
        problem: the function and the algorithm.
        run: the trajectory up to the choice of x_k.
        k: the step.
        draws: the random numbers of this observation.
        dimension: d, or infinity.
        nugget: relative variance tau of the regularising noise.
    """
    n = run.values.shape[0]
    x, points = run.ahead[:n], run.points[:, :n]
    earlier = jnp.arange(n) < k
    # Directions e_j with j >= d do not exist; e_{k+1} and later are not defined yet.
    exists = jnp.arange(n + 1, dtype=x.dtype) < dimension
    active = jnp.append(True, exists[:n]) & (jnp.arange(n + 1) <= k + 1)

    jets = jax.vmap(lambda y: jet_at(problem.kernel, y, x))(points)
    new = histories.observation(run.fields, jets, points, x, earlier)

    def covariance(first: int, end: int) -> Float[Array, "steps b c"]:
        """The covariances of components at steps first <= l < end with the new observation.

        They are conditional on the histories of directions.
        """
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
    # The barrier makes all updates below depend on all reads above, so that XLA updates in place.
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
    """The covariance of an observation at x, and the variance of an orthogonal derivative.

    Both are times d, and include the nugget and the mini-batch noise.  The derivative is along a
    direction that is orthogonal to x.
    """
    jet = jet_at(problem.kernel, x, x)
    tau = nugget * jnp.concatenate([jet.value[None], jnp.broadcast_to(jet.derivative, x.shape)])
    covariance = jet_covariance(jet, x, x) + jnp.diag(tau + _TINY)
    variance = (1 + nugget) * jet.derivative
    if problem.noise is not None:
        noise = jet_at(problem.noise, x, x)
        covariance = covariance + jet_covariance(noise, x, x)
        variance = variance + noise.derivative
    return covariance, variance
