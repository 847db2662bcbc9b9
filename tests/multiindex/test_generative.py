"""Generative exponents of links are those of theory."""

import jax.numpy as jnp
import numpy as np
import pytest

from hdjax import multiindex
from hdjax.multiindex import links


@pytest.mark.slow
def test_generative_exponents():
    """Section 11 of the derivation; values move a little with the bins."""
    quadratic = multiindex.generative.generative_spectrum(links.hermite_polynomial(2))
    np.testing.assert_allclose(quadratic, [0, 0.995, 0, 0.850], atol=2e-3)
    cubic = multiindex.generative.generative_spectrum(links.hermite_polynomial(3))
    np.testing.assert_allclose(cubic, [0.663, 0.612, 0.936, 0.481], atol=2e-3)
    bump = links.from_function(lambda z: z[0] ** 2 * jnp.exp(-(z[0] ** 2)), 1, 12)
    assert multiindex.generative.generative_exponent(bump) == 4
    assert multiindex.generative.generative_exponent(links.hermite_polynomial(3)) == 1


def test_generative_exponents_at_any_number_of_bins():
    """Zeros of theory are zeros: z^2 e^{-z^2} has exponent 4, sign and relu known values."""
    bump = multiindex.links.from_function(lambda z: z[0] ** 2 * jnp.exp(-(z[0] ** 2)), 1, 12)
    for bins in (50, 700, 2000):
        zeta = multiindex.generative.generative_spectrum(bump, bins=bins)
        assert np.all(np.asarray(zeta[:3]) < 1e-6)
        assert float(zeta[3]) > 0.2
    assert multiindex.generative.generative_exponent(bump, bins=700) == 4
    sign = multiindex.generative.generative_spectrum(multiindex.links.sign())
    np.testing.assert_allclose(sign, [2 / np.pi, 0, 1 / (3 * np.pi), 0], atol=1e-6)
    # Of relu, half of the mass is at zero: 2 phi(0)^2 + 1/2.
    half = multiindex.links.relu()
    relu = multiindex.generative.generative_spectrum(half, bins=4000, nodes=64_000)
    np.testing.assert_allclose(relu[0], 0.5 + 1 / np.pi, atol=1e-4)
    with pytest.raises(ValueError, match="nodes: 1000; allowed: at least 3200"):
        multiindex.generative.generative_spectrum(bump, nodes=1000)


def test_wrong_arguments():
    with pytest.raises(ValueError, match="link"):
        multiindex.generative.generative_spectrum(multiindex.traps.radial_harmonics({3: 1.0}))
