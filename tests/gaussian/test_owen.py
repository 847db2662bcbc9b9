"""Owen's function against SciPy's."""

import jax
import jax.numpy as jnp
import numpy as np
import scipy.special

from hdjax.gaussian import owens_t


def test_against_scipy_on_a_wide_grid():
    h, a = np.meshgrid(np.linspace(-6, 6, 41), np.tan(np.linspace(-1.57, 1.57, 41)))
    found = jax.vmap(owens_t)(jnp.asarray(h.ravel()), jnp.asarray(a.ravel()))
    np.testing.assert_allclose(found, scipy.special.owens_t(h, a).ravel(), atol=2e-15)


def test_gradient():
    h, a = jnp.asarray(0.7), jnp.asarray(1.3)
    slope = jax.grad(owens_t, argnums=1)(h, a)
    np.testing.assert_allclose(slope, np.exp(-0.49 * (1 + 1.69) / 2) / 2.69 / (2 * np.pi))
