"""The small matrices D that samples contribute to the Hessian and to the gradient covariance.

The loss sees a sample a through x = X^T a (m projections) and theta (p numbers).  With L the map of
(dx, dtheta) in R^h, h = m + p, to (a dx^T, dtheta), a sample's Hessian and squared gradient are

    L D L^T,   D = second derivative of f in (x, theta)      (Hessian)
               D = g g^T, g its derivative in (x, theta)     (gradient covariance, the G-matrix)

in the ordering [m blocks of length d | theta].  Derivatives in x are those that exist almost
everywhere: for ReLU the empirical Hessian has no delta functions, unlike the Hessian of the
population's risk.  `matrices.py` takes D at samples, and `law.py` at the nodes of the theory.
Source: "Spectral alignment of SGD" (arXiv 2310.03010), sections 3 (one layer) and 4 (two layers).
"""

from typing import Annotated, Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PyTree

from hdjax.registry import OneOf
from hdjax.streaming.losses import Loss

# The matrix that is meant: the Hessian, or the gradient covariance.
Kind = Annotated[str, OneOf("hessian", "gradient")]
KINDS = ("hessian", "gradient")


def check_kind(kind: str) -> None:
    """Raise ValueError unless `kind` is one of the two matrices."""
    if kind not in KINDS:
        raise ValueError(f"kind: {kind!r}; allowed: {', '.join(KINDS)}")


def small_matrix(
    loss: Loss,
    kind: Kind,
    x: Float[Array, " m"],
    teacher: Float[Array, " s"],
    component: Any,
    noise: Float[Array, " k"],
    theta: PyTree,
) -> Float[Array, "h h"]:
    """The small matrix D of one sample, from the loss without its ridge.

    Args:
        loss: the loss.
        kind: "hessian" or "gradient".
        x: (m,) projections X^T a.
        teacher: (s,) projections on the teacher columns.
        component: the component of the mixture that the sample is from.
        noise: the label noise.
        theta: side parameters.

    Raises:
        ValueError: the kind is another one.

    Example:
        >>> loss = hd.streaming.losses.MixtureSoftmax(2)
        >>> none = jnp.zeros(0)
        >>> small_matrix(loss, "hessian", jnp.zeros(2), none, 0, none, None).tolist()
        [[0.25, -0.25], [-0.25, 0.25]]
    """
    check_kind(kind)
    flat, unravel = ravel_pytree((x, theta))

    def value(flat: Float[Array, " h"]) -> Float[Array, ""]:
        x, theta = unravel(flat)
        return loss(x, teacher, component, noise, theta)

    if kind == "hessian":
        return jax.hessian(value)(flat)
    g = jax.grad(value)(flat)
    return jnp.outer(g, g)


def small_size(students: int, theta: PyTree) -> int:
    """The size h of D: the number of student columns plus the number of side parameters."""
    return students + sum(leaf.size for leaf in jax.tree.leaves(theta))
