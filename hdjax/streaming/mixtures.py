"""Classification of Gaussian mixtures by one-pass SGD: softmax, XOR with two layers, deeper heads.

    a = mu_c + z / sqrt(snr),   z ~ N(0, I_d),   |mu_c| = O(1),   step gamma/d

The noise has variance 1/snr in each coordinate; for snr = infinity the samples are the means.  The
functions of this module make the mixtures, their starts and the `OnePassSGD` of each model, for the
study of spectral alignment (`hdjax.curvature`).

Sources: the two models, k-component Gaussian mixtures with one layer and XOR with two layers, are
those of "Spectral alignment of SGD" (arXiv 2310.03010) and "High-dimensional limit theorems for
SGD" (arXiv 2206.04030); the equations are derived here.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, PyTree

from hdjax import precise, spectra
from hdjax.checks import checked
from hdjax.integrate import Integrator
from hdjax.registry import Bounds, NonNegative, PositiveFloat, Size, Values
from hdjax.schedules import ScheduleLike
from hdjax.spectra import Spectrum
from hdjax.streaming.field import GramSummary
from hdjax.streaming.limit import block_path
from hdjax.streaming.losses import MixtureLogistic, MixtureSoftmax, Perceptron
from hdjax.streaming.model import Mixture, OnePassSGD
from hdjax.streaming.starts import GaussianStart

__all__ = [
    "columns_with_gram",
    "gradient_flow",
    "mixture_softmax",
    "noise_spectrum",
    "orthonormal_means",
    "simplex_means",
    "three_layers",
    "xor",
    "xor_means",
    "xor_start",
]

SignalToNoise = Annotated[float, Bounds(above=0, infinite=True)]

# Labels of the components +mu, -mu, +nu, -nu of XOR.
XOR_LABELS = (1.0, 1.0, 0.0, 0.0)


@checked
def noise_spectrum(d: Size, snr: SignalToNoise) -> Spectrum:
    """The spectrum of the covariance I/snr of the noise; for snr = infinity the covariance is 0.

    Args:
        d: dimension.
        snr: signal-to-noise ratio, positive or infinity; O(1) for means of O(1).

    Raises:
        ValueError: an snr that is not positive.

    Example:
        >>> float(noise_spectrum(100, 4.0).eigenvalues[0])
        0.25
    """
    return spectra.explicit([1 / snr], [d])


@checked
def orthonormal_means(d: Size, classes: Size) -> Float[Array, "d c"]:
    """Orthonormal means (d, classes) that are spread over the coordinates.

    They are columns of the discrete cosine transform.

    Raises:
        ValueError: fewer than 1 class, or as many classes as dimensions.

    Example:
        >>> means = orthonormal_means(50, classes=3)
        >>> bool(jnp.allclose(means.T @ means, jnp.eye(3), atol=1e-6))
        True
    """
    if not 1 <= classes < d:
        raise ValueError(f"classes: {classes} in dimension {d}; allowed: fewer than the dimension")
    angle = np.pi * (np.arange(d)[:, None] + 0.5) * np.arange(1, classes + 1)[None] / d
    return jnp.asarray(np.sqrt(2 / d) * np.cos(angle), jnp.result_type(float))


@checked
def simplex_means(d: Size, classes: Size) -> Float[Array, "d c"]:
    """Unit means (d, classes) at the corners of a regular simplex, whose sum is zero.

    Example:
        >>> means = simplex_means(50, classes=3)
        >>> round(float(means[:, 0] @ means[:, 1]), 6)
        -0.5
    """
    centred = np.eye(classes) - 1 / classes
    centred = centred / np.linalg.norm(centred, axis=0)
    return precise.dot(orthonormal_means(d, classes), centred)


@checked
def xor_means(d: Size) -> Float[Array, "d c"]:
    """The means [mu, -mu, nu, -nu] (d, 4) of XOR, with mu and nu orthonormal.

    Example:
        >>> xor_means(50).shape
        (50, 4)
    """
    signs = np.array([[1.0, -1.0, 0.0, 0.0], [0.0, 0.0, 1.0, -1.0]])
    return precise.dot(orthonormal_means(d, 2), signs)


@checked
def mixture_softmax(
    d: Size,
    classes: Size,
    *,
    snr: SignalToNoise,
    learning_rate: ScheduleLike,
    ridge: NonNegative = 0.0,
    means: Any = None,
    probabilities: Any = None,
    labels: Sequence[int] | None = None,
    start: Any = None,
    **options: Any,
) -> OnePassSGD:
    """One-pass SGD for softmax regression on a Gaussian mixture whose components have class labels.

    Args:
        d: dimension.
        classes: number m of classes, which is the number of columns of X.
        snr: signal-to-noise ratio: the noise has variance 1/snr in each coordinate; infinity for
            data without noise.
        learning_rate: gamma = O(1), a number or a schedule; the step is gamma/d.
        ridge: beta, of the penalty beta/2 |X|^2.
        means: (d, components) array or `GaussianStart`; None: orthonormal means, one a class.
        probabilities: (components,) probabilities of the components; None: equal.
        labels: (components,) class of each component; None: component c has class c.
        start: law of X_0; None: independent columns N(0, I/d).
        options: further arguments of `OnePassSGD`, and the `rule` of the loss.

    Raises:
        ValueError, TypeError: naming the argument, its value and what is allowed.

    Example:
        >>> system = mixture_softmax(200, 3, snr=4.0, learning_rate=1.0, ridge=0.01)
    """
    means = orthonormal_means(d, classes) if means is None else means
    components = means.columns if isinstance(means, GaussianStart) else np.shape(means)[1]
    if labels is None and components != classes:
        raise ValueError(
            f"labels: None with {components} components and {classes} classes; allowed: a class "
            "for each component"
        )
    if probabilities is None:
        probabilities = np.full(components, 1 / components)
    return OnePassSGD(
        MixtureSoftmax(classes, labels, options.pop("rule", None)),
        noise_spectrum(d, snr),
        learning_rate,
        GaussianStart(columns=classes) if start is None else start,
        mixture=Mixture(probabilities, means),
        ridge=ridge,
        **options,
    )


def xor(
    d: Size,
    *,
    theta: PyTree,
    snr: SignalToNoise,
    learning_rate: ScheduleLike,
    ridge: NonNegative = 0.0,
    activation: str | Callable = "relu",
    means: Any = None,
    labels: Sequence[float] = XOR_LABELS,
    start: Any = None,
    **options: Any,
) -> OnePassSGD:
    """One-pass SGD for the XOR of four clusters, by a network of two or more layers.

    Args:
        d: dimension.
        theta: start of the layers behind the first, which are trained too: (K,) the second layer v
            of a network of two layers, or the tuple (W_2, ..., v) of a deeper network.
        snr: signal-to-noise ratio: the noise has variance 1/snr in each coordinate.
        learning_rate: gamma = O(1), a number or a schedule; the step is gamma/d.
        ridge: beta, of the penalty beta/2 (|W|^2 + |theta|^2) with W the first layer.
        activation: "relu", "tanh", "softplus", or any elementwise function.
        means: (d, components) array; None: [mu, -mu, nu, -nu].
        labels: (components,) labels 0 or 1.
        start: law of the rows of the first layer W, as columns; None: independent N(0, I/d).
        options: further arguments of `OnePassSGD`, and `rule` and `smooth` of the loss.

    Raises:
        ValueError, TypeError: naming the argument, its value and what is allowed.

    Example:
        >>> v = jnp.array([0.5, -0.5, 0.3, -0.2])
        >>> system = xor(200, theta=v, snr=10.0, learning_rate=2.0, ridge=0.02)
    """
    means = xor_means(d) if means is None else means
    loss = MixtureLogistic(
        np.asarray(labels, np.float64),
        Perceptron(activation),
        smooth=options.pop("smooth", None),
        rule=options.pop("rule", None),
    )
    # A tuple has the arrays of two layers, a list is the array of one.
    theta = np.asarray(theta) if isinstance(theta, list) else theta
    first = theta[0] if isinstance(theta, tuple) else theta
    columns, count = jnp.shape(first)[-1], len(labels)
    if not loss.smooth and columns > 2:
        # The expectations of this loss have an error of 1e-4, so smaller tolerances are useless.
        options = {"integrator": Integrator(rtol=1e-3, atol=1e-5), **options}
    return OnePassSGD(
        loss,
        noise_spectrum(d, snr),
        learning_rate,
        GaussianStart(columns=columns) if start is None else start,
        mixture=Mixture(np.full(count, 1 / count), means),
        ridge=ridge,
        theta=jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.result_type(float)), theta),
        **options,
    )


def three_layers(
    d: Size, *, second: Any, third: Any, activation: str | Callable = "tanh", **options: Any
) -> OnePassSGD:
    """One-pass SGD for XOR by a network of three layers, with logit v^T phi(W_2 phi(W a)).

    Args:
        d: dimension.
        second: (K_2, K) start of W_2.
        third: (K_2,) start of v.
        activation: phi, as for `xor`.
        options: further arguments of `xor`, of which `snr` and `learning_rate` are required.

    Example:
        >>> system = three_layers(
        ...     200, second=jnp.eye(2), third=jnp.ones(2), snr=5.0, learning_rate=1.0
        ... )
    """
    return xor(d, theta=(jnp.asarray(second), jnp.asarray(third)), activation=activation, **options)


@checked
def xor_start(
    key: Key[Array, ""],
    means: Float[Array, "d c"],
    targets: Sequence[int],
    overlap: PositiveFloat,
    labels: Sequence[float] = XOR_LABELS,
) -> tuple[Float[Array, "d k"], Float[Array, " k"]]:
    """A start of both layers for `xor`, in which hidden unit i overlaps with the mean `targets[i]`.

    The i-th column of the first layer is N(0, I/d) outside the span of the means, plus
    overlap mu / |mu|^2 with mu the mean `targets[i]`.  The i-th entry of the second layer is 1 if
    the label of this component is 1, and -1 if it is 0.

    Args:
        key: the key of the draw.
        means: (d, components) means.
        targets: (K,) component of each hidden unit.
        overlap: inner product of each column with the mean of its component, positive.
        labels: (components,) labels 0 or 1.

    Returns:
        The first layer's rows as columns (d, K), and the second layer (K,).

    Raises:
        ValueError: a target that is no component, an overlap that is not positive.

    Example:
        >>> X, v = xor_start(jax.random.key(0), xor_means(50), [0, 1, 0, 1], overlap=0.3)
        >>> v.tolist()
        [1.0, 1.0, 1.0, 1.0]
    """
    count = means.shape[1]
    if not all(0 <= target < count for target in targets):
        raise ValueError(f"targets: {list(targets)}; allowed: components 0 to {count - 1}")
    d, dtype = means.shape[0], means.dtype
    columns = jax.random.normal(key, (d, len(targets)), dtype) / np.sqrt(d)
    # The means may be linearly dependent and of different norms.
    directions = means / jnp.linalg.norm(means, axis=0, keepdims=True)
    left, values, _ = jnp.linalg.svd(directions, full_matrices=False)
    basis = jnp.where(values > 1e-6 * values[0], left, 0)
    inside = precise.dot(basis.T, columns)
    columns = columns - precise.dot(basis, inside)
    chosen = means[:, jnp.asarray(targets)]
    columns = columns + overlap * chosen / (chosen**2).sum(axis=0, keepdims=True)
    return columns, jnp.asarray([2 * labels[target] - 1 for target in targets], dtype)


@checked
def columns_with_gram(d: Size, gram: Values) -> Float[Array, "d k"]:
    """Columns (d, k) with a given Gram matrix, spread over the coordinates.

    They serve as a start whose overlaps do not depend on d.

    Args:
        d: dimension, larger than k.
        gram: (k, k) the Gram matrix, symmetric and positive semidefinite.

    Raises:
        ValueError: a matrix that is not symmetric positive semidefinite, or d columns or more.

    Example:
        >>> columns = columns_with_gram(50, [[1.0, 0.5], [0.5, 2.0]])
        >>> (columns.T @ columns).round(5).tolist()
        [[1.0, 0.5], [0.5, 2.0]]
    """
    gram = np.asarray(gram, np.float64)
    if gram.ndim != 2 or gram.shape[0] != gram.shape[1] or not np.allclose(gram, gram.T):
        raise ValueError(f"gram: shape {gram.shape}; allowed: a symmetric matrix")
    values, vectors = np.linalg.eigh(gram)
    if values[0] < -1e-8 * values[-1]:
        raise ValueError(f"gram: lowest eigenvalue {values[0]:.3g}; allowed: positive semidefinite")
    root = np.sqrt(np.maximum(values, 0))[:, None] * vectors.T
    return precise.dot(orthonormal_means(d, len(gram)), root)


@checked
@eqx.filter_jit
def gradient_flow(
    system: OnePassSGD,
    ts: Float[Array, " times"],
    start: GramSummary | None = None,
    save: Callable[[GramSummary], PyTree[Array]] = lambda summary: summary,
) -> PyTree[Array]:
    """The population gradient flow, which is the limit of SGD with steps far below 1/d.

    It is the limit of the system without the noise of the gradients.

    Args:
        system: the system; gamma only sets the unit of time.
        ts: (times,) increasing, from 0 on: at time t gradient flow has run for the integral of
            gamma up to t.
        start: the summary at t = 0; None: the law of the start.
        save: a function from a summary to the part that is returned.

    Returns:
        The saved parts, stacked along a leading axis of times.

    Example:
        >>> system = mixture_softmax(200, 3, snr=4.0, learning_rate=1.0)
        >>> summary = gradient_flow(system, jnp.array([0.0, 1.0]))
    """
    start = system.start() if start is None else start
    field = system.field()
    quiet = eqx.tree_at(lambda field: field.weights, field, jnp.zeros_like(field.weights))
    return block_path(
        system.integrator,
        quiet,
        start.state,
        ts,
        save=lambda state: save(dataclasses.replace(start, blocks=state[0], side=state[1])),
        alive=lambda state: jnp.isfinite(state[0]).all(),
    ).values
