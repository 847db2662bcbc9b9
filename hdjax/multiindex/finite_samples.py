"""The practical two-timescale algorithm on n samples: the system `FiniteSamples`.

    fast:  fit the link to (W^T x_i, y_i), i <= n             (ridge regression: `readouts.py`)
    slow:  W <- polar(W - eta (I - W W^T) grad),
           grad = -(2/n) sum_i (y_i - F(W^T x_i)) x_i grad F(W^T x_i)^T

The samples are one data set throughout, or fresh at every step.  With unlimited samples the
algorithm is the recursion of `descent.py`, which is the system's limit.  Sources: arXiv 2310.19793
(section 5 discusses the number of samples); Dandi et al., "The Benefits of Reusing Batches for
Gradient Descent" (arXiv 2402.03220), on reused against fresh batches.
"""

from collections.abc import Callable, Mapping
from typing import Annotated, Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key, PyTree

from hdjax import precise, random
from hdjax.checks import checked, is_concrete
from hdjax.clocks import Steps
from hdjax.limits import Limit
from hdjax.multiindex.descent import Adaptive, Constant, as_step, polar, recursion
from hdjax.multiindex.flows import full_summary
from hdjax.multiindex.links.link import Link
from hdjax.multiindex.problem import LABELS, Algorithm, Direct, OverlapSummary, Problem
from hdjax.multiindex.readouts import HermiteRidge, Readout
from hdjax.multiindex.starts import lift
from hdjax.random import Stream
from hdjax.registry import In, NonNegative, OneOf, Positive, Size, Values, register
from hdjax.system import Method, PlainSystem, Simulator, WithoutFluctuations

INPUTS = ("gaussian", "rademacher", "student")
TARGETS = ("spread", "axis")
# Degrees of freedom of Student's t: with 9 it has eight finite moments.
_FREEDOM = 9.0


@register("multiindex.algorithm", "finite_samples")
class FiniteSamples(Algorithm, PlainSystem, WithoutFluctuations):
    """Two-timescale gradient descent on n samples: the link is fitted anew before every step of W.

    The statistic `loss` is the population loss under Gaussian inputs of the best link for the
    directions, or of the readout's own link with `Fixed`.

    Args:
        link: f*, the link of the target, whose exact values are the labels.
        dimension: d, an int.
        samples: n, the size of the data set or of each step's batch.
        readout: how the link is fitted; None: `HermiteRidge` of the link's degree.
        step: eta, or a step rule such as `Adaptive(c)`; None: `Adaptive()`.
        fresh: whether every step draws new samples.
        noise: standard deviation of Gaussian label noise.
        inputs: law of the entries of x, of unit variance: "gaussian", "rademacher" (signs) or
            "student" (t with 9 degrees of freedom).
        target: the columns W* are "spread" over the coordinates (cosines), or on the "axis": the
            first r coordinate vectors.
        directions: q, the number of student columns; None: r.
        start: the overlap M at the start (q, r); None: a Haar start.

    Raises:
        ValueError, TypeError: an argument has a value or a type that is not allowed.

    Example:
        >>> import hdjax as hd
        >>> link = hd.multiindex.links.sine(degree=5)
        >>> system = hd.multiindex.FiniteSamples(link, 20, samples=160)
    """

    family: ClassVar[str] = "multiindex"
    time_label: ClassVar[str] = "step k"
    labels: ClassVar[Mapping[str, str]] = LABELS
    methods: ClassVar[tuple[type[Method], ...]] = (Direct,)
    no_fluctuations: ClassVar[str] = (
        "W depends on the same n samples at every step, and the law over data sets is not known"
    )

    problem: Problem
    readout: Readout
    step: Adaptive | Constant
    noise: Float[Array, ""]
    samples: int = eqx.field(static=True)
    fresh: bool = eqx.field(static=True)
    inputs: str = eqx.field(static=True)
    target: str = eqx.field(static=True)

    def __init__(
        self,
        link: Link,
        dimension: Size,
        samples: Size,
        readout: Annotated[Readout, In("multiindex.readout")] | None = None,
        *,
        step: Annotated[Positive | Adaptive | Constant | None, In("multiindex.step")] = None,
        fresh: bool = False,
        noise: NonNegative = 0.0,
        inputs: Annotated[str, OneOf(*INPUTS)] = "gaussian",
        target: Annotated[str, OneOf(*TARGETS)] = "spread",
        directions: Size | None = None,
        start: Values | None = None,
    ):
        self.problem = Problem(link, dimension, directions, start)
        d, q = self.problem.coordinates(), self.problem.directions
        dtype = jnp.result_type(float)
        readout = HermiteRidge(link.degree) if readout is None else readout
        if not isinstance(readout, Readout):
            raise TypeError(f"readout: {readout!r}; allowed: a Readout, such as HermiteRidge(3)")
        # Numbers become arrays, so that another value does not compile again.
        self.readout = jax.tree.map(
            lambda x: jnp.asarray(x, dtype) if isinstance(x, float) else x, readout
        )
        readout.check(link, q)
        self.step = Adaptive() if step is None else as_step(step)
        self.noise = jnp.asarray(noise, dtype)
        self.samples, self.fresh, self.inputs, self.target = int(samples), fresh, inputs, target
        if self.samples < 1:
            raise ValueError(f"samples: {samples}; allowed: at least 1")
        for name, value, allowed in (("inputs", inputs, INPUTS), ("target", target, TARGETS)):
            if value not in allowed:
                raise ValueError(f"{name}: {value!r}; allowed: {', '.join(allowed)}")
        if target == "spread" and d <= link.variables:
            raise ValueError(
                f"dimension: {d} with target 'spread'; allowed: more than r = {link.variables}"
            )
        self._check_noise()

    def validate(self, *, compared: bool = False, realised: bool = False) -> None:
        self.problem.check()
        self.problem.warn(profiled=True)
        self._check_noise()

    def direct(self) -> "SampleSimulator":
        """The simulator of the two-timescale algorithm on samples in R^d."""
        return SampleSimulator(self)

    def start(self) -> OverlapSummary:
        return OverlapSummary.of(self.problem.start())

    def statistics(self, summary: OverlapSummary) -> dict[str, Array]:
        loss = self.readout.student.loss(self.problem.link, summary)
        return self.problem.statistics(summary, loss)

    @checked
    @eqx.filter_jit
    def limit(
        self,
        ts: Float[Array, " times"],
        start: OverlapSummary | None = None,
        horizon: None = None,
        save: Callable[[OverlapSummary], PyTree[Array]] = lambda summary: summary,
    ) -> Limit:
        """The recursion of overlaps of unlimited samples, after `ts` steps."""
        matrix = self.problem.start() if start is None else start.matrix
        student = self.readout.student
        return Limit.whole(recursion(self.problem.link, student, self.step, matrix, ts, save), ts)

    def directions(self) -> Float[Array, "d r"]:
        """The columns W* (d, r)."""
        d, r = self.problem.coordinates(), self.problem.link.variables
        dtype = self.problem.dimension.dtype
        if self.target == "axis":
            return jnp.eye(d, r, dtype=dtype)
        return cosines(d, r, dtype)

    def draw(
        self, key: Key[Array, ""], target: Float[Array, "d r"]
    ) -> tuple[Float[Array, "n d"], Float[Array, " n"]]:
        """Draw samples (x_i, y_i), i <= n, for given columns W*."""
        d, dtype = target.shape[0], target.dtype
        first, second = random.at(key, 0), random.at(key, 1)
        shape = (self.samples, d)
        if self.inputs == "gaussian":
            x = jax.random.normal(first, shape, dtype)
        elif self.inputs == "rademacher":
            x = jax.random.rademacher(first, shape, dtype)
        else:
            scale = np.sqrt((_FREEDOM - 2) / _FREEDOM)
            x = jax.random.t(first, jnp.asarray(_FREEDOM, dtype), shape, dtype) * scale
        clean = jax.vmap(self.problem.link)(precise.dot(x, target))
        return x, clean + self.noise * jax.random.normal(second, clean.shape, dtype)

    def _check_noise(self) -> None:
        if is_concrete(self.noise) and not 0 <= float(self.noise) < np.inf:
            raise ValueError(f"noise: {float(self.noise)}; allowed: finite and at least 0")


class SampleState(eqx.Module):
    """The state of one run: columns W, samples, and what the readout keeps from fit to fit."""

    w: Float[Array, "d q"]
    x: Float[Array, "n d"]
    y: Float[Array, " n"]
    kept: PyTree


class SampleSimulator(Simulator):
    """One data set and one start; the clock counts the steps of W."""

    system: FiniteSamples

    @property
    def clock(self) -> Steps:
        """The clock of the number of steps of W."""
        return Steps(1)

    def init(self, key: Key[Array, ""]) -> SampleState:
        system = self.system
        target = system.directions()
        w = lift(key, system.problem.sample(key), target)
        x, y = system.draw(random.stream(key, Stream.DATA), target)
        kept = system.readout.initial(random.stream(key, Stream.READOUT), w.shape[1])
        # A loop keeps the structure of its state: it begins with the parameters of a fit.
        return SampleState(w, x, y, system.readout.fit(kept, jnp.dot(x, w), y))

    def advance(
        self, state: SampleState, k0: Int[Array, ""], k1: Int[Array, ""], key: Key[Array, ""]
    ) -> SampleState:
        system = self.system
        target, fresh = system.directions(), random.stream(key, Stream.STEPS)

        def step(k: Array, state: SampleState) -> SampleState:
            x, y = state.x, state.y
            if system.fresh:
                x, y = system.draw(random.at(fresh, k), target)
            u = precise.dot(x, state.w)
            kept = system.readout.fit(state.kept, u, y)
            predict = jax.value_and_grad(lambda a: system.readout.predict(kept, a))
            values, gradients = jax.vmap(predict)(u)
            n = len(y)
            covariance = precise.dot(gradients.T, gradients) / n
            weighted = (y - values)[:, None] * gradients
            slope = 2 / n * precise.dot(x.T, weighted)
            slope = slope - precise.dot(state.w, jnp.dot(state.w.T, slope))
            w = polar(state.w + system.step(covariance) * slope)
            return SampleState(w, x, y, kept)

        return jax.lax.fori_loop(k0, k1, step, state)

    def summary(self, state: SampleState) -> OverlapSummary:
        return full_summary(state.w, self.system.directions(), None)


def cosines(d: int, columns: int, dtype: Any) -> Float[Array, "d r"]:
    """The first columns of the discrete cosine basis, orthonormal and spread over coordinates."""
    angle = np.pi * (np.arange(d)[:, None] + 0.5) * np.arange(1, columns + 1)[None] / d
    return jnp.asarray(np.sqrt(2 / d) * np.cos(angle), dtype)
