"""Readouts: how the student's link is fitted to samples, the fast part of the practical algorithm.

A readout is fitted to pairs (u_i, y_i), u_i = W^T x_i, and predicts at any u.  Where the fit
minimises its own objective, the gradient of the objective in W is the partial one at fixed link
(envelope theorem), so that nothing is differentiated through the fit.  `FiniteSamples` takes a
readout.  Source: arXiv 2310.19793 (section 5: the fast kernel ridge regression).
"""

import abc
import math
from typing import Annotated, Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Key, PyTree

from hdjax import precise
from hdjax.checks import Checked
from hdjax.multiindex.flows import Planted, Profiled, Student
from hdjax.multiindex.hermite import all_indices, hermite, products
from hdjax.multiindex.links.link import Link, LinkLike
from hdjax.registry import Bounds, Positive, Size, register

__all__ = [
    "Fixed",
    "HermiteRidge",
    "KernelRidge",
    "Network",
    "RandomFeatures",
    "Readout",
]


class Readout(Checked):
    """A way to fit the student's link to samples."""

    def initial(self, key: Key[Array, ""], directions: int) -> PyTree:
        """Parameters before the first fit, for one run."""
        return None

    @abc.abstractmethod
    def fit(self, kept: PyTree, u: Float[Array, "n q"], y: Float[Array, " n"]) -> PyTree:
        """Parameters for `predict`, which the next fit receives as `kept`."""

    @abc.abstractmethod
    def predict(self, parameters: PyTree, u: Float[Array, " q"]) -> Float[Array, ""]:
        """The value of the fitted link at u."""

    @property
    def student(self) -> Student:
        """The student that the readout becomes with unlimited samples."""
        return Profiled()

    def check(self, link: Link, directions: int) -> None:
        """Raise ValueError if the readout does not fit the target's link or its q directions."""
        self.student.check(link, directions)


@register("multiindex.readout", "hermite_ridge")
class HermiteRidge(Readout):
    """Ridge regression on the normalised Hermite features H_beta(u), |beta| <= degree.

    The coefficients are c = (Phi^T Phi/n + rho I)^{-1} Phi^T y/n, without a penalty on the mean.

    Args:
        degree: D, the highest degree of a feature.
        ridge: rho.

    Example:
        >>> readout = HermiteRidge(degree=3)
    """

    degree: Size = eqx.field(static=True, default=3)
    ridge: Positive = 1e-3

    def fit(self, kept: PyTree, u: Float[Array, "n q"], y: Float[Array, " n"]) -> PyTree:
        return _ridge(jax.vmap(self._features)(u), y, self.ridge)

    def predict(self, parameters: PyTree, u: Float[Array, " q"]) -> Float[Array, ""]:
        return precise.dot(parameters, self._features(u))

    @property
    def student(self) -> Student:
        return Profiled(self.ridge)

    def check(self, link: Link, directions: int) -> None:
        if self.degree < link.degree:
            raise ValueError(
                f"degree: {self.degree}; allowed: at least {link.degree}, that of the link (which "
                "`Link.truncate` lowers)"
            )

    def _features(self, u: Float[Array, " q"]) -> Float[Array, " p"]:
        return products(u, all_indices(u.shape[0], self.degree))


@register("multiindex.readout", "kernel_ridge")
class KernelRidge(Readout):
    """Kernel ridge regression with Mehler's kernel sum_k rho^k sum_{|beta|=k} H_beta(u) H_beta(v).

    The kernel, in closed form, is
    (1 - rho^2)^{-q/2} exp((2 rho u.v - rho^2 (|u|^2 + |v|^2)) / (2 (1 - rho^2))).  It is invariant
    under rotations, so that the objective depends on the span of W alone.  A fit costs O(n^3).

    Args:
        rho: the decay of the kernel with the degree, in (0, 1).
        ridge: the penalty, added to the kernel matrix divided by n.

    Raises:
        ValueError: rho is outside (0, 1).

    Example:
        >>> readout = KernelRidge(rho=0.5)
    """

    rho: Annotated[Any, Bounds(above=0, below=1)] = 0.5
    ridge: Positive = 1e-3

    def fit(self, kept: PyTree, u: Float[Array, "n q"], y: Float[Array, " n"]) -> PyTree:
        gram = jax.vmap(lambda a: jax.vmap(lambda b: self._kernel(a, b))(u))(u) / len(y)
        weights = jnp.linalg.solve(gram + self.ridge * jnp.eye(len(y), dtype=u.dtype), y / len(y))
        return weights, u

    def predict(self, parameters: PyTree, u: Float[Array, " q"]) -> Float[Array, ""]:
        weights, points = parameters
        return precise.dot(weights, jax.vmap(lambda b: self._kernel(u, b))(points))

    def _kernel(self, u: Float[Array, " q"], v: Float[Array, " q"]) -> Float[Array, ""]:
        rest = 1 - self.rho**2
        square = jnp.sum(u**2) + jnp.sum(v**2)
        exponent = (2 * self.rho * jnp.sum(u * v) - self.rho**2 * square) / (2 * rest)
        return rest ** (-u.shape[0] / 2) * jnp.exp(exponent)


@register("multiindex.readout", "random_features")
class RandomFeatures(Readout):
    """Ridge regression on a constant and h_k(a_j . u), k = 1..degree, a_j uniform on the sphere.

    Args:
        count: the number of a_j, drawn in each run; with few of them the objective is not a
            function of the span of W.
        degree: D, the highest k.
        ridge: rho.

    Example:
        >>> readout = RandomFeatures(count=8, degree=3)
    """

    count: Size = eqx.field(static=True, default=16)
    degree: Size = eqx.field(static=True, default=3)
    ridge: Positive = 1e-3

    def initial(self, key: Key[Array, ""], directions: int) -> PyTree:
        normals = jax.random.normal(key, (self.count, directions))
        norms = jnp.linalg.norm(normals, axis=1, keepdims=True)
        weights = jnp.zeros(1 + self.count * self.degree, normals.dtype)
        return weights, normals / norms

    def fit(self, kept: PyTree, u: Float[Array, "n q"], y: Float[Array, " n"]) -> PyTree:
        _, chosen = kept
        features = jax.vmap(lambda a: self._features(chosen, a))(u)
        return _ridge(features, y, self.ridge), chosen

    def predict(self, parameters: PyTree, u: Float[Array, " q"]) -> Float[Array, ""]:
        weights, chosen = parameters
        return precise.dot(weights, self._features(chosen, u))

    def _features(self, chosen: Array, u: Float[Array, " q"]) -> Float[Array, " p"]:
        table = hermite(jnp.sum(chosen * u[None, :], axis=1), self.degree)[:, 1:]
        scaled = table.ravel() / math.sqrt(self.count)
        return jnp.concatenate([jnp.ones(1, u.dtype), scaled])


@register("multiindex.readout", "fixed")
class Fixed(Readout):
    """A student's link that is not fitted at all.

    Args:
        link: the student's link, in q variables.

    Example:
        >>> import hdjax as hd
        >>> readout = Fixed(hd.multiindex.links.sine())
    """

    link: LinkLike

    def fit(self, kept: PyTree, u: Float[Array, "n q"], y: Float[Array, " n"]) -> PyTree:
        return None

    def predict(self, parameters: PyTree, u: Float[Array, " q"]) -> Float[Array, ""]:
        return self.link(u)

    @property
    def student(self) -> Student:
        return Planted(self.link)


@register("multiindex.readout", "network")
class Network(Readout):
    """A network from R^q to R on top of the orthonormal columns: an Equinox MLP trained by Adam.

    Args:
        width: units of a hidden layer.
        depth: the number of hidden layers.
        updates: updates of the network for each step of W, the ratio of the time scales.
        learning_rate: the learning rate of Adam.

    Raises:
        ValueError: a size is below 1, or the learning rate is not positive.

    Example:
        >>> readout = Network(width=16, updates=20)
    """

    width: Size = eqx.field(static=True, default=32)
    depth: Size = eqx.field(static=True, default=1)
    updates: Size = eqx.field(static=True, default=20)
    learning_rate: Positive = 1e-2

    def initial(self, key: Key[Array, ""], directions: int) -> PyTree:
        network = self._network(key, directions)
        arrays = eqx.filter(network, eqx.is_inexact_array)
        return arrays, self._optimiser().init(arrays)

    def fit(self, kept: PyTree, u: Float[Array, "n q"], y: Float[Array, " n"]) -> PyTree:
        def loss(arrays: PyTree) -> Array:
            values = jax.vmap(lambda x: self.predict((arrays, None), x))(u)
            return jnp.mean((values - y) ** 2)

        def update(_: Any, kept: PyTree) -> PyTree:
            arrays, state = kept
            changes, state = self._optimiser().update(jax.grad(loss)(arrays), state)
            return eqx.apply_updates(arrays, changes), state

        return jax.lax.fori_loop(0, self.updates, update, kept)

    def predict(self, parameters: PyTree, u: Float[Array, " q"]) -> Float[Array, ""]:
        shape = eqx.filter_eval_shape(self._network, jax.random.key(0), u.shape[0])
        static = eqx.filter(shape, lambda x: not isinstance(x, jax.ShapeDtypeStruct))
        return eqx.combine(parameters[0], static)(u)

    def _network(self, key: Key[Array, ""], directions: int) -> eqx.nn.MLP:
        return eqx.nn.MLP(
            directions, "scalar", self.width, self.depth, activation=jnp.tanh, key=key
        )

    def _optimiser(self) -> optax.GradientTransformation:
        return optax.adam(self.learning_rate)


def _ridge(features: Float[Array, "n p"], y: Float[Array, " n"], ridge: Any) -> Float[Array, " p"]:
    """Ridge regression without a penalty on the first feature, the constant."""
    n, p = features.shape
    gram = precise.dot(features.T, features) / n
    # With fewer samples than features and no ridge, rounding alone would decide the solution.
    floor = jnp.finfo(features.dtype).eps * p
    penalty = jnp.where(jnp.arange(p) > 0, ridge, 0.0).astype(features.dtype) + floor
    moments = precise.dot(features.T, y) / n
    return jax.scipy.linalg.solve(gram + jnp.diag(penalty), moments, assume_a="pos")
