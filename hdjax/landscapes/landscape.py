"""The part of a system that all algorithms on a Gaussian random function share.

`GradientSpan` (`model.py`) and `ComponentWise` (`componentwise.py`) are such systems.  They share
the law of the function, the start x_0, the clock (time is the step k), and the order parameters
(`order.py`) with their statistics.  For methods, this module defines `Horizon`, the numbers that a
compiled program must know.
"""

import abc
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PyTree

from hdjax.arrays import all_finite, whole_steps
from hdjax.checks import is_concrete
from hdjax.clocks import Steps
from hdjax.landscapes._arguments import check_numbers
from hdjax.landscapes.kernels.base import Jet, Kernel
from hdjax.landscapes.limit import Problem
from hdjax.landscapes.order import OrderParameters
from hdjax.limits import Limit
from hdjax.spectra import Spectrum
from hdjax.system import Method, Simulator, System

# Times are step numbers, each at most once.
CLOCK = Steps(1, distinct=True)
# Points are O(1): a run whose squared norm exceeds this counts as diverged.
_DIVERGED = 1e8
# The error up to which a kernel of the user may be asymmetric or negative, in float32 too.
_ROUNDING = 1e-5


class Horizon(NamedTuple):
    """The numbers that fix the shapes of a compiled program.

    Attributes:
        evaluations: the number of observations of value and gradient.
        dimension: d, if the method holds vectors of R^d; None otherwise.
    """

    evaluations: int
    dimension: int | None = None


class LandscapeMethod(Method):
    """A method that runs systems of this family.

    Attributes:
        in_space: whether the method holds vectors of R^d, so that a compiled program must know d.
    """

    in_space: ClassVar[bool]


class Landscape(System):
    """An algorithm on a Gaussian random function; subclasses define the algorithm and its limit.

    Attributes:
        kernel: kappa, d times the covariance of f.
        mean: mu, a function of |x|^2/2.
        radius: |x_0|.
        dimension: d, or infinity.
        noise: kernel of mini-batch noise, or None.
        spectrum: eigenvalues of a covariance K, for the function f(K^{1/2} x), or None.
        algorithm: an `Algorithm`, or an object with its interface, which makes steps in R^d.
    """

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
    algorithm: eqx.AbstractVar[Any]

    @abc.abstractmethod
    def trajectory(
        self, evaluations: int, save: Callable[[OrderParameters], PyTree[Array]]
    ) -> PyTree[Array]:
        """The values of `save` on the limit after the steps 0, ..., evaluations - 1, stacked."""

    def check_numbers(self, realised: bool) -> None:
        """Raise ValueError if the radius, the dimension or a realised start is not allowed."""
        check_numbers("radius", self.radius, "at least 0")
        check_numbers("dimension", self.dimension, "positive or infinite")
        if is_concrete(self.dimension):
            d = np.asarray(self.dimension)
            if np.any(np.isfinite(d) & ((d != np.floor(d)) | (d > 1e15))):
                raise ValueError(f"dimension: {d}; allowed: an integer up to 1e15, or infinity")
        if realised:
            raise ValueError("start: 'realised'; allowed: 'law' (x_0 is given, and not random)")

    def simulator_of(self, method: Method, horizon: Horizon) -> Simulator:
        """The simulator by which `method` runs this system."""
        return method.simulator(self, horizon)

    def horizon(self, ts: Float[np.ndarray, " times"], method: Any = None) -> Horizon:
        """The horizon of a run up to the last of `ts`: an observation for each step and at x_0."""
        evaluations, chosen = int(CLOCK.ticks(ts)[-1]) + 1, self.checked(method)
        in_space = isinstance(chosen, LandscapeMethod) and chosen.in_space
        if not in_space or np.isinf(self.dimension):
            return Horizon(evaluations)
        return Horizon(evaluations, int(self.dimension))

    def review(self, ts: Float[np.ndarray, " times"]) -> None:
        """No times are doubtful in this family."""

    def given_horizon(self, ts: Any, horizon: Horizon | None) -> Horizon:
        """The given horizon, or else that of the concrete times `ts`.

        Raises:
            ValueError: the times are traced and no horizon is given.
        """
        if horizon is not None:
            return horizon
        if not is_concrete(ts):
            raise ValueError(
                "ts: traced; allowed: a NumPy array, or horizon=system.horizon(ts) made outside of "
                "jit (the number of steps fixes shapes, and jnp arrays are traced inside jit)"
            )
        return self.horizon(np.asarray(ts))

    def start(self) -> OrderParameters:
        """The limit of the order parameters at x_0 as d grows."""
        return jax.tree.map(lambda leaf: leaf[0], self.trajectory(1, lambda order: order))

    def limit(
        self,
        ts: Float[Array | np.ndarray, " times"],
        start: OrderParameters | None = None,
        horizon: Horizon | None = None,
        save: Callable[[OrderParameters], PyTree[Array]] = lambda summary: summary,
    ) -> Limit:
        """The limit of the order parameters as d grows, at the steps `ts`.

        Args:
            ts: (times,) steps; concrete unless `horizon` is given.
            start: not used: x_0 is given.
            horizon: the number of observations to make.
            save: a function of the order parameters, whose values are kept.

        Raises:
            ValueError: the times are traced and no horizon is given.
        """
        evaluations = self.given_horizon(ts, horizon).evaluations
        ts = jnp.asarray(ts)
        return Limit.whole(_at_steps(self, ts, evaluations, save), ts)

    def alive(self, summary: OrderParameters) -> Bool[Array, ""]:
        """Whether a run is finite with |x|^2 < 10^8 (runs on unbounded landscapes may diverge)."""
        return all_finite(summary) & (summary.norm < _DIVERGED)

    def statistics(self, summary: OrderParameters) -> dict[str, Array]:
        """The value, the squared norms of gradient and point, and their overlaps with the first."""
        return {
            "value": summary.value,
            "gradient_norm": summary.gradient_norm,
            "norm": summary.norm,
            "start_overlap": summary.points[0],
            "gradient_overlap": summary.gradients[0],
        }


class Spanning(Landscape):
    """A gradient span algorithm, as the sampler, the limit and the fluctuations take it."""

    @property
    @abc.abstractmethod
    def problem(self) -> Problem:
        """The function, the algorithm and the start, as the sampler and the limit take them."""


def check_kernels(kernel: Any, noise: Any) -> None:
    """Raise TypeError if `kernel` is no kernel, or `noise` is neither a kernel nor None."""
    if not isinstance(kernel, Kernel):
        raise TypeError(f"kernel: {kernel!r}; allowed: one of hdjax.landscapes")
    if noise is not None and not isinstance(noise, Kernel):
        raise TypeError(f"noise: {noise!r}; allowed: a kernel of hdjax.landscapes or None")


def jet_at_start(kernel: Kernel, half: Float[Array, ""]) -> Jet:
    """The value and the derivatives of a kernel at x_0, after a check of the kernel there.

    Args:
        kernel: kappa.
        half: |x_0|^2/2, concrete.

    Raises:
        ValueError: at x_0 the kernel is not symmetric, or is not the covariance of a function with
            derivatives.
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
            f"kernel: {there:g} for a pair of points and {back:g} for the same pair in the other "
            "order; allowed: symmetric"
        )
    return jet


@eqx.filter_jit
def _at_steps(
    landscape: Landscape,
    ts: Float[Array, " times"],
    evaluations: int,
    save: Callable[[OrderParameters], PyTree[Array]],
) -> PyTree[Array]:
    """The values of `save` on the limit at the steps `ts`."""
    saved = landscape.trajectory(evaluations, save)
    recorded = whole_steps(ts)
    return jax.tree.map(lambda leaf: leaf[recorded], saved)
