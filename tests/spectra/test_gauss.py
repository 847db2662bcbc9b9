"""Gauss rules of spectra: reference nodes, exact moments, precision and derivatives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hdjax import spectra
from hdjax.spectra._gauss import golub_welsch, lanczos


def test_reference_gauss_rule():
    """Section 14 of the derivation: lambda ~ i^-.6, d = 500, six nodes."""
    rule = spectra.power_law(500, exponent=0.6).compress(6)
    nodes = [0.5653998524, 1.4695422987, 3.8890346077, 7.6006900171, 11.5640652115, 17.8009315373]
    weights = [0.7248051152, 0.2287335406, 0.0348020134, 0.0072148364, 0.0024432828, 0.0020012116]
    np.testing.assert_allclose(rule.eigenvalues, nodes, atol=1e-9)
    np.testing.assert_allclose(rule.weights, weights, atol=1e-9)
    assert rule.size is None
    assert rule.dimension == 500


def test_gauss_rule_has_the_moments_that_it_should_and_no_more():
    spectrum = spectra.explicit([0.1, 0.5, 1.0, 2.0, 5.0], [5, 1, 7, 3, 2])
    rule = spectrum.compress(3)
    for degree in range(6):
        moment = float(spectrum.moment(lambda x, k=degree: x**k))
        assert rule.moment(lambda x, k=degree: x**k) == pytest.approx(moment, rel=1e-11)
    assert rule.moment(lambda x: x**6) != pytest.approx(
        float(spectrum.moment(lambda x: x**6)), rel=1e-4
    )


@pytest.mark.slow
def test_compression_converges_geometrically():
    spectrum = spectra.power_law(4000, exponent=0.6)

    def decay(eigenvalues):
        return jnp.exp(-2 * eigenvalues)

    exact = spectrum.moment(decay)
    errors = [abs(float(spectrum.compress(p).moment(decay) - exact)) for p in (4, 8, 16)]
    assert np.all(np.array(errors) < [0.05, 2e-3, 1e-8])
    assert errors[2] < errors[1] ** 2


def test_compression_in_single_precision():
    """Sixteen distinct numbers are left of i^-4 in float32: the rest is rounding, not overflow."""
    spectrum = jax.tree.map(lambda x: x.astype(jnp.float32), spectra.power_law(5000, exponent=4.0))
    rule = jax.jit(lambda s: s.compress(48))(spectrum)
    assert rule.eigenvalues.dtype == jnp.float32
    assert rule.weights.sum() == pytest.approx(1, rel=1e-5)
    # Weights err by 1e-7, and the largest eigenvalue is 4600.
    assert rule.trace == pytest.approx(1, abs=2e-3)
    assert np.all(rule.eigenvalues >= spectrum.eigenvalues.min())


@pytest.mark.slow
def test_compression_is_differentiable_in_both_modes():
    @jax.jit
    def value(exponent):
        rule = spectra.power_law(200, exponent).compress(5)
        return rule.moment(lambda x: jnp.exp(-x))

    at = jnp.asarray(0.6)
    quotient = float(value(at + 1e-5) - value(at - 1e-5)) / 2e-5
    assert jax.grad(value)(at) == pytest.approx(quotient, rel=1e-7)
    assert jax.jacfwd(value)(at) == pytest.approx(quotient, rel=1e-7)


def test_the_jacobi_matrix_of_chebyshev_nodes():
    """Equal weights at the zeros of T_n: the matrix is that of Chebyshev's polynomials."""
    n = 12
    nodes = np.cos(np.pi * (np.arange(n) + 0.5) / n)
    diagonal, off_diagonal = lanczos(jnp.asarray(nodes), jnp.full(n, 1 / n), 6)
    np.testing.assert_allclose(diagonal, 0, atol=1e-14)
    np.testing.assert_allclose(off_diagonal, [0.5**0.5, 0.5, 0.5, 0.5, 0.5], rtol=1e-12)


def test_golub_welsch_has_the_nodes_of_hermite():
    """The recurrence of Hermite's polynomials, whose off-diagonal is the square root of k."""
    found, weights = golub_welsch(jnp.zeros(8), jnp.sqrt(jnp.arange(1.0, 8.0)))
    expected, own = np.polynomial.hermite_e.hermegauss(8)
    np.testing.assert_allclose(found, expected, atol=1e-12)
    np.testing.assert_allclose(weights, own / np.sqrt(2 * np.pi), rtol=1e-10)


def test_a_breakdown_leaves_nodes_without_weight():
    """Three distinct eigenvalues, five nodes asked for."""
    values = jnp.array([1.0, 1.0, 2.0, 5.0, 5.0])
    nodes, weights = golub_welsch(*lanczos(values, jnp.full(5, 0.2), 5))
    order = np.argsort(-np.asarray(weights))
    np.testing.assert_allclose(np.sort(nodes[order[:3]]), [1, 2, 5], rtol=1e-12)
    np.testing.assert_allclose(weights[order[3:]], 0, atol=1e-15)
