"""The profiled flow from saddle to saddle as a system: many starts at any d, in the time log10 t.

The algorithm is in `freezing.py`; `leaps.py` has the exponents of d that the escape times should
have.  Report medians of escape times and no means: with q = r the odds of the last direction start
at chi^2_1/d, and its escape time has no mean.  Source: arXiv 2310.19793.
"""

import math
from collections.abc import Mapping
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from hdjax.clocks import Fine
from hdjax.multiindex.freezing import (
    SaddleState,
    check_dense,
    check_options,
    follow,
    odds_of,
    start_of,
)
from hdjax.multiindex.leaps import exponents, learnable
from hdjax.multiindex.links.link import Link
from hdjax.multiindex.problem import Algorithm, Direct, Problem
from hdjax.multiindex.starts import haar_odds
from hdjax.registry import Dimension, Positive, Size, Values, register
from hdjax.system import Method, PlainSystem, Simulator, WithoutFluctuations, WithoutLimit

# A decade of time has 2^12 ticks.
CLOCK = Fine(2**12)


class Escapes(eqx.Module):
    """The summary of a saddle-to-saddle run at the time t.

    Attributes:
        cosines: squared cosines of the principal angles, largest first.
        escapes: log10 of min(t, T_j), with T_j the time at which the j-th squared cosine passed the
            level.
    """

    cosines: Float[Array, " r"]
    escapes: Float[Array, " r"]


@register("multiindex.algorithm", "saddle_to_saddle")
class SaddleToSaddle(Algorithm, PlainSystem, WithoutLimit, WithoutFluctuations):
    """The profiled flow between saddles at any d; its time is log10 of flow time.

    The system needs 64-bit numbers: at d = 10^12 and leap 3, S is of order 10^-24 and times of
    order 10^24.

    Args:
        link: f*, the link of the target, with dense tensors.
        dimension: d >= q + r, any number, at a cost that grows as log d.
        directions: q, the number of student columns; None: r.
        start: the overlap M at the start (q, r); None: a Haar start.
        level: the squared cosine whose passing is an escape.
        step: c; relative errors of times are of order 1e-6 at 0.02 (6e-6 for leap one).

    Raises:
        ValueError: 64-bit numbers are not enabled, the link is in power sums, the level is outside
            (0, 1) or the step outside (0, 0.5].

    Example:
        >>> import hdjax as hd
        >>> link = hd.multiindex.links.from_coefficients({(1, 0): 0.8, (0, 2): 0.6})
        >>> system = hd.multiindex.SaddleToSaddle(link, dimension=1e12)
        >>> system.exponents.tolist()
        [0.0, 1.0]
    """

    family: ClassVar[str] = "multiindex"
    time_label: ClassVar[str] = "log10 of flow time"
    methods: ClassVar[tuple[type[Method], ...]] = (Direct,)
    no_limit: ClassVar[str] = "escape times grow with d; simulate the system, at any d"
    no_fluctuations: ClassVar[str] = (
        "the spread of escape times comes from the start, and stays broad at any d"
    )
    labels: ClassVar[Mapping[str, str]] = {
        "cosines": "squared cosines of the principal angles",
        "escapes": "log10 of the escape time",
        "exponents": "predicted exponent of d",
        "first_escape": "log10 of the first escape time",
        "last_escape": "log10 of the last escape time",
        "smallest": "smallest squared cosine",
    }

    problem: Problem
    level: Float[Array, ""]
    step: Float[Array, ""]
    exponents: Float[Array, " r"]
    relevant: int = eqx.field(static=True)

    def __init__(
        self,
        link: Link,
        dimension: Dimension,
        *,
        directions: Size | None = None,
        start: Values | None = None,
        level: Positive = 0.5,
        step: Positive = 0.02,
    ):
        if not jax.config.read("jax_enable_x64"):
            raise ValueError(
                "SaddleToSaddle: single precision; allowed: double precision, by "
                "jax.config.update('jax_enable_x64', True), because S falls to d^{1-s}"
            )
        check_dense(link)
        # The dimension is an array, so that one program serves all dimensions.
        self.problem = Problem(link, jnp.asarray(dimension, jnp.float64), directions, start)
        self.level, self.step = jnp.asarray(level, jnp.float64), jnp.asarray(step, jnp.float64)
        self.exponents = jnp.asarray(exponents(link), jnp.float64)
        self.relevant = learnable(link)
        self.validate()

    def validate(self, *, compared: bool = False, realised: bool = False) -> None:
        self.problem.check()
        check_options(self.level, self.step)

    def direct(self) -> "SaddleSimulator":
        """The simulator of the freezing algorithm."""
        return SaddleSimulator(self)

    def start(self) -> Escapes:
        r = self.problem.link.variables
        return Escapes(jnp.zeros(r, jnp.float64), jnp.zeros(r, jnp.float64))

    def statistics(self, summary: Escapes) -> dict[str, Array]:
        return {
            "cosines": summary.cosines,
            "escapes": summary.escapes,
            "exponents": self.exponents,
            "first_escape": summary.escapes[0],
            "last_escape": summary.escapes[-1],
            "smallest": summary.cosines[-1],
        }


class SaddleSimulator(Simulator):
    """One realisation of `SaddleToSaddle`; a tick of its clock is 2^-12 of a decade of time."""

    system: SaddleToSaddle

    @property
    def clock(self) -> Fine:
        """The clock of log10 of flow time."""
        return CLOCK

    def init(self, key: Key[Array, ""]) -> SaddleState:
        problem = self.system.problem
        q, r = problem.directions, problem.link.variables
        if problem.matrix is None:
            factor = haar_odds(key, problem.dimension, q, r)
        else:
            factor = odds_of(problem.matrix)
        return start_of(problem.link, factor, self.system.level, self.system.relevant)

    def advance(
        self, state: SaddleState, k0: Int[Array, ""], k1: Int[Array, ""], key: Key[Array, ""]
    ) -> SaddleState:
        record = k1.astype(jnp.float64) * (math.log(10) / CLOCK.resolution)
        state = eqx.tree_at(lambda s: s.record, state, record)
        return follow(state, self.system.level, self.system.step)

    def summary(self, state: SaddleState) -> Escapes:
        time, odds = state.last
        # Within a step, log odds are interpolated linearly in t.
        passed = jnp.exp(state.record - state.log_time) - jnp.exp(time - state.log_time)
        whole = -jnp.expm1(time - state.log_time)
        share = jnp.where(state.stuck, 1.0, jnp.clip(passed / whole, 0, 1))
        inner = jnp.isfinite(state.log_odds) & jnp.isfinite(odds)
        ends = jnp.where(inner, odds, 0), jnp.where(inner, state.log_odds, 0)
        middle = jnp.where(inner, ends[0] + share * (ends[1] - ends[0]), state.log_odds)
        escapes = jnp.minimum(state.escapes, state.record) / math.log(10)
        return Escapes(jax.nn.sigmoid(middle), escapes)
