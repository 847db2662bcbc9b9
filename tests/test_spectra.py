import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from pydantic import TypeAdapter

from hdjax import spectra
from hdjax.schema import slot_type
from hdjax.spectra import Spectrum

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


def spread_sums(values, weights, tau):
    """Sums of lambda^k e^{-lambda tau}, k = 0, ..., 3."""
    powers = np.asarray(values) ** np.arange(4)[:, None]
    return (powers * np.exp(-tau * np.asarray(values))) @ np.asarray(weights)


@pytest.mark.parametrize(
    "make",
    [
        lambda: spectra.power_law(3000, 1.5),
        lambda: spectra.power_law(20_000, 1.0),
        lambda: spectra.uniform(500, 0.0, 2.0),
        lambda: spectra.marchenko_pastur(400, ratio=3.0),
        lambda: spectra.explicit([0.0, 1e-4, 1.0, 300.0], [5, 100, 50, 1]),
    ],
)
@pytest.mark.parametrize("tolerance", [4e-3, 1e-4])
def test_reductions_have_the_error_that_they_say(make, tolerance):
    spectrum = make()
    reduction = spectra.reduced(spectrum, tolerance)
    rule = reduction.spectrum
    spectra.validate(rule)
    assert float(reduction.error) <= tolerance
    assert rule.eigenvalues.size <= 40
    assert rule.trace == pytest.approx(float(spectrum.trace), rel=1e-9)
    lowest = float(spectrum.eigenvalues[spectrum.eigenvalues > 0].min())
    for tau in np.geomspace(0.01 / float(spectrum.eigenvalues.max()), 7 / lowest, 30):
        exact = spread_sums(spectrum.eigenvalues, spectrum.weights, tau)
        found = spread_sums(rule.eigenvalues, rule.weights, tau)
        np.testing.assert_allclose(found, exact, rtol=1.5 * tolerance + 1e-5)


def test_reductions_gather_values_of_groups():
    """What is proportional to the weights stays so; sums of rough values are exact too."""
    spectrum = spectra.power_law(400, 1.2)
    rough = np.random.default_rng(0).standard_normal((400, 2)) ** 2 / 400
    reduction = spectra.reduced(spectrum, 1e-3, rough)
    rule = reduction.spectrum
    gathered = reduction.gather(spectrum.eigenvalues, spectrum.weights)
    np.testing.assert_allclose(gathered, rule.weights, rtol=1e-7)
    gather = jax.jit(lambda values: reduction.gather(spectrum.eigenvalues, values))
    gathered = gather(jnp.asarray(rough))
    for tau in (0.0, 0.01, 1.0, 20.0):
        exact = spread_sums(spectrum.eigenvalues, rough, tau)
        found = spread_sums(rule.eigenvalues, gathered, tau)
        np.testing.assert_allclose(found, exact, rtol=1.1e-3)


def test_reductions_that_there_are_not():
    assert spectra.reduced(spectra.power_law(1000, 1.5), 1e-3, most=8) is None
    few = spectra.reduced(spectra.explicit([0.5, 2.0], [60, 40]), 1e-9)
    np.testing.assert_allclose(few.spectrum.eigenvalues, [0.5, 2.0], rtol=1e-12)
    np.testing.assert_allclose(few.spectrum.weights, [0.6, 0.4], rtol=1e-12)
    with pytest.raises(TypeError, match="reduced: a traced spectrum"):
        jax.jit(lambda s: spectra.reduced(s, 1e-3).spectrum)(spectra.power_law(10, 1.0))


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


def test_spectra_without_coordinates_say_so():
    for spectrum in (spectra.power_law(50, 0.5).compress(4), spectra.identity(jnp.asarray(50.0))):
        with pytest.raises(ValueError, match="size: None, the spectrum has no coordinates"):
            _ = spectrum.groups
        with pytest.raises(ValueError, match="size"):
            spectrum.expand(jnp.ones(4))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: spectra.identity(0), "d: 0; allowed: at least 1"),
        (lambda: spectra.identity(100.0), "d: 100.0; allowed: an integer"),
        (lambda: spectra.power_law(-3, 0.5), "d: -3; allowed"),
        (lambda: spectra.marchenko_pastur(jnp.asarray(10), 0.5), "allowed: a Python integer"),
        (lambda: spectra.power_law(10, np.nan), "exponent: nan; allowed: finite"),
        (lambda: spectra.power_law(10, [0.5, 1.0]), r"exponent: shape \(2,\)"),
        (lambda: spectra.uniform(10, 2.0, 1.0), "low, high: 2.0, 1.0; allowed"),
        (lambda: spectra.uniform(10, -1.0, 1.0), "low, high: -1.0, 1.0; allowed"),
        (lambda: spectra.marchenko_pastur(10, 0.0), "ratio: 0.0; allowed: positive"),
        (lambda: spectra.marchenko_pastur(10, 0.5, points=0), "points: 0; allowed"),
        (lambda: spectra.explicit([1.0, -2.0]), "eigenvalues: -2.0; allowed: finite, 0 or more"),
        (lambda: spectra.explicit([1.0, np.inf]), "eigenvalues: inf; allowed"),
        (lambda: spectra.explicit([np.nan]), "eigenvalues: nan; allowed"),
        (
            lambda: spectra.explicit([0.0, 0.0], normalise=True),
            "eigenvalues: mean 0.0; allowed: positive",
        ),
        (lambda: spectra.explicit([]), r"eigenvalues: shape \(0,\); allowed"),
        (lambda: spectra.explicit([1.0, 2.0], [3]), r"multiplicities: shape \(1,\); allowed"),
        (lambda: spectra.explicit([1.0, 2.0], [3, 0]), "multiplicities: .* positive integers"),
        (lambda: spectra.explicit([1.0, 2.0], [3, 1.5]), "multiplicities: .* positive integers"),
        (lambda: spectra.from_covariance(np.ones((2, 3))), r"covariance: shape \(2, 3\)"),
        (lambda: spectra.from_covariance([[1.0, 0.5], [0.4, 1.0]]), "covariance: asymmetric by"),
        (lambda: spectra.from_covariance([[1.0, 2.0], [2.0, 1.0]]), "covariance: lowest eigenv"),
        (lambda: spectra.from_covariance([[np.nan]]), "covariance: NaN or infinite"),
        (lambda: spectra.identity(5).compress(0), "points: 0; allowed: at least 1"),
        (lambda: spectra.identity(5).binned(0), "cells: 0; allowed: at least 1"),
    ],
)
def test_invalid_spectra_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


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
