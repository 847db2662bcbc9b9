"""The method `Previsible`: the exact sampler of `sampler.py` as a simulator of `GradientSpan`.

One compiled program serves any dimension from 1 to 10^15, and infinity.  The random numbers of a
run, Gaussian innovations and chi lengths, are drawn at its start by `draw`.

Source: arXiv 2410.09973, sections 2.4.1 (previsible sampling) and 5.3 (previsible coordinates).
"""

from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import log_ndtr
from jaxtyping import Array, Float, Int, Key

from hdjax import random
from hdjax.checks import is_concrete
from hdjax.clocks import Steps
from hdjax.landscapes import panels, sampler
from hdjax.landscapes._arguments import numbers
from hdjax.landscapes.frame import jet_at
from hdjax.landscapes.landscape import CLOCK, Horizon, LandscapeMethod, Spanning
from hdjax.landscapes.order import OrderParameters, from_vectors
from hdjax.landscapes.sampler import Draws, Run
from hdjax.random import Stream
from hdjax.registry import NonNegative, register
from hdjax.system import Simulator

# The number of normals of which the chi^2 variable of an observation is made: one, and 16 pairs.
_PROPOSED = 33
# The least nugget for kernels whose relative conditional variances fall below the root of it.
_LEAST = 1e-11
# The bytes of runs that are computed side by side on a CPU: their factors should share a cache.
_CACHE = 2**24


class State(eqx.Module):
    """The state of a run.

    Attributes:
        run: the trajectory in the previsible frame.
        draws: the random numbers of all observations of the run.
        seen: the number of observations made so far.
    """

    run: Run
    draws: Draws
    seen: Int[Array, ""]


@register("landscapes.method", "previsible")
class Previsible(LandscapeMethod):
    """The exact law of a run in previsible coordinates, at a cost that does not depend on d.

    A run of n observations costs O(n^6) operations and keeps about 2.5 n^4 bytes; it ends with the
    last record.  The method needs float64.

    Args:
        nugget: relative variance of the white noise that regularises every observation; results
            change by about as much.  Values below 1e-11 are too small for smooth kernels.

    Raises:
        ValueError: the nugget is negative or too small for the kernel, or float64 is not enabled.

    Example:
        >>> method = Previsible()
    """

    in_space: ClassVar[bool] = False
    nugget: Float[Array, ""]

    def __init__(self, nugget: NonNegative = sampler.NUGGET):
        self.nugget = numbers("nugget", nugget, "at least 0")

    def simulator(self, system: Spanning, horizon: Horizon) -> "PrevisibleSimulator":
        """The simulator of `system`.

        Raises:
            ValueError: the system has a spectrum or is not in float64, or the nugget is too small.
        """
        if system.spectrum is not None:
            raise ValueError(
                "method: Previsible; allowed with a spectrum: Explicit(...), Function(...) "
                "(the previsible frame needs rotation invariance)"
            )
        if system.radius.dtype != jnp.float64:
            raise ValueError(
                f"method: Previsible in {system.radius.dtype}; allowed: float64, with "
                "jax.config.update('jax_enable_x64', True) before the system is made (the rounding "
                "of smaller dtypes exceeds conditional variances)"
            )
        single = is_concrete((system, self.nugget)) and system.radius.ndim == 0
        if single and np.all(np.asarray(self.nugget) < _LEAST):
            self._check(system, horizon.evaluations)
        return PrevisibleSimulator(system, self.nugget, horizon.evaluations)

    def _check(self, system: Spanning, evaluations: int) -> None:
        """Raise ValueError if an observation is almost determined by those before it."""
        found = np.asarray(_conditional_variances(system.problem, evaluations))
        lost = found < _LEAST**0.5
        if lost.any():
            raise ValueError(
                f"nugget: {np.asarray(self.nugget)}, while conditional variances of observation "
                f"{lost.argmax()} fall to {found[lost.argmax()]:.1g} of the variance, which "
                f"rounding may make negative; allowed with this kernel and {evaluations} "
                f"observations: at least {_LEAST:g}"
            )


@eqx.filter_jit
def _conditional_variances(problem: Any, n: int) -> Float[Array, " n"]:
    """The least conditional variance of each observation at d = infinity and the default nugget.

    Variances are relative to the variance of the value, or to that of a derivative orthogonal to
    the point.
    """
    dtype = problem.masses.dtype
    draws = Draws(jnp.zeros(n + 1, dtype), jnp.ones((), dtype))
    endless, nugget = jnp.asarray(jnp.inf, dtype), jnp.asarray(sampler.NUGGET, dtype)

    def step(k: Array, run: Run) -> Run:
        return sampler.observe(problem, run, k, draws, endless, nugget)

    run = jax.lax.fori_loop(0, n, step, sampler.start(problem, n))

    def variances(x: Float[Array, " n"]) -> Float[Array, " c"]:
        jet = jet_at(problem.kernel, x, x)
        return jnp.concatenate([jet.value[None], jnp.broadcast_to(jet.derivative, (n,))])

    whole = jax.vmap(variances)(run.points[:, :n])
    # Components that a step does not observe have factor 0.
    return 1 / (panels.own_factors(run.panels, n) ** 2 * whole).max(axis=1)


class PrevisibleSimulator(Simulator):
    """One realisation in its previsible frame; the clock is the step k.

    The observation at x_0 is made at tick 0.

    Attributes:
        system: the landscape and the algorithm.
        nugget: relative variance of the regularising noise.
        evaluations: the number of observations.
    """

    system: Spanning
    nugget: Float[Array, ""]
    evaluations: int = eqx.field(static=True)

    @property
    def clock(self) -> Steps:
        """The clock whose time is the step k."""
        return CLOCK

    def init(self, key: Key[Array, ""]) -> State:
        """The start of a run, with the random numbers of all its observations."""
        n, own = self.evaluations, random.stream(key, Stream.FUNCTION)
        draws = jax.vmap(lambda k: draw(own, k, n + 1, self.system.dimension))(jnp.arange(n))
        return State(sampler.start(self.system.problem, n), draws, jnp.zeros((), int))

    def advance(
        self,
        state: State,
        k0: Int[Array, ""],
        k1: Int[Array, ""],
        key: Key[Array, ""],
    ) -> State:
        system = self.system

        def step(k: Array, run: Run) -> Run:
            draws = jax.tree.map(lambda leaf: leaf[k], state.draws)
            return sampler.observe(system.problem, run, k, draws, system.dimension, self.nugget)

        run = jax.lax.fori_loop(state.seen, k1 + 1, step, state.run)
        return State(run, state.draws, k1 + 1)

    def summary(self, state: State) -> OrderParameters:
        run, k = state.run, state.seen - 1
        return from_vectors(k, run.values[k], run.points, run.gradients)

    def _bytes(self) -> int:
        """The bytes on which a step of one run works."""
        state = jax.eval_shape(lambda: sampler.start(self.system.problem, self.evaluations))
        n = self.evaluations
        # Beside the state, a step holds covariances with the past and an updated state.
        held = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))
        return 2 * held + 8 * 6 * n * (n + 1) ** 2

    def side_by_side(self) -> int | None:
        if jax.default_backend() != "cpu":
            return None
        return max(1, _CACHE // self._bytes())


def draw(
    key: Key[Array, ""], k: Int[Array, ""], components: int, dimension: Float[Array, ""]
) -> Draws:
    """The random numbers of observation k at dimension d; at d = infinity nothing is random.

    Args:
        key: key of the stream from which all observations of a run are drawn.
        k: the observation.
        components: the number of Gaussian innovations.
        dimension: d.

    Returns:
        Innovations eps/sqrt(d), and the length zeta_k with zeta_k^2 ~ chi^2(d - k - 1)/d.
    """
    finite = jnp.isfinite(dimension)
    d = jnp.where(finite, dimension, 1.0)
    # One call draws all normals, as compiling the cipher costs more than the numbers.
    normals = jax.random.normal(random.at(key, k), (_PROPOSED + components,), d.dtype)
    freedom = jnp.maximum(d - k.astype(d.dtype) - 1, 1.0)
    chi = _chi_squared(normals[:_PROPOSED], freedom)
    innovations = jnp.where(finite, normals[_PROPOSED:] / jnp.sqrt(d), 0.0)
    return Draws(innovations, jnp.where(finite, jnp.sqrt(chi / d), 1.0))


def _chi_squared(normals: Float[Array, " p"], freedom: Float[Array, ""]) -> Float[Array, ""]:
    """A chi^2 variable with at least one degree of freedom, made of standard normals.

    The method is that of Marsaglia and Tsang (2000).  A proposal is accepted with probability above
    0.95, so that the first accepted one of 16 proposals has the exact law up to 1e-20.
    """
    z, w = normals[1:].reshape(2, -1)
    shape = freedom / 2
    # For shapes a below 1, Gamma(a) = Gamma(a + 1) U^(1/a).
    small = shape < 1
    a = jnp.where(small, shape + 1, shape) - 1 / 3
    v = (1 + z / jnp.sqrt(9 * a)) ** 3
    positive = v > 0
    margin = z**2 / 2 + a * (1 - v + jnp.log(jnp.where(positive, v, 1.0)))
    first = jnp.argmax(positive & (log_ndtr(w) < margin))
    gamma = a * v[first]
    return 2 * jnp.where(small, gamma * jnp.exp(log_ndtr(normals[0]) / shape), gamma)
