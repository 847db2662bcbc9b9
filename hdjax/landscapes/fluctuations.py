"""Corrections to the limit at finite d: spread, bias, critical dimension, law of halting times.

A statistic q of a run is a smooth function of the random numbers of the sampler (`sampler.py`):
innovations eps_i ~ N(0, 1/d), and lengths zeta_k of mean 1 - (2k + 3)/(4d) and variance 1/(2d), to
first order in 1/d.  Therefore sqrt(d) (q - q_limit) tends to a Gaussian, and

    d Cov(q)             -> F = sum_i (dq/deps_i)^2 + 1/2 sum_k (dq/dzeta_k)^2,
    d (E q - q_limit)    -> b = 1/2 sum_i d2q/deps_i2 + 1/4 sum_k d2q/dzeta_k2
                               - sum_k (2k + 3)/4 dq/dzeta_k,

where squares of several statistics are outer products, and the derivatives at eps = 0 and zeta = 1
are taken by forward mode through the sampler.  `GradientSpan` takes its error bars from here; the
public functions are `expansion`, `critical_dimension` and `halting_law`.  The source, arXiv
2410.09973, proves that the limit exists; this expansion is derived here.
"""

from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jax.scipy.stats import norm
from jaxtyping import Array, Float, Int, Key

from hdjax import random
from hdjax.arrays import whole_steps
from hdjax.checks import checked
from hdjax.landscapes import limit, sampler
from hdjax.landscapes._arguments import numbers
from hdjax.landscapes.landscape import CLOCK, Spanning
from hdjax.landscapes.limit import Problem
from hdjax.landscapes.order import OrderParameters, from_vectors
from hdjax.landscapes.sampler import Draws
from hdjax.landscapes.simulate import draw
from hdjax.random import Stream
from hdjax.registry import Positive, Real, Size
from hdjax.system import NoFluctuationsError, NoMeanCorrectionError
from hdjax.times import as_times

__all__ = [
    "Expansion",
    "HaltingLaw",
    "critical_dimension",
    "expansion",
    "halting_law",
]

# An expansion of n observations needs about n^2/2 derivatives of a sampler of 2 n^4 bytes.  Beyond
# MOST_EXACT observations, F is estimated from runs at a dimension where only the first order in 1/d
# is left; beyond MOST_SAMPLED these runs would take minutes.
MOST_EXACT, MOST_SAMPLED = 16, 32
_RUNS, _LARGE = 500, 1e10
_TOGETHER = 16

Statistics = Callable[[OrderParameters], dict[str, Array]]


class Expansion(eqx.Module):
    """The expansion of statistics at several steps to first order in 1/d.

    Attributes:
        limit: name -> (times, ...) the limits as d grows.
        covariance: (q, q) F over all entries of `limit`, with d Cov(q) -> F.  The entries are
            ordered by statistic, in the order of `names`, and within a statistic by time.
        bias: name -> (times, ...) b, with d (E q - limit) -> b; None where it is not known.
        source: "derivatives" (F and b are exact), or "500 runs" (F is right to about 3 %).
        names: the names of the statistics, in the order in which they were asked for.
    """

    limit: dict[str, Array]
    covariance: Float[Array, "q q"]
    bias: dict[str, Array] | None
    source: str = eqx.field(static=True)
    names: tuple[str, ...] = eqx.field(static=True)

    @property
    def variance(self) -> dict[str, Array]:
        """The diagonal of F: name -> (times, ...) d times the variance of each statistic."""
        return self.unravel(jnp.diagonal(self.covariance))

    def unravel(self, entries: Float[Array, " q"]) -> dict[str, Array]:
        """Numbers in the order of the rows of `covariance`, as name -> (times, ...)."""
        return _ravelled(self.limit, self.names)[1](entries)


def _ravelled(
    values: dict[str, Array], names: tuple[str, ...]
) -> tuple[Float[Array, " q"], Callable[[Array], dict[str, Array]]]:
    """All entries as a vector in the order of `names`, and the function that undoes this.

    A dictionary as a pytree would be ordered by its keys instead.
    """
    flat, unravel = ravel_pytree([values[name] for name in names])
    return flat, lambda entries: dict(zip(names, unravel(entries), strict=True))


def source(evaluations: int) -> str:
    """The way in which F is found for a number of observations: "derivatives" or "500 runs"."""
    return "derivatives" if evaluations <= MOST_EXACT else f"{_RUNS} runs"


@checked
def expansion(
    system: Spanning, ts: Any, statistics: Statistics | Sequence[str] | None = None
) -> Expansion:
    """Spread and bias of statistics at steps `ts`, to first order in 1/d.

    For up to 16 observations both come from derivatives of the sampler.  For more, F is estimated
    from 500 runs of the sampler at d = 10^10, and there is no bias.  `Expansion.source` says which
    of the two was done.

    Args:
        system: the system; its dimension does not matter.
        ts: (times,) increasing steps.
        statistics: names of statistics of the system (None: value and gradient_norm), or a function
            from the order parameters to statistics by name.

    Raises:
        NoFluctuationsError: float64 is not enabled, or there are more than 32 observations.
        ValueError: an unknown statistic.

    Example:
        >>> variance = expansion(landscape, [0, 1]).variance["value"]
        >>> round(float(variance[1]), 4)
        1.1034
    """
    ticks = CLOCK.ticks(as_times(ts))
    names = ("value", "gradient_norm") if statistics is None else statistics
    if callable(names):
        function, names = names, _order(system, names)
    else:
        own = list(jax.eval_shape(lambda: system.statistics(system.start())))
        for name in names:
            if name not in own:
                raise ValueError(f"statistics: {name!r}; allowed: {', '.join(own)}, or a function")
        names = tuple(names)
        function = _Chosen(system, names)
    return _expansion(system, jnp.asarray(ticks), int(ticks[-1]) + 1, function, names, True)


def _order(system: Spanning, statistics: Statistics) -> tuple[str, ...]:
    """The names of statistics, in the order in which the function returns them."""
    names: list[str] = []

    def note() -> dict[str, Array]:
        found = statistics(system.start())
        names.extend(found)
        return found

    jax.eval_shape(note)
    return tuple(names)


class _Chosen(eqx.Module):
    """A function of the order parameters: some of the statistics of a system, by name."""

    system: Any
    names: tuple[str, ...] = eqx.field(static=True)

    def __call__(self, order: OrderParameters) -> dict[str, Array]:
        own = self.system.statistics(order)
        return {name: own[name] for name in self.names}


@eqx.filter_jit
def _expansion(
    system: Spanning,
    ticks: Int[Array, " times"],
    evaluations: int,
    statistics: Statistics,
    names: tuple[str, ...],
    second: bool,
) -> Expansion:
    if system.radius.dtype != jnp.float64:
        raise NoFluctuationsError(
            f"system: made in {system.radius.dtype}; allowed with fluctuations, which are "
            "derivatives of the sampler: float64, with jax.config.update('jax_enable_x64', True) "
            "before the system is made"
        )
    if evaluations > MOST_SAMPLED:
        raise NoFluctuationsError(
            f"ts: {evaluations} observations; allowed with fluctuations: up to {MOST_SAMPLED} "
            "(the cost grows with the sixth power)"
        )
    values = limit.trajectory(system.problem, evaluations, statistics)
    values = jax.tree.map(lambda leaf: leaf[ticks], values)

    def run(draws: Draws, dimension: Float[Array, ""]) -> Array:
        along = _trajectory(system.problem, draws, dimension, statistics)
        return _ravelled(jax.tree.map(lambda leaf: leaf[ticks], along), names)[0]

    found = source(evaluations)
    if evaluations > MOST_EXACT:
        return Expansion(values, _sampled(run, evaluations), None, found, names)
    covariance, bias = _derived(run, evaluations, second)
    bias = None if bias is None else _ravelled(values, names)[1](bias)
    return Expansion(values, covariance, bias, found, names)


def _trajectory(
    problem: Problem, draws: Draws, dimension: Float[Array, ""], statistics: Statistics
) -> Any:
    """The statistics after each step of a run of the sampler with given random numbers."""
    nugget = jnp.asarray(sampler.NUGGET)

    def step(run: sampler.Run, inputs: tuple[Array, Draws]) -> tuple[sampler.Run, Any]:
        k, own = inputs
        run = sampler.observe(problem, run, k, own, dimension, nugget)
        return run, statistics(from_vectors(k, run.values[k], run.points, run.gradients))

    n = draws.length.shape[0]
    return jax.lax.scan(step, sampler.start(problem, n), (jnp.arange(n), draws))[1]


def _derived(
    run: Callable[[Draws, Array], Array], n: int, second: bool
) -> tuple[Float[Array, "q q"], Float[Array, " q"] | None]:
    """F and b by a first derivative, and for b a second one, in every number that a run draws.

    Args:
        run: the vector of all entries of the statistics, as a function of random numbers and d.
        n: the number of observations.
        second: whether b is computed.
    """
    infinite = jnp.asarray(jnp.inf)
    none = Draws(jnp.zeros((n, n + 1)), jnp.ones(n))
    # Observation k draws components 0, ..., k + 1; component -1 stands for the length zeta_k.
    step, component = np.nonzero(np.arange(-1, n + 1) <= np.arange(n)[:, None] + 1)
    step, component = jnp.asarray(step), jnp.asarray(component - 1)

    def derivatives(place: tuple[Array, Array]) -> tuple[Array, Array]:
        k, c = place
        innovation = jnp.zeros_like(none.innovations).at[k, c].set(jnp.where(c < 0, 0.0, 1.0))
        length = jnp.zeros_like(none.length).at[k].set(jnp.where(c < 0, 1.0, 0.0))
        tangent = Draws(innovation, length)

        def first(draws: Draws) -> Array:
            return jax.jvp(lambda draws: run(draws, infinite), (draws,), (tangent,))[1]

        if second:
            return jax.jvp(first, (none,), (tangent,))
        slope = first(none)
        return slope, jnp.zeros_like(slope)

    slopes, curvatures = jax.lax.map(derivatives, (step, component), batch_size=_TOGETHER)
    length = component < 0
    variance = jnp.where(length, 0.5, 1.0)[:, None]
    covariance = (variance * slopes).T @ slopes
    if not second:
        return covariance, None
    shift = jnp.where(length, (2 * step + 3) / 4, 0.0)[:, None]
    return covariance, (variance * curvatures / 2 - shift * slopes).sum(0)


def _sampled(run: Callable[[Draws, Array], Array], n: int) -> Float[Array, "q q"]:
    """F from 500 runs of n observations at a dimension where only the first order is left."""
    dimension = jnp.asarray(_LARGE)
    runs = random.stream(jax.random.key(0), Stream.THEORY)

    def one(index: Array) -> Array:
        key = random.at(runs, index)
        draws = jax.vmap(lambda k: draw(key, k, n + 1, dimension))(jnp.arange(n))
        return run(draws, dimension)

    values = jax.lax.map(one, jnp.arange(_RUNS), batch_size=4)
    centred = values - values.mean(0, keepdims=True)
    return _LARGE / (_RUNS - 1) * centred.T @ centred


def standard_deviations(
    system: Spanning,
    ts: Float[Array, " times"],
    statistics: Statistics,
    evaluations: int,
) -> dict[str, Array]:
    """The standard deviations of statistics at the dimension of the system, by name.

    Args:
        system: the system.
        ts: (times,) steps, which may be traced.
        statistics: a function from the order parameters to statistics by name.
        evaluations: the number of observations of a run.

    Raises:
        NoFluctuationsError: as for `expansion`.
    """
    ticks = whole_steps(ts)
    names = _order(system, statistics)
    found = _expansion(system, ticks, evaluations, statistics, names, False)
    return jax.tree.map(lambda v: _roots(v / system.dimension), found.variance)


def mean_corrections(
    system: Spanning,
    ts: Float[Array, " times"],
    statistics: Statistics,
    evaluations: int,
) -> dict[str, Array]:
    """The bias b/d of statistics at the dimension of the system, by name.

    The arguments are those of `standard_deviations`.

    Raises:
        NoMeanCorrectionError: there are more than 16 observations, or float64 is not enabled.
    """
    if evaluations > MOST_EXACT:
        raise NoMeanCorrectionError(
            f"ts: {evaluations} observations; allowed with mean_correction: up to {MOST_EXACT}"
        )
    ticks, names = whole_steps(ts), _order(system, statistics)
    try:
        found = _expansion(system, ticks, evaluations, statistics, names, True)
    except NoFluctuationsError as error:
        raise NoMeanCorrectionError(str(error)) from error
    assert found.bias is not None
    return jax.tree.map(lambda b: b / system.dimension, found.bias)


@checked
def critical_dimension(
    system: Spanning,
    ts: Any,
    tolerance: Positive,
    confidence: float = 0.95,
    statistics: Statistics | Sequence[str] | None = None,
) -> Float[Array, ""]:
    """The dimension from which on statistics of a run are within `tolerance` of their limits.

    The result is the largest, over times and entries of the statistics, of c^2 F/tolerance^2 and
    |b|/tolerance, with c the two-sided normal quantile of `confidence`.  The probability is that of
    each entry at each time separately.

    Args:
        system: the system; its dimension does not matter.
        ts: (times,) increasing steps.
        tolerance: the allowed distance from the limit, positive.
        confidence: the probability of being within the tolerance, in (0, 1).
        statistics: as for `expansion`.

    Raises:
        NoFluctuationsError: as for `expansion`.
        ValueError: a tolerance or a confidence out of range, or an unknown statistic.

    Example:
        >>> d = critical_dimension(landscape, [0, 1, 2], tolerance=0.1)
        >>> 600 < float(d) < 800
        True
    """
    tolerance = numbers("tolerance", tolerance, "positive")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence: {confidence}; allowed: between 0 and 1")
    found = expansion(system, ts, statistics)
    c = norm.ppf((1 + confidence) / 2)
    spread = c**2 * jnp.diagonal(found.covariance).max() / tolerance**2
    if found.bias is None:
        return spread
    return jnp.maximum(spread, jnp.abs(ravel_pytree(found.bias)[0]).max() / tolerance)


class HaltingLaw(eqx.Module):
    """The law of the halting time: the first step at which |g_k|^2 is at most a threshold.

    Attributes:
        probabilities: (steps + 1,) the probabilities of halting at step 0, 1, ..., steps - 1; the
            last entry is that of not halting at any of them.
        limit: the halting time as d grows; `steps` if it is none of them.
    """

    probabilities: Float[Array, " n"]
    limit: Int[Array, ""]


@checked
def halting_law(
    system: Spanning,
    threshold: Real,
    steps: Size,
    key: Key[Array, ""],
    draws: Size = 100_000,
) -> HaltingLaw:
    """The law of the halting time tau = min{k: |g_k|^2 <= threshold}, in Gaussian approximation.

    The vector (|g_k|^2)_k is approximated by a Gaussian one of mean limit + b/d and covariance F/d,
    with d the dimension of the system; for more than 16 steps, where b is not known, the mean is
    the limit.  As d grows, tau is deterministic unless the limit of some |g_k|^2 is the threshold
    itself.  Source: arXiv 2410.09973 (halting times are asymptotically deterministic).

    Args:
        system: the system.
        threshold: the threshold of |g_k|^2, positive.
        steps: the number of steps to look at, k = 0, ..., steps - 1.
        key: key of the Gaussian vectors.
        draws: the number of Gaussian vectors that are drawn.

    Raises:
        NoFluctuationsError: as for `expansion`.
        ValueError: a threshold that is not positive, or fewer than one step.

    Example:
        >>> law = halting_law(landscape, 0.7, steps=2, key=jax.random.key(0))
        >>> int(law.limit), round(float(law.probabilities[1]))
        (1, 1)
    """
    threshold = numbers("threshold", threshold, "positive")
    if steps < 1:
        raise ValueError(f"steps: {steps}; allowed: at least 1")
    found = expansion(system, np.arange(float(steps)), ("gradient_norm",))
    d, mean = system.dimension, found.limit["gradient_norm"]
    shift = 0.0 if found.bias is None else found.bias["gradient_norm"] / d
    values, vectors = jnp.linalg.eigh(found.covariance)
    factor = vectors * _roots(values / d)[None]
    curves = (mean + shift)[None] + jax.random.normal(key, (draws, steps)) @ factor.T
    times = _first(curves <= threshold)
    counts = jnp.bincount(times, length=steps + 1)
    return HaltingLaw(counts / draws, _first((mean <= threshold)[None])[0])


def _roots(values: Float[Array, "..."]) -> Float[Array, "..."]:
    """Square roots of variances; 0 where rounding has left a variance negative."""
    return jnp.sqrt(jnp.maximum(values, 0.0))


def _first(reached: Array) -> Array:
    """The index of the first True of each row; the length of the row if there is none."""
    return jnp.where(reached.any(axis=1), jnp.argmax(reached, axis=1), reached.shape[1])
