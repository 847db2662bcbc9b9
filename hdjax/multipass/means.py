"""The exact mean of the statistics of SGD on a fixed problem, from second moments of the iterate.

Let x be the coordinates of the iterate on the right singular vectors of A = U diag(s) V^T, m their
mean and S their covariance.  A step that draws sample i changes x_j by -gamma s_j u_ij r_i, plus
the ridge, and hence

    m' - m = -gamma/n (s rho(m) + delta m),
    S' - S = -gamma (D S + S D) + gamma^2/n sum_i g_i g_i^T e_i - (m' - m)(m' - m)^T,
    e_i = E r_i^2 = r_i(m)^2 + g_i^T S g_i,    g_ij = s_j u_ij,    D = diag(lambda + delta)/n.

Nothing is assumed of the data.  The limit (`limit.py`) replaces e_i by its mean over the samples,
and sum_i u_ij u_ik e_i by its diagonal.  The difference of both is the error of the limit at this
n and d.  It is large where samples are heavy or singular vectors are localised.

The sum over i costs n p^2 operations.  The decay over h steps is therefore taken exactly, and the
noise as a linear function of the step (the exponential Runge-Kutta scheme of second order of Cox
and Matthews, J. Comput. Phys. 176, 2002), with h that grows with the step: the error was below .4 %
in problems of 40 samples, and is smaller in larger ones.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from hdjax import precise
from hdjax.arrays import whole_steps
from hdjax.multipass.least_squares import MultiPass, required
from hdjax.system import NoMeanCorrectionError

# The largest number n p^2 of operations of a step of the scheme: about a tenth of a second.
_MOST = 2 * 10**9
# A step of the scheme covers this share of the steps of SGD before it, or one step.
_GROWTH = 0.15


def check(system: MultiPass) -> None:
    """Raise NoMeanCorrectionError if no exact means of `system` are known, or if they cost much."""
    if system.sampling != "replacement":
        raise NoMeanCorrectionError(
            f"sampling: {system.sampling!r}; allowed with exact means: 'replacement'"
        )
    if system.problem is None:
        raise NoMeanCorrectionError("problem: None; allowed with exact means: a Problem")
    n, d = system.problem.matrix.shape
    if n * min(n, d) ** 2 > _MOST:
        raise NoMeanCorrectionError(
            f"problem: n = {n}, d = {d}; allowed with exact means: n min(n, d)^2 up to {_MOST:.0e}"
        )


class _Moments(NamedTuple):
    """The mean m and the covariance S of the coordinates x of the iterate after k steps."""

    mean: Float[Array, " p"]
    covariance: Float[Array, "p p"]
    k: Float[Array, ""]


def exact_means(system: MultiPass, ts: Float[Array, " times"]) -> dict[str, Array]:
    """The exact means of the loss per sample and of the quadratic statistics at `ts`, by name.

    Args:
        system: SGD on a problem that `check` accepts.
        ts: (times,) increasing times in epochs.
    """
    problem = required(system.problem)
    n, labels, dtype = problem.samples, problem.labels, problem.start.dtype
    u, s, vt = jnp.linalg.svd(problem.matrix, full_matrices=False)
    x = precise.dot(vt, problem.start)
    origin = problem.start - precise.dot(vt.T, x)
    forms = {name: q.restrict(vt.T, origin) for name, q in problem.quadratics.items()}
    ridge = 0.0 if system.ridge is None else system.ridge
    rates, slopes = (s**2 + ridge) / n, s * precise.dot(u.T, labels) / n
    # Seven digits suffice in the sums over samples, which take most of the time.
    into = (u * s[None]).astype(jnp.float32)

    def residuals(mean: Array) -> Array:
        return precise.dot(u, s * mean) - labels

    def noise(gamma: Array, mean: Array, covariance: Array) -> Array:
        """What a step adds to the covariance."""
        around = precise.dot(into, covariance.astype(jnp.float32)) * into
        squares = residuals(mean) ** 2 + jnp.sum(around, axis=1).astype(dtype)
        weighed = into * squares.astype(jnp.float32)[:, None]
        pull = rates * mean - slopes
        return gamma**2 * (precise.dot(weighed.T, into).astype(dtype) / n - jnp.outer(pull, pull))

    def step(state: _Moments, last: Array) -> _Moments:
        """The moments after h steps, but at most after step `last`."""
        mean, covariance, k = state
        h = jnp.minimum(jnp.maximum(1, jnp.floor(_GROWTH * k)), last - k)
        gamma = system.learning_rate((k + (h - 1) / 2) / n)
        _, share, _ = _sums(gamma * rates, h)
        after = mean - gamma * share * (rates * mean - slopes)
        kept, total, ramp = _sums(gamma * (rates[:, None] + rates[None]), h)
        first = noise(gamma, mean, covariance)
        # The noise of the h steps is first taken to be constant, and then linear in the step.
        guess = kept * covariance + total * first
        change = (noise(gamma, after, guess) - first) / h
        moved = jnp.where(h > 1, guess + ramp * change, guess)
        return _Moments(after, (moved + moved.T) / 2, k + h)

    def record(state: _Moments, last: Array) -> tuple[_Moments, dict[str, Array]]:
        state = lax.while_loop(lambda state: state.k < last, lambda state: step(state, last), state)
        loss = jnp.sum(residuals(state.mean) ** 2) + jnp.sum(s**2 * jnp.diag(state.covariance))
        return state, {"loss": loss / (2 * n)} | {
            name: form(state.mean) + form.trace(state.covariance) / 2
            for name, form in forms.items()
        }

    start = _Moments(x, jnp.zeros((s.size, s.size), dtype), jnp.zeros((), dtype))
    return lax.scan(record, start, whole_steps(ts * n).astype(dtype))[1]


def _sums(q: Float[Array, "*p"], h: Float[Array, ""]) -> tuple[Array, Array, Array]:
    """The numbers (1 - q)^h, sum_l (1 - q)^(h - 1 - l) and sum_l l (1 - q)^(h - 1 - l), l < h."""
    small, tiny = q * h < 1e-4, q * h < 1e-8
    safe = jnp.where(tiny, 1, q)
    kept = (1 - q) ** h
    total = jnp.where(tiny, h, (1 - kept) / safe)
    ramp = jnp.where(small, h * (h - 1) / 2, (h - total) / jnp.where(small, 1, q))
    return kept, total, ramp
