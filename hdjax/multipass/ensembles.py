"""Ready-made problems: Gaussian matrices with a planted signal, and random features of data.

The rows of all problems have squared norm 1, on average or exactly, so that gamma_max = 2.  Source:
slides "Hitting the High-D(imensional) Notes", frame "Remove Gaussian Assumption..." (isotropic
features, sample covariance matrices, random features A = sigma(Z V)).
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from hdjax import precise, random
from hdjax.checks import checked
from hdjax.multipass.data import Split
from hdjax.multipass.problem import Problem
from hdjax.multipass.quadratics import Quadratic, SampleRisk
from hdjax.registry import NonNegativeFloat, NonNegatives, Size

ACTIVATIONS: dict[str, Callable] = {"relu": jax.nn.relu, "tanh": jnp.tanh, "erf": jax.lax.erf}


@checked
def gaussian_problem(
    samples: Size,
    dimension: Size,
    *,
    key: Key[Array, ""],
    signal: NonNegativeFloat = 1.0,
    noise: NonNegativeFloat = 0.0,
    eigenvalues: NonNegatives | None = None,
    normalise_rows: bool = False,
) -> Problem:
    """A planted signal, b = A X* + eta, in a Gaussian matrix A = d^-1/2 Z Sigma^1/2, from X_0 = 0.

    The rows have E |a_i|^2 = tr Sigma/d.  The statistics are "loss" and "risk", the population risk
    1/2 E (a^T X - b)^2 of a fresh sample.  The law of A^T A is `MarchenkoPastur(d/n)` without
    `eigenvalues`, and `SampleCovariance(d/n, eigenvalues n/d)` with them.

    Args:
        samples: n.
        dimension: d.
        key: key of the random numbers: A, X* and eta.
        signal: root mean square of the entries of X* (exactly).
        noise: root mean square of the entries of eta (exactly).
        eigenvalues: (d,) the eigenvalues of Sigma, which are not scaled; None: ones.
        normalise_rows: whether all rows are divided by their norms, so that |a_i|^2 = 1 whatever
            the scale of Sigma; the fresh samples of the risk then have norm 1 on average only.

    Raises:
        ValueError: numbers out of range, or eigenvalues of another shape.

    Example:
        >>> problem = gaussian_problem(100, 50, key=jax.random.key(0), noise=0.5)
        >>> problem.matrix.shape
        (100, 50)
    """
    dtype = jnp.result_type(float)
    s = np.ones(dimension) if eigenvalues is None else np.asarray(eigenvalues, float)
    if s.shape != (dimension,) or not s.sum() > 0:
        raise ValueError(f"eigenvalues: shape {s.shape}; allowed: {(dimension,)}, not all 0")
    if normalise_rows:
        s = s / s.mean()
    keys = random.at(key, jnp.arange(3))
    matrix = jax.random.normal(keys[0], (samples, dimension), dtype)
    matrix = matrix * jnp.asarray(np.sqrt(s / dimension), dtype)[None]
    if normalise_rows:
        matrix = _unit_rows(matrix)

    def spread(key: Key[Array, ""], size: int) -> Array:
        """A vector of random direction whose entries have root mean square 1."""
        vector = jax.random.normal(key, (size,), dtype)
        return vector / jnp.sqrt(jnp.mean(vector**2))

    target = signal * spread(keys[1], dimension)
    planted = precise.dot(matrix, target)
    labels = planted + noise * spread(keys[2], samples)
    second = s / dimension
    own = np.asarray(target)
    constant = (second @ own**2 + noise**2) / 2
    risk = Quadratic(np.diag(second), -second * own, constant)
    return Problem(matrix, labels, None, {"risk": risk})


@checked
def random_features_problem(
    data: Split, features: Size, *, key: Key[Array, ""], activation: str = "relu"
) -> Problem:
    """Least squares on random features A = sigma(Z V) of data, from X_0 = 0.

    The rows of Z are the inputs, normalised, and V has independent normal entries.  The mean of
    each feature over the training samples is subtracted, as it would be an eigenvalue of order n,
    and rows are scaled to norm 1, as SGD would amplify rows with gamma |a_i|^2 > 2.  The statistics
    are "loss" and "test", half the mean squared error on the test samples.  No limiting law is
    known here: the limit is that of the empirical spectrum.

    Args:
        data: training and test samples.
        features: d.
        key: key of V.
        activation: sigma, "relu", "tanh" or "erf".

    Raises:
        ValueError: another activation, no features, or an input or row of features that is zero.

    Example:
        >>> from hdjax.multipass.data import digits, split
        >>> parts = split(digits(), 100, 50, seed=0)
        >>> random_features_problem(parts, 20, key=jax.random.key(0)).matrix.shape
        (100, 20)
    """
    if activation not in ACTIVATIONS:
        raise ValueError(f"activation: {activation!r}; allowed: {', '.join(ACTIVATIONS)}")
    dtype = jnp.result_type(float)
    size = data.train.inputs.shape[1]
    weights = jax.random.normal(key, (size, features), dtype)

    def raw(inputs: np.ndarray) -> Array:
        rows = _unit_rows(jnp.asarray(inputs, dtype)) * np.sqrt(size)
        product = precise.dot(rows, weights) / np.sqrt(size)
        return ACTIVATIONS[activation](product)

    train, test = raw(data.train.inputs), raw(data.test.inputs)
    mean = train.mean(axis=0, keepdims=True)
    risk = SampleRisk(_unit_rows(test - mean), data.test.labels)
    return Problem(_unit_rows(train - mean), data.train.labels, None, {"test": risk})


def _unit_rows(rows: Float[Array, "n d"]) -> Float[Array, "n d"]:
    """The rows, each divided by its norm; raises ValueError if a row is zero."""
    norms = jnp.sqrt(jnp.sum(rows**2, axis=1, keepdims=True))
    if not bool((norms > 0).all()):
        raise ValueError("rows: a row of norm 0; allowed: rows with positive norms")
    return rows / norms
