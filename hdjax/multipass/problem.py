"""Least squares on a fixed data set: the `Problem` that the algorithms of the family minimise.

    L(X) = 1/2 |A X - b|^2,    A (n, d),  b (n,).

The loss is a sum over samples, not a mean (slides "Hitting the High-D(imensional) Notes", frame
"Our framework").  Rows of A have squared norm O(1), so that learning rates are O(1) without factors
of n or d.  `Problem.scaled` scales A to tr A^T A = n; SGD then converges for rates below 2.
"""

from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from hdjax import precise
from hdjax.checks import Checked
from hdjax.multipass.quadratics import Quadratic, QuadraticForm, finite
from hdjax.registry import Values


class Problem(Checked):
    """A least-squares problem, its start, and the quadratic statistics of its iterates.

    Args:
        matrix: A (n, d), with rows of squared norm O(1).
        labels: b (n,).
        start: X_0 (d,); None: zero.
        quadratics: {name: `Quadratic` or `SampleRisk`}, the statistics besides the loss.

    Attributes:
        rounding: relative rounding of the entries of A: the eps of the dtype in which A was given
            or of the dtype in which A is kept, whichever is larger.

    Raises:
        ValueError: shapes disagree, or entries are not finite.
        TypeError: a statistic is no quadratic form.

    Example:
        >>> problem = Problem(jnp.eye(3), jnp.ones(3))
        >>> problem.samples, float(problem.trace)
        (3, 1.0)
    """

    matrix: Float[Array, "n d"]
    labels: Float[Array, " n"]
    start: Float[Array, " d"]
    quadratics: dict[str, QuadraticForm]
    rounding: float = eqx.field(static=True)

    def __init__(
        self,
        matrix: Values,
        labels: Values,
        start: Values | None = None,
        quadratics: Mapping[str, QuadraticForm] | None = None,
    ):
        dtype = jnp.result_type(float)
        self.rounding = max(_eps(dtype), _eps(getattr(matrix, "dtype", dtype)))
        self.matrix = finite("matrix", jnp.asarray(matrix, dtype), 2)
        n, d = self.matrix.shape
        if n == 0 or d == 0:
            raise ValueError(f"matrix: shape {(n, d)}; allowed: at least one row and column")
        self.labels = finite("labels", jnp.asarray(labels, dtype), 1)
        start = jnp.zeros(d, dtype) if start is None else jnp.asarray(start, dtype)
        self.start = finite("start", start, 1)
        for name, array, size in (("labels", self.labels, n), ("start", self.start, d)):
            if array.shape != (size,):
                raise ValueError(f"{name}: shape {array.shape}; allowed: {(size,)}")
        self.quadratics = dict(quadratics or {})
        for name, form in self.quadratics.items():
            if not isinstance(form, QuadraticForm):
                raise TypeError(f"quadratics: {name} is {form!r}; allowed: Quadratic, SampleRisk")
            if name == "loss":
                raise ValueError("quadratics: 'loss'; allowed: another name (L/n has this one)")
            if form.size != d:
                raise ValueError(f"quadratics: {name} has dimension {form.size}; allowed: {d}")

    @property
    def samples(self) -> int:
        """The number n of samples."""
        return self.matrix.shape[0]

    @property
    def trace(self) -> Float[Array, ""]:
        """The mean squared norm of a row, tr A^T A/n."""
        return jnp.sum(self.matrix**2) / self.samples

    def loss(self, x: Float[Array, " d"]) -> Float[Array, ""]:
        """The loss per sample L(x)/n at x (d,)."""
        residuals = precise.dot(self.matrix, x) - self.labels
        return jnp.mean(residuals**2) / 2

    def values(self, x: Float[Array, " d"]) -> dict[str, Array]:
        """The loss per sample and the quadratic statistics at x (d,), by name."""
        return {"loss": self.loss(x)} | {name: form(x) for name, form in self.quadratics.items()}

    def scaled(self) -> "Problem":
        """The same problem with A divided by sqrt(tr A^T A/n), so that tr A^T A = n.

        X_0 and the quadratic statistics are transformed along with A.  The iterates
        X' = sqrt(tr A^T A/n) X have the same residuals as X, and SGD with the learning rate
        multiplied by tr A^T A/n is the same algorithm.

        Raises:
            ValueError: A is zero.

        Example:
            >>> float(Problem(2 * jnp.eye(3), jnp.ones(3)).scaled().trace)
            1.0
        """
        trace = float(self.trace)
        if trace == 0:
            raise ValueError("matrix: zero; allowed with scaled(): a matrix with tr A^T A > 0")
        unit = np.sqrt(trace)
        d = self.matrix.shape[1]
        basis, origin = jnp.eye(d, dtype=self.start.dtype) / unit, jnp.zeros_like(self.start)
        forms = {name: form.restrict(basis, origin) for name, form in self.quadratics.items()}
        parts = self.matrix / unit, self.start * unit, forms
        return eqx.tree_at(lambda p: (p.matrix, p.start, p.quadratics), self, parts)

    def excess(self, target: Float[Array, " d"]) -> Quadratic:
        """The excess risk of X for isotropic samples: 1/2 |X - X*|^2 (tr A^T A/n)/d.

        Args:
            target: X* (d,).
        """
        d = self.matrix.shape[1]
        second = float(self.trace) / d
        target = jnp.asarray(target, self.start.dtype)
        constant = second / 2 * float(precise.dot(target, target))
        return Quadratic(second * np.eye(d), -second * target, constant)


def _eps(dtype: Any) -> float:
    """The relative rounding of numbers of `dtype`; 0 for integers, which are exact."""
    return float(jnp.finfo(dtype).eps) if jnp.issubdtype(dtype, jnp.floating) else 0.0
