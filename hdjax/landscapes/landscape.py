"""What all algorithms on a random function share: its law, the clock, the order parameters."""

import abc
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PyTree

from hdjax.clocks import Steps
from hdjax.landscapes._arguments import check_numbers
from hdjax.landscapes.kernels import Jet, Kernel
from hdjax.landscapes.limit import Problem
from hdjax.landscapes.order import OrderParameters
from hdjax.limits import Limit
from hdjax.spectra import Spectrum
from hdjax.system import Method, Simulator, System, all_finite, is_concrete

# Times are step numbers, each at most once.
CLOCK = Steps(1, distinct=True)
# Points are O(1): a squared norm beyond this has left the region that the theory speaks of.
_DIVERGED = 1e8
# What a user's kernel may be off by, in float32 too.
_ROUNDING = 1e-5


class Horizon(NamedTuple):
    """What a compiled program must know: how many observations, and d where arrays are in R^d."""

    evaluations: int
    dimension: int | None = None


class LandscapeMethod(Method):
    """A method of the family.

    Attributes:
        in_space: whether it holds vectors of R^d, so that a compiled program must know d.
    """

    in_space: ClassVar[bool]


class Landscape(System):
    """An algorithm on a Gaussian random function; subclasses know the algorithm and its limit."""

    family: ClassVar[str] = "landscapes"
    time_label: ClassVar[str] = "step k"
    labels: ClassVar[Mapping[str, str]] = {
        "value": "value f(x_k)",
        "gradient_norm": "squared gradient norm |g_k|^2",
        "norm": "squared norm |x_k|^2",
        "start_overlap": "overlap with the start <x_k, x_0>",
        "gradient_overlap": "overlap with the first gradient <g_k, g_0>",
    }

    kernel: eqx.AbstractVar[Kernel]
    mean: eqx.AbstractVar[Callable]
    radius: eqx.AbstractVar[Float[Array, ""]]
    dimension: eqx.AbstractVar[Float[Array, ""]]
    noise: eqx.AbstractVar[Kernel | None]
    spectrum: eqx.AbstractVar[Spectrum | None]
    # What makes steps in R^d, an `Algorithm` or one of its interface.
    algorithm: eqx.AbstractVar[Any]

    @abc.abstractmethod
    def trajectory(
        self, evaluations: int, save: Callable[[OrderParameters], PyTree[Array]]
    ) -> PyTree[Array]:
        """`save` of the limit after each of the steps 0, ..., evaluations - 1, stacked."""

    def check_numbers(self, realised: bool) -> None:
        """Raise ValueError on a radius, a dimension or a start that is not allowed."""
        check_numbers("radius", self.radius, "at least 0")
        check_numbers("dimension", self.dimension, "positive or infinite")
        if is_concrete(self.dimension):
            d = np.asarray(self.dimension)
            if np.any(np.isfinite(d) & ((d != np.floor(d)) | (d > 1e15))):
                raise ValueError(f"dimension: {d}; allowed: an integer up to 1e15, or infinity")
        if realised:
            raise ValueError("start: 'realised'; allowed: 'law' (x_0 is given, and not random)")

    def simulator_of(self, method: Method, horizon: Horizon) -> Simulator:
        """The method's own."""
        return method.simulator(self, horizon)

    def horizon(self, ts: Float[np.ndarray, " times"], method: Any = None) -> Horizon:
        """As many observations as there are steps, and one at x_0."""
        evaluations, chosen = int(CLOCK.ticks(ts)[-1]) + 1, self.checked(method)
        in_space = isinstance(chosen, LandscapeMethod) and chosen.in_space
        if not in_space or np.isinf(self.dimension):
            return Horizon(evaluations)
        return Horizon(evaluations, int(self.dimension))

    def review(self, ts: Float[np.ndarray, " times"]) -> None:
        """Nothing is doubtful."""

    def given_horizon(self, ts: Any, horizon: Horizon | None) -> Horizon:
        """`horizon`, or that of concrete times.

        Raises:
            ValueError: traced times without a horizon.
        """
        if horizon is not None:
            return horizon
        if not is_concrete(ts):
            raise ValueError(
                "ts: traced, while the number of steps fixes shapes; allowed: a NumPy array (jnp "
                "arrays are traced inside jit), or horizon=system.horizon(ts) from outside"
            )
        return self.horizon(np.asarray(ts))

    def start(self) -> OrderParameters:
        """The order parameters at x_0 as d grows."""
        return jax.tree.map(lambda leaf: leaf[0], self.trajectory(1, lambda order: order))

    def limit(
        self,
        ts: Float[Array | np.ndarray, " times"],
        start: OrderParameters | None = None,
        horizon: Horizon | None = None,
        save: Callable[[OrderParameters], PyTree[Array]] = lambda summary: summary,
    ) -> Limit:
        """The limit at steps `ts`.

        Args:
            ts: (times,) steps; concrete unless `horizon` is given.
            start: None (x_0 is given).
            horizon: how many observations to make.
            save: what to keep of the order parameters.
        """
        evaluations = self.given_horizon(ts, horizon).evaluations
        ts = jnp.asarray(ts)
        return Limit.whole(_at_steps(self, ts, evaluations, save), ts)

    def alive(self, summary: OrderParameters) -> Bool[Array, ""]:
        """Finite, and |x|^2 below 10^8 (unbounded landscapes diverge in a few steps)."""
        return all_finite(summary) & (summary.norm < _DIVERGED)

    def statistics(self, summary: OrderParameters) -> dict[str, Array]:
        """Value, squared norms of gradient and point, overlaps with the first of each."""
        return {
            "value": summary.value,
            "gradient_norm": summary.gradient_norm,
            "norm": summary.norm,
            "start_overlap": summary.points[0],
            "gradient_overlap": summary.gradients[0],
        }


class Spanning(Landscape):
    """A gradient span algorithm, as its sampler, its limit and its fluctuations see it."""

    @property
    @abc.abstractmethod
    def problem(self) -> Problem:
        """What the recursions need to know."""


def check_kernels(kernel: Any, noise: Any) -> None:
    """Raise TypeError on what is no kernel."""
    if not isinstance(kernel, Kernel):
        raise TypeError(f"kernel: {kernel!r}; allowed: one of hdjax.landscapes")
    if noise is not None and not isinstance(noise, Kernel):
        raise TypeError(f"noise: {noise!r}; allowed: a kernel of hdjax.landscapes or None")


def jet_at_start(kernel: Kernel, half: Float[Array, ""]) -> Jet:
    """The kernel at x_0 with |x_0|^2/2 = `half` (concrete).

    Raises:
        ValueError: it is no covariance there, of a function with derivatives.
    """
    none, apart = jnp.zeros_like(half), jnp.full_like(half, 0.5)
    jet = kernel.jet(half, half, 2 * half, none)
    variances = np.array([jet.value, jet.derivative])
    finite = all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(jet))
    if not finite or variances.min() < -_ROUNDING:
        raise ValueError(
            f"kernel: variances {variances[0]:g} of f and {variances[1]:g} of its derivatives at "
            "x_0; allowed: at least 0, of a kernel that is twice differentiable at x = y"
        )
    there, back = (
        float(kernel(*pair, 2 * half, apart))
        for pair in ((half, half + apart), (half + apart, half))
    )
    if abs(there - back) > _ROUNDING * max(1.0, abs(there)):
        raise ValueError(
            f"kernel: {there:g} for a pair of points and {back:g} for the same in the other order; "
            "allowed: symmetric"
        )
    return jet


@eqx.filter_jit
def _at_steps(
    landscape: Landscape,
    ts: Float[Array, " times"],
    evaluations: int,
    save: Callable[[OrderParameters], PyTree[Array]],
) -> PyTree[Array]:
    saved = landscape.trajectory(evaluations, save)
    recorded = jnp.round(ts).astype(int)
    return jax.tree.map(lambda leaf: leaf[recorded], saved)
