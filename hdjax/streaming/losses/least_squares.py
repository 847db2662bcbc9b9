"""Least squares: f = c/2 |x - x* - noise|^2 with noise N(0, sigma^2), m = s columns.

arXiv 2308.08977; closed form in `math`: with D the covariance of x - x*, Delta = D + sigma^2 I,
R = c/2 tr Delta, H = c (I; -I), C = c^2 Delta.
"""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from hdjax.gaussian import GaussHermite, Rule
from hdjax.streaming.losses.base import (
    ClosedFormLoss,
    GaussianNoise,
    Noise,
    Number,
    check_positive,
    leaf,
    zero_gradient,
)
from hdjax.streaming.projections import Moments, Projections


class LeastSquares(ClosedFormLoss):
    """f = scale/2 |x - x* - noise|^2.

    Args:
        sigma: standard deviation of the label noise (0: none).
        scale: the factor c; it multiplies the risk by c and acts on the dynamics as gamma -> c
            gamma.
        columns: number m of student columns, equal to the teachers'.

    Example:
        >>> loss = LeastSquares(sigma=0.5)
    """

    sigma: Number
    scale: Number
    columns: int = eqx.field(static=True)
    rule: Rule | None = eqx.field(static=True, default=None)

    def __init__(self, sigma: Any = 0.0, scale: Any = 1.0, columns: int = 1):
        check_positive("sigma", sigma, strict=False)
        check_positive("scale", scale, strict=True)
        self.sigma, self.scale, self.columns = leaf(sigma), leaf(scale), columns
        # Three nodes are exact: all means are of polynomials of degree four or less.
        self.rule = GaussHermite(3)

    @property
    def smooth(self) -> bool:
        return True

    @property
    def noise(self) -> Noise:
        return GaussianNoise(self.sigma, self.columns)

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
        delta = law.error_gram[:m, :m] + self.sigma**2 * eye
        return Moments(
            risk=self.scale / 2 * jnp.trace(delta),
            gradient=zero_gradient(law),
            stein=self.scale * jnp.concatenate([eye, -eye]),
            noise=self.scale**2 * delta,
        )
