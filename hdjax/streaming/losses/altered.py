"""Losses whose gradient is clipped or replaced by its sign, for `Clipped` and `SignSGD`.

The value of the loss is unchanged, and its gradient g becomes min(1, delta/|g|) g (clipped) or
sign(g).  For least squares in one column these are the gradients of Huber's loss and of the
absolute error, whose moments are known in closed form; the moments of other losses are computed by
Gaussian integration by parts.
"""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from hdjax import gaussian
from hdjax.gaussian import QMC, Rule
from hdjax.streaming.losses.base import ClosedFormLoss, Loss, Noise
from hdjax.streaming.losses.least_squares import LeastSquares
from hdjax.streaming.losses.robust import AbsoluteError, Huber
from hdjax.streaming.projections import Moments, Projections


class Altered(Loss):
    """A loss with a gradient that is clipped or replaced by its sign.

    Attributes:
        loss: the loss.
        level: (c,) norm at which the gradient is clipped in each mixture component; None: the
            gradient is replaced by its sign.
    """

    loss: Loss
    level: Float[Array, " c"] | None
    rule: Rule | None = eqx.field(static=True)

    def __init__(self, loss: Loss, level: Any = None):
        # A rule that is accurate for a smooth loss may be inaccurate for the jump of the gradient.
        self.loss, self.level = loss, level
        self.rule = QMC(13) if loss.smooth or loss.rule is None else loss.rule

    @property
    def noise(self) -> Noise:
        return self.loss.noise

    @property
    def smooth(self) -> bool:
        return False

    def __call__(self, x: Array, teacher: Array, component: Any, noise: Array, theta: Any) -> Array:
        return self.loss(x, teacher, component, noise, theta)

    def gradient(
        self, x: Array, teacher: Array, component: Any, noise: Array, theta: Any
    ) -> tuple[Array, PyTree]:
        g, slope = self.loss.gradient(x, teacher, component, noise, theta)
        if self.level is None:
            return jnp.sign(g), slope
        size = gaussian.safe_sqrt(jnp.sum(g**2))
        return g * jnp.minimum(1, self.level[component] / jnp.where(size > 0, size, 1)), slope


class Surrogate(ClosedFormLoss):
    """Least squares whose gradient is `scale` times the gradient of the loss `other`."""

    loss: LeastSquares
    other: ClosedFormLoss
    scale: Any
    rule: Rule | None = eqx.field(static=True)

    def __init__(self, loss: LeastSquares, other: ClosedFormLoss, scale: Any):
        self.loss, self.other, self.scale, self.rule = loss, other, scale, None

    @property
    def noise(self) -> Noise:
        return self.other.noise

    @property
    def smooth(self) -> bool:
        return False

    def __call__(self, x: Array, teacher: Array, component: Any, noise: Array, theta: Any) -> Array:
        return self.loss(x, teacher, component, noise, theta)

    def closed_form(self, law: Projections, theta: PyTree) -> Moments:
        other = self.other.closed_form(law, theta)
        return Moments(
            self.loss.closed_form(law, theta).risk,
            other.gradient,
            self.scale * other.stein,
            self.scale**2 * other.noise,
        )


def clipped(loss: Loss, level: Float[Array, " c"]) -> Loss:
    """The loss with its gradient clipped at the norm `level` (c,) in each mixture component."""
    if isinstance(loss, LeastSquares) and loss.columns == 1 and level.shape == (1,):
        huber = Huber(level[0] / loss.scale, *_parts(loss))
        return Surrogate(loss, huber, loss.scale)
    return Altered(loss, level)


def signed(loss: Loss) -> Loss:
    """The loss with its gradient replaced by the signs of its entries."""
    if isinstance(loss, LeastSquares) and loss.columns == 1:
        return Surrogate(loss, AbsoluteError(*_parts(loss)), 1)
    return Altered(loss)


def _parts(loss: LeastSquares) -> tuple[Array, Array]:
    """Standard deviations and probabilities of the parts of the label noise of least squares."""
    sigma = jnp.atleast_1d(jnp.asarray(loss.sigma))
    if loss.probabilities is None:
        return sigma, jnp.ones_like(sigma)
    return sigma, jnp.asarray(loss.probabilities)
