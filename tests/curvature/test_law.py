"""The law of a block's weights, on the kinks of ReLUs and at what it refuses."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from hdjax import curvature, gaussian, streaming
from hdjax.streaming import mixtures


# Without noise all nodes are at the means: few are as exact as many.
@pytest.mark.filterwarnings("ignore:rule. QMC:UserWarning")
@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "rtol"), [(jnp.float64, 1e-12), (jnp.float32, 2e-4)])
def test_without_noise_units_are_on_their_side_of_the_kink(dtype, rtol):
    """The fixed point of XOR: the Hessian of the mean loss over the four means, by autodiff."""
    beta, d = 0.03, 41
    size = curvature.classifiers.fixed_point_output(beta)
    signs = np.array([1.0, 1, -1, -1])
    with jax.enable_x64(dtype == jnp.float64):
        means, theta = mixtures.xor_means(d), jnp.asarray(signs * size**0.5)
        parts = {"theta": theta, "snr": np.inf, "learning_rate": 1.0, "ridge": beta}
        parts |= {"rule": gaussian.QMC(6)}
        mixture = mixtures.xor(d, start=jnp.abs(theta)[None] * means, **parts)

        @eqx.filter_jit
        def theories(mixture, summary):
            nodes, block = curvature.quadrature(mixture, summary.overlaps), curvature.Block("theta")
            own = curvature.blocks.predicted(block, mixture, summary, 2.0, nodes)
            found = curvature.block_theory(mixture, summary, 0, "hessian", 2.0).spectrum()
            values = curvature.full_theory(mixture, summary, "hessian", 2.0).outliers(9)
            return own["hessian_theta_eigenvalues"], found, values

        own, found, values = theories(mixture, mixture.start())
    expected = beta * (1 - 4 * beta) * size
    np.testing.assert_allclose(own, expected, rtol=rtol)
    np.testing.assert_allclose(found.values[:1], expected, rtol=rtol)
    assert int(found.count) == 1

    def exact(x):
        return x - jax.lax.stop_gradient(jnp.where(jnp.abs(x) < 1e-12, x, 0))

    def risk(parameters):
        columns, theta = parameters
        losses = [
            mixture.loss(exact(columns.T @ means[:, c]), jnp.zeros(0), c, jnp.zeros(0), theta)
            for c in range(4)
        ]
        return jnp.mean(jnp.stack(losses))

    means = mixtures.xor_means(d)
    flat, unravel = ravel_pytree((size**0.5 * means, jnp.asarray(signs * size**0.5)))
    hessian = jax.jit(jax.hessian(lambda flat: risk(unravel(flat))))(flat)
    np.testing.assert_allclose(values[:8], np.linalg.eigvalsh(hessian)[::-1][:8], rtol=rtol)
    assert np.isnan(values[8])


@pytest.mark.slow
def test_systems_and_states_that_are_refused():
    plain = streaming.OnePassSGD(
        streaming.losses.Logistic(),
        mixtures.noise_spectrum(20, 1.0),
        1.0,
        streaming.GaussianStart(),
        streaming.GaussianStart(),
    )
    with pytest.raises(ValueError, match="1 teacher and 0 mean columns"):
        curvature.block_theory(plain, plain.start(), 0, "hessian", 1.0)
    system = mixtures.mixture_softmax(20, 3, snr=4.0, learning_rate=1.0)
    gram = np.array(system.start().blocks)
    gram[0, 0, 3] = gram[0, 3, 0] = 100.0
    indefinite = dataclasses.replace(system.start(), blocks=jnp.asarray(gram))
    with pytest.raises(ValueError, match="indefinite"):
        curvature.block_theory(system, indefinite, 0, "hessian", 1.0)


def test_rules_for_smooth_functions_are_warned_of_kinks():
    theta, hermite = jnp.array([1.0, -1.0]), gaussian.GaussHermite(4)
    plain = mixtures.xor(40, theta=theta, snr=1.0, learning_rate=1.0)
    with pytest.warns(UserWarning, match="off by some 5e-3"):
        curvature.quadrature(plain, plain.start().overlaps, hermite)
