"""Blocks of commuting covariances against matrices of finite size."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hdjax import curvature, gaussian, spectra, streaming
from hdjax.streaming import mixtures


@pytest.mark.slow
def test_commuting_covariances():
    """1/d tr (A - z)^{-1} at d = 200 within four standard errors and 1/d."""
    d, alpha, z = 200, 3, -0.2
    kappa = np.array([[2.5, 0.7], [0.4, 1.6]])
    means = mixtures.orthonormal_means(d, 2)
    start = 0.8 * np.random.default_rng(0).standard_normal((d, 2)) / np.sqrt(d)
    system = streaming.OnePassSGD(
        streaming.losses.MixtureSoftmax(2),
        spectra.explicit([1.0, 2.0], [d // 2, d // 2]),
        1.0,
        start,
        mixture=streaming.Mixture([0.6, 0.4], means, eigenvalues=kappa.T),
    )
    rule = gaussian.GaussHermite(20)
    law = curvature.commuting_theory(system, system.start(), 0, "hessian", alpha, rule)
    theory, _ = law.stieltjes(jnp.asarray(z))

    @jax.jit
    def measure(key):
        samples = streaming.samples.draw_samples(system, key, 0, alpha * d, means, jnp.float64)
        matrix = curvature.empirical(system, samples, jnp.asarray(start), means, None)
        return jnp.mean(1 / (jnp.linalg.eigvalsh(matrix.restrict([0]).dense()) - z))

    found = np.array([measure(jax.random.key(i)) for i in range(6)])
    assert abs(found.mean() - theory) < 4 * found.std(ddof=1) / np.sqrt(6) + 2 / d
    # The isotropic law is another one.
    assert abs(found.mean() - 1 / (0.2 + 0.25 * 1.3 * 0.5)) > 0.05


@pytest.mark.slow
@pytest.mark.long
def test_outliers_of_commuting_covariances():
    """Two outliers and their angles with a mean, d = 200: three standard errors and 1 %."""
    d, alpha, draws = 200, 4, 6
    kappa = np.array([[2.5, 0.7], [0.4, 1.6]]) / 12
    means = mixtures.orthonormal_means(d, 2)
    start = 1.2 * means + 0.3 * mixtures.orthonormal_means(d, 4)[:, 2:]
    system = streaming.OnePassSGD(
        streaming.losses.MixtureSoftmax(2),
        spectra.explicit([1.0, 2.0], [d // 2, d // 2]),
        1.0,
        start,
        mixture=streaming.Mixture([0.6, 0.4], means, eigenvalues=kappa.T),
    )
    theory = curvature.commuting_theory(
        system, system.start(), 0, "hessian", alpha, gaussian.GaussHermite(16)
    )

    @jax.jit
    def measure(key):
        samples = streaming.samples.draw_samples(system, key, 0, alpha * d, means, jnp.float64)
        block = curvature.empirical(system, samples, start, means, None).restrict([0])
        values, vectors = jnp.linalg.eigh(block.dense())
        cosines = jnp.dot(vectors[:, -2:].T, means[:, 0]) ** 2
        return jnp.concatenate([values[-3:][::-1], cosines[::-1]])

    found = np.stack([measure(jax.random.key(i)) for i in range(draws)])
    mean, error = found.mean(0), found.std(0, ddof=1) / np.sqrt(draws)
    values, cosines, edge = eqx.filter_jit(
        lambda theory: (theory.outliers(3), theory.squared_cosines(2, 2), theory.edge())
    )(theory)
    # Below the edge by some d^-2/3.
    assert mean[2] == pytest.approx(float(edge), rel=d ** (-2 / 3))
    assert np.isnan(values[2])
    expected = np.concatenate([values[:2], cosines])
    slack = np.array([*(0.01 * mean[:2]), 2 / d, 2 / d])
    seen = [0, 1, 3, 4]
    np.testing.assert_array_less(np.abs(mean[seen] - expected), 3 * error[seen] + slack)
    # Where they agree, covariances give the law of one isotropic block.
    same = mixtures.mixture_softmax(d, 2, snr=9.0, learning_rate=1.0, start=start, means=means)
    own = curvature.commuting_theory(same, same.start(), 0, "hessian", alpha, gaussian.QMC(12))
    block = curvature.block_theory(same, same.start(), 0, "hessian", alpha).spectrum()
    count = int(block.count)
    np.testing.assert_allclose(own.edge(), block.edge, rtol=2e-4)
    np.testing.assert_allclose(own.outliers(count), block.values[:count], rtol=5e-3)
    np.testing.assert_allclose(
        own.squared_cosines(count, 2), block.squared_cosines(2)[:count], atol=5e-3
    )


@pytest.mark.slow
def test_wrong_input():
    system = mixtures.mixture_softmax(20, 3, snr=4.0, learning_rate=1.0)
    rule = gaussian.GaussHermite(2)
    with pytest.raises(ValueError, match="alpha: 0"):
        curvature.commuting_theory(system, system.start(), 0, "hessian", 0.0, rule)
