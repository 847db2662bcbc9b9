"""Gradient flow on a Gaussian multi-index model: the system `GradientFlow` that users start with.

The flow of the student's columns W in R^d closes in the overlap M = W^T W* (equations in
`flows.py`), so that the limit is exact at every d.  The dimension enters through the start alone,
whose overlap is of order d^{-1/2}.  Source: Bietti, Bruna, Pillaud-Vivien, "On Learning Gaussian
Multi-index Models with Gradient Flow" (arXiv 2310.19793).
"""

from collections.abc import Callable, Mapping
from typing import Annotated, Any, ClassVar

import equinox as eqx
from jaxtyping import Array, Float, PyTree

from hdjax.checks import checked
from hdjax.integrate import Integrator
from hdjax.limits import Limit
from hdjax.multiindex.anisotropic import Anisotropic
from hdjax.multiindex.flows import (
    METRICS,
    Profiled,
    State,
    Student,
    from_odds,
    odds_velocity,
    reduced_velocity,
    to_odds,
)
from hdjax.multiindex.limit import flow_path
from hdjax.multiindex.links.link import Link
from hdjax.multiindex.problem import DETERMINISTIC, LABELS, OverlapSummary, Problem
from hdjax.multiindex.simulate import FullFlow, Reduced
from hdjax.registry import Dimension, In, OneOf, Size, Values, register
from hdjax.system import Method, PlainSystem, WithoutFluctuations

FORMS = ("overlap", "odds")


@register("multiindex.algorithm", "gradient_flow")
class GradientFlow(PlainSystem, WithoutFluctuations):
    """Gradient flow of the loss E (F - F*)^2 on the Stiefel manifold, whose limit is a flow of M.

    Args:
        link: f*, the link of the target F*(x) = f*(W*^T x).
        dimension: d, at least q and r; an int for `FullFlow`.
        student: how the student's link is chosen: `Profiled()` (the best link at every time, the
            two-timescale flow; the default), `Planted()` or `Joint(ratio)`.
        directions: q, the number of student columns; None: r, that of the target's.
        metric: of the Stiefel manifold: "embedded", "canonical" or "horizontal"; the flow of
            `Profiled` is the same in all three.
        start: the overlap M at the start (q, r); None: a Haar start.
        integrator: how the reduced flow is integrated; None: by `diffrax.Dopri8()` to rtol 1e-8.
        form: "overlap" integrates M.  "odds" (for `Profiled` alone) integrates the odds factor R,
            R' = 2 R S: the gap I - M^T M is then accurate near recovery, and M is known up to a
            rotation of W.

    Raises:
        ValueError, TypeError: an argument has a value or a type that is not allowed.

    Example:
        >>> import hdjax as hd
        >>> flow = hd.multiindex.GradientFlow(hd.multiindex.links.sine(), 100, start=[[0.1]])
        >>> hd.limit(flow, ts=[0.0, 5.0]).limit["cosines"].shape
        (2, 1)
    """

    family: ClassVar[str] = "multiindex"
    time_label: ClassVar[str] = "flow time t"
    labels: ClassVar[Mapping[str, str]] = LABELS
    methods: ClassVar[tuple[type[Method], ...]] = (FullFlow, Reduced, Anisotropic)
    no_fluctuations: ClassVar[str] = DETERMINISTIC

    problem: Problem
    student: Student
    integrator: Integrator
    metric: str = eqx.field(static=True)
    form: str = eqx.field(static=True)

    def __init__(
        self,
        link: Link,
        dimension: Dimension,
        student: Annotated[Student, In("multiindex.student")] | None = None,
        *,
        directions: Size | None = None,
        metric: Annotated[str, OneOf(*METRICS)] = "embedded",
        start: Values | None = None,
        integrator: Annotated[Integrator, In("integrator")] | None = None,
        form: Annotated[str, OneOf(*FORMS)] = "overlap",
    ):
        self.problem = Problem(link, dimension, directions, start)
        self.student = Profiled() if student is None else student
        if not isinstance(self.student, Student):
            raise TypeError(f"student: {student!r}; allowed: Profiled(), Planted(), Joint(ratio)")
        if metric not in METRICS:
            raise ValueError(f"metric: {metric!r}; allowed: {', '.join(METRICS)}")
        self.student.check(link, self.problem.directions)
        if form not in FORMS:
            raise ValueError(f"form: {form!r}; allowed: {', '.join(FORMS)}")
        if form == "odds" and not isinstance(self.student, Profiled):
            raise ValueError(f"form: 'odds' with {self.student}; allowed: 'overlap'")
        self.metric, self.form = metric, form
        self.integrator = Integrator() if integrator is None else integrator

    def validate(self, *, compared: bool = False, realised: bool = False) -> None:
        self.problem.check()
        self.problem.warn(profiled=isinstance(self.student, Profiled))

    def start(self) -> OverlapSummary:
        matrix = self.problem.start()
        return OverlapSummary.of(matrix, self.student.initial(self.problem.link, matrix))

    def statistics(self, summary: OverlapSummary) -> dict[str, Array]:
        return self.problem.statistics(summary, self.student.loss(self.problem.link, summary))

    def reduced_velocity(self, state: State) -> State:
        """The velocity (dM/dt, dF/dt) of the reduced flow at a state (M, F)."""
        return reduced_velocity(self.problem.link, self.student, self.metric, state)

    @checked
    @eqx.filter_jit
    def limit(
        self,
        ts: Float[Array, " times"],
        start: OverlapSummary | None = None,
        horizon: None = None,
        save: Callable[[OverlapSummary], PyTree[Array]] = lambda summary: summary,
    ) -> Limit:
        """The reduced flow at the times `ts` (increasing, from 0 on), which is exact at every d."""
        start = self.start() if start is None else start
        own, dimension = self.integrator, self.problem.dimension
        if self.form == "odds":
            student: Any = self.student
            factor, link = to_odds(start.matrix), student.effective(self.problem.link)

            def odds_rate(factor: Array) -> Array:
                return odds_velocity(link, factor)

            return flow_path(own, odds_rate, factor, ts, dimension, lambda y: save(from_odds(y)))
        state = (start.matrix, start.readout)
        return flow_path(
            own, self.reduced_velocity, state, ts, dimension, lambda y: save(OverlapSummary.of(*y))
        )
