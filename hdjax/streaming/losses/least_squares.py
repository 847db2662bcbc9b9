"""Least squares: f = c/2 |x - x* - noise|^2 with noise N(0, sigma^2 I) and m = s columns.

`LeastSquares` computes the moments in closed form.  With D the covariance of x - x* and
Delta = D + sigma^2 I,

    R = c/2 tr Delta,    H = c (I; -I),    C = c^2 Delta.

Source: the slides "Hitting the High-D(imensional) Notes", slide "Examples" (least squares), for the
risk with c = 2 (paper: arXiv 2308.08977).
"""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from hdjax.gaussian import GaussHermite, Rule
from hdjax.registry import OneOrMoreNonNegative, Positive, Positives, Size, register
from hdjax.streaming.losses.base import (
    ClosedFormLoss,
    GaussianMixtureNoise,
    GaussianNoise,
    Noise,
    Number,
    leaf,
    zero_gradient,
)
from hdjax.streaming.projections import Moments, Projections


@register("streaming.loss", "least_squares")
class LeastSquares(ClosedFormLoss):
    """The least-squares loss f = scale/2 |x - x* - noise|^2.

    Args:
        sigma: standard deviation of the label noise (0: no noise), or (c,) the standard deviations
            of the parts of a mixture (for one column).
        scale: the factor c, positive; it multiplies the risk by c, and the dynamics are those of
            c = 1 with learning rate c gamma.
        columns: number m of student columns, which is also the number of teacher columns.
        probabilities: (c,) probabilities of the parts of the noise; None: Gaussian noise.

    Raises:
        ValueError: a negative sigma, a scale that is not positive, probabilities that are not
            positive or do not sum to 1, or probabilities with more than one column.

    Example:
        >>> loss = LeastSquares(sigma=0.5)
        >>> heavy = LeastSquares(sigma=[0.3, 3.0], probabilities=[0.9, 0.1])
    """

    sigma: Number
    scale: Number
    columns: int = eqx.field(static=True)
    probabilities: Number | None
    rule: Rule | None = eqx.field(static=True, default=None)

    def __init__(
        self,
        sigma: OneOrMoreNonNegative = 0.0,
        scale: Positive = 1.0,
        columns: Size = 1,
        probabilities: Positives | None = None,
    ):
        self.sigma, self.scale, self.columns = leaf(sigma), leaf(scale), columns
        self.probabilities = None
        if probabilities is not None:
            if columns != 1:
                raise ValueError(f"columns: {columns}; allowed with probabilities: 1")
            parts = GaussianMixtureNoise(sigma, probabilities)
            self.sigma, self.probabilities = parts.sigma, parts.probabilities
        # A rule of three nodes is exact, because all means are of polynomials of degree up to four.
        self.rule = GaussHermite(3)

    @property
    def smooth(self) -> bool:
        return True

    @property
    def noise(self) -> Noise:
        if self.probabilities is None:
            return GaussianNoise(self.sigma, self.columns)
        return GaussianMixtureNoise(self.sigma, self.probabilities)

    def check(self, students: int, teachers: int, theta: PyTree) -> None:
        if not students == teachers == self.columns:
            raise ValueError(
                f"start, target: {students} student and {teachers} teacher columns; allowed with "
                f"LeastSquares(columns={self.columns}): {self.columns} of each"
            )

    def __call__(
        self,
        x: Float[Array, " m"],
        teacher: Float[Array, " s"],
        component: Any,
        noise: Float[Array, " k"],
        theta: PyTree,
    ) -> Float[Array, ""]:
        return self.scale / 2 * jnp.sum((x - teacher - noise) ** 2)

    def closed_form(self, law: Projections, theta: PyTree) -> Moments:
        m = law.students
        eye = jnp.eye(m, dtype=law.covariance.dtype)
        variance = self.sigma**2
        if self.probabilities is not None:
            variance = jnp.dot(self.probabilities, variance)
        delta = law.error_gram[:m, :m] + variance * eye
        return Moments(
            risk=self.scale / 2 * jnp.trace(delta),
            gradient=zero_gradient(law),
            stein=self.scale * jnp.concatenate([eye, -eye]),
            noise=self.scale**2 * delta,
        )
