"""The frame of columns, and the law of the few projections that a loss sees.

A sample a (a Gaussian mixture in R^d) enters one-pass SGD only through r = (x, x*) = [X | X*]^T a,
m student and s teacher projections.  Given its component, r is Gaussian with covariance
B = [X | X*]^T K [X | X*] ("Hitting the High-Dimensional Notes", arXiv 2308.08977, section 2).

When every student has its teacher (m = s) the engine keeps the columns W' = [X - X* | X* | means]
instead of W = [X | X* | means] = W' A: near recovery nothing cancels, which is what makes float32
reach an excess risk of 1e-19 where [X | X*] stalls at 3e-6.  Everything is covariant under A.

Columns that an optimiser keeps as its memory come first, so that all that moves is contiguous:
[memories | X | X* | means].
"""

import dataclasses
from typing import Any, NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from hdjax import gaussian, precise
from hdjax.checks import is_concrete


class Memory(NamedTuple):
    """Columns beside the students that an optimiser moves, one for each of them.

    An `iterate` starts at X and is kept as a difference to X* where X is; others start at zero.
    """

    name: str
    iterate: bool = False


@dataclasses.dataclass(frozen=True)
class Layout:
    """How many columns of each kind W has, in the order [memories | X | X* | means]."""

    students: int
    teachers: int
    means: int = 0
    memory: tuple[Memory, ...] = ()

    @property
    def first(self) -> int:
        """Index of the first student column: how many columns memories have."""
        return self.students * len(self.memory)

    @property
    def moving(self) -> int:
        """Columns that the optimiser moves: memories and students."""
        return self.first + self.students

    @property
    def iterates(self) -> tuple[bool, ...]:
        """Of each block of moving columns, whether it is an iterate: memories, then X itself."""
        return (*(memory.iterate for memory in self.memory), True)

    @property
    def seen(self) -> int:
        """Columns that the loss sees: students and teachers."""
        return self.students + self.teachers

    @property
    def width(self) -> int:
        """All columns of W (the letter q of the derivations)."""
        return self.first + self.seen + self.means

    @property
    def centred(self) -> bool:
        """Whether the first block of the frame is X - X* rather than X."""
        return self.students == self.teachers

    @property
    def frame(self) -> Float[np.ndarray, "q q"]:
        """The matrix A of W = W' A; unimodular with integer entries, so exact in any dtype."""
        matrix = np.eye(self.width)
        if self.centred:
            m = self.students
            matrix[self.moving : self.moving + m, : self.moving] = np.kron(self.iterates, np.eye(m))
        return matrix

    def to_frame(self, columns: Float[Array, "*d q"]) -> Float[Array, "*d q"]:
        """[memories | X | X* | means] -> W', by subtraction of columns."""
        m, p = self.students, self.moving
        if not self.centred:
            return columns
        for i, iterate in enumerate(self.iterates):
            if iterate:
                columns = columns.at[..., i * m : (i + 1) * m].add(-columns[..., p : p + m])
        return columns

    @property
    def extension(self) -> Float[np.ndarray, "k q"]:
        """[X | X* | means] to [memories | X | X* | means] at the start, in either coordinates."""
        copies = np.kron(np.array(self.iterates[:-1], float)[None], np.eye(self.students))
        padding = np.zeros((self.width - self.moving, self.first))
        memories = np.vstack([copies.reshape(self.students, self.first), padding])
        return np.hstack([memories, np.eye(self.width - self.first)])


class Projections(eqx.Module):
    """The Gaussian law of r = (x, x*) in one component: r = A^T (mean + N(0, covariance)).

    `covariance` and `mean` are in frame coordinates; `mean` is None where it is zero by
    construction, which is where closed forms apply.
    """

    covariance: Float[Array, "n n"]
    frame: Float[Array, "n n"]
    students: int = eqx.field(static=True)
    mean: Float[Array, " n"] | None = None

    @classmethod
    def natural(cls, covariance: Any, students: int) -> "Projections":
        """The centred law of (x, x*) with B = `covariance` given directly.

        Args:
            covariance: B (n, n), positive semidefinite.
            students: m, how many of the projections are students'.

        Raises:
            ValueError: a B that is no covariance, or fewer projections than students.

        Example:
            >>> law = Projections.natural([[0.8, 0.3], [0.3, 1.1]], students=1)
        """
        covariance = jnp.asarray(covariance)
        covariance = covariance.astype(jnp.result_type(covariance, float))
        if covariance.ndim != 2 or covariance.shape[0] != covariance.shape[1]:
            raise ValueError(f"covariance: shape {covariance.shape}; allowed: (n, n)")
        if not 1 <= students <= len(covariance):
            raise ValueError(f"students: {students}; allowed: 1 to {len(covariance)}")
        if is_concrete(covariance):
            _check_covariance(np.asarray(covariance))
        return cls(covariance, jnp.eye(len(covariance), dtype=covariance.dtype), students)

    @property
    def dim(self) -> int:
        """Number n = m + s of projections."""
        return self.covariance.shape[0]

    @property
    def gram(self) -> Float[Array, "n n"]:
        """B, the covariance of (x, x*)."""
        return self.frame.T @ self.covariance @ self.frame

    @property
    def error_gram(self) -> Float[Array, "n n"]:
        """The covariance of (x - x*, x*), for m = s; free of cancellation in a centred frame."""
        m = self.students
        eye = jnp.eye(m, dtype=self.frame.dtype)
        subtract = jnp.block([[eye, jnp.zeros_like(eye)], [-eye, eye]])
        matrix = self.frame @ subtract
        return matrix.T @ self.covariance @ matrix

    @property
    def determinant(self) -> Float[Array, ""]:
        """Q P - M^2 of a pair (n = 2), clipped at zero; the frame is unimodular."""
        b = self.covariance
        return jnp.maximum(b[0, 0] * b[1, 1] - b[0, 1] * b[1, 0], 0)

    @property
    def factor(self) -> Float[Array, "n n"]:
        """Lower triangular L with L L^T = `covariance`, singular or not."""
        return gaussian.factor(self.covariance)

    def at(self, z: Float[Array, " n"]) -> tuple[Float[Array, " m"], Float[Array, " s"]]:
        """The projections (x, x*) that standard normals `z` stand for."""
        r = precise.dot(self.factor, z)
        if self.mean is not None:
            r = r + self.mean
        r = precise.dot(self.frame.T, r)
        return r[: self.students], r[self.students :]


def _check_covariance(values: Float[np.ndarray, "n n"]) -> None:
    """Raise ValueError unless a matrix is finite, symmetric and positive semidefinite."""
    if not np.isfinite(values).all():
        raise ValueError(f"covariance: {values.tolist()}; allowed: finite numbers")
    slack = 100 * np.finfo(values.dtype).eps * np.abs(values).max()
    if np.abs(values - values.T).max() > slack:
        raise ValueError(f"covariance: {values.tolist()}; allowed: a symmetric matrix")
    lowest = np.linalg.eigvalsh(values)[0]
    if lowest < -slack:
        raise ValueError(
            f"covariance: lowest eigenvalue {lowest:.3g}; allowed: positive semidefinite"
        )


class Moments(eqx.Module):
    """What the limit needs of one component: functions of B alone.

    With g the gradient of one sample's loss in the students: `risk` E f, `gradient` E g (m,),
    `stein` H with E[r g^T] - E[r] E[g]^T = B H in frame coordinates (n, m), `noise` C = E[g g^T]
    (m, m), `theta_gradient` E of the derivative in the side parameters.
    """

    risk: Float[Array, ""]
    gradient: Float[Array, " m"]
    stein: Float[Array, "n m"]
    noise: Float[Array, "m m"]
    theta_gradient: PyTree = None
