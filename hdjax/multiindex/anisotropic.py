"""Anisotropic inputs x ~ N(0, K): the same model after whitening, and what the flow makes of it.

With Q = W^T K W, B = W^T K W*, P = W*^T K W*, the overlap is M = Q^{-1/2} B P^{-1/2} and the link
is f~(z) = f*(P^{1/2} z); then L = |f~|^2 - E(M^T M) and

    grad L = -2 (K W* - K W Q^{-1} B) P^{-1/2} S P^{-1/2} B^T Q^{-1},      W^T grad L = 0.

The plain flow conserves W^T W and does not close in a few overlaps; preconditioned by K^{-1} it is
the isotropic reduced flow (checked in the tests).
"""

from typing import Annotated, Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from hdjax.clocks import Fine
from hdjax.integrate import Integrator
from hdjax.multiindex.averaging import energy_gradient
from hdjax.multiindex.finite_samples import cosines
from hdjax.multiindex.flows import Profiled
from hdjax.multiindex.limit import flow_path
from hdjax.multiindex.links import Link
from hdjax.multiindex.problem import Overlap
from hdjax.multiindex.simulate import CLOCK, first_of, flow_time
from hdjax.multiindex.small import inverse_root, product
from hdjax.multiindex.starts import lift
from hdjax.registry import In, Values, register
from hdjax.system import Method, Simulator, is_concrete


@register("multiindex.method", "anisotropic")
class Anisotropic(Method):
    """A method of `GradientFlow`: the profiled flow in R^d on inputs N(0, diag(eigenvalues)).

    The system's link is f~, that of the whitened model; W* is spread over the coordinates.

    Args:
        eigenvalues: (d,) positive.
        preconditioned: by K^{-1}; otherwise the limit is not that of this flow.
        integrator: how W is integrated; None: the system's.

    Raises:
        ValueError: eigenvalues that are not positive.

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
            raise ValueError("eigenvalues: allowed: (d,) positive")

    def simulator(self, system: Any, horizon: None = None) -> "AnisotropicSimulator":
        """The simulator of a profiled `GradientFlow`."""
        d = system.problem.coordinates()
        if self.eigenvalues.shape != (d,):
            raise ValueError(f"eigenvalues: shape {self.eigenvalues.shape}; allowed: ({d},)")
        if not isinstance(system.student, Profiled) or system.student.ridge is not None:
            raise ValueError("student: allowed with Anisotropic: Profiled() without a ridge")
        own = system.integrator if self.integrator is None else self.integrator
        return AnisotropicSimulator(system, self, own)


def gradient(
    link: Link,
    eigenvalues: Float[Array, " d"],
    w: Float[Array, "d q"],
    target: Float[Array, "d r"],
) -> Float[Array, "d q"]:
    """The gradient of L in W (Euclidean) for the whitened link f~."""
    q_root, p_root, cross = _roots(eigenvalues, w, target)
    matrix = product(product(q_root, cross), p_root)
    inverse = product(q_root, q_root)
    inner = product(product(p_root, energy_gradient(link, matrix)), p_root)
    rest = target - _dot(w, product(inverse, cross))
    return -2 * eigenvalues[:, None] * _dot(rest, product(product(inner, cross.T), inverse))


def anisotropic_overlap(
    eigenvalues: Float[Array, " d"], w: Float[Array, "d q"], target: Float[Array, "d r"]
) -> Float[Array, "q r"]:
    """M = Q^{-1/2} B P^{-1/2} of any W and W* of full rank."""
    q_root, p_root, cross = _roots(eigenvalues, w, target)
    return product(product(q_root, cross), p_root)


class AnisotropicSimulator(Simulator):
    """One realisation in R^d."""

    system: Any
    method: Anisotropic
    integrator: Integrator

    @property
    def clock(self) -> Fine:
        """Flow time."""
        return CLOCK

    @property
    def target(self) -> Float[Array, "d r"]:
        """W*, spread over the coordinates."""
        d, r = self.method.eigenvalues.shape[0], self.system.problem.link.variables
        return cosines(d, r, self.method.eigenvalues.dtype)

    def init(self, key: Key[Array, ""]) -> Float[Array, "d q"]:
        # In whitened coordinates the start is the isotropic one: W^T K W = I.
        scale = jnp.sqrt(self.method.eigenvalues)[:, None]
        white = scale * self.target
        white = _dot(white, inverse_root(_dot(white.T, white)))
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

    def summary(self, state: Float[Array, "d q"]) -> Overlap:
        return Overlap.of(anisotropic_overlap(self.method.eigenvalues, state, self.target))

    def bytes_per_run(self) -> int:
        return 8 * 20 * self.method.eigenvalues.shape[0] * self.system.problem.directions


def _roots(
    eigenvalues: Float[Array, " d"], w: Float[Array, "d q"], target: Float[Array, "d r"]
) -> tuple[Float[Array, "q q"], Float[Array, "r r"], Float[Array, "q r"]]:
    """Q^{-1/2}, P^{-1/2} and B."""
    weighted = eigenvalues[:, None] * target
    q_root = inverse_root(_dot(w.T, eigenvalues[:, None] * w))
    return q_root, inverse_root(_dot(target.T, weighted)), _dot(w.T, weighted)


def _dot(a: Array, b: Array) -> Array:
    return jnp.dot(a, b, precision="highest")
