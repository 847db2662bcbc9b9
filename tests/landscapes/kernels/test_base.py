"""Kernels of inner products, sums and products: derivatives by autodiff, and what is refused."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest

from hdjax.landscapes.kernels import Amplitude, FunctionKernel, Polynomial, SpinGlass
from hdjax.landscapes.kernels import SquaredExponential as SE
from hdjax.landscapes.kernels.base import as_radial
from tests.landscapes.problems import OTHERS, assert_jets_are_derivatives, assert_regular, curve


@pytest.mark.parametrize("name", OTHERS)
def test_jets_are_the_derivatives(name):
    assert_jets_are_derivatives(OTHERS[name])


@pytest.mark.parametrize("name", OTHERS)
def test_a_point_with_itself_is_regular(name):
    assert_regular(OTHERS[name])


def test_a_kernel_of_ones_own_is_differentiated(references):
    make, expected, _ = references["CG on a modulated SE"]
    own = FunctionKernel(lambda a, b, t: (1 + 0.3 * a) * (1 + 0.3 * b) * jnp.exp(t - a - b))
    for kernel in (own, SE() * Amplitude(lambda r: 1 + 0.3 * r)):
        system = eqx.tree_at(lambda s: s.kernel, make(), kernel)
        found = system.limit(np.arange(6.0), save=curve).values[0]
        np.testing.assert_allclose(found, expected, atol=1e-9)


def test_functions_of_the_radius():
    """A number, coefficients and a function; lowest coefficient first."""
    half = jnp.asarray(1.5)
    assert float(Polynomial([2.0, -1.0, 4.0])(half)) == 2 - 1.5 + 4 * 1.5**2
    for value, expected in ((3.0, 3.0), ([1.0, 2.0], 4.0), (jnp.exp, np.exp(1.5))):
        np.testing.assert_allclose(as_radial("mean", value)(half), expected, rtol=1e-15)
    for value, error, message in (
        ("s", TypeError, "mean: 's'; allowed: a number, a list, a function"),
        ([1.0, np.inf], ValueError, "mean: inf; allowed: finite"),
        ([[1.0]], ValueError, r"mean: an array of shape \(1, 1\)"),
    ):
        with pytest.raises(error, match=message):
            as_radial("mean", value)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: SpinGlass([0, -0.5]), ValueError, r"coefficients: \[0, -0\.5\]; allowed"),
        (lambda: SpinGlass(1.0), ValueError, r"coefficients: 1\.0; allowed"),
        (lambda: Amplitude("s"), TypeError, "s: 's'"),
        (lambda: FunctionKernel(1.0), TypeError, "kappa: 1.0; allowed: a function"),
    ],
)
def test_wrong_arguments(make, error, message):
    with pytest.raises(error, match=message):
        make()
