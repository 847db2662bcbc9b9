"""A spectrum as a measure: moments, groups of coordinates, bins, and checks of its leaves."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hdjax import spectra
from hdjax.spectra import Spectrum


def test_moments():
    spectrum = spectra.explicit([0.5, 2.0], [60, 40])
    assert spectrum.trace == pytest.approx(1.1)
    assert spectrum.moment(jnp.square) == pytest.approx(1.75)
    assert spectrum.normalised().moment(jnp.square) == pytest.approx(1.75 / 1.21)


def test_groups_and_expand_under_transformations():
    """Leaves may be traced and stacked: the number of coordinates is static."""
    spectrum = spectra.explicit([0.5, 2.0, 1.0], [1, 3, 2])
    np.testing.assert_array_equal(spectrum.groups, [0, 1, 1, 1, 2, 2])
    assert spectrum.groups.dtype == jnp.int32
    values = jnp.arange(6.0).reshape(3, 2)
    expected = values[jnp.array([0, 1, 1, 1, 2, 2])]
    np.testing.assert_array_equal(spectrum.expand(values), expected)
    np.testing.assert_array_equal(jax.jit(lambda s: s.expand(values))(spectrum), expected)

    other = spectra.explicit([0.5, 2.0, 1.0], [4, 1, 1])
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), spectrum, other)
    spectra.validate(stacked)
    groups = jax.jit(jax.vmap(lambda s: s.groups))(stacked)
    np.testing.assert_array_equal(groups, [[0, 1, 1, 1, 2, 2], [0, 0, 0, 0, 1, 2]])
    np.testing.assert_allclose(stacked.normalised().trace, [1.0, 1.0])


def test_compression_beyond_the_number_of_eigenvalues():
    spectrum = spectra.explicit([1.0, 3.0], [5, 5])
    same = spectrum.compress(2)
    np.testing.assert_array_equal(same.eigenvalues, spectrum.eigenvalues)
    assert same.size is None

    # Six groups, two distinct eigenvalues: Lanczos' iteration breaks down.
    repeated = Spectrum(
        jnp.array([1.0, 3.0, 1.0, 3.0, 1.0, 3.0]), jnp.full(6, 1 / 6), jnp.asarray(6.0)
    )
    rule = jax.jit(lambda s: s.compress(5))(repeated)
    for degree in range(8):
        assert rule.moment(lambda x, k=degree: x**k) == pytest.approx((1 + 3**degree) / 2)


def test_bins():
    spectrum = spectra.power_law(3000, exponent=0.6)
    errors = []
    for cells in (8, 16, 32):
        binned, cell = spectrum.binned(cells)
        spectra.validate(binned)
        assert binned.eigenvalues.shape[0] <= cells
        assert cell.shape == (3000,)
        assert binned.trace == pytest.approx(1, rel=1e-12)
        summed = jax.ops.segment_sum(spectrum.weights, cell, binned.eigenvalues.shape[0])
        np.testing.assert_allclose(summed, binned.weights, rtol=1e-12)
        exact = spectrum.moment(lambda x: jnp.exp(-x))
        errors.append(abs(float(binned.moment(lambda x: jnp.exp(-x)) - exact)))
    # Second order in the width of the cells.
    assert 2.5 < errors[0] / errors[1] < 6
    assert 2.5 < errors[1] / errors[2] < 6

    binned, cell = spectra.explicit([0.0, 1.0, 1e-6], [2, 1, 1]).binned(2)
    np.testing.assert_allclose(binned.eigenvalues, [0, 1e-6, 1])
    np.testing.assert_array_equal(cell, [0, 2, 1])
    same, _ = spectra.identity(7).binned(4)
    np.testing.assert_array_equal(same.eigenvalues, [1.0])


def test_spectra_without_coordinates_say_so():
    for spectrum in (spectra.power_law(50, 0.5).compress(4), spectra.identity(jnp.asarray(50.0))):
        with pytest.raises(ValueError, match="size: None, the spectrum has no coordinates"):
            _ = spectrum.groups
        with pytest.raises(ValueError, match="size"):
            spectrum.expand(jnp.ones(4))


@pytest.mark.parametrize(
    ("where", "value", "message"),
    [
        (lambda s: s.eigenvalues, jnp.array([1.0, jnp.nan]), "eigenvalues: nan"),
        (lambda s: s.eigenvalues, jnp.array([1.0, -1.0]), "eigenvalues: -1.0"),
        (lambda s: s.eigenvalues, jnp.ones(3), r"weights: shape \(2,\); allowed"),
        (lambda s: s.weights, jnp.array([1.5, -0.5]), "weights: lowest -0.5"),
        (lambda s: s.weights, jnp.array([0.5, 0.6]), "weights: .*sum 1.1"),
        (lambda s: s.dimension, jnp.asarray(0.0), "d: 0.0; allowed: at least 1"),
    ],
)
def test_leaves_are_checked_again(where, value, message):
    spectrum = eqx.tree_at(where, spectra.explicit([0.5, 2.0], [60, 40]), value)
    with pytest.raises(ValueError, match=message):
        spectra.validate(spectrum)


def test_traced_values_are_not_looked_at():
    def moment(eigenvalues):
        spectrum = spectra.explicit(eigenvalues)
        spectra.validate(spectrum)
        return spectrum.trace

    assert jax.jit(moment)(jnp.array([1.0, -3.0])) == -1
    with pytest.raises(TypeError, match="binned: a traced spectrum"):
        jax.jit(lambda s: s.binned(3)[0])(spectra.power_law(10, 1.0))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: spectra.identity(5).compress(0), "points: 0; allowed: at least 1"),
        (lambda: spectra.identity(5).binned(0), "cells: 0; allowed: at least 1"),
    ],
)
def test_invalid_spectra_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
