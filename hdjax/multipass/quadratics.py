"""Quadratic statistics of the iterate: population risk, test risk, distances.

    q(X) = 1/2 X^T T X + c^T X + c_0.

SGD on least squares has E q(X_t) = q(mean path) + 1/2 tr T Cov(X_t).  To leading order the
covariance is diagonal in the eigenbasis of A^T A, so that the limit needs q on the mean path, and
the diagonal of T in this basis (`restrict` and `diagonal`).

Sources: slides "Hitting the High-D(imensional) Notes", frame "Expected Risk"; arXiv 2205.07069
(quadratic statistics of homogenised SGD).
"""

import abc

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from hdjax import precise
from hdjax.checks import Checked, is_concrete
from hdjax.registry import Real, Values


class QuadraticForm(Checked):
    """A quadratic function q of a vector x (d,), such as the iterate."""

    @abc.abstractmethod
    def __call__(self, x: Float[Array, " d"]) -> Float[Array, ""]:
        """The value q(x)."""

    @abc.abstractmethod
    def diagonal(self) -> Float[Array, " d"]:
        """The diagonal of T."""

    @abc.abstractmethod
    def trace(self, covariance: Float[Array, "d d"]) -> Float[Array, ""]:
        """The trace tr T S, twice the mean increase of q by a covariance S of x."""

    @abc.abstractmethod
    def restrict(self, basis: Float[Array, "d p"], origin: Float[Array, " d"]) -> "QuadraticForm":
        """The quadratic function y -> q(origin + basis y) of y (p,)."""

    @property
    @abc.abstractmethod
    def size(self) -> int:
        """The dimension d of the argument x."""


class Quadratic(QuadraticForm):
    """A quadratic function q(x) = 1/2 x^T T x + c^T x + c_0 by its coefficients.

    Args:
        matrix: T (d, d), symmetric.
        vector: c (d,); None: zero.
        constant: c_0.

    Raises:
        ValueError: shapes disagree, entries are not finite, or T is not symmetric.

    Example:
        >>> float(Quadratic(jnp.eye(2))(jnp.array([3.0, 4.0])))
        12.5
    """

    matrix: Float[Array, "d d"]
    vector: Float[Array, " d"]
    constant: Float[Array, ""]

    def __init__(self, matrix: Values, vector: Values | None = None, constant: Real = 0.0):
        dtype = jnp.result_type(float)
        self.matrix = finite("matrix", jnp.asarray(matrix, dtype), 2)
        d = self.matrix.shape[0]
        vector = jnp.zeros(d, dtype) if vector is None else jnp.asarray(vector, dtype)
        self.vector = finite("vector", vector, 1)
        self.constant = finite("constant", jnp.asarray(constant, dtype), 0)
        if self.matrix.shape != (d, d) or self.vector.shape != (d,):
            raise ValueError(
                f"matrix, vector: shapes {self.matrix.shape}, {self.vector.shape}; allowed: "
                "(d, d), (d,)"
            )
        if is_concrete(self.matrix):
            matrix = np.asarray(self.matrix)
            if np.abs(matrix - matrix.T).max(initial=0) > 1e-4 * np.abs(matrix).max(initial=0):
                raise ValueError("matrix: not symmetric; allowed: a symmetric matrix")

    @property
    def size(self) -> int:
        return self.matrix.shape[0]

    def __call__(self, x: Float[Array, " d"]) -> Float[Array, ""]:
        half = precise.dot(self.matrix, x) / 2
        return precise.dot(half + self.vector, x) + self.constant

    def diagonal(self) -> Float[Array, " d"]:
        return jnp.diagonal(self.matrix)

    def trace(self, covariance: Float[Array, "d d"]) -> Float[Array, ""]:
        return jnp.sum(self.matrix * covariance)

    def restrict(self, basis: Float[Array, "d p"], origin: Float[Array, " d"]) -> "Quadratic":
        image = precise.dot(self.matrix, basis)
        slope = precise.dot(self.matrix, origin) + self.vector
        matrix = precise.dot(basis.T, image)
        vector = precise.dot(slope, basis)
        return Quadratic((matrix + matrix.T) / 2, vector, self(origin))


class SampleRisk(QuadraticForm):
    """Half the mean squared error on N given samples: q(x) = 1/(2N) sum_i (a_i^T x - b_i)^2.

    Args:
        rows: (N, d) the samples a_i.
        labels: (N,) the labels b_i.

    Raises:
        ValueError: shapes disagree, there are no samples, or entries are not finite.

    Example:
        >>> risk = SampleRisk(jnp.eye(2), jnp.array([1.0, 3.0]))
        >>> float(risk(jnp.zeros(2)))
        2.5
    """

    rows: Float[Array, "n d"]
    labels: Float[Array, " n"]

    def __init__(self, rows: Values, labels: Values):
        dtype = jnp.result_type(float)
        self.rows = finite("rows", jnp.asarray(rows, dtype), 2)
        self.labels = finite("labels", jnp.asarray(labels, dtype), 1)
        if self.labels.shape != self.rows.shape[:1] or not self.labels.size:
            raise ValueError(
                f"rows, labels: shapes {self.rows.shape}, {self.labels.shape}; allowed: (N, d), "
                "(N,) with N at least 1"
            )

    @property
    def size(self) -> int:
        return self.rows.shape[1]

    def __call__(self, x: Float[Array, " d"]) -> Float[Array, ""]:
        residuals = precise.dot(self.rows, x) - self.labels
        return jnp.mean(residuals**2) / 2

    def diagonal(self) -> Float[Array, " d"]:
        return jnp.mean(self.rows**2, axis=0)

    def trace(self, covariance: Float[Array, "d d"]) -> Float[Array, ""]:
        return jnp.mean(jnp.sum(precise.dot(self.rows, covariance) * self.rows, axis=1))

    def restrict(self, basis: Float[Array, "d p"], origin: Float[Array, " d"]) -> "SampleRisk":
        rows = precise.dot(self.rows, basis)
        return SampleRisk(rows, self.labels - precise.dot(self.rows, origin))


def finite(name: str, array: Array, ndim: int) -> Array:
    """`array` itself, after a check of its number of axes and of its entries.

    Args:
        name: name of the argument, for the message.
        array: the array; entries are checked where they are concrete.
        ndim: the number of axes that it must have.

    Raises:
        ValueError: another number of axes, or entries that are not finite.
    """
    if array.ndim != ndim:
        kind = ("a scalar", "a vector", "a matrix")[ndim]
        raise ValueError(f"{name}: shape {array.shape}; allowed: {kind}")
    if is_concrete(array) and not np.isfinite(np.asarray(array)).all():
        raise ValueError(f"{name}: NaN or infinite entries; allowed: finite numbers")
    return array
