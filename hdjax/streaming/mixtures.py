"""Classification of Gaussian mixtures as one-pass SGD: softmax, XOR with two layers, deeper heads.

    a = mu_c + z / sqrt(snr),   z ~ N(0, I_d),   |mu_c| = O(1),   step gamma/d

so that the noise has variance 1/snr in each coordinate; snr = infinity is SGD on the means
themselves.  The models of "Spectral alignment of SGD" (arXiv 2310.03010) and "High-dimensional
limit theorems for SGD" (arXiv 2206.04030), as instances of `OnePassSGD`.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, PyTree

from hdjax import spectra
from hdjax.integrate import Integrator
from hdjax.spectra import Spectrum
from hdjax.streaming.columns import GaussianStart
from hdjax.streaming.field import GramSummary
from hdjax.streaming.limit import block_path
from hdjax.streaming.losses import MixtureLogistic, MixtureSoftmax, Perceptron
from hdjax.streaming.model import Mixture, OnePassSGD

# Labels of the components +mu, -mu, +nu, -nu of XOR.
XOR_LABELS = (1.0, 1.0, 0.0, 0.0)


def noise_spectrum(d: int, snr: float) -> Spectrum:
    """The covariance I/snr in dimension d; snr = infinity has none.

    Raises:
        ValueError: snr that is not positive.

    Example:
        >>> float(noise_spectrum(100, 4.0).eigenvalues[0])
        0.25
    """
    if not snr > 0:
        raise ValueError(f"snr: {snr}; allowed: positive, or infinity for data without noise")
    return spectra.explicit([1 / snr], [d])


def orthonormal_means(d: int, classes: int) -> Float[Array, "d c"]:
    """Orthonormal means, spread over the coordinates (columns of the discrete cosine transform).

    Raises:
        ValueError: as many classes as dimensions, or more.

    Example:
        >>> means = orthonormal_means(50, classes=3)
        >>> bool(jnp.allclose(means.T @ means, jnp.eye(3), atol=1e-6))
        True
    """
    if not 1 <= classes < d:
        raise ValueError(f"classes: {classes} in dimension {d}; allowed: fewer than the dimension")
    angle = np.pi * (np.arange(d)[:, None] + 0.5) * np.arange(1, classes + 1)[None] / d
    return jnp.asarray(np.sqrt(2 / d) * np.cos(angle), jnp.result_type(float))


def simplex_means(d: int, classes: int) -> Float[Array, "d c"]:
    """Unit means at equal angles that sum to zero: the corners of a regular simplex.

    Example:
        >>> means = simplex_means(50, classes=3)
        >>> round(float(means[:, 0] @ means[:, 1]), 6)
        -0.5
    """
    centred = np.eye(classes) - 1 / classes
    centred = centred / np.linalg.norm(centred, axis=0)
    return jnp.dot(orthonormal_means(d, classes), centred, precision="highest")


def xor_means(d: int) -> Float[Array, "d c"]:
    """[mu, -mu, nu, -nu] with mu and nu orthonormal.

    Example:
        >>> xor_means(50).shape
        (50, 4)
    """
    signs = np.array([[1.0, -1.0, 0.0, 0.0], [0.0, 0.0, 1.0, -1.0]])
    return jnp.dot(orthonormal_means(d, 2), signs, precision="highest")


def mixture_softmax(
    d: int,
    classes: int,
    *,
    snr: float,
    learning_rate: Any,
    ridge: Any = 0.0,
    means: Any = None,
    probabilities: Any = None,
    labels: Sequence[int] | None = None,
    start: Any = None,
    **options: Any,
) -> OnePassSGD:
    """Softmax regression of the class of a mixture's component (Model S).

    Args:
        d: dimension.
        classes: number m of classes: columns of X.
        snr: lambda; the noise has variance 1/lambda in each coordinate, infinity for none.
        learning_rate: gamma; the step is gamma/d.
        ridge: beta, of the penalty beta/2 |X|^2.
        means: (d, components) array or `GaussianStart`; None: orthonormal, one a class.
        probabilities: of the components; None: equal.
        labels: class of each component; None: component c has class c.
        start: law of X_0; None: independent columns N(0, I/d).
        options: further arguments of `OnePassSGD`.

    Raises:
        ValueError, TypeError: naming the argument, its value and what is allowed.

    Example:
        >>> system = mixture_softmax(200, 3, snr=4.0, learning_rate=1.0, ridge=0.01)
    """
    means = orthonormal_means(d, classes) if means is None else means
    components = means.columns if isinstance(means, GaussianStart) else means.shape[1]
    if labels is None and components != classes:
        raise ValueError(f"labels: None with {components} components; allowed: a class for each")
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
    d: int,
    *,
    theta: PyTree,
    snr: float,
    learning_rate: Any,
    ridge: Any = 0.0,
    activation: str | Callable = "relu",
    means: Any = None,
    labels: Sequence[float] = XOR_LABELS,
    start: Any = None,
    **options: Any,
) -> OnePassSGD:
    """XOR of four clusters by a network of two layers (Model X), or of more with a deeper theta.

    Args:
        d: dimension.
        theta: (K,) second layer v, trained along; for deeper heads the tuple (W_2, ..., v).
        snr: lambda.
        learning_rate: gamma.
        ridge: beta, of the penalty beta/2 (|W|^2 + |theta|^2).
        activation: "relu", "tanh", "softplus", or any elementwise function.
        means: (d, components); None: [mu, -mu, nu, -nu].
        labels: 0 or 1 for each component.
        start: law of the first layer's rows, as columns; None: independent N(0, I/d).
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
    first = theta[0] if isinstance(theta, tuple) else theta
    columns, count = jnp.shape(first)[-1], len(labels)
    if not loss.smooth and columns > 2:
        # Its expectations are right to 1e-4, and piecewise smooth: finer steps would be wasted.
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
    d: int, *, second: Any, third: Any, activation: str | Callable = "tanh", **options: Any
) -> OnePassSGD:
    """XOR by three layers, f = v^T phi(W_2 phi(W x)): a deeper head, the limit as before.

    Args:
        d: dimension.
        second: (K_2, K) start of W_2.
        third: (K_2,) start of v.
        activation: as for `xor`.
        options: further arguments of `xor`.

    Example:
        >>> system = three_layers(
        ...     200, second=jnp.eye(2), third=jnp.ones(2), snr=5.0, learning_rate=1.0
        ... )
    """
    return xor(d, theta=(jnp.asarray(second), jnp.asarray(third)), activation=activation, **options)


def xor_start(
    key: Key[Array, ""],
    means: Float[Array, "d c"],
    targets: Sequence[int],
    overlap: float,
    labels: Sequence[float] = XOR_LABELS,
) -> tuple[Float[Array, "d k"], Float[Array, " k"]]:
    """First and second layer with chosen signs: unit i leans towards the mean `targets[i]`.

    Columns are N(0, I/d) outside the means' span, with inner product `overlap` > 0 with the mean of
    their component and 0 with the others; v_i is 1 or -1 as that component's label says.

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
    if not overlap > 0:
        raise ValueError(f"overlap: {overlap}; allowed: positive")
    d, dtype = means.shape[0], means.dtype
    columns = jax.random.normal(key, (d, len(targets)), dtype) / np.sqrt(d)
    # The means may depend on each other, and differ in length.
    directions = means / jnp.linalg.norm(means, axis=0, keepdims=True)
    left, values, _ = jnp.linalg.svd(directions, full_matrices=False)
    basis = jnp.where(values > 1e-6 * values[0], left, 0)
    inside = jnp.dot(basis.T, columns, precision="highest")
    columns = columns - jnp.dot(basis, inside, precision="highest")
    chosen = means[:, jnp.asarray(targets)]
    columns = columns + overlap * chosen / (chosen**2).sum(axis=0, keepdims=True)
    return columns, jnp.asarray([2 * labels[target] - 1 for target in targets], dtype)


def columns_with_gram(d: int, gram: Any) -> Float[Array, "d k"]:
    """Columns of a given Gram matrix, spread over the coordinates: [X | means] fixed at every d.

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
    return jnp.dot(orthonormal_means(d, len(gram)), root, precision="highest")


@eqx.filter_jit
def gradient_flow(
    system: OnePassSGD,
    ts: Float[Array, " times"],
    start: GramSummary | None = None,
    save: Callable[[GramSummary], PyTree[Array]] = lambda summary: summary,
) -> PyTree[Array]:
    """The limit of steps far below 1/d: the system's own without the gradient's noise.

    Args:
        system: the system; gamma sets the unit of time alone.
        ts: increasing times, in units of d/gamma times the flow's own.
        start: where it starts; None: at the law of the start.
        save: what of the summary is returned.

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
