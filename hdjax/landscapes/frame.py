"""The previsible frame of a run, covariances in it, and the law of the next observation in R^d.

The frame begins with e_0 = x_0/|x_0|, and e_{k+1} is the normalised part of grad f(x_k) outside
V_k = span(e_0, ..., e_k), which contains x_0, ..., x_k.  In a frame that extends e_0, ..., e_k, the
covariance of the values and derivatives at x_0, ..., x_k is block diagonal: one dense block (values
and derivatives along e_0, ..., e_k), and d - k - 1 identical blocks A/d, A_il = kappa_3(x_i, x_l).

The sampler (`sampler.py`) uses covariances in the frame.  `conditional_law`, which works in all d
coordinates, is a check of the sampler and serves `NextObservation` and the method `Ambient`.

Source: arXiv 2410.09973, sections 5.3 (previsible coordinate systems) and 5.4.3 (block structure).
"""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from hdjax import precise
from hdjax.checks import checked
from hdjax.landscapes.kernels.base import Jet, Kernel

__all__ = [
    "ConditionalLaw",
    "block_covariance",
    "conditional_law",
    "previsible_frame",
    "rotated_covariance",
]


def jet_at(kernel: Kernel, x: Float[Array, " d"], y: Float[Array, " d"]) -> Jet:
    """The value and the derivatives of a kernel at the pair of points x and y."""
    a, b, t = precise.dot(x, x) / 2, precise.dot(y, y) / 2, precise.dot(x, y)
    return kernel.jet(a, b, t, precise.dot(x - y, x - y) / 2)


@checked
def block_covariance(
    kernel: Kernel, x: Float[Array, " d"], y: Float[Array, " d"]
) -> Float[Array, "d+1 d+1"]:
    """The covariance, times d, of (f, grad f)(x), in rows, with (f, grad f)(y), in columns.

    Source: arXiv 2410.09973, Definition 2.3 (covariance of f), differentiated in both points.

    Args:
        kernel: kappa; kappa/d is the covariance of f.
        x: coordinates of a point in an orthonormal frame.
        y: coordinates of another point in the same frame.

    Example:
        >>> kernel = hd.landscapes.kernels.SquaredExponential()
        >>> block_covariance(kernel, jnp.zeros(1), jnp.zeros(1)).tolist()
        [[1.0, 0.0], [0.0, 1.0]]
    """
    return jet_covariance(jet_at(kernel, x, y), x, y)


def jet_covariance(
    jet: Jet, x: Float[Array, " d"], y: Float[Array, " d"]
) -> Float[Array, "d+1 d+1"]:
    """The covariance of `block_covariance`, from the value and derivatives of the kernel."""
    # Component 0 is the value.  The covariance is a bilinear form in `first` (the value), x, y and
    # x - y.  Sums are written out, as for many pairs they are faster than small matrix products.
    x, y = jnp.pad(x, (1, 0)), jnp.pad(y, (1, 0))
    first = jnp.zeros_like(x).at[0].set(1.0)
    at_x, at_y = (first, x, y, x - y), (first, y, x, y - x)
    gradient, hessian = jet.gradient, jet.hessian
    derivatives = [[jet.value, *gradient[1:]]]
    derivatives += [[gradient[i], *hessian[i, 1:]] for i in (0, 2, 3)]
    outer = jet.derivative * jnp.diag(1 - first)
    for at, row in zip(at_x, derivatives, strict=True):
        right = sum((entry * v for entry, v in zip(row, at_y, strict=True)), jnp.zeros_like(first))
        outer = outer + at[:, None] * right[None]
    return outer


@checked
def previsible_frame(
    start: Float[Array, " d"], gradients: Float[Array, "n d"]
) -> Float[Array, "d d"]:
    """The previsible frame e_0, e_1, ..., e_n of a trajectory, as rows of an orthonormal basis.

    The rows after e_n complete the basis.  Source: arXiv 2410.09973, section 5.3.

    Args:
        start: x_0, not 0.
        gradients: g_0, ..., g_{n-1}, n < d.  The direction of a gradient that adds none, such as 0
            for a step that was not made yet, is arbitrary.

    Example:
        >>> frame = previsible_frame(jnp.array([2.0, 0.0]), jnp.array([[1.0, -3.0]]))
        >>> bool(np.allclose(frame, [[1.0, 0.0], [0.0, -1.0]]))
        True
    """
    d = start.shape[0]
    vectors = jnp.concatenate([start[None], gradients]).T
    basis, triangle = jnp.linalg.qr(vectors, mode="complete")
    # The rows that complete the basis keep their signs.
    own = jnp.where(jnp.diagonal(triangle) < 0, -1.0, 1.0).astype(start.dtype)
    signs = jnp.ones(d, start.dtype).at[: vectors.shape[1]].set(own)
    return (basis * signs[None]).T


@checked
def rotated_covariance(
    kernel: Kernel, points: Float[Array, "n d"], frame: Float[Array, "d d"]
) -> Float[Array, "d+1 n d+1 n"]:
    """The covariance, times d, of f and of its derivatives along a frame, at all points.

    Entry [b, i, c, j] is the covariance of component b at x_i with component c at x_j, where
    component 0 is the value and component 1 + l the derivative along e_l.  With the previsible
    frame of the points, block [1 + l, :, 1 + m, :] is A for l = m >= n, and 0 for l != m if one of
    them is at least n.  Source: arXiv 2410.09973, section 5.4.3 (block structure).

    Args:
        kernel: kappa.
        points: x_0, ..., x_{n-1}.
        frame: e_0, ..., e_{d-1} as orthonormal rows.

    Example:
        >>> points = jnp.array([[1.0, 0.0, 0.0], [1.0, 0.5, 0.0]])
        >>> rotated_covariance(hd.landscapes.kernels.Matern52(), points, jnp.eye(3)).shape
        (4, 2, 4, 2)
    """
    coordinates = points @ frame.T
    pairs = jax.vmap(jax.vmap(block_covariance, (None, None, 0)), (None, 0, None))
    return pairs(kernel, coordinates, coordinates).transpose(2, 0, 3, 1)


class ConditionalLaw(eqx.Module):
    """The conditional law of value and gradient at a point, given earlier observations.

    The components are (f, D_{e_0} f, ..., D_{e_{d-1}} f), c = d + 1.

    Attributes:
        mean: (c,) conditional mean.
        covariance: (c, c) conditional covariance, times d.
    """

    mean: Float[Array, " c"]
    covariance: Float[Array, "c c"]


@checked
def conditional_law(
    kernel: Kernel,
    mean: Callable[[Array], Array],
    points: Float[Array, "n d"],
    values: Float[Array, " n"],
    gradients: Float[Array, "n d"],
    x: Float[Array, " d"],
    seen: Bool[Array, " n"] | None = None,
) -> ConditionalLaw:
    """The law of f and grad f at `x`, given values and gradients at `points`, in all d coordinates.

    The law is found by a direct solve with the square covariance of n (d + 1) numbers.  It serves
    small d and n, and checks of the sampler, whose cost does not depend on d.

    Args:
        kernel: kappa.
        mean: mu, a function of |x|^2/2.
        points: the points of earlier observations, in any orthonormal coordinates.
        values: f at these points.
        gradients: grad f at these points.
        x: the point of the new observation.
        seen: which of the points were observed, for arrays that are filled step by step; None: all.

    Example:
        >>> x = jnp.zeros((1, 2))
        >>> kernel, y = hd.landscapes.kernels.SquaredExponential(), jnp.array([1.0, 0.0])
        >>> law = conditional_law(kernel, lambda r: 0.0 * r, x, jnp.ones(1), jnp.zeros((1, 2)), y)
        >>> round(float(law.mean[0]), 4)
        0.6065
    """
    n, d = points.shape

    def prior(point: Array) -> Array:
        return jnp.concatenate(
            [
                mean(precise.dot(point, point) / 2)[None],
                jax.grad(mean)(precise.dot(point, point) / 2) * point,
            ]
        )

    pairs = jax.vmap(jax.vmap(block_covariance, (None, None, 0)), (None, 0, None))
    past = pairs(kernel, points, points).transpose(0, 2, 1, 3).reshape(n * (d + 1), -1)
    cross = jax.vmap(block_covariance, (None, 0, None))(kernel, points, x).reshape(-1, d + 1)
    surprise = jnp.concatenate([values[:, None], gradients], axis=1) - jax.vmap(prior)(points)
    if seen is not None:
        known = jnp.repeat(seen, d + 1)
        past = jnp.where(known[:, None] & known[None], past, jnp.eye(n * (d + 1)))
        cross = jnp.where(known[:, None], cross, 0.0)
    weights = jnp.linalg.solve(past, cross)
    own = block_covariance(kernel, x, x)
    return ConditionalLaw(prior(x) + weights.T @ surprise.reshape(-1), own - weights.T @ cross)
