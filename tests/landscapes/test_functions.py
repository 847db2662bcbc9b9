"""Explicit random functions: their covariance over draws, and what they are made of."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hdjax.landscapes.frame import jet_at
from hdjax.landscapes.functions import Added, Cosines, Modulated, Scaled, Tensors, parts_of
from hdjax.landscapes.kernels import (
    Amplitude,
    FunctionKernel,
    Matern32,
    Matern52,
    SpinGlass,
    SquaredExponential,
)

D = 3
X, Y = jnp.array([0.5, -0.2, 0.7]), jnp.array([0.1, 0.6, -0.3])


def assert_covariance(kernel, draw):
    """Means of products over 4000 functions are kappa/d within 4 standard errors."""
    keys = jax.random.split(jax.random.key(0), 4000)

    @jax.jit
    def products(keys):
        def one(key):
            function = draw(key)
            at_x = function(X)
            return at_x, at_x**2, at_x * function(Y)

        return jax.vmap(one)(keys)

    expected = 0, jet_at(kernel, X, X).value / D, jet_at(kernel, X, Y).value / D
    for seen, exact in zip(np.asarray(products(keys)), expected, strict=True):
        assert abs(seen.mean() - exact) < 4 * seen.std() / np.sqrt(len(seen))


@pytest.mark.parametrize("couplings", ["gaussian", "rademacher"])
def test_tensors_have_the_covariance_of_the_spin_glass(couplings):
    kernel = SpinGlass([0.1, 0.3, 0.5, 0.7])
    assert_covariance(kernel, lambda key: Tensors(kernel, D, key, couplings, "float64"))


def test_tensors_are_homogeneous_polynomials():
    function = Tensors(SpinGlass([0.1, 0.3, 0.5, 0.7]), D, jax.random.key(1), "gaussian", "float64")
    zeroth, first, second, third = function.tensors
    expected = zeroth + first @ X + np.einsum("ij,i,j", second, X, X)
    expected += np.einsum("ijk,i,j,k", third, X, X, X)
    np.testing.assert_allclose(function(X), expected, rtol=1e-13)


@pytest.mark.parametrize("kernel", [SquaredExponential(1.3, 0.8), Matern32(1.3, 0.8)])
def test_cosines_have_the_covariance_of_the_kernel(kernel):
    """However few the features."""
    assert_covariance(kernel, lambda key: Cosines(kernel, D, key, 4, "float64"))


def test_functions_of_functions():
    one, other = (lambda x: x[0]), (lambda x: x[1] * x[2])
    np.testing.assert_allclose(Added(one, other)(X), 0.5 - 0.14)
    np.testing.assert_allclose(Scaled(jnp.asarray(3.0), other)(X), -0.42)
    # The amplitude is a function of |x|^2/2 = 0.39.
    np.testing.assert_allclose(Modulated(Amplitude([1.0, 2.0]), one)(X), 1.78 * 0.5)


def test_parts_are_the_kernels_that_are_drawn():
    spins, stationary, amplitude = SpinGlass([0.0, 1.0]), Matern52(), Amplitude([1, 0.3])
    assert parts_of(spins) == [spins]
    kernel = amplitude * stationary + (spins + stationary * amplitude)
    assert parts_of(kernel) == [stationary, spins, stationary]
    own = FunctionKernel(lambda a, b, t: t)
    for unknown, name in ((own, "FunctionKernel"), (spins * spins, "Product"), (amplitude, "Ampl")):
        with pytest.raises(TypeError, match=f"kernel: {name}.* allowed with Explicit"):
            parts_of(spins + unknown)
