"""Gradient descent on the Stiefel manifold: an exact recursion of the overlap at every d.

With K = I - M^T M and Delta = 2 eta T, a step with the polar retraction is

    W <- polar(W + (W* - W M) Delta^T),    M <- (I + Delta K Delta^T)^{-1/2} (M + Delta K).

A step along geodesics of the Grassmannian (its exponential map) is, with H^2 = Delta K Delta^T,

    W <- W cos H + (W* - W M) Delta^T sin(H)/H,    M <- cos(H) M + (sin(H)/H) Delta K.

So descent is as free of the dimension as the flow (`flows.py`).  At r = 1 a step with
2 eta S g = 1 goes to W* at once, because the population gradient points at W*: the exponents of
time are a matter of normalisation, and noise makes the exponents of samples.  Keep
2 eta lambda_max(S G) below 1: a longer step overshoots, and angles oscillate.

The system `StiefelDescent` is for users; `FiniteSamples` has the same recursion as its limit.
Source of the loss and its flow: arXiv 2310.19793.
"""

from collections.abc import Callable, Mapping
from typing import Annotated, Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key, PyTree

from hdjax import precise
from hdjax.arrays import whole_steps
from hdjax.checks import Checked, checked, is_concrete
from hdjax.clocks import Steps
from hdjax.limits import Limit
from hdjax.multiindex.averaging import gradient_covariance
from hdjax.multiindex.flows import Planted, Profiled, Student, full_summary
from hdjax.multiindex.links.link import Link
from hdjax.multiindex.problem import (
    DETERMINISTIC,
    LABELS,
    Algorithm,
    Direct,
    OverlapSummary,
    Problem,
)
from hdjax.multiindex.small import inverse_root, product
from hdjax.multiindex.starts import lift
from hdjax.registry import Dimension, In, OneOf, Positive, Size, Slot, Values, declare, register
from hdjax.system import Method, PlainSystem, Simulator, WithoutFluctuations

__all__ = [
    "Adaptive",
    "Constant",
]

RETRACTIONS = ("polar", "exponential")


declare("multiindex.step", Slot(default="adaptive", number="constant"))


@register("multiindex.step", "adaptive")
class Adaptive(Checked):
    """The step rule eta = c / lambda_max(E[grad F grad F^T]).

    Args:
        factor: c; at r = 1 a step with c = 1/2 on the population goes to W* at once.

    Raises:
        ValueError: the factor is not positive and finite.

    Example:
        >>> step = Adaptive(0.1)
    """

    factor: Float[Array, ""]

    def __init__(self, factor: Positive = 0.5):
        self.factor = jnp.asarray(factor, jnp.result_type(float))
        check_positive("factor", self.factor)

    def __call__(self, covariance: Float[Array, "q q"]) -> Float[Array, ""]:
        """The step eta for the second moment E[grad F grad F^T] of the student's gradient."""
        largest = jnp.linalg.eigvalsh(covariance)[-1]
        return self.factor / jnp.maximum(largest, jnp.finfo(covariance.dtype).tiny * 1e10)


@register("multiindex.step", "constant")
class Constant(Checked):
    """The step rule with the same eta at every step.

    Args:
        value: eta.

    Raises:
        ValueError: the step is not positive and finite.

    Example:
        >>> step = Constant(0.05)
    """

    value: Float[Array, ""]

    def __init__(self, value: Positive):
        self.value = jnp.asarray(value, jnp.result_type(float))
        check_positive("value of the step", self.value)

    def __call__(self, covariance: Float[Array, "q q"]) -> Float[Array, ""]:
        """The step eta, whatever the second moment of the student's gradient."""
        return self.value


def as_step(step: Any) -> Adaptive | Constant:
    """The given step rule, or the constant rule of a number."""
    if isinstance(step, Adaptive | Constant):
        return step
    check_positive("step", jnp.asarray(step, jnp.result_type(float)))
    return Constant(step)


def descend(
    link: Link,
    student: Student,
    step: Adaptive | Constant,
    matrix: Float[Array, "q r"],
    retraction: str = "polar",
) -> Float[Array, "q r"]:
    """The overlap M after one step of descent."""
    delta = displacement(link, student, step, matrix)
    moved = product(delta, OverlapSummary.of(matrix).gap)
    stay, go = coefficients(product(moved, delta.T), retraction)
    return product(stay, matrix) + product(go, moved)


def displacement(
    link: Link, student: Student, step: Adaptive | Constant, matrix: Float[Array, "q r"]
) -> Float[Array, "q r"]:
    """The matrix Delta = 2 eta T: a step moves W by (W* - W M) Delta^T before it retracts."""
    readout = student.readout(link, matrix, None)
    eta = step(gradient_covariance(readout, matrix.shape[0]).astype(matrix.dtype))
    return 2 * eta * student.slope(link, matrix, None)


def coefficients(
    square: Float[Array, "q q"], retraction: str
) -> tuple[Float[Array, "q q"], Float[Array, "q q"]]:
    """The matrices A, B of W A + D B, the retraction of a horizontal D with D^T D = `square`."""
    square = (square + square.T) / 2
    if retraction == "polar":
        root = inverse_root(jnp.eye(square.shape[0], dtype=square.dtype) + square)
        return root, root
    values, vectors = jnp.linalg.eigh(square)
    h = jnp.sqrt(jnp.maximum(values, 0))

    def of(scale: Float[Array, " q"]) -> Float[Array, "q q"]:
        return product(vectors * scale[None, :], vectors.T)

    # jnp.sinc(x) is sin(pi x)/(pi x), smooth at 0.
    return of(jnp.cos(h)), of(jnp.sinc(h / jnp.pi))


def recursion(
    link: Link,
    student: Student,
    step: Adaptive | Constant,
    matrix: Float[Array, "q r"],
    ts: Float[Array, " times"],
    save: Callable[[OverlapSummary], PyTree[Array]],
    retraction: str = "polar",
) -> PyTree[Array]:
    """The recursion of overlaps from `matrix`: `save(summary)` after each number of steps in `ts`.

    Args:
        link: f*, the link of the target.
        student: how the student's link is chosen.
        step: the step rule.
        matrix: the overlap M at the start.
        ts: numbers of steps, whole and increasing.
        save: what is kept of the summary.
        retraction: "polar" or "exponential".
    """

    def record(carry: tuple[Array, Array], t: Array) -> tuple[tuple[Array, Array], Any]:
        matrix, last = carry
        k = whole_steps(t)
        body = lambda _, m: descend(link, student, step, m, retraction)  # noqa: E731
        matrix = jax.lax.fori_loop(last, k, body, matrix)
        return (matrix, k), save(OverlapSummary.of(matrix))

    return jax.lax.scan(record, (matrix, jnp.asarray(0)), ts)[1]


@register("multiindex.algorithm", "gradient_descent")
class StiefelDescent(Algorithm, PlainSystem, WithoutFluctuations):
    """Gradient descent on the population loss, with a retraction to orthonormal columns.

    The number of steps is traced, so that the limit has derivatives in forward mode alone.

    Args:
        link: f*, the link of the target.
        dimension: d; an int where descent in R^d is run.
        step: eta, or a step rule such as `Adaptive(c)`.
        student: how the student's link is chosen: `Profiled()` (the default) or `Planted()`.
        directions: q, the number of student columns; None: r.
        start: the overlap M at the start (q, r); None: a Haar start.
        retraction: "polar" or "exponential" (along geodesics of the Grassmannian).

    Raises:
        ValueError, TypeError: an argument has a value or a type that is not allowed.

    Example:
        >>> import hdjax as hd
        >>> link = hd.multiindex.links.sine()
        >>> system = hd.multiindex.StiefelDescent(link, 100, 0.1, start=[[0.1]])
        >>> hd.limit(system, ts=[0.0, 10.0]).limit["cosines"].shape
        (2, 1)
    """

    family: ClassVar[str] = "multiindex"
    time_label: ClassVar[str] = "step k"
    labels: ClassVar[Mapping[str, str]] = LABELS
    methods: ClassVar[tuple[type[Method], ...]] = (Direct,)
    no_fluctuations: ClassVar[str] = DETERMINISTIC

    problem: Problem
    step: Adaptive | Constant
    student: Student
    retraction: str = eqx.field(static=True)

    def __init__(
        self,
        link: Link,
        dimension: Dimension,
        step: Annotated[Positive | Adaptive | Constant, In("multiindex.step")],
        student: Annotated[Student, In("multiindex.student")] | None = None,
        *,
        directions: Size | None = None,
        start: Values | None = None,
        retraction: Annotated[str, OneOf(*RETRACTIONS)] = "polar",
    ):
        self.problem = Problem(link, dimension, directions, start)
        self.step = as_step(step)
        self.student = Profiled() if student is None else student
        if not isinstance(self.student, Profiled | Planted):
            raise TypeError(f"student: {student!r}; allowed: Profiled(), Planted()")
        self.student.check(link, self.problem.directions)
        if retraction not in RETRACTIONS:
            raise ValueError(f"retraction: {retraction!r}; allowed: {', '.join(RETRACTIONS)}")
        self.retraction = retraction

    def validate(self, *, compared: bool = False, realised: bool = False) -> None:
        self.problem.check()
        self.problem.warn(profiled=isinstance(self.student, Profiled))

    def direct(self) -> "DescentSimulator":
        """The simulator of descent in R^d."""
        self.problem.coordinates()
        return DescentSimulator(self)

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
        """The recursion of overlaps after `ts` steps, which is exact at every d."""
        matrix = self.problem.start() if start is None else start.matrix
        link = self.problem.link
        saved = recursion(link, self.student, self.step, matrix, ts, save, self.retraction)
        return Limit.whole(saved, ts)


class DescentSimulator(Simulator):
    """One realisation of descent in R^d, where W* is the first r coordinate vectors."""

    system: StiefelDescent

    @property
    def clock(self) -> Steps:
        """The clock of the number of steps."""
        return Steps(1)

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
        link, student = self.system.problem.link, self.system.student

        def step(_: Any, w: Array) -> Array:
            matrix = precise.dot(w.T, self.target)
            delta = displacement(link, student, self.system.step, matrix)
            rest = self.target - precise.dot(w, matrix)
            move = precise.dot(rest, delta.T)
            square = precise.dot(move.T, move)
            stay, go = coefficients(square, self.system.retraction)
            moved = precise.dot(w, stay) + precise.dot(move, go)
            # The step keeps columns orthonormal up to rounding, which would add up over steps.
            return polar(moved)

        return jax.lax.fori_loop(k0, k1, step, state)

    def summary(self, state: Float[Array, "d q"]) -> OverlapSummary:
        return full_summary(state, self.target, None)


def polar(w: Float[Array, "d q"]) -> Float[Array, "d q"]:
    """The orthonormal columns nearest to W: W (W^T W)^{-1/2}."""
    root = inverse_root(precise.dot(w.T, w))
    return precise.dot(w, root)


def check_positive(name: str, value: Array) -> None:
    """Raise ValueError if a concrete number is not positive and finite."""
    if is_concrete(value) and not 0 < float(value) < np.inf:
        raise ValueError(f"{name}: {float(value)}; allowed: positive and finite")
