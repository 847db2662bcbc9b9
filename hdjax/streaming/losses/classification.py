"""Losses for the classification of a Gaussian mixture whose components determine the labels.

    softmax:  f = log sum_c e^{x_c} - x_y,                 x = X^T a, one column for each class
    logistic: f = log(1 + e^h) - y h,  h = head(x, theta)  with any head, such as two layers

The label y is a function of the sample's component.  `mixtures.py` makes systems with these losses.

The softmax loss depends on x through m - 1 contrasts alone, and its expectations are over these
contrasts.  A ReLU network of two layers has kinks at x_j = 0: with one or two columns expectations
are computed on nested Gauss-Legendre panels that end at the kinks, with more columns by quasi-Monte
Carlo.

Sources: "Spectral alignment of SGD" (arXiv 2310.03010) and "High-dimensional limit theorems for
SGD" (arXiv 2206.04030) for the two models, mixtures of k classes with softmax and XOR with two
layers, h = v^T phi(x).
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import scipy
from jaxtyping import Array, Float, Int, PyTree

from hdjax import gaussian, precise
from hdjax.checks import Checked, is_concrete
from hdjax.gaussian import Rule
from hdjax.registry import Size, Values
from hdjax.streaming.losses.base import MomentsLoss, Noise, NoNoise, check_columns, leaf
from hdjax.streaming.projections import Moments, Projections

ACTIVATIONS = {"relu": jax.nn.relu, "tanh": jnp.tanh, "softplus": jax.nn.softplus}
# The number of nodes of a Gauss-Legendre panel, and the radius beyond which normals are neglected.
_PANEL, _RADIUS = 48, 8.5


class MixtureSoftmax(MomentsLoss):
    """Softmax regression on a mixture, whose label is the class of the sample's component.

    Args:
        classes: number m of classes, which is the number of student columns.
        labels: (components,) the class of each component; None: component c has class c.
        rule: the quadrature rule for the m - 1 contrasts; None: the default rule.

    Raises:
        ValueError: fewer than 2 classes, labels that are no classes.

    Example:
        >>> loss = MixtureSoftmax(classes=3)
    """

    labels: Int[np.ndarray, " components"] | None
    classes: int = eqx.field(static=True)
    rule: Rule | None = eqx.field(static=True)

    def __init__(self, classes: Size, labels: Values | None = None, rule: Rule | None = None):
        if classes < 2:
            raise ValueError(f"classes: {classes}; allowed: at least 2")
        if labels is not None and not np.isin(np.asarray(labels), np.arange(classes)).all():
            raise ValueError(f"labels: {labels}; allowed: classes 0 to {classes - 1}")
        self.labels = None if labels is None else np.asarray(labels, np.int32)
        self.classes, self.rule = classes, rule

    @property
    def smooth(self) -> bool:
        return True

    @property
    def noise(self) -> Noise:
        return NoNoise()

    @property
    def contrasts(self) -> Float[np.ndarray, "k m"]:
        """Orthonormal rows (Helmert's); derivatives of the loss depend on `contrasts @ x` alone."""
        return scipy.linalg.helmert(self.classes)

    def check(self, students: int, teachers: int, theta: PyTree) -> None:
        check_columns(f"MixtureSoftmax({self.classes})", students, teachers, (self.classes, 0))

    def __call__(
        self,
        x: Float[Array, " m"],
        teacher: Float[Array, " s"],
        component: Any,
        noise: Float[Array, " k"],
        theta: PyTree,
    ) -> Float[Array, ""]:
        label = component if self.labels is None else jnp.asarray(self.labels)[component]
        return jax.nn.logsumexp(x) - x[label]

    def moments(self, law: Projections, component: Any, theta: PyTree) -> Moments:
        contrasts = jnp.asarray(self.contrasts, law.covariance.dtype)
        mean = jnp.zeros(self.classes, contrasts.dtype) if law.mean is None else law.mean
        lower = gaussian.factor(precise.multi_dot([contrasts, law.gram, contrasts.T]))

        def integrand(z: Float[Array, " k"]) -> PyTree[Array]:
            u = precise.dot(contrasts, mean)
            u = u + precise.dot(lower, z)
            x = precise.dot(contrasts.T, u)
            label = component if self.labels is None else jnp.asarray(self.labels)[component]
            pi = jax.nn.softmax(x)
            g = pi - jax.nn.one_hot(label, self.classes, dtype=pi.dtype)
            value = jax.nn.logsumexp(x) - x[label]
            return value, g, jnp.diag(pi) - jnp.outer(pi, pi), jnp.outer(g, g)

        value, g, stein, noise = gaussian.expectation(
            integrand, self.classes - 1, self.rule, contrasts.dtype
        )
        return Moments(value, g, stein, noise, jax.tree.map(jnp.zeros_like, theta))


class Perceptron(Checked):
    """The head h = v^T phi(W_L phi(... W_2 phi(x))) of a network whose first layer is X^T.

    Its side parameters theta are v (m,) for two layers, or the tuple (W_2, ..., W_L, v).

    Args:
        activation: phi: "relu", "tanh", "softplus", or any elementwise function.

    Raises:
        ValueError: another name of an activation.

    Example:
        >>> head = Perceptron("tanh")
        >>> bool(head(jnp.ones(2), jnp.array([0.5, -0.5])) == 0)
        True
    """

    activation: Callable = eqx.field(static=True)

    def __init__(self, activation: str | Callable = "relu"):
        if isinstance(activation, str) and activation not in ACTIVATIONS:
            allowed = ", ".join(ACTIVATIONS)
            raise ValueError(f"activation: {activation!r}; allowed: {allowed}, or a function")
        self.activation = ACTIVATIONS[activation] if isinstance(activation, str) else activation

    def __call__(self, x: Float[Array, " m"], theta: PyTree) -> Float[Array, ""]:
        *inner, last = theta if isinstance(theta, tuple) else (theta,)
        for weights in inner:
            x = precise.dot(weights, self.activation(x))
        return precise.dot(last, self.activation(x))


class MixtureLogistic(MomentsLoss):
    """The logistic loss of a logit head(x, theta), whose label is that of the sample's component.

    Args:
        labels: (components,) labels in {0, 1}.
        head: any function of (x (m,), theta) to a scalar, differentiable in both; `Perceptron()`
            for networks.
        smooth: True declares that the gradient of the head in x is differentiable, as for
            `FunctionLoss`; None: True for a `Perceptron` of tanh or softplus, otherwise False.
        rule: the quadrature rule; None: panels for one or two ReLU units, otherwise the default.

    Raises:
        ValueError: labels other than 0 and 1.

    Example:
        >>> loss = MixtureLogistic([1.0, 1.0, 0.0, 0.0], head=Perceptron("relu"))
    """

    labels: Float[Array, " components"] | Float[np.ndarray, " components"]
    head: Any
    smooth: bool = eqx.field(static=True)
    rule: Rule | None = eqx.field(static=True)

    def __init__(
        self,
        labels: Values,
        head: Callable,
        *,
        smooth: bool | None = None,
        rule: Rule | None = None,
    ):
        self.labels = leaf(labels)
        if is_concrete(self.labels) and not np.isin(np.asarray(self.labels), (0, 1)).all():
            raise ValueError(f"labels: {labels}; allowed: 0 or 1 for each component")
        self.head = head if isinstance(head, eqx.Module) else jax.tree_util.Partial(head)
        self.smooth = _is_smooth(head) if smooth is None else smooth
        self.rule = rule

    @property
    def noise(self) -> Noise:
        return NoNoise()

    def check(self, students: int, teachers: int, theta: PyTree) -> None:
        if teachers:
            raise ValueError(f"target: {teachers} columns; allowed with MixtureLogistic: None")
        try:
            shape = jax.eval_shape(self.head, jnp.zeros(students, self.labels.dtype), theta).shape
        except TypeError as error:
            raise ValueError(
                f"theta: {theta}, which the head does not take with {students} columns ({error}); "
                "allowed for Perceptron: v of that length, or (W_2, ..., v)"
            ) from None
        if shape != ():
            raise ValueError(f"head: output of shape {shape}; allowed: a scalar")

    def __call__(
        self,
        x: Float[Array, " m"],
        teacher: Float[Array, " s"],
        component: Any,
        noise: Float[Array, " k"],
        theta: PyTree,
    ) -> Float[Array, ""]:
        logit = self.head(x, theta)
        return jnp.logaddexp(0, logit) - jnp.asarray(self.labels, logit.dtype)[component] * logit

    def moments(self, law: Projections, component: Any, theta: PyTree) -> Moments | None:
        flat = not isinstance(theta, tuple)
        if self.rule is not None or law.dim > 2 or not (flat and _is_relu(self.head)):
            return None
        lower = law.factor
        mean = jnp.zeros(law.dim, lower.dtype) if law.mean is None else law.mean

        def integrand(z: Float[Array, " n"]) -> PyTree[Array]:
            x = mean + precise.dot(lower, z)
            nothing = jnp.zeros(0, x.dtype)
            value = self(x, nothing, component, nothing, theta)
            g, slope = self.gradient(x, nothing, component, nothing, theta)
            return value, g, jnp.outer(z, g), jnp.outer(g, g), slope

        z, w = _panels(mean, lower)
        values = jax.vmap(integrand)(z)
        value, g, stein, noise, slope = jax.tree.map(
            lambda leaf: precise.tensordot(w, leaf, 1), values
        )
        stein = gaussian.solve_transpose(lower, stein)
        return Moments(value, g, (stein + stein.T) / 2, noise, slope)


def _is_relu(head: Any) -> bool:
    return isinstance(head, Perceptron) and head.activation is jax.nn.relu


def _is_smooth(head: Any) -> bool:
    smooth = (ACTIVATIONS["tanh"], ACTIVATIONS["softplus"])
    return isinstance(head, Perceptron) and head.activation in smooth


def _panels(
    mean: Float[Array, " n"], lower: Float[Array, "n n"]
) -> tuple[Float[Array, "nodes n"], Float[Array, " nodes"]]:
    """Nodes z (nodes, n) and weights of a rule for N(0, I_n), n <= 2.

    The panels of the rule end where a coordinate of mean + L z is zero.
    """
    nodes, weights = (jnp.asarray(x, mean.dtype) for x in np.polynomial.legendre.leggauss(_PANEL))

    def line(centre: Float[Array, ""], scale: Float[Array, ""]) -> tuple[Array, Array]:
        cut = -centre / jnp.where(scale > 0, scale, 1)
        cut = jnp.clip(jnp.where(scale > 0, cut, 0), -_RADIUS, _RADIUS)
        ends = jnp.stack([-jnp.full_like(cut, _RADIUS), cut, jnp.full_like(cut, _RADIUS)])
        half = jnp.diff(ends)[:, None] / 2
        z = (ends[:-1, None] + half * (1 + nodes[None])).ravel()
        w = (half * weights[None]).ravel() * jnp.exp(-(z**2) / 2)
        return z, w / w.sum()

    first, weight = line(mean[0], lower[0, 0])
    if mean.shape[0] == 1:
        return first[:, None], weight
    second, inner = jax.vmap(lambda z: line(mean[1] + lower[1, 0] * z, lower[1, 1]))(first)
    pairs = jnp.stack([jnp.broadcast_to(first[:, None], second.shape), second], axis=-1)
    return pairs.reshape(-1, 2), (weight[:, None] * inner).ravel()
