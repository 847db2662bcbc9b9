"""What a run's parameters remember of the samples that they were trained on.

A sample of component a that was used at time tau has at time T, when n = T d samples have been used
once each, the projections

    r = r_T - gamma/snr Phi(T, tau)^T g(r_tau),
    d/dt Phi(t, tau) = -gamma Phi B,    Phi(tau, tau) = I,

with g the loss's gradient at the time of its use, B = E[A]/snr + beta I, and (r_tau, r_T) jointly
Gaussian of covariance 1/snr times the Gram matrix of [X_tau, X_T].  The two-time overlaps solve

    d/dt Q(tau, t) = -gamma (S(tau) (g P)_t^T + Q(tau, t) B_t),     Q(tau, tau) = Q(tau),

and tau is uniform on [0, T].  So training loss and the bulk of matrices on training data follow
from the limit alone, the kick -gamma/snr Phi^T g being of order one: training and test data differ
at any d, and agree as gamma/snr -> 0.  Goes beyond "Spectral alignment of SGD" (arXiv 2310.03010).
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from hdjax import gaussian
from hdjax.curvature.law import Quadrature, check_system, largest_weight
from hdjax.curvature.theory import BlockTheory
from hdjax.curvature.weights import Kind, small_matrix
from hdjax.gaussian import QMC, Rule
from hdjax.streaming import OnePassSGD, StateRate


class TrainingSamples(eqx.Module):
    """Nodes for (component, time of use, projections at the end) of a training sample.

    Attributes:
        seen: (c, N, m) projections at time T.
        probabilities: (c, N) weights of the nodes.
        summary: the limit at T.
    """

    seen: Float[Array, "c nodes m"]
    probabilities: Float[Array, "c nodes"]
    summary: Any


@eqx.filter_jit
def training_samples(
    system: OnePassSGD,
    horizon: Float[Array, ""],
    start: Any = None,
    *,
    grid: int = 33,
    rule: Rule | None = None,
) -> TrainingSamples:
    """The law of training samples at time `horizon`.

    Args:
        system: a mixture with means and plain SGD at a constant learning rate.
        horizon: T; n = T d samples have been used.
        start: a summary; None: the law of the start.
        grid: times of use (and steps of the two-time equations, by the trapezoid rule).
        rule: for the projections at both times (2 m variables).

    Raises:
        ValueError: another kind of system.
    """
    check_system(system)
    rate = system.learning_rate
    if isinstance(rate, StateRate) or system.layout.memory:
        raise ValueError(
            f"system: {type(rate).__name__}, {type(system.optimiser).__name__}; allowed: plain "
            "SGD at a constant learning rate"
        )
    m, gamma = system.layout.students, rate(jnp.zeros_like(system.ridge))
    noise, c = system.eigenvalues[0, 0], system.probabilities.shape[0]
    ts = jnp.linspace(0.0, 1.0, grid, dtype=noise.dtype) * horizon
    start = system.start() if start is None else start
    path = system.limit(ts, start)
    step = horizon / (grid - 1)

    def rates(summary: Any) -> tuple[Array, Array]:
        """B (m, m), and g P (m, c)."""
        parts = system.field().component_moments(summary.state)
        p = system.probabilities
        b = noise * jnp.einsum("c,cij->ij", p, parts.stein, precision="highest")
        return b + system.ridge * jnp.eye(m, dtype=b.dtype), (p[:, None] * parts.gradient).T

    b, push = jax.lax.map(rates, path)
    overlaps = jax.vmap(lambda summary: summary.overlaps)(path)
    eye = jnp.eye(m, dtype=b.dtype)

    def two_times(tau: Array) -> tuple[Array, Array]:
        """Phi(T, tau) and Q(tau, T), by the trapezoid rule (implicit: second order)."""
        mean = overlaps[tau, :m, m:]
        begin = (eye, overlaps[tau, :m, :m])

        def advance(k: Array, state: tuple[Array, Array]) -> tuple[Array, Array]:
            phi, q = state
            first = eye - gamma * step / 2 * b[k]
            last = eye + gamma * step / 2 * b[k + 1]
            source = gamma * step / 2 * _dot(mean, (push[k] + push[k + 1]).T)
            new = jnp.linalg.solve(last.T, _dot(phi, first).T).T
            own = jnp.linalg.solve(last.T, (_dot(q, first) - source).T).T
            past = k < tau
            return jnp.where(past, phi, new), jnp.where(past, q, own)

        return jax.lax.fori_loop(0, grid - 1, advance, begin)

    phi, cross = jax.vmap(two_times)(jnp.arange(grid))
    final = overlaps[-1]
    # One node of the rule in each time of use would tie them: every time has all nodes.
    z, w = (rule or QMC(9)).nodes(2 * m, noise.dtype)
    z, w = jnp.asarray(z), jnp.asarray(w)
    trapezoid = jnp.ones(grid, noise.dtype).at[jnp.array([0, -1])].set(0.5) / (grid - 1)

    def at_time(phi: Array, cross: Array, then: Array, theta: Any) -> Float[Array, "c n m"]:
        # [X_tau, X_T], and their means in each component.
        gram = jnp.block([[then[:m, :m], cross], [cross.T, final[:m, :m]]])
        means = jnp.concatenate([then[:m, m:], final[:m, m:]])
        drawn = jnp.sqrt(noise) * _dot(z, gaussian.factor(gram).T)

        def component(a: Array) -> Float[Array, "n m"]:
            r = drawn + means[:, a][None]
            nothing = jnp.zeros(0, r.dtype)

            def gradient(x: Array) -> Array:
                return system.loss.gradient(x, nothing, a, nothing, theta)[0]

            kick = _dot(jax.vmap(gradient)(r[:, :m]), phi)
            return r[:, m:] - gamma * noise * kick

        return jax.vmap(component)(jnp.arange(c))

    seen = jax.lax.map(lambda parts: at_time(*parts), (phi, cross, overlaps, path.theta))
    p = system.probabilities[None, :, None] * trapezoid[:, None, None] * w[None, None]
    last = jax.tree.map(lambda leaf: leaf[-1], path)

    def joined(values: Array) -> Array:
        values = jnp.moveaxis(values, 0, 1)
        return values.reshape(c, grid * z.shape[0], *values.shape[3:])

    return TrainingSamples(joined(seen), joined(p), last)


def training_loss(system: OnePassSGD, samples: TrainingSamples) -> Float[Array, ""]:
    """The mean loss on the training samples, without the ridge.

    Example:
        >>> mixture = hd.streaming.mixture_softmax(64, 2, snr=1.5, learning_rate=3.0)
        >>> samples = training_samples(mixture, jnp.array(2.0), grid=9)
        >>> loss = training_loss(mixture, samples)
    """
    nothing = jnp.zeros(0, samples.seen.dtype)

    def one(x: Float[Array, " m"], a: Array) -> Float[Array, ""]:
        return system.loss(x, nothing, a, nothing, samples.summary.theta)

    values = jax.vmap(lambda x, a: jax.vmap(lambda x: one(x, a))(x))(
        samples.seen, jnp.arange(samples.seen.shape[0])
    )
    return jnp.sum(samples.probabilities * values)


def training_edges(
    system: OnePassSGD, samples: TrainingSamples, index: int, kind: Kind, alpha: Any
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Left and right edge of the bulk of a column's block on the n = alpha d training samples.

    Args:
        system: as for `training_samples`.
        samples: their law at T.
        index: the column.
        kind: "hessian" or "gradient".
        alpha: n/d; T for all samples that were used.

    Example:
        >>> mixture = hd.streaming.mixture_softmax(64, 2, snr=1.5, learning_rate=3.0)
        >>> samples = training_samples(mixture, jnp.array(2.0), grid=9)
        >>> left, right = training_edges(mixture, samples, 0, "hessian", alpha=2.0)
    """
    nothing, theta = jnp.zeros(0, samples.seen.dtype), samples.summary.theta

    def one(x: Float[Array, " m"], a: Array) -> Float[Array, ""]:
        return small_matrix(system.loss, kind, x, nothing, a, nothing, theta)[index, index]

    c, nodes = samples.seen.shape[:2]
    weights = jax.vmap(lambda x, a: jax.vmap(lambda x: one(x, a))(x))(samples.seen, jnp.arange(c))
    # The bulk knows the law of D alone: no coordinates are needed.
    law = Quadrature(
        jnp.zeros((c, nodes, 0), weights.dtype),
        jnp.zeros((c, 0), weights.dtype),
        samples.probabilities,
        samples.seen,
        jnp.zeros((0, 0), weights.dtype),
        system.eigenvalues[0, 0],
        system.layout.students,
    )
    largest = largest_weight(system, weights, theta, index, kind)
    theory = BlockTheory(law, weights, largest, jnp.asarray(alpha, weights.dtype))
    return theory.edges()


def _dot(a: Array, b: Array) -> Array:
    return jnp.dot(a, b, precision="highest")
