"""Multiclass logistic regression: f = log sum_j e^{x_j} - <y, x>, with one column for each class.

The label y is pi(x*) (soft), with pi the softmax, or a class drawn from pi(x*) (sampled).
`Softmax` computes the moments from low-dimensional expectations (derived here).  With
J = diag pi - pi pi^T and M the cross-covariance of x and x*,

    H_1 = E J(x),  H_2 = -E J(x*),  R = E log sum_j e^{x_j} + tr(M H_2),
    C = E (pi(x) - pi(x*)) (pi(x) - pi(x*))^T  [sampled: + E J(x*)].

The gradient of f depends on x through its m - 1 contrasts alone (the mean of the entries of x
cancels), so expectations are over m - 1 variables, and over 2 (m - 1) variables for C.

Source: the slides "Hitting the High-D(imensional) Notes", slide "Set-up" (multi-class logistic
regression, m = number of classes; paper: arXiv 2308.08977).
"""

from typing import Annotated, Any

import equinox as eqx
import jax
import jax.numpy as jnp
import scipy
from jaxtyping import Array, Float, PyTree

from hdjax import gaussian, precise
from hdjax.gaussian import Rule
from hdjax.registry import OneOf, Size, register
from hdjax.streaming.losses.base import (
    ClosedFormLoss,
    Noise,
    NoNoise,
    UniformNoise,
    check_columns,
    zero_gradient,
)
from hdjax.streaming.projections import Moments, Projections


@register("streaming.loss", "softmax")
class Softmax(ClosedFormLoss):
    """The loss of softmax regression, f = log sum_j e^{x_j} - <y, x>, with labels of a teacher.

    Args:
        classes: number m of classes, of student columns and of teacher columns.
        labels: "soft", y = pi(x*); or "sampled", one class drawn from pi(x*).
        rule: the quadrature rule for expectations; None: the default rule for their number of
            variables.

    Raises:
        ValueError: fewer than 2 classes, or other labels.

    Example:
        >>> loss = Softmax(classes=3, labels="sampled")
    """

    classes: int = eqx.field(static=True)
    labels: str = eqx.field(static=True)
    rule: Rule | None = eqx.field(static=True)

    def __init__(
        self,
        classes: Size,
        labels: Annotated[str, OneOf("soft", "sampled")] = "soft",
        rule: Rule | None = None,
    ):
        if classes < 2:
            raise ValueError(f"classes: {classes}; allowed: at least 2")
        if labels not in ("soft", "sampled"):
            raise ValueError(f"labels: {labels!r}; allowed: 'soft', 'sampled'")
        self.classes, self.labels, self.rule = classes, labels, rule

    @property
    def smooth(self) -> bool:
        return self.labels == "soft"

    @property
    def noise(self) -> Noise:
        return UniformNoise() if self.labels == "sampled" else NoNoise()

    def check(self, students: int, teachers: int, theta: PyTree) -> None:
        check_columns(f"Softmax({self.classes})", students, teachers, (self.classes, self.classes))

    def __call__(
        self,
        x: Float[Array, " m"],
        teacher: Float[Array, " s"],
        component: Any,
        noise: Float[Array, " k"],
        theta: PyTree,
    ) -> Float[Array, ""]:
        label = jax.nn.softmax(teacher)
        if self.labels == "sampled":
            chosen = (noise[0] > jnp.cumsum(label)[:-1]).sum(dtype=jnp.int32)
            label = jax.nn.one_hot(chosen, self.classes, dtype=x.dtype)
        return jax.nn.logsumexp(x) - precise.dot(label, x)

    def closed_form(self, law: Projections, theta: PyTree) -> Moments:
        m, gram = self.classes, law.gram
        # The rows of a Helmert matrix are orthonormal contrasts.
        contrasts = jnp.asarray(scipy.linalg.helmert(m), gram.dtype)
        both = jax.scipy.linalg.block_diag(contrasts, contrasts)
        reduced = precise.multi_dot([both, gram, both.T])

        def mean(fn: Any, covariance: Array) -> Any:
            lower = gaussian.factor(covariance)
            variables = covariance.shape[0]

            def integrand(z: Float[Array, " v"]) -> Any:
                u = precise.dot(lower, z).reshape(-1, m - 1)
                return fn(*precise.dot(u, contrasts))

            return gaussian.expectation(integrand, variables, self.rule, gram.dtype)

        own, given = reduced[: m - 1, : m - 1], reduced[m - 1 :, m - 1 :]
        log_sum, h_student = mean(lambda x: (jax.nn.logsumexp(x), _jacobian(x)), own)
        teacher = mean(_jacobian, given)

        def squared(x: Float[Array, " m"], teacher: Float[Array, " m"]) -> Float[Array, "m m"]:
            g = jax.nn.softmax(x) - jax.nn.softmax(teacher)
            return jnp.outer(g, g)

        noise = mean(squared, reduced)
        if self.labels == "sampled":
            noise = noise + teacher
        return Moments(
            risk=log_sum - jnp.sum(gram[:m, m:] * teacher),
            gradient=zero_gradient(law),
            stein=jnp.concatenate([h_student, -teacher]),
            noise=noise,
        )


def _jacobian(x: Float[Array, " m"]) -> Float[Array, "m m"]:
    """The Jacobian J = diag pi - pi pi^T of the softmax pi at x."""
    pi = jax.nn.softmax(x)
    return jnp.diag(pi) - jnp.outer(pi, pi)
