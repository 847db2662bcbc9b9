"""Problems to choose from: random matrices with a planted signal, random features of data.

All are scaled to rows of squared norm 1, on average or exactly, so that gamma_max = 2.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from hdjax import precise, random
from hdjax.multipass.data import Split
from hdjax.multipass.problem import Problem
from hdjax.multipass.quadratics import Quadratic, SampleRisk
from hdjax.registry import NonNegativeFloat

ACTIVATIONS: dict[str, Callable] = {"relu": jax.nn.relu, "tanh": jnp.tanh, "erf": jax.lax.erf}


def gaussian_problem(
    samples: int,
    dimension: int,
    *,
    key: Key[Array, ""],
    signal: NonNegativeFloat = 1.0,
    noise: NonNegativeFloat = 0.0,
    eigenvalues: Any = None,
    normalise_rows: bool = False,
) -> Problem:
    """A planted signal, b = A X* + eta with a Gaussian A and X_0 = 0; statistics "loss" and "risk".

    A = d^-1/2 Z Sigma^1/2, so that E |a_i|^2 = tr Sigma/d; the risk is 1/2 E (a^T X - b)^2 of a
    fresh sample.  The law of A^T A is `MarchenkoPastur(d/n)`, or with eigenvalues
    `SampleCovariance(d/n, eigenvalues n/d)`.

    Args:
        samples: n.
        dimension: d.
        key: of all that is random: A, X*, eta.
        signal: root mean square of the entries of X* (exactly).
        noise: that of the entries of eta.
        eigenvalues: (d,) of Sigma, as they are; None: ones.
        normalise_rows: make all |a_i|^2 = 1 (and the risk's samples only on average), whatever
            the scale of Sigma.

    Raises:
        ValueError: numbers out of range, eigenvalues of another shape.

    Example:
        >>> problem = gaussian_problem(100, 50, key=jax.random.key(0), noise=0.5)
        >>> problem.matrix.shape
        (100, 50)
    """
    for name, size in (("samples", samples), ("dimension", dimension)):
        if size < 1:
            raise ValueError(f"{name}: {size}; allowed: at least 1")
    for name, value in (("signal", signal), ("noise", noise)):
        if not (np.isfinite(value) and value >= 0):
            raise ValueError(f"{name}: {value}; allowed: finite, 0 or more")
    dtype = jnp.result_type(float)
    s = np.ones(dimension) if eigenvalues is None else np.asarray(eigenvalues, float)
    if s.shape != (dimension,) or not (np.isfinite(s).all() and (s >= 0).all() and s.sum() > 0):
        raise ValueError(f"eigenvalues: shape {s.shape}; allowed: {(dimension,)}, 0 or more")
    if normalise_rows:
        s = s / s.mean()
    keys = random.at(key, jnp.arange(3))
    matrix = jax.random.normal(keys[0], (samples, dimension), dtype)
    matrix = matrix * jnp.asarray(np.sqrt(s / dimension), dtype)[None]
    if normalise_rows:
        matrix = _unit_rows(matrix)

    def spread(key: Key[Array, ""], size: int) -> Array:
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


def random_features_problem(
    data: Split, features: int, *, key: Key[Array, ""], activation: str = "relu"
) -> Problem:
    """Least squares on random features sigma(Z V) of data; statistics "loss" and "test".

    Rows of Z are normalised, V has independent normal entries; the features' means over the
    training samples are subtracted (they would be an eigenvalue of order n) and rows are scaled to
    norm 1 (rows with gamma |a_i|^2 > 2 would be amplified).  There is no limiting law: the limit is
    that of the empirical spectrum.  "test" is half the mean squared error on the test samples.

    Args:
        data: training and test samples.
        features: d.
        key: of V.
        activation: "relu", "tanh" or "erf".

    Raises:
        ValueError: another activation, no features, an input without a direction.

    Example:
        >>> from hdjax.multipass.data import digits, split
        >>> parts = split(digits(), 100, 50, seed=0)
        >>> random_features_problem(parts, 20, key=jax.random.key(0)).matrix.shape
        (100, 20)
    """
    if activation not in ACTIVATIONS:
        raise ValueError(f"activation: {activation!r}; allowed: {', '.join(ACTIVATIONS)}")
    if features < 1:
        raise ValueError(f"features: {features}; allowed: at least 1")
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
    norms = jnp.sqrt(jnp.sum(rows**2, axis=1, keepdims=True))
    if not bool((norms > 0).all()):
        raise ValueError("rows: one is zero; allowed: rows that can be normalised")
    return rows / norms
