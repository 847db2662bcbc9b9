"""Binary logistic regression: f = log(1 + e^x) - y x.

The label y is s(x*) (soft), Bernoulli(s(x*)) (sampled) or 1{x* > 0} (hard) in `Logistic`, and a
function of the mixture component in `ComponentLogistic`; s(u) = 1/(1 + e^{-u}).  With Q, M, P the
entries of B and w ~ N(0, 1),

    H_1 = E s'(sqrt(Q) w),  H_2 = -E s'(sqrt(P) w)  [hard: -1/sqrt(2 pi P)],
    R = E log(1 + e^{sqrt(Q) w}) + M H_2.

A flipped label 1 - y is the label of the teacher -x*: if labels are flipped with probability p, H_2
has the factor 1 - 2p, and C is the mixture of its values at M and at -M.

One-dimensional means are computed by the trapezoid rule, which is accurate for large logits.

Source: the slides "Hitting the High-D(imensional) Notes", slide "Examples" (logistic loss), for the
risk with soft labels (paper: arXiv 2308.08977); H and C are derived here.
"""

import math
from typing import Annotated, Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from hdjax import gaussian
from hdjax.checks import is_concrete
from hdjax.gaussian import Rule
from hdjax.registry import OneOf, Probability, Values, register
from hdjax.streaming.losses.base import (
    ClosedFormLoss,
    Loss,
    Noise,
    NoNoise,
    Number,
    UniformNoise,
    check_columns,
    flips,
    leaf,
    probability,
    scalar_moments,
)
from hdjax.streaming.projections import Moments, Projections


def _cross_entropy(logit: Float[Array, ""], label: Any) -> Float[Array, ""]:
    return jnp.logaddexp(0.0, logit) - label * logit


@register("streaming.loss", "logistic")
class Logistic(ClosedFormLoss):
    """The logistic loss f = log(1 + e^x) - y x, whose label y depends on a teacher's logit x*.

    Args:
        labels: "soft" y = s(x*), the label without noise; "sampled" y ~ Bernoulli(s(x*)); or
            "hard" y = 1{x* > 0}.
        rule: the quadrature rule for the two-dimensional mean in C; None: the default rule.
        flip: probability with which the label is 1 - y instead; None: no label is flipped.

    Raises:
        ValueError: other labels, or a probability outside [0, 1].

    Example:
        >>> loss = Logistic(labels="hard", flip=0.1)
    """

    labels: str = eqx.field(static=True)
    flip: Number | None
    rule: Rule | None = eqx.field(static=True)

    def __init__(
        self,
        labels: Annotated[str, OneOf("soft", "sampled", "hard")] = "soft",
        rule: Rule | None = None,
        *,
        flip: Probability | None = None,
    ):
        if labels not in ("soft", "sampled", "hard"):
            raise ValueError(f"labels: {labels!r}; allowed: 'soft', 'sampled', 'hard'")
        self.labels, self.rule, self.flip = labels, rule, probability("flip", flip)

    @property
    def smooth(self) -> bool:
        return self.labels == "soft"

    @property
    def noise(self) -> Noise:
        return UniformNoise() if self.labels == "sampled" else flips(self.flip)

    def check(self, students: int, teachers: int, theta: PyTree) -> None:
        check_columns("Logistic", students, teachers, (1, 1))

    def __call__(
        self,
        x: Float[Array, " m"],
        teacher: Float[Array, " s"],
        component: Any,
        noise: Float[Array, " k"],
        theta: PyTree,
    ) -> Float[Array, ""]:
        logit = teacher[0]
        if self.flip is not None and self.labels != "sampled":
            logit = noise[0] * logit
        match self.labels:
            case "soft":
                label = jax.nn.sigmoid(logit)
            case "sampled":
                share = jax.nn.sigmoid(logit)
                if self.flip is not None:
                    share = share + self.flip * (1 - 2 * share)
                label = jnp.where(noise[0] < share, 1.0, 0.0).astype(x.dtype)
            case "hard":
                label = jnp.where(logit > 0, 1.0, 0.0).astype(x.dtype)
        return _cross_entropy(x[0], label)

    def closed_form(self, law: Projections, theta: PyTree) -> Moments:
        gram = law.gram
        student, overlap, teacher = gram[0, 0], gram[0, 1], gram[1, 1]
        root, teacher_root = gaussian.safe_sqrt(student), gaussian.safe_sqrt(teacher)
        mean = _one_dimensional(gram.dtype)

        h_student = mean(lambda w: _slope(root * w))
        if self.labels == "hard":
            h_teacher = -1 / (math.sqrt(2 * math.pi) * teacher_root)
        else:
            h_teacher = -mean(lambda w: _slope(teacher_root * w))
        noise = self._noise(law, mean, 1)
        if self.flip is not None:
            h_teacher = (1 - 2 * self.flip) * h_teacher
            noise = noise + self.flip * (self._noise(law, mean, -1) - noise)
        risk = mean(lambda w: jnp.logaddexp(0.0, root * w)) + overlap * h_teacher
        return scalar_moments(law, risk, h_student, h_teacher, noise)

    def _noise(self, law: Projections, mean: Any, sign: int) -> Float[Array, ""]:
        """C = E (s(x) - y)^2 for labels y of the teacher `sign` x*."""
        gram = law.gram
        if self.labels == "hard":
            root = gaussian.safe_sqrt(gram[0, 0])
            overlap = sign * gram[0, 1]
            # `positive` is P(x* > 0 | x) for x = sqrt(Q) w; at a singular B it is 0 or 1.
            spread = gaussian.safe_sqrt(law.determinant)
            tiny = jnp.finfo(gram.dtype).tiny

            def integrand(w: Float[Array, ""]) -> Float[Array, ""]:
                s = jax.nn.sigmoid(root * w)
                positive = jax.scipy.special.ndtr(overlap * w / jnp.maximum(spread, tiny))
                return s**2 - 2 * s * positive

            return 0.5 + mean(integrand)

        def squared(z: Float[Array, " n"]) -> Float[Array, ""]:
            x, teacher = law.at(z)
            return (jax.nn.sigmoid(x[0]) - jax.nn.sigmoid(sign * teacher[0])) ** 2

        soft = gaussian.expectation(squared, 2, self.rule, gram.dtype)
        if self.labels == "soft":
            return soft
        teacher_root = gaussian.safe_sqrt(gram[1, 1])
        return soft + mean(lambda w: _slope(teacher_root * w))


@register("streaming.loss", "component_logistic")
class ComponentLogistic(Loss):
    """The logistic loss f = log(1 + e^x) - y x, whose label y is that of the mixture component.

    Args:
        labels: (components,) labels in {0, 1}.

    Raises:
        ValueError: labels other than 0 and 1.

    Example:
        >>> loss = ComponentLogistic([0.0, 1.0])
    """

    labels: Float[Array, " components"] | Float[np.ndarray, " components"]
    rule: Rule | None = eqx.field(static=True, default=None)

    def __init__(self, labels: Values):
        self.labels = leaf(labels)
        self.rule = None
        if is_concrete(self.labels) and not np.isin(np.asarray(self.labels), (0, 1)).all():
            raise ValueError(f"labels: {labels}; allowed: 0 or 1 for each component")

    @property
    def smooth(self) -> bool:
        return True

    @property
    def noise(self) -> Noise:
        return NoNoise()

    def check(self, students: int, teachers: int, theta: PyTree) -> None:
        check_columns("ComponentLogistic", students, teachers, (1, 0))

    def __call__(
        self,
        x: Float[Array, " m"],
        teacher: Float[Array, " s"],
        component: Any,
        noise: Float[Array, " k"],
        theta: PyTree,
    ) -> Float[Array, ""]:
        return _cross_entropy(x[0], jnp.asarray(self.labels)[component])


def _slope(logit: Float[Array, ""]) -> Float[Array, ""]:
    """The derivative s'(x) of the logistic function, without overflow."""
    return jax.nn.sigmoid(logit) * jax.nn.sigmoid(-logit)


def _one_dimensional(dtype: Any) -> Any:
    """The function fn -> E fn(w) for one standard normal w, by the default (trapezoid) rule."""
    return lambda fn: gaussian.expectation(lambda z: fn(z[0]), 1, None, dtype)
