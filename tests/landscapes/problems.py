"""Kernels of every kind, and what every one of them must satisfy."""

import jax
import jax.numpy as jnp
import numpy as np

from hdjax.landscapes.frame import block_covariance
from hdjax.landscapes.kernels import (
    Amplitude,
    Kernel,
    Matern32,
    Matern52,
    RationalQuadratic,
    SpinGlass,
    SquaredExponential,
)

STATIONARY = {
    "squared exponential": SquaredExponential(1.3, 0.8),
    "rational quadratic": RationalQuadratic(1.3, 0.8, 1.7),
    "matern 3/2": Matern32(1.3, 0.8),
    "matern 5/2": Matern52(1.3, 0.8),
}


# Kernels that are not stationary.
OTHERS = {
    "spin glass": SpinGlass([0.1, 0.3, 0.5, 0.7]),
    "modulated": Amplitude([1, 0.3]) * SquaredExponential(),
    "sum": Matern52() + SpinGlass([0, 0, 1]) * SquaredExponential(),
}
X, Y = jnp.array([0.5, -0.2]), jnp.array([0.1, 0.3])


def curve(order):
    return order.value, order.gradient_norm


def assert_jets_are_derivatives(kernel):
    """In closed form and by autodiff of the kernel's own value."""
    a, b, t, h = X @ X / 2, Y @ Y / 2, X @ Y, (X - Y) @ (X - Y) / 2
    closed, automatic = jax.jit(lambda *pair: (kernel.jet(*pair), Kernel.jet(kernel, *pair)))(
        a, b, t, h
    )
    for one, other in zip(jax.tree.leaves(closed), jax.tree.leaves(automatic), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-13)


def assert_regular(kernel):
    block = jax.jit(lambda x: block_covariance(kernel, x, x))(X)
    assert np.isfinite(block).all()
    assert np.linalg.eigvalsh(block)[0] > 0
