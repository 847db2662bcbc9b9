"""The profiled flow on anisotropic inputs x ~ N(0, K), a method of `GradientFlow`.

Whitening gives the isotropic model.  With Q = W^T K W, B = W^T K W*, P = W*^T K W*, the overlap is
M = Q^{-1/2} B P^{-1/2}, the link is f~(z) = f*(P^{1/2} z), the loss is L = |f~|^2 - E(M^T M), and

    grad L = -2 (K W* - K W Q^{-1} B) P^{-1/2} S P^{-1/2} B^T Q^{-1},      W^T grad L = 0.

The plain flow W' = -grad L conserves W^T W, but does not close in (Q, B).  Preconditioned by
K^{-1}, it is the isotropic reduced flow.  This goes beyond arXiv 2310.19793, where K = I.
"""

from typing import Annotated, Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from hdjax import precise
from hdjax.checks import is_concrete
from hdjax.clocks import Fine
from hdjax.integrate import Integrator
from hdjax.multiindex.averaging import energy_gradient
from hdjax.multiindex.finite_samples import cosines
from hdjax.multiindex.flows import Profiled
from hdjax.multiindex.limit import flow_path
from hdjax.multiindex.links.link import Link
from hdjax.multiindex.problem import OverlapSummary
from hdjax.multiindex.simulate import CLOCK, first_of, flow_time
from hdjax.multiindex.small import inverse_root, product
from hdjax.multiindex.starts import lift
from hdjax.registry import In, Values, register
from hdjax.system import Method, Simulator


@register("multiindex.method", "anisotropic")
class Anisotropic(Method):
    """The profiled flow of a `GradientFlow` in R^d, on inputs x ~ N(0, diag(eigenvalues)).

    The system's link is f~, the link of the whitened model.  The columns W* are spread over the
    coordinates.

    Args:
        eigenvalues: (d,) positive eigenvalues of K.
        preconditioned: whether the gradient is multiplied by K^{-1}; without it the system's limit
            is not the limit of this flow.
        integrator: how W is integrated; None: the system's integrator.

    Raises:
        ValueError: the eigenvalues are not (d,) positive numbers.

    Example:
        >>> method = Anisotropic(jnp.linspace(0.5, 2.0, 40))
    """

    eigenvalues: Float[Array, " d"]
    preconditioned: bool = eqx.field(static=True)
    integrator: Integrator | None

    def __init__(
        self,
        eigenvalues: Values,
        preconditioned: bool = True,
        integrator: Annotated[Integrator, In("integrator")] | None = None,
    ):
        self.eigenvalues = jnp.asarray(eigenvalues, jnp.result_type(float))
        self.preconditioned, self.integrator = preconditioned, integrator
        if self.eigenvalues.ndim != 1 or (
            is_concrete(self.eigenvalues) and not float(np.min(self.eigenvalues)) > 0
        ):
            raise ValueError(
                f"eigenvalues: of shape {self.eigenvalues.shape}, or some not positive; allowed: "
                "(d,) positive numbers"
            )

    def simulator(self, system: Any, horizon: None = None) -> "AnisotropicSimulator":
        """The simulator of a `GradientFlow` whose student is `Profiled` without a ridge.

        Raises:
            ValueError: the number of eigenvalues is not d, the student is another one, or d is an
                array.
        """
        d = system.problem.coordinates()
        if self.eigenvalues.shape != (d,):
            raise ValueError(f"eigenvalues: shape {self.eigenvalues.shape}; allowed: ({d},)")
        if not isinstance(system.student, Profiled) or system.student.ridge is not None:
            raise ValueError(
                f"student: {system.student} with Anisotropic; allowed: Profiled() without a ridge"
            )
        own = system.integrator if self.integrator is None else self.integrator
        return AnisotropicSimulator(system, self, own)


def gradient(
    link: Link,
    eigenvalues: Float[Array, " d"],
    w: Float[Array, "d q"],
    target: Float[Array, "d r"],
) -> Float[Array, "d q"]:
    """The Euclidean gradient (d, q) of the loss L in W, for the whitened link f~."""
    q_root, p_root, cross = _roots(eigenvalues, w, target)
    matrix = product(product(q_root, cross), p_root)
    inverse = product(q_root, q_root)
    inner = product(product(p_root, energy_gradient(link, matrix)), p_root)
    rest = target - precise.dot(w, product(inverse, cross))
    return -2 * eigenvalues[:, None] * precise.dot(rest, product(product(inner, cross.T), inverse))


def anisotropic_overlap(
    eigenvalues: Float[Array, " d"], w: Float[Array, "d q"], target: Float[Array, "d r"]
) -> Float[Array, "q r"]:
    """The overlap M = Q^{-1/2} B P^{-1/2} of columns W and W* on inputs x ~ N(0, K).

    Args:
        eigenvalues: (d,) positive eigenvalues of K, in whose eigenbasis the columns are given.
        w: W (d, q), of full rank.
        target: W* (d, r), of full rank.

    Example:
        >>> anisotropic_overlap(jnp.ones(3), jnp.eye(3)[:, :1], jnp.eye(3)[:, :1]).tolist()
        [[1.0]]
    """
    q_root, p_root, cross = _roots(eigenvalues, w, target)
    return product(product(q_root, cross), p_root)


class AnisotropicSimulator(Simulator):
    """One realisation of the flow on anisotropic inputs, in R^d."""

    system: Any
    method: Anisotropic
    integrator: Integrator

    @property
    def clock(self) -> Fine:
        """The clock of flow time."""
        return CLOCK

    @property
    def target(self) -> Float[Array, "d r"]:
        """The columns W*, spread over the coordinates."""
        d, r = self.method.eigenvalues.shape[0], self.system.problem.link.variables
        return cosines(d, r, self.method.eigenvalues.dtype)

    def init(self, key: Key[Array, ""]) -> Float[Array, "d q"]:
        # In whitened coordinates the start is the isotropic one: W^T K W = I.
        scale = jnp.sqrt(self.method.eigenvalues)[:, None]
        white = scale * self.target
        white = precise.dot(white, inverse_root(precise.dot(white.T, white)))
        return lift(key, self.system.problem.sample(key), white) / scale

    def advance(
        self,
        state: Float[Array, "d q"],
        k0: Int[Array, ""],
        k1: Int[Array, ""],
        key: Key[Array, ""],
    ) -> Float[Array, "d q"]:
        problem, eigenvalues = self.system.problem, self.method.eigenvalues

        def rate(w: Array) -> Array:
            slope = gradient(problem.link, eigenvalues, w, self.target)
            return -slope / eigenvalues[:, None] if self.method.preconditioned else -slope

        t0, t1 = (flow_time(k, eigenvalues.dtype) for k in (k0, k1))
        moved = flow_path(
            self.integrator, rate, state, t1[None], problem.dimension, lambda y: y, begin=t0
        )
        return first_of(moved.values, state, k0 == k1)

    def summary(self, state: Float[Array, "d q"]) -> OverlapSummary:
        return OverlapSummary.of(anisotropic_overlap(self.method.eigenvalues, state, self.target))


def _roots(
    eigenvalues: Float[Array, " d"], w: Float[Array, "d q"], target: Float[Array, "d r"]
) -> tuple[Float[Array, "q q"], Float[Array, "r r"], Float[Array, "q r"]]:
    """The matrices Q^{-1/2}, P^{-1/2} and B."""
    weighted = eigenvalues[:, None] * target
    q_root = inverse_root(precise.dot(w.T, eigenvalues[:, None] * w))
    return q_root, inverse_root(precise.dot(target.T, weighted)), precise.dot(w.T, weighted)
