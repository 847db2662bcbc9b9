"""The gradient flows of a multi-index model, of its overlaps and of its columns in R^d.

With T (q, r) the gradient of the correlation E[F F*] in M, the flow W' = -grad L of the loss
L = E (F - F*)^2 on the Stiefel manifold closes in M, exactly at every d:

    embedded:    W' = 2 (W* T^T - W (M T^T + T M^T)/2),   M' = 2 (T - (M T^T + T M^T) M/2)
    canonical:   W' = 2 (W* T^T - W T M^T),               M' = 2 (T - M T^T M)
    horizontal:  W' = 2 (W* - W M) T^T,                   M' = 2 T (I - M^T M)

The student's link F is the best one at every time (`Profiled`: T = M S, the two-timescale limit,
in which the three metrics coincide), or it is fixed (`Planted`), or it moves as well (`Joint`):

    F_k' = -(2/epsilon) (F_k - M^{(x) k} C_k).

In the odds Y = G (I - G)^{-1} = R^T R the profiled flow is R' = 2 R S, so that every principal
angle is monotone.  A learning rate gamma multiplies time.  `model.py` and `simulate.py` integrate
these flows.  Source: arXiv 2310.19793.
"""

import abc
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from hdjax import precise
from hdjax.checks import Checked, checked
from hdjax.multiindex.averaging import (
    average,
    correlation_gradient,
    energy_gradient,
    planted_loss,
    profiled_loss,
)
from hdjax.multiindex.links.link import Link, LinkLike
from hdjax.multiindex.problem import OverlapSummary
from hdjax.multiindex.small import inverse_root, product
from hdjax.multiindex.tensors import Tensors
from hdjax.registry import OneOrMoreNonNegative, Positive, Slot, declare, register

__all__ = [
    "Joint",
    "Planted",
    "Profiled",
    "from_odds",
    "to_odds",
]

METRICS = ("embedded", "canonical", "horizontal")

# The overlap M or the columns W, and the tensors of a link that moves (None if it does not).
State = tuple[Float[Array, "_ _"], Tensors | None]


declare("multiindex.student", Slot(given=("target_link",)))


class Student(Checked):
    """The way in which the student's link F is chosen; every flow and its loss ask it for F."""

    @abc.abstractmethod
    def initial(self, link: Link, matrix: Float[Array, "q r"]) -> Tensors | None:
        """Tensors at the start of a link that moves; None for a link that does not move."""

    @abc.abstractmethod
    def readout(self, link: Link, matrix: Float[Array, "q r"], moving: Tensors | None) -> Tensors:
        """Tensors of the student's link F at the overlap M."""

    def slope(
        self, link: Link, matrix: Float[Array, "q r"], moving: Tensors | None
    ) -> Float[Array, "q r"]:
        """The gradient T of the correlation E[F F*] in M, at fixed F."""
        return correlation_gradient(link, self.readout(link, matrix, moving), matrix)

    def loss(self, link: Link, summary: OverlapSummary) -> Float[Array, ""]:
        """The loss E (F - F*)^2."""
        readout = self.readout(link, summary.matrix, summary.readout)
        return planted_loss(link, readout, summary.matrix, summary.gap)

    def rate(self, link: Link, matrix: Float[Array, "q r"], moving: Tensors | None) -> Any:
        """The velocity of the tensors of a link that moves; None for a link that does not move."""
        return None

    def check(self, link: Link, directions: int) -> None:
        """Raise ValueError if the student does not fit the target's link or its q directions."""


@register("multiindex.student", "profiled")
class Profiled(Student):
    """The student whose link is the best one at every time, F = A_M f*: the two-timescale flow.

    With a ridge penalty rho_k |F_k|^2 on each degree, F_k = M^{(x) k} C_k / (1 + rho_k), and the
    flow is that of the link with tensors C_k / sqrt(1 + rho_k).

    Args:
        ridge: rho >= 0, one number for all degrees but 0, or one for each of the degrees 0..D;
            None: no penalty.

    Raises:
        ValueError: a penalty is negative.

    Example:
        >>> student = Profiled()
    """

    ridge: Float[Array, "..."] | None

    def __init__(self, ridge: OneOrMoreNonNegative | None = None):
        self.ridge = None if ridge is None else jnp.asarray(ridge, jnp.result_type(float))

    def effective(self, link: Link) -> Link:
        """The link with tensors C_k / sqrt(1 + rho_k), whose flow without a ridge is this flow."""
        if self.ridge is None:
            return link
        return Link(self._shrunk(link.tensors, 0.5), link.residual, None, link.variables)

    def initial(self, link: Link, matrix: Float[Array, "q r"]) -> Tensors | None:
        return None

    def readout(self, link: Link, matrix: Float[Array, "q r"], moving: Tensors | None) -> Tensors:
        return self._shrunk(average(link, matrix), 1.0)

    def slope(
        self, link: Link, matrix: Float[Array, "q r"], moving: Tensors | None
    ) -> Float[Array, "q r"]:
        return product(matrix, energy_gradient(self.effective(link), matrix))

    def loss(self, link: Link, summary: OverlapSummary) -> Float[Array, ""]:
        if self.ridge is None:
            return profiled_loss(link, summary.matrix, summary.gap)
        return super().loss(link, summary)

    def check(self, link: Link, directions: int) -> None:
        if self.ridge is not None and self.ridge.shape not in ((), (link.degree + 1,)):
            shapes = f"() or ({link.degree + 1},)"
            raise ValueError(
                f"ridge: shape {self.ridge.shape}; allowed: {shapes}, one for each degree"
            )

    def _shrunk(self, tensors: Tensors, power: float) -> Tensors:
        if self.ridge is None:
            return tensors
        ridge = self.ridge
        if ridge.ndim == 0:
            ridge = jnp.where(jnp.arange(len(tensors)) > 0, ridge, 0)
        factors = (1 + ridge) ** -power
        return tuple(None if t is None else t * factors[k] for k, t in enumerate(tensors))


@register("multiindex.student", "planted")
class Planted(Student):
    """The student whose link is fixed: the planted flow.

    Args:
        link: the student's F, in q variables; None: f* itself (q = r).

    Example:
        >>> student = Planted()
    """

    link: LinkLike | None = None

    def initial(self, link: Link, matrix: Float[Array, "q r"]) -> Tensors | None:
        return None

    def readout(self, link: Link, matrix: Float[Array, "q r"], moving: Tensors | None) -> Tensors:
        return (link if self.link is None else self.link).tensors

    def check(self, link: Link, directions: int) -> None:
        own = link if self.link is None else self.link
        _check_variables(own, directions)


class Joint(Student):
    """The student whose link descends the same loss, 1/epsilon times faster than the directions.

    Args:
        ratio: epsilon > 0; the flow tends to that of `Profiled` at 0 and of `Planted` at infinity.
        start: the link at the start; None: the best one, A_M f*.

    Raises:
        ValueError: the ratio is not positive and finite.

    Example:
        >>> student = Joint(0.1)
    """

    ratio: Float[Array, ""]
    start: Link | None

    def __init__(self, ratio: Positive, start: Link | None = None):
        self.ratio = jnp.asarray(ratio, jnp.result_type(float))
        self.start = start

    def initial(self, link: Link, matrix: Float[Array, "q r"]) -> Tensors | None:
        if self.start is None:
            return average(link, matrix)
        zeros = _zeros(link, matrix.shape[0])
        own = self.start.tensors + (None,) * (len(zeros) - len(self.start.tensors))
        return tuple(z if o is None else o for z, o in zip(zeros, own, strict=False))

    def readout(self, link: Link, matrix: Float[Array, "q r"], moving: Tensors | None) -> Tensors:
        return () if moving is None else moving

    def rate(self, link: Link, matrix: Float[Array, "q r"], moving: Tensors | None) -> Any:
        best: Any = average(link, matrix)
        return tuple(
            None if own is None or target is None else -2 / self.ratio * (own - target)
            for own, target in zip(moving or (), best, strict=True)
        )

    def check(self, link: Link, directions: int) -> None:
        if not link.is_dense:
            raise ValueError("link: in power sums; allowed: link.dense(), for a link that moves")
        if self.start is None:
            return
        _check_variables(self.start, directions)
        pairs = zip(self.start.tensors, link.tensors, strict=False)
        extra = any(own is not None and best is None for own, best in pairs)
        if extra or self.start.degree > link.degree:
            raise ValueError(
                "start: a link with degrees that f* does not have; allowed: degrees of f* alone"
            )


def reduced_velocity(link: Link, student: Student, metric: str, state: State) -> State:
    """The velocity (dM/dt, dF/dt) of the reduced flow in a metric, at the state (M, F)."""
    matrix, moving = state
    slope = student.slope(link, matrix, moving)
    if metric == "embedded":
        sym = product(matrix, slope.T)
        velocity = 2 * slope - product(sym + sym.T, matrix)
    elif metric == "canonical":
        velocity = 2 * (slope - product(product(matrix, slope.T), matrix))
    else:
        velocity = 2 * product(slope, OverlapSummary.of(matrix).gap)
    return velocity, student.rate(link, matrix, moving)


def full_velocity(
    link: Link, student: Student, metric: str, target: Float[Array, "d r"], state: State
) -> State:
    """The velocity (dW/dt, dF/dt) in R^d, from the gradient of the loss in W."""
    w, moving = state
    matrix = precise.dot(w.T, target)
    slope = student.slope(link, matrix, moving)
    if metric == "horizontal":
        velocity = 2 * precise.dot(target - precise.dot(w, matrix), slope.T)
    else:
        gradient = -2 * precise.dot(target, slope.T)
        inner = precise.dot(w.T, gradient)
        inner = (inner + inner.T) / 2 if metric == "embedded" else inner.T
        velocity = precise.dot(w, inner) - gradient
    return velocity, student.rate(link, matrix, moving)


def odds_velocity(link: Link, factor: Float[Array, "q r"]) -> Float[Array, "q r"]:
    """The velocity dR/dt = 2 R S of the profiled flow in the odds factor R."""
    return 2 * product(factor, energy_gradient(link, from_odds(factor).matrix))


@checked
def to_odds(matrix: Float[Array, "q r"]) -> Float[Array, "q r"]:
    """The odds factor R = (I - M M^T)^{-1/2} M of an overlap M.

    The eigenvalues of R^T R are the odds cos^2/(1 - cos^2) of the squared cosines.

    Args:
        matrix: the overlap M = W^T W* (q, r), with singular values below 1.

    Example:
        >>> round(float(hd.multiindex.flows.to_odds(jnp.array([[0.6]]))[0, 0]), 4)
        0.75
    """
    gap = jnp.eye(matrix.shape[0], dtype=matrix.dtype) - product(matrix, matrix.T)
    return product(inverse_root(gap), matrix)


@checked
def from_odds(factor: Float[Array, "q r"]) -> OverlapSummary:
    """The summary with the overlap M = (I + R R^T)^{-1/2} R of an odds factor R (q, r).

    Its gap K = (I + R^T R)^{-1} does not cancel near recovery.

    Example:
        >>> round(float(hd.multiindex.flows.from_odds(jnp.array([[0.75]])).matrix[0, 0]), 4)
        0.6
    """
    q, r = factor.shape
    outer = jnp.eye(q, dtype=factor.dtype) + product(factor, factor.T)
    inner = jnp.eye(r, dtype=factor.dtype) + product(factor.T, factor)
    half = inverse_root(inner)
    return OverlapSummary(product(inverse_root(outer), factor), product(half, half))


def full_summary(
    w: Float[Array, "d q"], target: Float[Array, "d r"], moving: Any
) -> OverlapSummary:
    """The summary of columns W in R^d; its gap K comes from W* - W M, in which nothing cancels."""
    matrix = precise.dot(w.T, target)
    rest = target - precise.dot(w, matrix)
    return OverlapSummary(matrix, precise.dot(rest.T, rest), moving)


def _zeros(link: Link, q: int) -> Tensors:
    tensors: Any = link.tensors
    return tuple(
        None if tensor is None else jnp.zeros((q,) * k, tensor.dtype)
        for k, tensor in enumerate(tensors)
    )


def _check_variables(own: Link, directions: int) -> None:
    if own.variables != directions:
        raise ValueError(
            f"student: a link of {own.variables} variables; allowed: {directions}, the directions"
        )
