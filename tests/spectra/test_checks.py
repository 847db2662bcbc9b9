"""Arguments of spectra: what is converted, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hdjax import spectra
from hdjax.spectra import _checks


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: spectra.identity(0), "d: 0; allowed: an integer, at least 1"),
        (lambda: spectra.identity(100.0), "d: 100.0; allowed: an integer"),
        (lambda: spectra.power_law(-3, 0.5), "d: -3; allowed"),
        (lambda: spectra.marchenko_pastur(jnp.asarray(10), 0.5), "allowed: a Python integer"),
        (lambda: spectra.power_law(10, np.nan), "exponent: nan; allowed: a finite number"),
        (
            lambda: spectra.power_law(10, [0.5, 1.0]),
            r"exponent: \[0\.5, 1\.0\]; allowed: a finite number",
        ),
        (lambda: spectra.explicit([1.0, -2.0]), "eigenvalues: -2.0; allowed: finite, 0 or more"),
        (lambda: spectra.explicit([1.0, np.inf]), "eigenvalues: .1.0, inf.; allowed"),
        (lambda: spectra.explicit([np.nan]), "eigenvalues: .nan.; allowed"),
        (lambda: spectra.explicit([1.0, 2.0], [3, 0]), "multiplicities: .* positive integers"),
        (lambda: spectra.explicit([1.0, 2.0], [3, 1.5]), "multiplicities: .* positive integers"),
    ],
)
def test_invalid_spectra_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_dimension_is_a_size_only_if_it_is_an_integer():
    assert _checks.as_dimension(np.int64(7)) == (7, 7.0)
    size, leaf = _checks.as_dimension(jnp.asarray(7.5))
    assert size is None
    assert (float(leaf), leaf.dtype) == (7.5, jnp.float64)
    with pytest.raises(ValueError, match=r"d: 0\.5; allowed: at least 1"):
        _checks.as_dimension(jnp.asarray(0.5))
    with pytest.raises(ValueError, match=r"d: shape \(2,\); allowed: a scalar"):
        _checks.as_dimension(jnp.ones(2))


def test_traced_numbers_are_not_looked_at():
    @jax.jit
    def eigenvalues(values):
        _checks.check_eigenvalues(values)
        return _checks.as_parameter("exponent", values[0])

    assert np.isnan(eigenvalues(jnp.array([jnp.nan, -1.0])))


def test_multiplicities_become_integers():
    counts = _checks.check_multiplicities(np.array([3.0, 1e6]))
    assert counts.dtype == np.int64
    assert counts.tolist() == [3, 10**6]
