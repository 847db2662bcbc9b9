"""The moments of a step of one-pass SGD agree with tensors and with closed forms."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from hdjax import gaussian, multiindex
from hdjax.multiindex import StiefelSGD, links
from hdjax.multiindex.flows import Planted
from tests.multiindex.problems import A, M


def test_drift_by_quadrature_is_that_of_the_tensors():
    """-E[g_u (z - M^T u)^T] is the horizontal velocity; label noise adds to V."""
    system = StiefelSGD(A, 100, 1.0, start=M)
    drift, noise = eqx.filter_jit(lambda system: system._moments(M))(system)
    velocity, _ = multiindex.flows.reduced_velocity(A, Planted(), "horizontal", (M, None))
    np.testing.assert_allclose(drift, velocity, atol=1e-12)
    noisy = StiefelSGD(A, 100, 1.0, noise=0.7, start=M)
    noisy = eqx.filter_jit(lambda system: system.noise_matrix(M))(noisy)
    cov = multiindex.averaging.gradient_covariance(A.tensors, 2)
    np.testing.assert_allclose(noisy - noise, 4 * 0.49 * cov, atol=1e-12)
    # An inner step of zero changes nothing.
    idle = StiefelSGD(A, 100, 1.0, reuse=0.0, noise=0.7, start=M, rule=gaussian.GaussHermite(4))
    moved = eqx.filter_jit(lambda system: system.velocity(M))(idle)
    np.testing.assert_allclose(moved, velocity - noisy @ M / 2, atol=1e-12)


def test_second_use_of_a_sample_rescales_the_gradient_of_a_linear_link():
    """At the second use the residual u - y is 1 - 2 rho times the first one."""
    rho, m, sigma, gamma = 0.15, 0.4, 0.7, 0.3
    link = links.hermite_polynomial(1)
    system = StiefelSGD(link, 100, gamma, noise=sigma, reuse=rho, rule=gaussian.GaussHermite(4))
    pull = system.pull(jnp.array([[m]]), jnp.array([1.1]), jnp.asarray(-0.2))
    np.testing.assert_allclose(pull, [2 * (1 - 2 * rho) * 1.3], rtol=1e-14)
    scale, square = 1 - 2 * rho, 2 - 2 * m + sigma**2
    velocity, noise = eqx.filter_jit(lambda s, m: (s.velocity(m), s.noise_matrix(m)))(
        system, jnp.array([[m]])
    )
    np.testing.assert_allclose(noise, [[4 * scale**2 * square]], rtol=1e-12)
    exact = 2 * gamma * scale * (1 - m**2) - 2 * gamma**2 * scale**2 * square * m
    np.testing.assert_allclose(velocity, [[exact]], rtol=1e-12)
