"""The mean path of SGD on least squares: gradient flow, in the eigenbasis of A^T A.

Let rho_j = s_j x_j - y_j be the residual on the j-th left singular vector, delta the ridge, and
tau = int_0^t gamma dt the accumulated learning rate.  Gradient flow of L + delta/2 |X|^2 has

    rho_j(tau) = rho_j(inf) + e^{-(lambda_j + delta) tau} (rho_j(0) - rho_j(inf)),
    rho_j(inf) = -delta y_j/(lambda_j + delta).

The solvers of `limit.py` and `recursion.py` add the variances of the noise to this path.
Source: arXiv 2205.07069 (the mean of homogenised SGD).
"""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from hdjax.multipass.modes import Modes


class Flow(eqx.Module):
    """The mean path of SGD on a problem: gradient flow of L + delta/2 |X|^2.

    Attributes:
        modes: the problem in the eigenbasis of A^T A.
        ridge: delta, or None for no penalty.
    """

    modes: Modes
    ridge: Float[Array, ""] | None

    @property
    def rates(self) -> Float[Array, " p"]:
        """The rates lambda_j + delta at which the directions decay, per accumulated rate."""
        eigenvalues = self.modes.eigenvalues
        return eigenvalues if self.ridge is None else eigenvalues + self.ridge

    def decay(self, accumulated: Float[Array, ""]) -> Float[Array, " p"]:
        """The factors e^{-(lambda_j + delta) tau}, with `accumulated` = tau = int gamma dt."""
        return jnp.exp(-self.rates * accumulated)

    def residuals(self, decay: Float[Array, " p"]) -> Float[Array, " p"]:
        """The residuals rho_j where the distances to their ends are `decay` times the first."""
        start = self.modes.residuals
        if self.ridge is None:
            return decay * start
        rates = self.rates
        end = -self.ridge * self.modes.labels / jnp.where(rates == 0, 1, rates)
        return end + decay * (start - end)

    def values(self, decay: Float[Array, " p"], variances: Float[Array, " p"]) -> dict:
        """The statistics by name at a point `decay` of the mean path with variances sigma_j."""
        residuals = self.residuals(decay)
        x = self.modes.coordinates(residuals)
        if self.ridge is not None:
            x = jnp.where(self.modes.eigenvalues == 0, self.modes.start * decay, x)
        return self.modes.values(residuals, x, variances)

    def loss(self, decay: Float[Array, " p"], variances: Float[Array, " p"]) -> Array:
        """The loss L, a sum over samples, at a point `decay` of the path with variances sigma_j."""
        return self.modes.mean_loss(self.residuals(decay)) + self.modes.noise_loss(variances)
