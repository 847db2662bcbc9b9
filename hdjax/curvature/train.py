"""The law of training samples: what a run's parameters remember of the samples that they used.

A sample of component a that was used once, at time tau, has at time T the projections

    r = r_T - gamma/snr Phi(T, tau)^T g(r_tau),
    d/dt Phi(t, tau) = -gamma Phi B,    Phi(tau, tau) = I,

with g the loss's gradient at the time of its use, B = E[A]/snr + beta I with A the loss's second
derivative, and (r_tau, r_T, M^T x) jointly Gaussian of covariance 1/snr times the Gram matrix of
[X_tau, X_T, M], M the means.  The two-time overlaps Q(tau, t) = X_tau^T X_t solve

    d/dt Q(tau, t) = -gamma (S(tau) (g P)_t^T + Q(tau, t) B_t),     Q(tau, tau) = Q(tau),

and tau is uniform on the time in which the samples were used.  So the training loss and the bulk of
matrices on training data follow from the limit alone.  The kick -gamma/snr Phi^T g is of order one:
training and test data differ at any d, and agree as gamma/snr -> 0.  Outliers on training data are
computed from the coordinates of (r, M^T x) as if samples were independent of X_T, a heuristic.

`Alignment(train=True)` uses this law.  It goes beyond "Spectral alignment of SGD" (arXiv
2310.03010), whose section 8 extends the results to matrices on training data.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from hdjax import gaussian, precise
from hdjax.checks import checked
from hdjax.curvature.law import Quadrature, check_system
from hdjax.gaussian import QMC, Rule
from hdjax.registry import Size
from hdjax.schedules import Schedule
from hdjax.streaming import OnePassSGD
from hdjax.streaming.optimisers import SGD


class TrainingSamples(eqx.Module):
    """The law of training samples at time T.

    Attributes:
        nodes: nodes over (component, time of use, coordinates at T), which `block_theory` takes.
        summary: the limit at T.
    """

    nodes: Quadrature
    summary: Any


@checked
@eqx.filter_jit
def training_samples(
    system: OnePassSGD,
    horizon: Float[Array, ""],
    start: Any = None,
    *,
    window: Float[Array, ""] | None = None,
    grid: Size = 33,
    rule: Rule | None = None,
) -> TrainingSamples:
    """The law at time `horizon` of the samples that training used.

    Args:
        system: a mixture with means, trained by plain SGD at a rate that does not follow the state.
        horizon: T.
        start: the summary at time 0; None: the law of the start.
        window: the samples are the last `window` d ones; None: all T d.
        grid: the odd number of times of use (for Simpson's rule), which are also the steps of the
            two-time equations (trapezoid rule).
        rule: quadrature rule of a sample's coordinates and of its projections at its use (2 m + c
            variables).

    Raises:
        ValueError: the system is of another kind, or the grid is even or below 3.

    Example:
        >>> mixture = hd.streaming.mixtures.mixture_softmax(64, 2, snr=1.5, learning_rate=3.0)
        >>> law = training_samples(mixture, jnp.array(2.0), grid=9)
        >>> theory = hd.curvature.block_theory(
        ...     mixture, law.summary, 0, "hessian", 2.0, nodes=law.nodes
        ... )
    """
    check_training(system)
    if grid < 3 or grid % 2 == 0:
        raise ValueError(f"grid: {grid}; allowed: an odd number from 3 on")
    c, dtype = system.probabilities.shape[0], system.eigenvalues.dtype
    window = horizon if window is None else window
    ts = horizon - window * jnp.linspace(1.0, 0.0, grid, dtype=dtype)
    path = system.limit(ts, system.start() if start is None else start).values
    phi, cross = _two_times(system, ts, path)
    frame, features, weights = _coordinates(system, ts, path, phi, cross, rule or QMC(9))
    simpson = np.full(grid, 2.0)
    simpson[1::2], simpson[[0, -1]] = 4.0, 1.0
    times = jnp.asarray(simpson / simpson.sum(), dtype)
    each = (times[:, None] * weights[None]).ravel()
    m = system.layout.students
    nodes = Quadrature(
        features,
        jnp.zeros((c, 0), dtype),
        system.probabilities[:, None] * each[None],
        precise.dot(features, frame[:, :m]),
        frame,
        system.eigenvalues[0, 0],
        m,
    )
    return TrainingSamples(nodes, jax.tree.map(lambda leaf: leaf[-1], path))


def _two_times(
    system: OnePassSGD, ts: Float[Array, " grid"], path: Any
) -> tuple[Float[Array, "grid m m"], Float[Array, "grid m m"]]:
    """The matrices Phi(T, tau) and Q(tau, T) for each tau of `ts`.

    Both come from the trapezoid rule, which is implicit and of second order.
    """
    m, grid, dtype = system.layout.students, ts.shape[0], ts.dtype
    rate, noise = check_training(system), system.eigenvalues[0, 0]
    half = (ts[1] - ts[0]) / 2

    def rates(gamma: Array, summary: Any) -> tuple[Array, Array]:
        """The matrices gamma B (m, m) and gamma g P (m, c) at a time."""
        parts = system.field().component_moments(summary.state)
        p = system.probabilities
        b = noise * precise.einsum("c,cij->ij", p, parts.stein)
        b = b + system.ridge * jnp.eye(m, dtype=b.dtype)
        return gamma * b, gamma * (p[:, None] * parts.gradient).T

    b, push = jax.lax.map(lambda parts: rates(*parts), (jax.vmap(rate)(ts), path))
    overlaps = jax.vmap(lambda summary: summary.overlaps)(path)
    eye = jnp.eye(m, dtype=dtype)

    def from_time(tau: Array) -> tuple[Array, Array]:
        mean = overlaps[tau, :m, m:]

        def advance(k: Array, state: tuple[Array, Array]) -> tuple[Array, Array]:
            phi, q = state
            first, last = eye - half * b[k], eye + half * b[k + 1]
            source = half * precise.dot(mean, (push[k] + push[k + 1]).T)
            new = jnp.linalg.solve(last.T, precise.dot(phi, first).T).T
            own = jnp.linalg.solve(last.T, (precise.dot(q, first) - source).T).T
            past = k < tau
            return jnp.where(past, phi, new), jnp.where(past, q, own)

        return jax.lax.fori_loop(0, grid - 1, advance, (eye, overlaps[tau, :m, :m]))

    return jax.vmap(from_time)(jnp.arange(grid))


def _coordinates(
    system: OnePassSGD,
    ts: Float[Array, " grid"],
    path: Any,
    phi: Float[Array, "grid m m"],
    cross: Float[Array, "grid m m"],
    rule: Rule,
) -> tuple[Float[Array, "q columns"], Float[Array, "c nodes q"], Float[Array, " w"]]:
    """The frame at T, the coordinates of samples in it by time of use, and the rule's weights."""
    m, c = system.layout.students, system.probabilities.shape[0]
    rate, noise = check_training(system), system.eigenvalues[0, 0]
    overlaps = jax.vmap(lambda summary: summary.overlaps)(path)
    final = overlaps[-1]
    frame = gaussian.factor(final).T
    # A kick changes the projections on X alone; `lift` maps it to coordinates in the frame.
    lift = jnp.linalg.pinv(frame.T, rtol=1e-6)[:, :m]
    q = frame.shape[0]
    # Every time of use has all nodes: one node for each time would correlate the two.
    z, w = (jnp.asarray(x) for x in rule.nodes(q + m, ts.dtype))

    def at_time(
        gamma: Array, phi: Array, cross: Array, then: Array, theta: Any
    ) -> Float[Array, "c n q"]:
        """Coordinates at T of the samples that were used at one time."""
        inner = jnp.concatenate([cross, then[:m, m:]], axis=1)
        lower = gaussian.factor(jnp.block([[final, inner.T], [inner, then[:m, :m]]]))
        used = jnp.sqrt(noise) * precise.dot(z, lower[q:].T)
        fresh = jnp.sqrt(noise) * z[:, :q]
        nothing = jnp.zeros(0, ts.dtype)

        def component(a: Array) -> Float[Array, "n q"]:
            def gradient(x: Array) -> Array:
                return system.loss.gradient(x, nothing, a, nothing, theta)[0]

            kick = (
                gamma * noise * precise.dot(jax.vmap(gradient)(used + then[:m, m + a][None]), phi)
            )
            return fresh + frame[:, m + a][None] - precise.dot(kick, lift.T)

        return jax.vmap(component)(jnp.arange(c))

    steps = (jax.vmap(rate)(ts), phi, cross, overlaps, path.theta)
    features = jax.lax.map(lambda parts: at_time(*parts), steps)
    return frame, jnp.moveaxis(features, 0, 1).reshape(c, -1, q), w


def training_loss(system: OnePassSGD, samples: TrainingSamples) -> Float[Array, ""]:
    """The mean loss on the training samples at time T, without the ridge.

    Args:
        system: as for `training_samples`.
        samples: the law of the training samples.

    Example:
        >>> mixture = hd.streaming.mixtures.mixture_softmax(64, 2, snr=1.5, learning_rate=3.0)
        >>> loss = training_loss(mixture, training_samples(mixture, jnp.array(2.0), grid=9))
    """
    nodes = samples.nodes
    nothing, components = jnp.zeros(0, nodes.seen.dtype), jnp.arange(nodes.seen.shape[0])

    def one(x: Float[Array, " m"], a: Array) -> Float[Array, ""]:
        return system.loss(x, nothing, a, nothing, samples.summary.theta)

    losses = jax.vmap(lambda x, a: jax.vmap(lambda x: one(x, a))(x))(nodes.seen, components)
    return nodes.expect(losses)


def check_training(system: OnePassSGD) -> Schedule:
    """The learning rate of a training that the law of training samples covers.

    Raises:
        ValueError: the law does not cover the system.
    """
    check_system(system)
    rate = system.learning_rate
    if not (isinstance(rate, Schedule) and isinstance(system.optimiser, SGD)):
        raise ValueError(
            f"system: rate {type(rate).__name__}, optimiser {type(system.optimiser).__name__}; "
            "allowed: plain SGD at a rate that does not follow the state"
        )
    return rate
