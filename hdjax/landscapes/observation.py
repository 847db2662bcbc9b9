"""The conditional law of the next observation along a run: the system `NextObservation`.

After steps 0, ..., k - 1 the point x_k is known, and f(x_k) and grad f(x_k) are Gaussian given all
earlier observations.  Along runs, the mean of this conditional law tends to the limit, and its
variance is of order 1/d.  The system records both, and checks that the covariance has the blocks of
`frame.py`.

Source: arXiv 2410.09973, sections 2.4.1 (previsible sampling) and 5.4.3 (conditional law).
"""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PyTree

from hdjax import precise
from hdjax.arrays import all_finite, cast, whole_steps
from hdjax.clocks import Clock
from hdjax.landscapes.explicit import VectorSimulator
from hdjax.landscapes.frame import conditional_law, jet_at, previsible_frame, rotated_covariance
from hdjax.landscapes.landscape import Horizon
from hdjax.landscapes.model import GradientSpan
from hdjax.landscapes.simulate import Previsible, PrevisibleSimulator
from hdjax.limits import Limit
from hdjax.system import Method, Watched, Watching, WithoutFluctuations


class Observation(eqx.Module):
    """An observation at x_k, and its conditional law given the observations at x_0, ..., x_{k-1}.

    Attributes:
        value: f(x_k).
        gradient_norm: |grad f(x_k)|^2.
        expected: E[f(x_k) | past].
        variance: d Var(f(x_k) | past).
        expected_gradient: E[|grad f(x_k)|^2 | past].
        unseen_variance: s_k^2, d times the conditional variance of a derivative along a direction
            orthogonal to all earlier points and gradients.
        coupling: the largest covariance, times d, between a derivative along such a direction and
            another component; 0 up to rounding.
        mismatch: the largest difference between A and the covariance of the derivatives along such
            a direction at all points; 0 up to rounding.
    """

    value: Float[Array, ""]
    gradient_norm: Float[Array, ""]
    expected: Float[Array, ""]
    variance: Float[Array, ""]
    expected_gradient: Float[Array, ""]
    unseen_variance: Float[Array, ""]
    coupling: Float[Array, ""]
    mismatch: Float[Array, ""]


class NextObservation(WithoutFluctuations):
    """The conditional law of each observation of a run, before the observation is made.

    The limit is that of the sampler at d = infinity; it needs float64 and serves up to some tens of
    steps.

    Args:
        system: a gradient span algorithm, isotropic and without mini-batch noise.

    Raises:
        ValueError: the system has a spectrum or noise; or a method in R^d is used with d at most
            the number of observations.

    Example:
        >>> watched = NextObservation(landscape)
        >>> result = hd.limit(watched, ts=[0, 1])
        >>> result.limit["variance"].values.round(4).tolist()
        [1.0, 0.0265]
    """

    family: ClassVar[str] = "landscapes"
    time_label: ClassVar[str] = "step k"
    labels: ClassVar[dict[str, str]] = {
        "value": "value f(x_k)",
        "gradient_norm": "squared gradient norm |g_k|^2",
        "expected": "E[f(x_k) | past]",
        "surprise": "f(x_k) - E[f(x_k) | past]",
        "variance": "d Var(f(x_k) | past)",
        "expected_gradient": "E[|g_k|^2 | past]",
        "unseen_variance": "s_k^2",
        "coupling": "largest covariance across blocks",
        "mismatch": "largest difference of blocks",
    }

    methods: ClassVar[tuple[type[Method], ...]] = GradientSpan.methods
    no_fluctuations: ClassVar[str] = "theory gives the conditional law along the limit alone"

    system: GradientSpan

    def __check_init__(self) -> None:
        for name in ("spectrum", "noise"):
            if getattr(self.system, name) is not None:
                raise ValueError(f"{name}: given; allowed with NextObservation: None")

    @property
    def dimension(self) -> Float[Array, ""]:
        """The dimension d of the landscape."""
        return self.system.dimension

    def validate(self, *, compared: bool = False, realised: bool = False) -> None:
        self.system.validate(compared=compared, realised=realised)

    def horizon(self, ts: Float[np.ndarray, " times"], method: Any = None) -> Horizon:
        """The horizon of the landscape."""
        return self.system.horizon(ts, method)

    def simulator_of(self, method: Method, horizon: Horizon) -> "ObservingSimulator":
        """The simulator of the landscape, with conditional laws as its summary."""
        if horizon.dimension is not None and horizon.dimension <= horizon.evaluations:
            raise ValueError(
                f"dimension: {horizon.dimension}; allowed with {horizon.evaluations} observations "
                "in R^d: more"
            )
        inner = self.system.simulator_of(method, horizon)
        assert isinstance(inner, PrevisibleSimulator | VectorSimulator)
        return ObservingSimulator(inner=inner, system=self.system)

    def alive(self, summary: Observation) -> Bool[Array, ""]:
        """Whether all numbers of a run are finite."""
        return all_finite(summary)

    def review(self, ts: Float[np.ndarray, " times"]) -> None:
        """No times are doubtful in this family."""

    def about(self, horizon: Horizon) -> Mapping[str, str]:
        """No remarks: a result of this system needs no further explanation."""
        return {}

    def start(self) -> Observation:
        """The limit of the first observation as d grows."""
        return self.limit(np.zeros(1)).at(0)

    def limit(
        self,
        ts: Float[Array | np.ndarray, " times"],
        start: Observation | None = None,
        horizon: Horizon | None = None,
        save: Callable[[Observation], PyTree[Array]] = lambda summary: summary,
    ) -> Limit:
        """The conditional laws along the sampler's run at d = infinity.

        Args:
            ts: (times,) steps; concrete unless `horizon` is given.
            start: not used: x_0 is given.
            horizon: the number of observations to make.
            save: a function of the `Observation`, whose values are kept.

        Raises:
            ValueError: the times are traced and no horizon is given, or float64 is not enabled.
        """
        evaluations = self.system.given_horizon(ts, horizon).evaluations
        endless = jnp.full_like(self.dimension, jnp.inf)
        infinite = eqx.tree_at(lambda s: s.dimension, self.system, endless)
        simulator = ObservingSimulator(
            inner=Previsible().simulator(infinite, Horizon(evaluations)), system=infinite
        )
        key = jax.random.key(0)  # at d = infinity nothing is random

        def step(state: PyTree, k: Int[Array, ""]) -> tuple[PyTree, PyTree]:
            state = simulator.advance(state, k, k, key)
            return state, save(simulator.summary(state))

        saved = jax.lax.scan(step, simulator.init(key), jnp.arange(evaluations))[1]
        ts = jnp.asarray(ts)
        recorded = whole_steps(ts)
        return Limit.whole(jax.tree.map(lambda leaf: leaf[recorded], saved), ts)

    def statistics(self, summary: Observation) -> dict[str, Array]:
        """The numbers of an `Observation` by name, and `surprise` = value - expected."""
        fields = {name: getattr(summary, name) for name in self.labels if name != "surprise"}
        return fields | {"surprise": summary.value - summary.expected}


class ObservingSimulator(Watching):
    """A simulator of the landscape, whose summary is the conditional law of its last observation.

    Attributes:
        inner: the simulator of the landscape.
        system: the landscape.
    """

    inner: PrevisibleSimulator | VectorSimulator
    system: GradientSpan

    @property
    def clock(self) -> Clock:
        """The clock of the landscape."""
        return self.inner.clock

    def summary(self, state: Watched) -> Observation:
        seen = state.run.seen
        previsible = isinstance(self.inner, PrevisibleSimulator)
        run = state.run.run if previsible else state.run
        points, values, gradients = cast(
            (run.points, run.values, run.gradients), self.system.radius.dtype
        )
        return observation(self.system, points, values, gradients, seen - 1)

    def side_by_side(self) -> int | None:
        return self.inner.side_by_side()


def observation(
    system: GradientSpan,
    points: Float[Array, "n d"],
    values: Float[Array, " n"],
    gradients: Float[Array, "n d"],
    k: Int[Array, ""],
) -> Observation:
    """The observation at x_k, and its law given the observations at x_0, ..., x_{k-1}.

    Args:
        system: the landscape.
        points: coordinates of x_0, x_1, ... in any orthonormal basis of more than n directions;
            rows beyond k are not used.
        values: f at these points.
        gradients: grad f at these points.
        k: the step.
    """
    n = points.shape[0]
    earlier, known = jnp.arange(n) < k, jnp.arange(n) <= k
    points = jnp.where(known[:, None], points, 0.0)
    seen = precise.dot(gradients[k], gradients[k])
    gradients = jnp.where(earlier[:, None], gradients, 0.0)
    origin = jnp.zeros_like(points[0]).at[0].set(1.0)
    start = jnp.where(system.radius > 0, points[0], origin)
    frame = previsible_frame(start, gradients)

    # x_0 and the gradients before step k span e_0, ..., e_k.  As k < n, the direction e_n stands
    # for all directions that they do not span.
    short = frame[: n + 1]
    x = short @ points[k]
    law = conditional_law(
        system.kernel, system.mean, points @ short.T, values, gradients @ short.T, x, earlier
    )
    variances = jnp.diagonal(law.covariance)
    spanned = jnp.arange(n + 1) <= k
    inverse, unseen = 1 / system.dimension, variances[-1]
    scatter = jnp.where(spanned, variances[1:], 0.0).sum() * inverse
    rest = unseen * (1 - spanned.astype(unseen.dtype).sum() * inverse)
    square = jnp.where(spanned, law.mean[1:] ** 2, 0.0).sum() + scatter + rest
    blocks = _blocks(system, points, frame, k)
    return Observation(values[k], seen, law.mean[0], variances[0], square, unseen, *blocks)


def _blocks(
    system: GradientSpan,
    points: Float[Array, "n d"],
    frame: Float[Array, "d d"],
    k: Int[Array, ""],
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """The numbers `coupling` and `mismatch` of an `Observation`."""
    n, d = points.shape
    covariance = rotated_covariance(system.kernel, points, frame)
    known = jnp.arange(n) <= k
    covariance = jnp.where(known[:, None, None] & known[None, None], covariance, 0.0)
    component = jnp.arange(d + 1)
    free = component > k + 1
    apart = free[:, None] & (component[:, None] != component[None])
    coupling = jnp.where(apart[:, None, :, None], jnp.abs(covariance), 0.0).max()

    def third(x: Array, y: Array) -> Array:
        return jet_at(system.kernel, x, y).derivative

    A = jax.vmap(jax.vmap(third, (None, 0)), (0, None))(points, points)
    A = jnp.where(known[:, None] & known[None], A, 0.0)
    own = covariance[component, :, component, :]
    return coupling, jnp.where(free[:, None, None], jnp.abs(own - A[None]), 0.0).max()
