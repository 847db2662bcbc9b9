"""The mean path of SGD on least squares: gradient flow, in the eigenbasis of A^T A.

With rho = s x - y the residuals on the left singular vectors and delta the ridge, after an
accumulated rate s = int gamma dt,

    rho_j(s) = rho_j(inf) + e^{-(lambda_j + delta) s} (rho_j(0) - rho_j(inf)).

Source: arXiv 2206.01029.
"""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from hdjax.multipass.modes import Modes


class Flow(eqx.Module):
    """The mean path of SGD: gradient flow of L + ridge/2 |X|^2 after an accumulated rate.

    Attributes:
        modes: the problem.
        ridge: delta, or None.
    """

    modes: Modes
    ridge: Float[Array, ""] | None

    @property
    def rates(self) -> Float[Array, " p"]:
        """lambda_j + delta."""
        eigenvalues = self.modes.eigenvalues
        return eigenvalues if self.ridge is None else eigenvalues + self.ridge

    def decay(self, accumulated: Float[Array, ""]) -> Float[Array, " p"]:
        """What is left of the distance to the end of the mean path after int gamma dt."""
        return jnp.exp(-self.rates * accumulated)

    def residuals(self, decay: Float[Array, " p"]) -> Float[Array, " p"]:
        """rho_j of the mean path, `decay` times as far from its end as at the start."""
        start = self.modes.residuals
        if self.ridge is None:
            return decay * start
        rates = self.rates
        end = -self.ridge * self.modes.labels / jnp.where(rates == 0, 1, rates)
        return end + decay * (start - end)

    def values(self, decay: Float[Array, " p"], variances: Float[Array, " p"]) -> dict:
        """The statistics of a point of the limit."""
        residuals = self.residuals(decay)
        x = self.modes.coordinates(residuals)
        if self.ridge is not None:
            x = jnp.where(self.modes.eigenvalues == 0, self.modes.start * decay, x)
        return self.modes.values(residuals, x, variances)

    def loss(self, decay: Float[Array, " p"], variances: Float[Array, " p"]) -> Array:
        """L, a sum over samples."""
        return self.modes.mean_loss(self.residuals(decay)) + self.modes.noise_loss(variances)
