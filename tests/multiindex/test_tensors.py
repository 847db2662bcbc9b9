"""Contractions of Hermite tensors, dense or as power sums, are those of all entries."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hdjax import multiindex
from hdjax.multiindex import averaging, tensors
from hdjax.multiindex.hermite import multi_indices
from hdjax.multiindex.links import from_coefficients


def symmetric(degree, variables=3):
    count = len(multi_indices(variables, degree))
    return tensors.as_tensor(jax.random.normal(jax.random.key(degree), (count,)), variables, degree)


def test_coefficients_of_a_tensor():
    """The entries of C_k are alpha_beta sqrt(beta!/k!), and the norm is that of the alpha_beta."""
    tensor = symmetric(3)
    alpha = np.asarray(tensors.as_coefficients(tensor, 3))
    for value, beta in zip(alpha, multi_indices(3, 3).tolist(), strict=True):
        index = [i for i, count in enumerate(beta) for _ in range(count)]
        size = np.sqrt(np.prod([math.factorial(b) for b in beta]) / 6)
        for order in itertools.permutations(index):
            assert float(tensor[order]) == pytest.approx(value * size, abs=1e-14)
    assert float(tensors.squared_norm((tensor,))) == pytest.approx((alpha**2).sum(), rel=1e-13)
    z = np.array([0.3, -1.1, 0.6])
    unit = [np.eye(4)[k] / np.sqrt(math.factorial(k)) for k in range(4)]
    table = [[np.polynomial.hermite_e.hermeval(x, one) for one in unit] for x in z]
    values = [math.prod(table[i][b] for i, b in enumerate(x)) for x in multi_indices(3, 3).tolist()]
    found = tensors.evaluate((None, None, None, tensor), jnp.asarray(z))
    assert float(found) == pytest.approx(alpha @ values, abs=1e-13)


def test_contractions_are_those_of_the_indices():
    tensor, matrix = symmetric(3), jax.random.normal(jax.random.key(7), (2, 3))
    full = np.einsum("ai,bj,ck,ijk->abc", matrix, matrix, matrix, tensor)
    moved = tensors.transform((None, None, None, tensor), matrix)
    assert moved[:3] == (None, None, None)
    np.testing.assert_allclose(moved[3], full, atol=1e-13)
    partial = np.einsum("bj,ck,ijk->ibc", matrix, matrix, tensor)
    unfolded = tensors.rows(tensor, matrix)
    np.testing.assert_allclose(unfolded, partial.reshape(3, 4), atol=1e-13)
    square = np.einsum("ibc,jbc->ij", partial, partial)
    np.testing.assert_allclose(tensors.outer(unfolded, unfolded), square, atol=1e-12)


@pytest.mark.parametrize("kind", ["dense", "power sum"])
def test_what_an_average_misses(kind):
    """|C|^2 - |M^(x)k C|^2, of a tensor and of a difference of two."""
    u = jax.random.normal(jax.random.key(0), (3, 4)) / 2
    tensor = tensors.PowerSum(jnp.array([1.0, -0.5, 0.3, 0.8]), u, 3)
    dense = np.einsum("j,aj,bj,cj->abc", tensor.weights, u, u, u)
    np.testing.assert_allclose(tensor.dense(), dense, atol=1e-15)
    own = tensor if kind == "power sum" else tensor.dense()
    matrix = 0.4 * jax.random.normal(jax.random.key(1), (2, 3))
    full = np.einsum("ai,bj,ck,ijk->abc", matrix, matrix, matrix, dense)
    lost = tensors.missed(own, matrix, jnp.eye(3) - matrix.T @ matrix)
    assert float(lost) == pytest.approx((dense**2).sum() - (full**2).sum(), abs=1e-14)
    other = symmetric(3)
    gap = tensors.difference((None, None, other[0, 0], own), (None, other[0, 0], None, other))
    assert gap[0] is None
    np.testing.assert_array_equal(gap[1], -other[0, 0])
    np.testing.assert_array_equal(gap[2], other[0, 0])
    np.testing.assert_allclose(gap[3], dense - other, atol=1e-14)


@pytest.mark.slow
def test_power_sums_are_their_dense_tensors():
    """Energy, S, losses, slopes and values of a sum of ridge functions, beside all the entries."""
    u = jax.random.normal(jax.random.key(0), (3, 4))
    u = u / jnp.linalg.norm(u, axis=0)[None]
    phi = from_coefficients({(0,): 0.3, (1,): 0.5, (2,): -0.4, (4,): 0.7})
    link = multiindex.links.ridge_sum(phi, u, jnp.array([1.0, -0.5, 0.3, 0.8]))
    full = link.dense()
    assert not link.is_dense
    assert full.is_dense
    matrix = 0.5 * jax.random.normal(jax.random.key(1), (2, 3))
    gap = jnp.eye(3) - matrix.T @ matrix
    other = from_coefficients({(1, 0): 0.3, (1, 1): 0.6, (2, 1): 0.4, (0, 4): -0.5}).tensors

    z = jnp.array([0.3, -1.1, 0.6])

    @jax.jit
    def everything(link):
        own = multiindex.averaging.average(link, matrix)
        return [
            multiindex.averaging.energy(link, matrix),
            multiindex.averaging.energy_gradient(link, matrix),
            multiindex.averaging.profiled_loss(link, matrix, gap),
            averaging.gradient_covariance(own, 2),
            [multiindex.averaging.planted_loss(link, readout, matrix) for readout in (own, other)],
            [averaging.correlation_gradient(link, readout, matrix) for readout in (own, other)],
            # The series of the averaged link, whose vectors are shorter than 1, and of the link.
            multiindex.links.Link(own, link.residual, None, 2)(z[:2]),
            multiindex.links.Link(link.tensors, link.residual, None, 3)(z),
            link(z),
            link.rotate(jnp.eye(3)[::-1]).coefficient((2, 0, 2)),
        ]

    found = everything(link)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-13), found, everything(full))
    assert float(found[-2]) == pytest.approx(float(found[-3]), abs=1e-13)
    assert multiindex.leaps.exponents(link) == multiindex.leaps.exponents(full) == [0, 0, 0]
