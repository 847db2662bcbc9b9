"""Laws of eigenvalues against their formulas, their moments and sampled matrices."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from pydantic import TypeAdapter

from hdjax import spectra
from hdjax.schema import slot_type

CONSTRUCTORS = {
    "identity": lambda: spectra.identity(40),
    "power_law": lambda: spectra.power_law(40, exponent=0.8),
    "powers": lambda: spectra.powers(40, exponent=1.0),
    "uniform": lambda: spectra.uniform(40, 0.5, 3.0),
    "explicit": lambda: spectra.explicit([0.2, 7.0, 1.0], [10, 10, 20], normalise=True),
    "marchenko_pastur": lambda: spectra.marchenko_pastur(40, ratio=0.7),
    "wide": lambda: spectra.marchenko_pastur(40, ratio=3.0),
    "rule": lambda: spectra.marchenko_pastur(40, ratio=0.7, points=6),
    "from_covariance": lambda: spectra.from_covariance(np.diag(np.arange(40.0)), normalise=True),
    "compressed": lambda: spectra.power_law(40, exponent=0.8).compress(5),
}


@pytest.mark.parametrize("name", CONSTRUCTORS)
def test_every_spectrum_is_a_normalised_measure(name):
    spectrum = CONSTRUCTORS[name]()
    spectra.validate(spectrum)
    assert spectrum.trace == pytest.approx(1, rel=1e-12)
    assert spectrum.weights.sum() == pytest.approx(1, rel=1e-12)
    assert spectrum.dimension == 40
    assert spectrum.multiplicities.sum() == pytest.approx(40, rel=1e-12)
    assert (spectrum.size is None) == (name in ("rule", "compressed"))
    assert spectrum.eigenvalues.dtype == jnp.result_type(float)


def test_eigenvalues_as_their_formulas_say():
    i = np.arange(1, 6)
    raw = {"normalise": False}
    np.testing.assert_allclose(spectra.power_law(5, 0.5, **raw).eigenvalues, i**-0.5)
    np.testing.assert_allclose(spectra.powers(5, 2.0, **raw).eigenvalues, (i / 5) ** 4)
    np.testing.assert_allclose(spectra.uniform(5, 1.0, 2.0, **raw).eigenvalues, 0.9 + 0.2 * i)
    scaled = spectra.power_law(5, 0.5).eigenvalues
    np.testing.assert_allclose(scaled, i**-0.5 / (i**-0.5).mean())


def test_identity_of_any_dimension_is_one_number():
    spectrum = spectra.identity(10**9)
    assert spectrum.size == 10**9
    assert sum(leaf.size for leaf in jax.tree.leaves(spectrum)) == 3
    traced = jax.vmap(spectra.identity)(jnp.array([10.0, 1e9]))
    assert traced.size is None
    np.testing.assert_array_equal(traced.dimension, [10.0, 1e9])


def test_equal_neighbours_are_grouped_and_the_order_is_kept():
    spectrum = spectra.explicit([2.0, 2.0, 1.0, 2.0, 1.0, 1.0])
    np.testing.assert_array_equal(spectrum.eigenvalues, [2.0, 1.0, 2.0, 1.0])
    np.testing.assert_array_equal(spectrum.groups, [0, 0, 1, 2, 3, 3])
    np.testing.assert_allclose(spectrum.multiplicities, [2, 1, 1, 2])
    given = spectra.explicit([1.0, 1.0], [60, 40])
    np.testing.assert_array_equal(given.multiplicities, [60, 40])


def test_given_numbers_are_left_as_they_are():
    """Those that describe a shape have mean 1; a mean of .98 that was given stays .98."""
    values = np.array([0.5, 0.9, 1.54])
    np.testing.assert_array_equal(spectra.explicit(values).eigenvalues, values)
    np.testing.assert_allclose(spectra.from_covariance(np.diag(values)).eigenvalues, values)
    assert spectra.explicit(values, normalise=True).trace == pytest.approx(1)
    assert spectra.from_covariance(np.diag(values), normalise=True).trace == pytest.approx(1)
    for table, d in (
        ({"kind": "explicit", "eigenvalues": values}, None),
        ({"kind": "explicit", "eigenvalues": values, "weights": np.full(3, 1 / 3)}, 6),
        ({"kind": "covariance", "covariance": np.diag(values)}, None),
    ):
        config = TypeAdapter(slot_type("spectrum")).validate_python(table)
        given = {} if d is None else {"d": d}
        np.testing.assert_allclose(config.build(**given).eigenvalues, values)


def test_spectra_of_equal_shape_stack_and_trace_once():
    traces = []

    @eqx.filter_jit
    def second_moment(spectrum):
        traces.append(None)
        return spectrum.moment(jnp.square)

    for exponent in (0.0, 0.3, 0.9):
        second_moment(spectra.power_law(50, exponent))
        second_moment(spectra.powers(50, exponent))
        second_moment(spectra.marchenko_pastur(50, 0.5 + exponent))
    assert len(traces) == 1

    exponents = jnp.array([0.0, 0.3, 0.9])
    moments = jax.jit(jax.vmap(lambda p: spectra.power_law(50, p).moment(jnp.square)))(exponents)
    single = [second_moment(spectra.power_law(50, float(p))) for p in exponents]
    np.testing.assert_allclose(moments, single, rtol=1e-12)


@pytest.mark.parametrize("ratio", [0.25, 1.0, 4.0])
def test_marchenko_pastur_moments(ratio):
    exact = [1, 1 + ratio, 1 + 3 * ratio + ratio**2, 1 + 6 * ratio + 6 * ratio**2 + ratio**3]
    rule = spectra.marchenko_pastur(1000, ratio, points=4)
    quantiles = spectra.marchenko_pastur(4000, ratio, normalise=False)
    for k, moment in enumerate(exact, start=1):
        assert rule.moment(lambda x, k=k: x**k) == pytest.approx(moment, rel=1e-12)
        assert quantiles.moment(lambda x, k=k: x**k) == pytest.approx(moment, rel=1e-3)
    edges = (1 - ratio**0.5) ** 2, (1 + ratio**0.5) ** 2
    eigenvalues = np.asarray(quantiles.eigenvalues)
    positive = eigenvalues[eigenvalues > 0]
    assert np.all((positive >= edges[0] - 1e-12) & (positive <= edges[1]))
    zeros = np.count_nonzero(eigenvalues == 0)
    assert zeros == round(4000 * max(0, 1 - 1 / ratio))


def test_marchenko_pastur_is_the_law_of_sample_covariances():
    d, n = 300, 600
    a = np.random.default_rng(0).normal(size=(n, d))
    sample = np.linalg.eigvalsh(a.T @ a / n)[::-1]
    quantiles = spectra.marchenko_pastur(d, d / n, normalise=False).eigenvalues
    assert np.abs(sample - quantiles).max() < 0.1
    assert np.abs(sample - quantiles).mean() < 0.01


def test_marchenko_pastur_is_differentiable_in_the_ratio():
    @jax.jit
    def third(ratio):
        return spectra.marchenko_pastur(500, ratio, normalise=False).moment(lambda x: x**3)

    at = jnp.asarray(0.4)
    quotient = float(third(at + 1e-5) - third(at - 1e-5)) / 2e-5
    assert jax.jacfwd(third)(at) == pytest.approx(quotient, rel=1e-6)
    assert jax.grad(third)(at) == pytest.approx(quotient, rel=1e-6)


def test_from_covariance_reconstructs():
    root = np.random.default_rng(1).normal(size=(6, 4))
    covariance = root @ root.T
    spectrum = spectra.from_covariance(covariance)
    basis, values = spectrum.basis, spectrum.expand(spectrum.eigenvalues)
    np.testing.assert_allclose((basis * values[None]) @ basis.T, covariance, atol=1e-12)
    # The two zero eigenvalues, within rounding of either sign, are one group at zero.
    np.testing.assert_array_equal(spectrum.multiplicities, [2, 1, 1, 1, 1])
    assert 0 <= spectrum.eigenvalues[0] < 1e-14

    traced = jax.jit(spectra.from_covariance)(jnp.asarray(covariance))
    np.testing.assert_allclose(traced.eigenvalues, values, atol=1e-12)

    single = spectra.from_covariance(jnp.eye(30, dtype=jnp.float32))
    assert single.eigenvalues.shape == (1,)
    assert single.basis.dtype == jnp.float64


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: spectra.uniform(10, 2.0, 1.0), "low, high: 2.0, 1.0; allowed"),
        (lambda: spectra.uniform(10, -1.0, 1.0), "low: -1.0; allowed: .*at least 0"),
        (lambda: spectra.marchenko_pastur(10, 0.0), "ratio: 0.0; allowed: .*above 0"),
        (lambda: spectra.marchenko_pastur(10, 0.5, points=0), "points: 0; allowed"),
        (
            lambda: spectra.explicit([0.0, 0.0], normalise=True),
            "eigenvalues: mean 0.0; allowed: positive",
        ),
        (lambda: spectra.explicit([]), r"eigenvalues: shape \(0,\); allowed"),
        (lambda: spectra.explicit([1.0, 2.0], [3]), r"multiplicities: shape \(1,\); allowed"),
        (lambda: spectra.from_covariance(np.ones((2, 3))), r"covariance: shape \(2, 3\)"),
        (lambda: spectra.from_covariance([[1.0, 0.5], [0.4, 1.0]]), "covariance: asymmetric by"),
        (lambda: spectra.from_covariance([[1.0, 2.0], [2.0, 1.0]]), "covariance: lowest eigenv"),
        (lambda: spectra.from_covariance([[np.nan]]), "covariance: ..nan..; allowed: .*finite"),
    ],
)
def test_invalid_spectra_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
