"""Reductions of spectra: their errors at all times, and values that they gather."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hdjax import spectra


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
