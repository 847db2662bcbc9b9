"""Matrices of all parameters, and blocks of commuting covariances, against finite sizes."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hdjax import curvature, gaussian, spectra, streaming


@pytest.mark.slow
@pytest.mark.optimised
def test_outliers_of_both_layers():
    """Softplus network, n = 4 d, d = 150: within three standard errors and 1 % (shares 2/d)."""
    d, alpha, draws = 150, 4, 12
    means = streaming.xor_means(d)
    columns, _ = streaming.xor_start(jax.random.key(0), means, [0, 2], overlap=0.8)
    system = streaming.xor(
        d,
        theta=jnp.array([0.8, -1.1]),
        snr=4.0,
        learning_rate=1.0,
        activation="softplus",
        start=columns,
    )
    theory = curvature.full_theory(
        system, system.start(), "hessian", alpha, gaussian.GaussHermite(10)
    )

    @jax.jit
    def measure(key):
        samples = streaming.draw_samples(system, key, 0, alpha * d, means, jnp.float64)
        matrix = curvature.empirical(
            system, samples, columns, means, jnp.array([0.8, -1.1]), "hessian"
        )
        values, vectors = jnp.linalg.eigh(matrix.dense())
        first = vectors[:, -1]
        parts = jnp.dot(first[: 2 * d].reshape(2, d), basis)
        inside = jnp.dot(first[: 2 * d].reshape(2, d), curvature.orthonormal(means))
        shares = jnp.stack([*(parts**2).sum(1), (inside**2).sum(), *first[2 * d :] ** 2])
        return values[-6:][::-1], shares

    basis = curvature.orthonormal(jnp.concatenate([columns, means], axis=1))
    draw = [measure(jax.random.key(i)) for i in range(draws)]
    found, shares = (np.stack(x) for x in zip(*draw, strict=True))
    # A point between the last outlier that is well separated and what follows.
    mean = found.mean(0)
    gaps = -np.diff(np.log(mean))
    count = int(np.argmax(gaps > 0.12 * (gaps == gaps.max()))) + 1
    above = jnp.asarray(np.sqrt(mean[count - 1] * mean[count]))
    solve = eqx.filter_jit(lambda theory, z: (theory.spectrum(z, count), theory.stieltjes(z)[1]))
    spectrum, residual = solve(theory, above)
    values = spectrum.values
    assert float(residual) < 1e-6
    error = found.std(0, ddof=1)[:count] / np.sqrt(draws)
    np.testing.assert_array_less(np.abs(mean[:count] - values), 3 * error + 0.01 * mean[:count])
    # Where the first eigenvector is: both columns' spans, the means alone, the second layer.
    expected = [
        *(spectrum.columns[0] ** 2).sum(1),
        spectrum.share_in_means()[0],
        *spectrum.theta[0] ** 2,
    ]
    error = shares.std(0, ddof=1) / np.sqrt(draws)
    np.testing.assert_array_less(np.abs(shares.mean(0) - expected), 3 * error + 2 / d)
    inside = (spectrum.columns[0] ** 2).sum() + (spectrum.theta[0] ** 2).sum()
    assert float(inside) == pytest.approx(float(spectrum.shares[0]))


@pytest.mark.slow
def test_commuting_covariances():
    """1/d tr (A - z)^{-1} at d = 200 within four standard errors and 1/d."""
    d, alpha, z = 200, 3, -0.2
    kappa = np.array([[2.5, 0.7], [0.4, 1.6]])
    means = streaming.orthonormal_means(d, 2)
    start = 0.8 * np.random.default_rng(0).standard_normal((d, 2)) / np.sqrt(d)
    system = streaming.OnePassSGD(
        streaming.MixtureSoftmax(2),
        spectra.explicit([1.0, 2.0], [d // 2, d // 2], normalise=False),
        1.0,
        start,
        mixture=streaming.Mixture([0.6, 0.4], means, eigenvalues=kappa.T),
    )
    rule = gaussian.GaussHermite(20)
    law = curvature.commuting_theory(system, system.start(), 0, "hessian", alpha, rule)
    theory, _ = law.stieltjes(jnp.asarray(z))

    @jax.jit
    def measure(key):
        samples = streaming.draw_samples(system, key, 0, alpha * d, means, jnp.float64)
        matrix = curvature.empirical(system, samples, jnp.asarray(start), means, None)
        return jnp.mean(1 / (jnp.linalg.eigvalsh(matrix.restrict([0]).dense()) - z))

    found = np.array([measure(jax.random.key(i)) for i in range(6)])
    assert abs(found.mean() - theory) < 4 * found.std(ddof=1) / np.sqrt(6) + 2 / d
    # The isotropic law is another one.
    assert abs(found.mean() - 1 / (0.2 + 0.25 * 1.3 * 0.5)) > 0.05


@pytest.mark.slow
def test_outliers_of_commuting_covariances():
    """Two outliers and their angles with a mean, d = 200: three standard errors and 1 %."""
    d, alpha, draws = 200, 4, 6
    kappa = np.array([[2.5, 0.7], [0.4, 1.6]]) / 12
    means = streaming.orthonormal_means(d, 2)
    start = 1.2 * means + 0.3 * streaming.orthonormal_means(d, 4)[:, 2:]
    system = streaming.OnePassSGD(
        streaming.MixtureSoftmax(2),
        spectra.explicit([1.0, 2.0], [d // 2, d // 2], normalise=False),
        1.0,
        start,
        mixture=streaming.Mixture([0.6, 0.4], means, eigenvalues=kappa.T),
    )
    theory = curvature.commuting_theory(
        system, system.start(), 0, "hessian", alpha, gaussian.GaussHermite(16)
    )

    @jax.jit
    def measure(key):
        samples = streaming.draw_samples(system, key, 0, alpha * d, means, jnp.float64)
        block = curvature.empirical(system, samples, start, means, None).restrict([0])
        values, vectors = jnp.linalg.eigh(block.dense())
        cosines = jnp.dot(vectors[:, -2:].T, means[:, 0]) ** 2
        return jnp.concatenate([values[-3:][::-1], cosines[::-1]])

    found = np.stack([measure(jax.random.key(i)) for i in range(draws)])
    mean, error = found.mean(0), found.std(0, ddof=1) / np.sqrt(draws)
    above = jnp.asarray((mean[1] + mean[2]) / 2)
    values, cosines = eqx.filter_jit(
        lambda theory, z: (theory.outliers(z, 3), theory.squared_cosines(z, 2, 2))
    )(theory, above)
    assert np.isnan(values[2])
    expected = np.concatenate([values[:2], cosines])
    slack = np.array([*(0.01 * mean[:2]), 2 / d, 2 / d])
    seen = [0, 1, 3, 4]
    np.testing.assert_array_less(np.abs(mean[seen] - expected), 3 * error[seen] + slack)
    # Where they agree, covariances give the law of one isotropic block.
    same = streaming.mixture_softmax(d, 2, snr=9.0, learning_rate=1.0, start=start, means=means)
    own = curvature.commuting_theory(same, same.start(), 0, "hessian", alpha, gaussian.QMC(12))
    block = curvature.block_theory(same, same.start(), 0, "hessian", alpha).spectrum()
    above = jnp.asarray(1.02 * block.edge)
    count = int(block.count)
    np.testing.assert_allclose(own.outliers(above, count), block.values[:count], rtol=5e-3)
    np.testing.assert_allclose(
        own.squared_cosines(above, count, 2), block.squared_cosines(2)[:count], atol=5e-3
    )
