"""Matrices of all parameters at once against matrices of finite size."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hdjax import curvature, gaussian, streaming
from hdjax.streaming import mixtures


@pytest.mark.slow
@pytest.mark.long
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
def test_wrong_input():
    system = mixtures.mixture_softmax(20, 3, snr=4.0, learning_rate=1.0)
    rule = gaussian.GaussHermite(2)
    with pytest.raises(ValueError, match="alpha: inf"):
        curvature.full_theory(system, system.start(), "hessian", np.inf, rule)
    with pytest.raises(ValueError, match="alpha: -1"):
        curvature.full_theory(system, system.start(), "hessian", -1.0, rule)
