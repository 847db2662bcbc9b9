"""Matrices of all parameters, and blocks of commuting covariances, against finite sizes."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hdjax import curvature, gaussian, spectra, streaming
from hdjax.streaming import mixtures


@pytest.mark.slow
@pytest.mark.optimised
def test_outliers_of_both_layers():
    """Softplus network, n = 4 d, d = 150: within three standard errors and 1 % (shares 2/d)."""
    d, alpha, draws = 150, 4, 12
    means = mixtures.xor_means(d)
    columns, _ = mixtures.xor_start(jax.random.key(0), means, [0, 2], overlap=0.8)
    system = mixtures.xor(
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
        samples = streaming.samples.draw_samples(system, key, 0, alpha * d, means, jnp.float64)
        matrix = curvature.empirical(
            system, samples, columns, means, jnp.array([0.8, -1.1]), "hessian"
        )
        values, vectors = jnp.linalg.eigh(matrix.dense())
        first = vectors[:, -1]
        parts = jnp.dot(first[: 2 * d].reshape(2, d), basis)
        inside = jnp.dot(first[: 2 * d].reshape(2, d), curvature.alignment.orthonormal(means))
        shares = jnp.stack([*(parts**2).sum(1), (inside**2).sum(), *first[2 * d :] ** 2])
        return values[-6:][::-1], shares

    basis = curvature.alignment.orthonormal(jnp.concatenate([columns, means], axis=1))
    draw = [measure(jax.random.key(i)) for i in range(draws)]
    found, shares = (np.stack(x) for x in zip(*draw, strict=True))
    mean = found.mean(0)
    solve = eqx.filter_jit(
        lambda theory: (theory.spectrum(5), theory.edge(), theory.stieltjes(1.01 * theory.edge()))
    )
    spectrum, edge, (_, residual) = solve(theory)
    # Four, the last of them just outside the bulk, whose largest is some d^-2/3 below its edge.
    count = int(np.isfinite(spectrum.values).sum())
    assert count == 4
    assert 1 - 2 * d ** (-2 / 3) < mean[count] / edge < 1
    values = spectrum.values[:count]
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
def test_edges_of_constant_weights():
    """X = 0, weights 1/4: Marchenko-Pastur, and Silverstein's edge with two groups."""
    d, snr, alpha = 40, 4.0, 0.7
    rule = gaussian.GaussHermite(4)
    zero = jnp.zeros((d, 2))
    system = mixtures.mixture_softmax(d, 2, snr=snr, learning_rate=1.0, start=zero, rule=rule)
    ratio = (1 + np.sqrt(1 / alpha)) ** 2
    # All of the Hessian is [[1, -1], [-1, 1]]/4 times a covariance, with the eigenvalue 1/2.
    whole = curvature.full_theory(system, system.start(), "hessian", alpha)
    np.testing.assert_allclose(EDGE(whole), ratio / snr / 2, rtol=1e-7)
    block = curvature.commuting_theory(system, system.start(), 0, "hessian", alpha, rule)
    np.testing.assert_allclose(EDGE(block), ratio / snr / 4, rtol=1e-7)
    assert np.isnan(EDGE(dataclasses.replace(whole, weights=0 * whole.weights)))
    assert np.isnan(EDGE(dataclasses.replace(block, weights=0 * block.weights)))

    e = np.array([2.5, 0.4])
    means = mixtures.orthonormal_means(d, 2)
    system = streaming.OnePassSGD(
        streaming.losses.MixtureSoftmax(2),
        spectra.explicit([1.0, 2.0], [d // 4, 3 * d // 4]),
        1.0,
        zero,
        mixture=streaming.Mixture([0.5, 0.5], means, eigenvalues=np.stack([e, e])),
    )
    theory = curvature.commuting_theory(system, system.start(), 0, "hessian", alpha, rule)
    # The minimum of z(v) = -1/v + E[t/(1 + t v)]/alpha, v the companion transform.
    t, p = e[:, None] / 4, np.array([[0.25], [0.75]])
    v = -np.linspace(0.01, 0.99, 200_001)[None] / t.max()
    z = -1 / v[0] + (p * t / (1 + t * v)).sum(0) / alpha
    np.testing.assert_allclose(EDGE(theory), z.min(), rtol=1e-7)


EDGE = eqx.filter_jit(lambda theory: theory.edge())


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "alpha"), [("hessian", 0.5), ("hessian", 4.0), ("gradient", 2.0)])
def test_edge_of_one_column_is_that_of_the_block(kind, alpha):
    """The same nodes and weights: the right ends agree to rounding."""
    columns = mixtures.orthonormal_means(50, 4)
    x = 1.5 * columns[:, :2] + jnp.roll(columns, 1, axis=1)[:, :2]
    system = mixtures.mixture_softmax(
        50, 2, snr=3.0, learning_rate=1.0, start=x, means=columns[:, :2]
    )
    block = curvature.block_theory(system, system.start(), 0, kind, alpha)
    # Without knowledge of the supremum of D, which lies beyond the nodes.
    block = dataclasses.replace(block, largest=block.weights.max())
    nodes = dataclasses.replace(block.nodes, students=1)
    whole = curvature.full_theory.FullTheory(nodes, block.weights[..., None, None], block.alpha)
    np.testing.assert_allclose(EDGE(whole), block.edges()[1], rtol=1e-7)
