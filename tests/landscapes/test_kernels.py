"""Kernels: derivatives against differences and autodiff, validity, best lengths."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hdjax.landscapes.frame import block_covariance, jet_at
from hdjax.landscapes.kernels import (
    Amplitude,
    FunctionKernel,
    Kernel,
    Matern32,
    Matern52,
    RationalQuadratic,
    SpinGlass,
    SquaredExponential,
)
from hdjax.landscapes.rates import RandomFunctionDescent

STATIONARY = {
    "squared exponential": SquaredExponential(1.3, 0.8),
    "rational quadratic": RationalQuadratic(1.3, 0.8, 1.7),
    "matern 3/2": Matern32(1.3, 0.8),
    "matern 5/2": Matern52(1.3, 0.8),
}
KERNELS = STATIONARY | {
    "spin glass": SpinGlass([0.1, 0.3, 0.5, 0.7]),
    "modulated": Amplitude([1, 0.3]) * SquaredExponential(),
    "sum": Matern52() + SpinGlass([0, 0, 1]) * SquaredExponential(),
}
X, Y = jnp.array([0.5, -0.2]), jnp.array([0.1, 0.3])


@pytest.mark.parametrize("name", KERNELS)
def test_jets_are_the_derivatives(name):
    """In closed form and by autodiff of the kernel's own value."""
    kernel = KERNELS[name]
    a, b, t, h = X @ X / 2, Y @ Y / 2, X @ Y, (X - Y) @ (X - Y) / 2
    closed, automatic = kernel.jet(a, b, t, h), Kernel.jet(kernel, a, b, t, h)
    for one, other in zip(jax.tree.leaves(closed), jax.tree.leaves(automatic), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-13)


@pytest.mark.slow
@pytest.mark.parametrize("name", KERNELS)
def test_block_covariance_is_the_derivative_of_the_covariance(name):
    kernel = KERNELS[name]

    def covariance(x, y):
        return jet_at(kernel, x, y).value

    block = block_covariance(kernel, X, Y)
    np.testing.assert_allclose(block[0, 0], covariance(X, Y))
    np.testing.assert_allclose(block[1:, 0], jax.grad(covariance)(X, Y), atol=1e-13)
    np.testing.assert_allclose(block[0, 1:], jax.grad(covariance, 1)(X, Y), atol=1e-13)
    mixed = jax.jacfwd(jax.grad(covariance), 1)(X, Y)
    np.testing.assert_allclose(block[1:, 1:], mixed, atol=1e-12)
    np.testing.assert_allclose(block_covariance(kernel, Y, X), block.T, atol=1e-13)


def test_reference_blocks():
    modulated = block_covariance(Amplitude([1, 0.3]) * SquaredExponential(), X, Y)
    expected = [
        [0.862835742, 0.370636831, -0.354910268],
        [-0.221104243, 0.767858944, 0.090946819],
        [0.381805849, 0.164007242, 0.705787523],
    ]
    np.testing.assert_allclose(modulated, expected, atol=1e-9)
    expected = [
        [0.695715609, 0.395845184, -0.494806480],
        [-0.395845184, 0.561307061, 0.535382374],
        [0.494806480, 0.535382374, 0.320384993],
    ]
    np.testing.assert_allclose(block_covariance(Matern32(), X, Y), expected, atol=1e-9)


@pytest.mark.parametrize("name", KERNELS)
def test_a_point_with_itself_is_regular(name):
    block = block_covariance(KERNELS[name], X, X)
    assert np.isfinite(block).all()
    assert np.linalg.eigvalsh(block)[0] > 0


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
        (lambda: SquaredExponential(var=0.0), ValueError, r"var: 0\.0; allowed: positive"),
        (lambda: Matern32(scale=-1.0), ValueError, r"scale: -1\.0; allowed: positive"),
        (lambda: RationalQuadratic(beta=np.nan), ValueError, "beta: nan; allowed: positive"),
        (lambda: SpinGlass([0, -0.5]), ValueError, r"coefficients: -0\.5; allowed: at least 0"),
        (lambda: SpinGlass(1.0), ValueError, "coefficients: an array of shape"),
        (lambda: Amplitude("s"), TypeError, "s: 's'"),
        (lambda: FunctionKernel(1.0), TypeError, "kappa: 1.0; allowed: a function"),
        (lambda: RandomFunctionDescent(SpinGlass([0, 1])), TypeError, "allowed: a stationary"),
    ],
)
def test_wrong_arguments(make, error, message):
    with pytest.raises(error, match=message):
        make()
