"""Stationary kernels: derivatives by autodiff, laws of frequencies, and best step lengths."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hdjax.landscapes.kernels import Matern32, Matern52, RationalQuadratic, SquaredExponential
from tests.landscapes.problems import STATIONARY, assert_jets_are_derivatives, assert_regular


@pytest.mark.parametrize("name", STATIONARY)
def test_jets_are_the_derivatives(name):
    assert_jets_are_derivatives(STATIONARY[name])


@pytest.mark.parametrize("name", STATIONARY)
def test_a_point_with_itself_is_regular(name):
    assert_regular(STATIONARY[name])


@pytest.mark.parametrize("name", STATIONARY)
def test_frequencies_have_the_kernel_as_characteristic_function(name):
    kernel, n = STATIONARY[name], 200_000
    scales = kernel.frequency_scales(jax.random.key(0), n)
    h = jnp.array([0.05, 0.3, 2.0])
    terms = jnp.exp(-h[:, None] * scales[None] ** 2)
    exact = jax.vmap(kernel.derivatives)(h)[0] / kernel.derivatives(jnp.zeros(()))[0]
    error = terms.std(axis=1) / np.sqrt(n) + 1e-12
    assert np.all(np.abs(terms.mean(axis=1) - exact) < 4 * error)


@pytest.mark.parametrize("name", STATIONARY)
@pytest.mark.parametrize("gap", [1.5, 0.7, 0.0, -0.1])
def test_descent_length_minimises_the_conditional_mean(name, gap):
    kernel, slope = STATIONARY[name], 1.1
    r = jnp.linspace(0.0, 3.0, 300_001)
    c0, slope0, _ = kernel.derivatives(jnp.zeros(()))
    value, first, _ = jax.vmap(kernel.derivatives)(r**2 / 2)
    objective = -gap * value / c0 - slope * r * first / slope0
    best = r[jnp.argmin(objective)]
    found = kernel.descent_length(jnp.asarray(gap), jnp.asarray(slope))
    np.testing.assert_allclose(found, best, atol=2e-5)


def test_reference_lengths():
    kernels = (
        SquaredExponential(1.0, 0.8), RationalQuadratic(1.0, 0.8, 1.7), Matern52(1.0, 0.8),
        Matern32(1.0, 0.8),
    )  # fmt: skip
    found = [float(k.descent_length(jnp.asarray(0.7), jnp.asarray(1.1))) for k in kernels]
    expected = [0.5427709502, 0.4411337003, 0.3328542096, 0.1942495130]
    np.testing.assert_allclose(found, expected, atol=1e-10)


def test_lengths_keep_their_digits_far_from_the_mean():
    """Two roots, two ways to cancel."""
    se, matern = SquaredExponential(), Matern52()
    slope = jnp.asarray(1.0)
    for gap, length in ((1e9, 1e-9), (-1e9, 1e9)):
        np.testing.assert_allclose(se.descent_length(jnp.asarray(gap), slope), length, rtol=1e-12)
    far = matern.descent_length(jnp.asarray(1e9), slope)
    np.testing.assert_allclose(far, 0.6e-9, rtol=1e-6)
    assert matern.descent_length(jnp.asarray(-5.0), slope) == jnp.inf
    assert Matern32().descent_length(jnp.asarray(-5.0), slope) == jnp.inf
    assert RationalQuadratic().descent_length(jnp.asarray(-5.0), slope) == jnp.inf


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (
            lambda: SquaredExponential(var=0.0),
            ValueError,
            r"var: 0\.0; allowed: a finite number, above 0",
        ),
        (
            lambda: Matern32(scale=-1.0),
            ValueError,
            r"scale: -1\.0; allowed: a finite number, above 0",
        ),
        (
            lambda: RationalQuadratic(beta=np.nan),
            ValueError,
            "beta: nan; allowed: a finite number, above 0",
        ),
    ],
)
def test_wrong_arguments(make, error, message):
    with pytest.raises(error, match=message):
        make()
