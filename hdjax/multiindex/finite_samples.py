"""Finite samples: the practical two-timescale algorithm on n samples.

    fast:  fit the link to (W^T x_i, y_i), i <= n             (ridge regression: `readouts.py`)
    slow:  W <- polar(W - eta (I - W W^T) grad),
           grad = -(2/n) sum_i (y_i - F(W^T x_i)) x_i grad F(W^T x_i)^T

on one data set throughout, or on fresh samples at every step.  With unlimited samples it is the
recursion of `descent.py`, its limit.  Source: arXiv 2310.19793; reuse of batches against fresh
ones: Dandi et al., "The Benefits of Reusing Batches for Gradient Descent" (arXiv 2402.03220).
"""

from collections.abc import Callable, Mapping
from typing import Annotated, Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key, PyTree

from hdjax import random
from hdjax.clocks import Steps
from hdjax.limits import Limit
from hdjax.multiindex.descent import Adaptive, Constant, as_step, polar, recursion
from hdjax.multiindex.flows import full_summary
from hdjax.multiindex.links import Link
from hdjax.multiindex.problem import LABELS, Algorithm, Direct, Overlap, Problem
from hdjax.multiindex.readouts import HermiteRidge, Readout
from hdjax.multiindex.starts import lift
from hdjax.random import Stream
from hdjax.registry import In, NonNegative, OneOf, Size, register
from hdjax.system import Method, PlainSystem, Simulator, WithoutFluctuations, is_concrete

INPUTS = ("gaussian", "rademacher", "student")
TARGETS = ("spread", "axis")
# Student's t with so many degrees of freedom has eight finite moments.
_FREEDOM = 9.0


@register("multiindex.algorithm", "finite_samples")
class FiniteSamples(Algorithm, PlainSystem, WithoutFluctuations):
    """Two-timescale gradient descent on samples.

    Args:
        link: f*, a `Link`; labels are its exact values.
        dimension: d.
        samples: n, of the data set or of each step.
        readout: how the link is fitted; None: `HermiteRidge` of the link's degree.
        step: eta, or `Adaptive(c)`.
        fresh: new samples at each step.
        noise: standard deviation of Gaussian label noise.
        inputs: entries of x: "gaussian", "rademacher" (signs) or "student" (t with 9 degrees of
            freedom), of unit variance.
        target: W* "spread" over the coordinates (cosines) or on the "axis", the first r of them.
        directions: q; None: r.
        start: M at the start (q, r); None: Haar.

    The statistic `loss` is that of the best link for the directions (of the readout's own with
    `Fixed`), under Gaussian inputs.

    Raises:
        ValueError, TypeError: naming the argument, its value and what is allowed.

    Example:
        >>> import hdjax as hd
        >>> system = hd.multiindex.FiniteSamples(hd.multiindex.sine(degree=5), 20, samples=160)
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
        dimension: int,
        samples: Size,
        readout: Annotated[Readout, In("multiindex.readout")] | None = None,
        *,
        step: Annotated[Any, In("multiindex.step")] = None,
        fresh: bool = False,
        noise: NonNegative = 0.0,
        inputs: Annotated[str, OneOf(*INPUTS)] = "gaussian",
        target: Annotated[str, OneOf(*TARGETS)] = "spread",
        directions: int | None = None,
        start: Any = None,
    ):
        self.problem = Problem(link, dimension, directions, start)
        d, q = self.problem.coordinates(), self.problem.directions
        dtype = jnp.result_type(float)
        readout = HermiteRidge(link.degree) if readout is None else readout
        if not isinstance(readout, Readout):
            raise TypeError(f"readout: {readout!r}; allowed: a Readout, such as HermiteRidge(3)")
        # Numbers as arrays, so that another one does not compile again.
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
            raise ValueError(f"dimension: {d}; allowed with target 'spread': more than r")
        self._check_noise()

    def validate(self, *, compared: bool = False, realised: bool = False) -> None:
        self.problem.check()
        self.problem.warn(profiled=True)
        self._check_noise()

    def direct(self) -> "SampleSimulator":
        """The two-timescale algorithm on samples in R^d."""
        return SampleSimulator(self)

    def start(self) -> Overlap:
        return Overlap.of(self.problem.start())

    def statistics(self, summary: Overlap) -> dict[str, Array]:
        loss = self.readout.student.loss(self.problem.link, summary)
        return self.problem.statistics(summary, loss)

    @eqx.filter_jit
    def limit(
        self,
        ts: Float[Array, " times"],
        start: Overlap | None = None,
        horizon: None = None,
        save: Callable[[Overlap], PyTree[Array]] = lambda summary: summary,
    ) -> Limit:
        """Unlimited samples: the recursion of overlaps."""
        matrix = self.problem.start() if start is None else start.matrix
        student = self.readout.student
        return Limit.whole(recursion(self.problem.link, student, self.step, matrix, ts, save), ts)

    def directions(self) -> Float[Array, "d r"]:
        """W*."""
        d, r = self.problem.coordinates(), self.problem.link.variables
        dtype = self.problem.dimension.dtype
        if self.target == "axis":
            return jnp.eye(d, r, dtype=dtype)
        return cosines(d, r, dtype)

    def draw(
        self, key: Key[Array, ""], target: Float[Array, "d r"]
    ) -> tuple[Float[Array, "n d"], Float[Array, " n"]]:
        """Samples (x_i, y_i)."""
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
        clean = jax.vmap(self.problem.link)(jnp.dot(x, target, precision="highest"))
        return x, clean + self.noise * jax.random.normal(second, clean.shape, dtype)

    def _check_noise(self) -> None:
        if is_concrete(self.noise) and not 0 <= float(self.noise) < np.inf:
            raise ValueError(f"noise: {float(self.noise)}; allowed: finite and at least 0")


class SampleState(eqx.Module):
    """Columns, the data, and what the readout keeps."""

    w: Float[Array, "d q"]
    x: Float[Array, "n d"]
    y: Float[Array, " n"]
    kept: PyTree


class SampleSimulator(Simulator):
    """One data set and one start; the clock is the step of W."""

    system: FiniteSamples

    @property
    def clock(self) -> Steps:
        """Time is the number of steps of W."""
        return Steps(1)

    def init(self, key: Key[Array, ""]) -> SampleState:
        system = self.system
        target = system.directions()
        w = lift(key, system.problem.sample(key), target)
        x, y = system.draw(random.stream(key, Stream.DATA), target)
        kept = system.readout.initial(random.stream(key, Stream.READOUT), w.shape[1])
        # The loop wants parameters of the shape that a fit gives.
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
            u = jnp.dot(x, state.w, precision="highest")
            kept = system.readout.fit(state.kept, u, y)
            predict = jax.value_and_grad(lambda a: system.readout.predict(kept, a))
            values, gradients = jax.vmap(predict)(u)
            n = len(y)
            covariance = jnp.dot(gradients.T, gradients, precision="highest") / n
            weighted = (y - values)[:, None] * gradients
            slope = 2 / n * jnp.dot(x.T, weighted, precision="highest")
            slope = slope - jnp.dot(state.w, jnp.dot(state.w.T, slope), precision="highest")
            w = polar(state.w + system.step(covariance) * slope)
            return SampleState(w, x, y, kept)

        return jax.lax.fori_loop(k0, k1, step, state)

    def summary(self, state: SampleState) -> Overlap:
        return full_summary(state.w, self.system.directions(), None)

    def bytes_per_run(self) -> int:
        system = self.system
        n, d = system.samples, system.problem.coordinates()
        # Kernels are matrices of the samples.
        return int(8 * (3 * n * d + 4 * n * min(n, 64)))


def cosines(d: int, columns: int, dtype: Any) -> Float[Array, "d r"]:
    """The first columns of the discrete cosine basis: orthonormal and spread over coordinates."""
    angle = np.pi * (np.arange(d)[:, None] + 0.5) * np.arange(1, columns + 1)[None] / d
    return jnp.asarray(np.sqrt(2 / d) * np.cos(angle), dtype)
