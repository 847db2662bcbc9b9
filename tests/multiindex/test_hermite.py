"""Normalised Hermite polynomials and the indices of their products are right."""

import itertools
import math

import jax.numpy as jnp
import numpy as np
import pytest

from hdjax import gaussian
from hdjax.multiindex.hermite import all_indices, hermite, layout, multi_indices, products


def test_hermite_polynomials_are_orthonormal():
    z, w = gaussian.GaussHermite(20).nodes(1)
    table = hermite(jnp.asarray(z[:, 0]), 8)
    np.testing.assert_allclose((table.T * w[None]) @ table, np.eye(9), atol=1e-12)
    assert len(multi_indices(3, 4)) == 15


def test_values_are_those_of_numpy():
    x = np.linspace(-3, 3, 7)
    for k in range(6):
        exact = np.polynomial.hermite_e.hermeval(x, np.eye(6)[k]) / math.factorial(k) ** 0.5
        np.testing.assert_allclose(hermite(jnp.asarray(x), 5)[:, k], exact, rtol=1e-12, atol=1e-13)
    assert hermite(jnp.asarray(x), 0).shape == (7, 1)


def test_indices_are_all_of_their_degree():
    rows = all_indices(3, 4).tolist()
    every = [list(beta) for beta in itertools.product(range(5), repeat=3) if sum(beta) <= 4]
    assert sorted(rows) == sorted(every)
    assert [sum(beta) for beta in rows] == sorted(sum(beta) for beta in rows)
    z = jnp.array([0.4, -1.2, 0.9])
    table = np.asarray(hermite(z, 4))
    values = [table[0, a] * table[1, b] * table[2, c] for a, b, c in rows]
    np.testing.assert_allclose(products(z, all_indices(3, 4)), values, rtol=1e-12)


def test_layout_of_a_tensor():
    """Each entry is at its own beta; k!/beta! entries share one, and beta!/k! of the norm."""
    position, weight, counts = layout(2, 3)
    rows = multi_indices(2, 3)
    for index in itertools.product(range(2), repeat=3):
        beta = [index.count(0), index.count(1)]
        assert rows[position[index]].tolist() == beta
        assert weight[index] ** 2 == pytest.approx(1 / math.comb(3, beta[0]))
    assert counts.tolist() == [1, 3, 3, 1]
