"""A step of one-pass SGD on the Stiefel manifold, and the velocity of its overlap.

With the projections u = W^T x and z = W*^T x of a sample, the gradient of its loss in u is
g_u = 2 (F(u) - y) grad F(u), and a step moves the overlap M = W^T W* in the mean, as d grows, by

    dM/dt = -gamma E[g_u (z - M^T u)^T] - gamma^2/2 E[g_u g_u^T] M,    t = k/d.

`StiefelSteps` computes gradient, velocity and noise of a model.  The system (`stiefel_sgd.py`,
which explains the equations) and its fluctuations (`fluctuations.py`) are built on it.
Sources: arXiv 2310.19793; Saad and Solla (1995); arXiv 2405.15459 for samples that are used twice.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from hdjax import gaussian
from hdjax.integrate import Integrator
from hdjax.multiindex.averaging import average
from hdjax.multiindex.flows import Planted, Profiled, Student, reduced_velocity
from hdjax.multiindex.links.link import Link
from hdjax.multiindex.problem import Problem
from hdjax.multiindex.small import product
from hdjax.multiindex.tensors import evaluate
from hdjax.system import System


class StiefelSteps(System):
    """The moments of a step of one-pass SGD on the Stiefel manifold.

    Its attributes are those of `StiefelSGD`.
    """

    problem: eqx.AbstractVar[Problem]
    learning_rate: eqx.AbstractVar[Float[Array, ""]]
    noise: eqx.AbstractVar[Float[Array, ""]]
    student: eqx.AbstractVar[Student]
    reuse: eqx.AbstractVar[Float[Array, ""] | None]
    projection: eqx.AbstractVar[str]
    integrator: eqx.AbstractVar[Integrator]
    rule: eqx.AbstractVar[gaussian.Rule]

    def link_at(
        self, matrix: Float[Array, "q r"]
    ) -> Callable[[Float[Array, " q"]], Float[Array, ""]]:
        """The student's link F at the overlap M, as a function of u."""
        if isinstance(self.student, Profiled):
            tensors = average(self.problem.link, matrix)
            return lambda u: evaluate(tensors, u)
        own: Any = self.student
        return self.problem.link if own.link is None else own.link

    def pull(
        self, matrix: Float[Array, "q r"], u: Float[Array, " q"], label: Float[Array, ""]
    ) -> Float[Array, " q"]:
        """The gradient g_u of one sample's loss in its projections u, at the sample's last use."""
        link = jax.value_and_grad(self.link_at(matrix))
        value, slope = link(u)
        pull = 2 * (value - label) * slope
        if self.reuse is None:
            return pull
        value, slope = link(u - self.reuse * pull)
        return 2 * (value - label) * slope

    def noise_matrix(self, matrix: Float[Array, "q r"]) -> Float[Array, "q q"]:
        """The matrix V = E[g_u g_u^T] of the noise term, with the label noise."""
        return self._moments(matrix)[1]

    def velocity(self, matrix: Float[Array, "q r"]) -> Float[Array, "q r"]:
        """The velocity dM/dt of the limit at the overlap M."""
        drift, noise = self._moments(matrix)
        if self.reuse is None:
            drift, _ = reduced_velocity(
                self.problem.link, self.student, self.projection, (matrix, None)
            )
        return self.learning_rate * (drift - self.learning_rate / 2 * product(noise, matrix))

    def sample(
        self, matrix: Float[Array, "q r"], normals: Float[Array, " n"], noise: Any
    ) -> tuple[Float[Array, " q"], Float[Array, " q"], Float[Array, " r"]]:
        """The gradient g_u of one sample and its projections u and z, from r + q standard normals.

        Args:
            matrix: the overlap M.
            normals: z, and then the normals xi of u = M z + (I - M M^T)^{1/2} xi.
            noise: the label noise, in units of sigma.
        """
        q, r = matrix.shape
        # Any square root of I - M M^T serves, because xi is isotropic.
        root = gaussian.factor(jnp.eye(q, dtype=matrix.dtype) - product(matrix, matrix.T))
        z, rest = normals[:r], normals[r : r + q]
        u = jnp.sum(matrix * z[None], axis=1) + jnp.sum(root * rest[None], axis=1)
        return self.pull(matrix, u, self.problem.link(z) + self.noise * noise), u, z

    def _moments(self, matrix: Float[Array, "q r"]) -> tuple[Array, Array]:
        """The expectations -E[g_u (z - M^T u)^T] and E[g_u g_u^T]."""
        q, r = matrix.shape
        # The gradient at a second use is not linear in the label: its noise is integrated too.
        noisy = self.reuse is not None

        def one(normals: Float[Array, " n"]) -> tuple[Array, Array]:
            pull, u, z = self.sample(matrix, normals, normals[-1] if noisy else 0.0)
            extra = jnp.zeros((q, q), matrix.dtype)
            if not noisy:
                slope = jax.grad(self.link_at(matrix))(u)
                extra = 4 * self.noise**2 * slope[:, None] * slope[None, :]
            outside = z - jnp.sum(matrix * u[:, None], axis=0)
            return -pull[:, None] * outside[None, :], pull[:, None] * pull[None, :] + extra

        return gaussian.expectation(one, r + q + noisy, self.rule, matrix.dtype)

    @property
    def polynomial(self) -> bool:
        """Whether the gradient of a step is a polynomial in the normals."""
        return self.reuse is None and all(link.function is None for link in self.links())

    def links(self) -> list[Link]:
        """The link of the target, and the student's own link if it has one."""
        own = [self.student.link] if isinstance(self.student, Planted) else []
        return [self.problem.link, *(link for link in own if link is not None)]
