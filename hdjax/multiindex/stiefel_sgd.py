"""One-pass SGD on the Stiefel manifold, and its limit with the noise of the samples.

    W <- polar(W - gamma/d g_proj),   g = 2 (F(W^T x) - y) x grad F(W^T x)^T,
    y = f*(W*^T x) + sigma zeta,

with a fresh sample at each step, and g projected horizontally (g - W W^T g) or on the tangent space
of the embedded manifold (g - W sym(W^T g)).  With t = k/d, as d grows,

    dM/dt = gamma M'_flow - gamma^2/2 V M,
    V = 4 E[((F(u) - f*(z))^2 + sigma^2) grad F(u) grad F(u)^T],   u = M z + (I - M M^T)^{1/2} xi,

M'_flow being the velocity of the gradient flow in the same metric (`flows.py`), which is the limit
gamma -> 0 at fixed gamma t.  Compare with bounded links (erf, sin): for cubic links |grad F|^2 has
heavy tails, and finite-d corrections are large.

With `reuse` rho each sample is used twice: the gradient is taken at W - rho/d g, where the sample's
projections are u' = u - rho g_u with g_u = 2 (F(u) - y) grad F(u), and the limit is

    dM/dt = -gamma E[g_u' (z - M^T u)^T] - gamma^2/2 E[g_u' g_u'^T] M.

It leaves M = 0 wherever the generative exponent is 1, whatever the information exponent is.
Sources: arXiv 2310.19793 for the flow; Saad and Solla (1995) for the noise term; Arnaboldi et al.,
"Repetita Iuvant" (arXiv 2405.15459) for reuse.
"""

from collections.abc import Callable, Mapping
from typing import Annotated, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key, PyTree

from hdjax import gaussian, precise, random
from hdjax.checks import checked, is_concrete
from hdjax.clocks import Steps
from hdjax.integrate import Integrator
from hdjax.limits import Limit
from hdjax.multiindex.descent import check_positive, polar
from hdjax.multiindex.flows import Planted, Profiled, Student, full_summary
from hdjax.multiindex.fluctuations import fluctuations
from hdjax.multiindex.limit import flow_path
from hdjax.multiindex.links.link import Link
from hdjax.multiindex.problem import LABELS, Algorithm, Direct, OverlapSummary, Problem
from hdjax.multiindex.starts import lift
from hdjax.multiindex.stiefel_steps import StiefelSteps
from hdjax.random import Stream
from hdjax.registry import Dimension, In, NonNegative, OneOf, Positive, Real, Size, Values, register
from hdjax.system import Method, PlainSystem, Simulator, WithoutMeanCorrection

PROJECTIONS = ("horizontal", "embedded")


@register("multiindex.algorithm", "sgd")
class StiefelSGD(StiefelSteps, Algorithm, PlainSystem, WithoutMeanCorrection):
    """One-pass SGD on the Stiefel manifold, and its deterministic equivalent.

    Args:
        link: f*, the link of the target, whose exact values are the labels.
        dimension: d; an int where SGD in R^d is run.
        learning_rate: gamma = O(1); the step that is applied is gamma/d.
        student: how the student's link is chosen: `Planted()` (the default), or `Profiled()`, which
            is given the best link at every step.
        noise: sigma, the standard deviation of the label noise.
        projection: of the gradient, "horizontal" or "embedded".
        reuse: rho, the inner step with which each sample is used twice ("horizontal" alone); None:
            each sample is used once.
        directions: q, the number of student columns; None: r.
        start: the overlap M at the start (q, r); None: a Haar start.
        rule: quadrature rule of the expectation V, in r + q variables; None: Gauss-Hermite, which
            is exact for polynomial links.
        integrator: how the limit and its spread are integrated; None: by `diffrax.Dopri8()` to rtol
            1e-6, and by `diffrax.Tsit5()` to rtol 1e-4.

    Raises:
        ValueError, TypeError: an argument has a value or a type that is not allowed.

    Example:
        >>> import hdjax as hd
        >>> sgd = hd.multiindex.StiefelSGD(hd.multiindex.links.erf(), 200, 0.3, start=[[0.3]])
        >>> hd.limit(sgd, ts=[0.0, 1.0]).limit["overlaps"].shape
        (2, 1, 1)
    """

    family: ClassVar[str] = "multiindex"
    time_label: ClassVar[str] = "t = k/d"
    labels: ClassVar[Mapping[str, str]] = LABELS
    methods: ClassVar[tuple[type[Method], ...]] = (Direct,)
    no_mean_correction: ClassVar[str] = "no correction of the limit at finite d is known here"

    problem: Problem
    learning_rate: Float[Array, ""]
    noise: Float[Array, ""]
    student: Student
    reuse: Float[Array, ""] | None
    integrator: Integrator
    projection: str = eqx.field(static=True)
    rule: gaussian.Rule = eqx.field(static=True)

    def __init__(
        self,
        link: Link,
        dimension: Dimension,
        learning_rate: Positive,
        student: Annotated[Student, In("multiindex.student")] | None = None,
        *,
        noise: NonNegative = 0.0,
        projection: Annotated[str, OneOf(*PROJECTIONS)] = "horizontal",
        reuse: Real | None = None,
        directions: Size | None = None,
        start: Values | None = None,
        rule: gaussian.Rule | None = None,
        integrator: Annotated[Integrator, In("integrator")] | None = None,
    ):
        dtype = jnp.result_type(float)
        self.problem = Problem(link, dimension, directions, start)
        self.learning_rate = jnp.asarray(learning_rate, dtype)
        self.noise = jnp.asarray(noise, dtype)
        self.student = Planted() if student is None else student
        if not isinstance(self.student, Planted) and not (
            isinstance(self.student, Profiled) and self.student.ridge is None
        ):
            raise TypeError(f"student: {student!r}; allowed: Planted() or Profiled()")
        self.student.check(link, self.problem.directions)
        if projection not in PROJECTIONS:
            raise ValueError(f"projection: {projection!r}; allowed: {', '.join(PROJECTIONS)}")
        if reuse is not None and projection != "horizontal":
            raise ValueError(
                f"reuse: {reuse} with {projection!r}; allowed: projection 'horizontal'"
            )
        self.projection = projection
        self.reuse = None if reuse is None else jnp.asarray(reuse, dtype)
        self.rule = self._default_rule() if rule is None else rule
        self.integrator = Integrator() if integrator is None else integrator
        self._check()

    def validate(self, *, compared: bool = False, realised: bool = False) -> None:
        self.problem.check()
        self.problem.warn(profiled=False)
        self._check()

    def direct(self) -> "SGDSimulator":
        """The simulator of SGD in R^d."""
        self.problem.coordinates()
        return SGDSimulator(self)

    def start(self) -> OverlapSummary:
        return OverlapSummary.of(self.problem.start())

    def statistics(self, summary: OverlapSummary) -> dict[str, Array]:
        return self.problem.statistics(summary, self.student.loss(self.problem.link, summary))

    @checked
    @eqx.filter_jit
    def limit(
        self,
        ts: Float[Array, " times"],
        start: OverlapSummary | None = None,
        horizon: None = None,
        save: Callable[[OverlapSummary], PyTree[Array]] = lambda summary: summary,
    ) -> Limit:
        """The ODE of the overlap M at the times `ts`, in units of d steps."""
        matrix = self.problem.start() if start is None else start.matrix
        own, dimension = self.integrator, self.problem.dimension

        def record(matrix: Array) -> PyTree[Array]:
            return save(OverlapSummary.of(matrix))

        return flow_path(own, self.velocity, matrix, ts, dimension, record, rtol=1e-6)

    def fluctuations(
        self,
        ts: Float[Array, " times"],
        statistics: Callable[[OverlapSummary], dict[str, Array]],
        start: OverlapSummary | None = None,
        horizon: None = None,
    ) -> dict[str, Array]:
        """Standard deviations of statistics at this d, predicted by the linear-noise equation."""
        return fluctuations(self, ts, statistics, start)

    def _default_rule(self) -> gaussian.Rule:
        if self.polynomial:
            return gaussian.GaussHermite(2 * max(link.degree for link in self.links()))
        few = self.problem.directions + self.problem.link.variables <= 2
        return gaussian.GaussHermite(32 if few else 12)

    def _check(self) -> None:
        check_positive("learning_rate", self.learning_rate)
        if is_concrete(self.noise) and not 0 <= float(self.noise) < np.inf:
            raise ValueError(f"noise: {float(self.noise)}; allowed: finite and at least 0")


class SGDSimulator(Simulator):
    """One realisation of SGD in R^d, at steps k = t d; W* is the first r coordinate vectors."""

    system: StiefelSGD

    @property
    def clock(self) -> Steps:
        """The clock with d steps in a unit of time."""
        return Steps(self.system.problem.coordinates())

    @property
    def target(self) -> Float[Array, "d r"]:
        """The columns W*."""
        return self.system.problem.target

    def init(self, key: Key[Array, ""]) -> Float[Array, "d q"]:
        return lift(key, self.system.problem.sample(key), self.target)

    def advance(
        self,
        state: Float[Array, "d q"],
        k0: Int[Array, ""],
        k1: Int[Array, ""],
        key: Key[Array, ""],
    ) -> Float[Array, "d q"]:
        system, problem = self.system, self.system.problem
        d, r = state.shape[0], problem.link.variables
        draws = random.stream(key, Stream.STEPS)

        def step(k: Array, w: Array) -> Array:
            normals = random.normals(draws, k, 1, d + 1, w.dtype)[0]
            x = normals[:d]
            label = problem.link(x[:r]) + system.noise * normals[d]
            u = precise.dot(x, w)
            pull = system.pull(w[:r].T, u, label)
            if system.projection == "horizontal":
                gradient = (x - precise.dot(w, u))[:, None] * pull[None, :]
            else:
                inner = u[:, None] * pull[None, :]
                inside = precise.dot(w, (inner + inner.T) / 2)
                gradient = x[:, None] * pull[None, :] - inside
            return polar(w - system.learning_rate / d * gradient)

        return jax.lax.fori_loop(k0, k1, step, state)

    def summary(self, state: Float[Array, "d q"]) -> OverlapSummary:
        return full_summary(state, self.target, None)
