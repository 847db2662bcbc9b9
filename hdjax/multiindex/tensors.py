"""Symmetric Hermite tensors of links, one per degree: dense arrays, or power sums.

A dense C_k has r^k entries.  A power sum is

    C_k = sum_j c_j u_j^{(x) k},      <C_k, G^{(x) k} C_k> = c^T (U^T G U)^{o k} c

(o k: entry by entry), with contractions at the cost J^2 for any r and k: links in many variables
use it, and a sum of ridge functions has such tensors.  Contractions of power sums lose small parts
of S by cancellation, so that escape times need dense tensors.
"""

import itertools
import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from hdjax import precise
from hdjax.multiindex.hermite import layout, multi_indices, products


class PowerSum(eqx.Module):
    """The tensor sum_j weights_j vectors_j^{(x) degree}.

    Attributes:
        weights: c (J,).
        vectors: U (r, J), of any length.
        degree: k.
    """

    weights: Float[Array, " J"]
    vectors: Float[Array, "r J"]
    degree: int = eqx.field(static=True)

    def __mul__(self, factor: Float[Array, ""]) -> "PowerSum":
        return PowerSum(self.weights * factor, self.vectors, self.degree)

    def dense(self) -> Float[Array, "..."]:
        """The tensor as an array of r^k entries."""
        return jnp.sum(_spread(self.weights, self.vectors, self.degree), axis=-1)


Tensor = Float[Array, "..."] | PowerSum
Tensors = tuple[Tensor | None, ...]


class Rows(eqx.Module):
    """The matrix sum_j weights_j left_j (right_j^{(x) degree})^T, an unfolding of a power sum.

    Attributes:
        weights: (J,).
        left: (n, J) vectors of the first index.
        right: (q, J) vectors of the other indices.
        degree: the number of other indices.
    """

    weights: Float[Array, " J"]
    left: Float[Array, "n J"]
    right: Float[Array, "q J"]
    degree: int = eqx.field(static=True)

    def dense(self) -> Float[Array, "n N"]:
        """The matrix as an array of q^degree columns."""
        terms = _spread(self.weights[None, :] * self.left, self.right, self.degree)
        return jnp.sum(terms, axis=-1).reshape(self.left.shape[0], -1)


def contract(tensor: Float[Array, "r ..."], matrix: Float[Array, "q r"]) -> Float[Array, "..."]:
    """The tensor with `matrix` applied to its first index, which becomes the last one.

    The contraction is written as a sum, which fuses where a batched product of tiny matrices does
    not.
    """
    rest = tensor.shape[1:]
    flat = tensor.reshape(tensor.shape[0], -1)
    moved = jnp.sum(flat[:, :, None] * matrix.T[:, None, :], axis=0)
    return moved.reshape(*rest, matrix.shape[0])


def transform(tensors: Tensors, matrix: Float[Array, "q r"]) -> Tensors:
    """The tensors M^{(x) k} C_k: every C_k with `matrix` applied to each of its indices.

    Example:
        >>> link = hd.multiindex.links.from_coefficients({(1,): 2.0})
        >>> transform(link.tensors, jnp.array([[0.5]]))[1].tolist()
        [1.0]
    """
    result = []
    for k, tensor in enumerate(tensors):
        if isinstance(tensor, PowerSum):
            tensor = PowerSum(tensor.weights, precise.dot(matrix, tensor.vectors), k)
        elif tensor is not None:
            for _ in range(k):
                tensor = contract(tensor, matrix)
        result.append(tensor)
    return tuple(result)


def rows(tensor: Tensor, matrix: Float[Array, "q r"] | None = None) -> Float[Array, "n N"] | Rows:
    """The unfolding of a tensor of degree k >= 1: its first index against the k - 1 others.

    Args:
        tensor: C_k.
        matrix: a matrix M that is applied to each of the other indices; None: no matrix.
    """
    if isinstance(tensor, PowerSum):
        right = tensor.vectors if matrix is None else precise.dot(matrix, tensor.vectors)
        return Rows(tensor.weights, tensor.vectors, right, tensor.degree - 1)
    if matrix is not None:
        for _ in range(tensor.ndim - 1):
            tensor = contract(tensor, matrix)
    return tensor.reshape(tensor.shape[0], -1)


def outer(a: Float[Array, "n N"] | Rows, b: Float[Array, "m N"] | Rows) -> Float[Array, "n m"]:
    """The product A B^T of two unfoldings from `rows`."""
    if isinstance(a, Rows) and isinstance(b, Rows):
        inner = (
            a.weights[:, None] * b.weights[None, :] * precise.dot(a.right.T, b.right) ** a.degree
        )
        return precise.dot(precise.dot(a.left, inner), b.left.T)
    left, right = (x.dense() if isinstance(x, Rows) else x for x in (a, b))
    return jnp.sum(left[:, None, :] * right[None, :, :], axis=-1)


def pairing(a: Tensor, b: Tensor) -> Float[Array, ""]:
    """The inner product <A, B> of two tensors of the same degree."""
    if isinstance(a, PowerSum) and isinstance(b, PowerSum):
        inner = precise.dot(a.vectors.T, b.vectors) ** a.degree
        return jnp.sum(a.weights[:, None] * inner * b.weights[None, :])
    left, right = (x.dense() if isinstance(x, PowerSum) else x for x in (a, b))
    return jnp.sum(left * right)


def missed(
    tensor: Tensor, matrix: Float[Array, "q r"], gap: Float[Array, "r r"]
) -> Float[Array, ""]:
    """The loss |C|^2 - |M^{(x) k} C|^2 = sum_{j<k} <C, (G^{(x) j} (x) K (x) I) C> for K = I - G.

    Every term is non-negative up to the rounding of K, and a negative sum is set to zero.
    """
    loss = jnp.zeros((), matrix.dtype)
    if isinstance(tensor, PowerSum):
        k, whole = tensor.degree, precise.dot(tensor.vectors.T, tensor.vectors)
        image = precise.dot(matrix, tensor.vectors)
        kept = precise.dot(image.T, image)
        lost = precise.dot(tensor.vectors.T, precise.dot(gap, tensor.vectors))
        terms = sum((kept**j * whole ** (k - 1 - j) for j in range(k)), jnp.zeros_like(whole))
        total = jnp.sum(tensor.weights[:, None] * lost * terms * tensor.weights[None, :])
        return nonnegative(total)
    for _ in range(tensor.ndim):
        loss = loss + jnp.sum(gap * outer(rows(tensor), rows(tensor)))
        tensor = contract(tensor, matrix)
    return nonnegative(loss)


def difference(a: Tensors, b: Tensors) -> Tensors:
    """The tensors A_k - B_k for every degree; an absent tensor counts as zero."""

    def one(left: Tensor | None, right: Tensor | None) -> Tensor | None:
        if right is None:
            return left
        if isinstance(right, PowerSum):
            right = PowerSum(-right.weights, right.vectors, right.degree)
        else:
            right = -right
        if left is None:
            return right
        if isinstance(left, PowerSum) and isinstance(right, PowerSum):
            weights = jnp.concatenate([left.weights, right.weights])
            vectors = jnp.concatenate([left.vectors, right.vectors], axis=1)
            return PowerSum(weights, vectors, left.degree)
        return _dense(left) + _dense(right)

    return tuple(one(*pair) for pair in itertools.zip_longest(a, b))


def _dense(tensor: Tensor) -> Float[Array, "..."]:
    return tensor.dense() if isinstance(tensor, PowerSum) else tensor


def nonnegative(value: Float[Array, ""]) -> Float[Array, ""]:
    """The number, with a negative value (which is rounding) as zero and its derivative as it is."""
    return value + jax.lax.stop_gradient(jnp.maximum(value, 0) - value)


def squared_norm(tensors: Tensors) -> Float[Array, ""]:
    """The sum over degrees of |C_k|_F^2."""
    parts = [pairing(tensor, tensor) for tensor in tensors if tensor is not None]
    return jnp.sum(jnp.stack(parts)) if parts else jnp.zeros((), jnp.result_type(float))


def evaluate(tensors: Tensors, z: Float[Array, " r"]) -> Float[Array, ""]:
    """The value at z of the link with these tensors, sum_beta alpha_beta H_beta(z)."""
    value = jnp.zeros((), z.dtype)
    for k, tensor in enumerate(tensors):
        if isinstance(tensor, PowerSum):
            value = value + jnp.sum(tensor.weights * _ridges(tensor, z))
        elif tensor is not None:
            indices = multi_indices(z.shape[0], k)
            value = value + jnp.sum(as_coefficients(tensor, z.shape[0]) * products(z, indices))
    return value


def _ridges(tensor: PowerSum, z: Float[Array, " r"]) -> Float[Array, " J"]:
    """The polynomials |u_j|^k h_k(u_j . z/|u_j|) of the tensors u_j^{(x) k}, by a recurrence."""
    x, square = jnp.sum(tensor.vectors * z[:, None], axis=0), jnp.sum(tensor.vectors**2, axis=0)
    before, value = jnp.zeros_like(x), jnp.ones_like(x)
    for k in range(tensor.degree):
        before, value = value, (x * value - math.sqrt(k) * square * before) / math.sqrt(k + 1)
    return value


def as_coefficients(tensor: Float[Array, "..."], variables: int) -> Float[Array, " p"]:
    """The coefficients alpha_beta of one degree's tensor, in the order of `multi_indices`."""
    position, _, counts = layout(variables, tensor.ndim)
    first = np.unique(position.ravel(), return_index=True)[1]
    return tensor.ravel()[first] * jnp.asarray(np.sqrt(counts), tensor.dtype)


def as_tensor(coefficients: Float[Array, " p"], variables: int, degree: int) -> Array:
    """The symmetric tensor of one degree, from coefficients in the order of `multi_indices`."""
    position, weight, _ = layout(variables, degree)
    return coefficients[position] * jnp.asarray(weight, coefficients.dtype)


def _spread(start: Float[Array, "..."], vectors: Float[Array, "q J"], times: int) -> Array:
    """The terms times `times` outer powers of the vectors; the last index stays that of the sum."""
    for _ in range(times):
        start = start[..., None, :] * vectors.reshape((1,) * (start.ndim - 1) + vectors.shape)
    return start
