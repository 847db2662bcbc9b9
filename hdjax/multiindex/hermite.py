"""Normalised Hermite polynomials and their products, from which links are built (`links/`).

    h_{k+1}(x) = (x h_k(x) - sqrt(k) h_{k-1}(x)) / sqrt(k+1),   H_beta(z) = prod_i h_{beta_i}(z_i)

The h_k are the probabilists' polynomials, orthonormal for N(0, 1), and the H_beta for N(0, I_r).
"""

import functools
import itertools
import math

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int


def hermite(x: Float[Array, "*shape"], degree: int) -> Float[Array, "*shape k"]:
    """The values h_0(x), ..., h_degree(x), along a new last axis.

    Example:
        >>> hermite(jnp.array(2.0), 3).tolist()[:2]
        [1.0, 2.0]
    """
    values = [jnp.ones_like(x), x]
    for k in range(1, degree):
        values.append((x * values[k] - math.sqrt(k) * values[k - 1]) / math.sqrt(k + 1))
    return jnp.stack(values[: degree + 1], axis=-1)


@functools.lru_cache
def multi_indices(variables: int, degree: int) -> Int[np.ndarray, "p r"]:
    """All beta of `variables` entries with beta_1 + ... + beta_r = degree, one in each row.

    Example:
        >>> multi_indices(2, 2).tolist()
        [[2, 0], [1, 1], [0, 2]]
    """
    chosen = itertools.combinations_with_replacement(range(variables), degree)
    rows = [[index.count(i) for i in range(variables)] for index in chosen]
    return np.array(rows, int).reshape(-1, variables)


@functools.lru_cache
def all_indices(variables: int, degree: int) -> Int[np.ndarray, "p r"]:
    """All beta of `variables` entries with |beta| <= degree, in the order of |beta|."""
    return np.concatenate([multi_indices(variables, k) for k in range(degree + 1)])


def products(z: Float[Array, " r"], indices: Int[np.ndarray, "p r"]) -> Float[Array, " p"]:
    """The values H_beta(z) for the rows beta of `indices`.

    Example:
        >>> products(jnp.array([2.0, 3.0]), np.array([[1, 1]])).tolist()
        [6.0]
    """
    table = hermite(z, int(indices.max(initial=0)))
    value = jnp.ones(len(indices), z.dtype)
    for i in range(indices.shape[1]):
        value = value * table[i, indices[:, i]]
    return value


@functools.lru_cache
def layout(
    variables: int, degree: int
) -> tuple[Int[np.ndarray, "..."], Float[np.ndarray, "..."], Float[np.ndarray, " p"]]:
    """The places and factors of the coefficients alpha_beta, |beta| = degree, in the tensor C_k.

    Returns:
        The position in `multi_indices` of the beta of each entry of the tensor; the factor
        sqrt(beta!/k!) of each entry; and the number k!/beta! of entries that hold each beta.
    """
    rows = multi_indices(variables, degree)
    entries = np.indices((variables,) * degree).reshape(degree, variables**degree)
    betas = np.stack([(entries == i).sum(axis=0) for i in range(variables)], axis=1)
    digits = (degree + 1) ** np.arange(variables)
    order = np.argsort(rows @ digits)
    place = order[np.searchsorted(rows @ digits, betas @ digits, sorter=order)]
    position = np.asarray(place).reshape((variables,) * degree)
    factorials = np.array([math.factorial(k) for k in range(degree + 1)], float)
    counts = factorials[degree] / factorials[rows].prod(axis=1)
    return position, np.asarray(1 / np.sqrt(counts)[position]), counts
