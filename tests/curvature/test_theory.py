"""Edges, outliers and eigenvectors: reference values, and matrices of finite size."""

import dataclasses
import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hdjax import curvature, gaussian, streaming

# A state with six non-zero rows of [X | means].
COLUMNS = np.array(
    [
        [1.2, -0.5, -0.3, 2.0, 0.0, 1.0],
        [-0.6, 1.3, -0.5, 0.0, 2.2, 0.0],
        [0.0, 0.1, -0.9, 0.0, 0.0, -1.8],
        [0.5, 0.0, 0.2, 0.0, 0.0, 0.0],
        [0.0, 0.5, 0.0, 0.0, 0.0, 0.0],
        [0.0, 0.2, 0.4, 0.0, 0.0, 0.0],
    ]
)


def softmax(d=100, snr=4.0):
    padded = np.zeros((d, 6))
    padded[:6] = COLUMNS
    return streaming.mixture_softmax(
        d,
        3,
        snr=snr,
        learning_rate=1.0,
        probabilities=[0.5, 0.3, 0.2],
        start=padded[:, :3],
        means=jnp.asarray(padded[:, 3:]),
    )


SPECTRUM = eqx.filter_jit(lambda theory: theory.spectrum())


def _measure(rank, theory):
    found = theory.spectrum()
    return (
        theory.emergence()[0],
        found,
        found.squared_cosines(0),
        found.principal_cosines(rank),
    )


MEASURE = {rank: eqx.filter_jit(functools.partial(_measure, rank)) for rank in (1, 2)}
REFERENCE = {
    ("hessian", 2.0): {
        "edges": [0.00097474, 0.09476590],
        "outliers": [0.29614700, 0.12265901],
        "shares": [0.9073543, 0.7055483],
        "cosines": [0.3641083, 0.1015402],
        "principal": [0.9554084, 0.8339832],
    },
    ("hessian", 4.0): {
        "edges": [0.00387943, 0.06843083],
        "outliers": [0.28372832, 0.10957676],
        "shares": [0.9523557, 0.8441908],
        "cosines": [0.3876579, 0.1143607],
        "principal": [0.9774286, 0.9147264],
    },
    # The right edges of the squared gradient are z at s = -alpha snr, the supremum of D being one.
    ("gradient", 2.0): {
        "edges": [0.0000562536, 0.1493606578],
        "outliers": [0.28038097],
        "shares": [0.7886288],
        "cosines": [0.2690682],
        "principal": [0.8872574],
    },
    ("gradient", 4.0): {
        "edges": [0.00052805645, 0.0868606578],
        "outliers": [0.25345573],
        "shares": [0.8902576],
        "cosines": [0.2976557],
        "principal": [0.9428368],
    },
}


def test_softmax_block_reference():
    system = softmax()
    theories = {
        kind: curvature.block_theory(
            system, system.start(), 0, kind, 2.0, gaussian.GaussHermite(60)
        )
        for kind in ("hessian", "gradient")
    }
    for (kind, alpha), expected in REFERENCE.items():
        theory = eqx.tree_at(lambda t: t.alpha, theories[kind], jnp.asarray(alpha))
        r = len(expected["outliers"])
        count, found, cosines, principal = MEASURE[r](theory)
        assert int(found.count) == int(count) == r
        np.testing.assert_allclose([found.left, found.edge], expected["edges"], rtol=2e-5)
        np.testing.assert_allclose(found.values[:r], expected["outliers"], atol=1e-7)
        np.testing.assert_allclose(found.shares[:r], expected["shares"], atol=2e-7)
        np.testing.assert_allclose(cosines[:r], expected["cosines"], atol=2e-7)
        np.testing.assert_allclose(principal, expected["principal"], atol=2e-7)
        assert np.isnan(found.values[r:]).all()
    hessian, gradient = theories["hessian"], theories["gradient"]
    np.testing.assert_allclose(
        hessian.population(),
        [0.27150129, 0.09708089, 0.04897740, 0.02413602, 0.02404531, 0.02330146],
        atol=1e-8,
    )
    assert float(hessian.population_bulk()) == pytest.approx(0.02404531, abs=1e-8)
    np.testing.assert_allclose(
        gradient.population()[:3], [0.22821223, 0.02933596, 0.01559993], atol=1e-7
    )
    assert float(gradient.population_bulk()) == pytest.approx(0.01454570, abs=1e-7)


def test_density_is_a_law_on_the_bulk():
    """Mass one, mean E[D]/snr, and zero outside the edges that come from real numbers alone."""
    system = softmax()
    rule = gaussian.GaussHermite(20)
    theory = curvature.block_theory(system, system.start(), 0, "hessian", 4.0, rule)
    left, right = theory.edges()
    grid = left + (right - left) * (1 - jnp.cos(jnp.linspace(0, jnp.pi, 60))) / 2
    density = jax.jit(lambda grid: theory.density(grid, 1e-7, 100))(grid)
    assert float(jnp.trapezoid(density, grid)) == pytest.approx(1, abs=5e-3)
    mean = jnp.trapezoid(density * grid, grid)
    assert float(mean) == pytest.approx(float(theory.population_bulk()), rel=5e-3)
    outside = theory.density(jnp.array([0.9 * left, 1.02 * right]), 1e-7)
    assert np.all(outside < 1e-3 * density.max())


def test_large_alpha_is_the_population():
    system = softmax()
    theory = curvature.block_theory(system, system.start(), 1, "hessian", 1e6)
    found = SPECTRUM(theory)
    count = int(found.count)
    np.testing.assert_allclose(found.values[:count], theory.population()[:count], rtol=1e-4)
    np.testing.assert_allclose(found.edge, theory.population_bulk(), rtol=0.01)
    np.testing.assert_allclose(found.shares[:count], 1, atol=2e-3)


@pytest.mark.slow
@pytest.mark.optimised
def test_matrices_of_600_dimensions():
    """Edges within 3 %; outliers, shares and cosines within three standard errors of 6 draws."""
    d, alpha, draws = 600, 4, 6
    system = softmax(d)
    columns = np.zeros((d, 6))
    columns[:6] = COLUMNS
    x, means = jnp.asarray(columns[:, :3]), jnp.asarray(columns[:, 3:])

    @jax.jit
    def measure(key):
        samples = streaming.draw_samples(system, key, 0, alpha * d, means, jnp.float64)
        found = []
        for kind, rank in (("hessian", 2), ("gradient", 1)):
            matrix = curvature.empirical(system, samples, x, means, None, kind).restrict([0])
            values, vectors = jnp.linalg.eigh(matrix.dense())
            top = vectors[:, ::-1][:, :rank]
            shares = (top[:6] ** 2).sum(0)
            cosines = jnp.dot(top.T, x[:, 0]) ** 2 / (x[:, 0] ** 2).sum()
            numbers = jnp.concatenate([values[::-1][:rank], shares, cosines])
            found.append((numbers, jnp.stack([values[0], values[-rank - 1]])))
        return found

    found = [measure(jax.random.key(i)) for i in range(draws)]
    for i, (kind, rank) in enumerate((("hessian", 2), ("gradient", 1))):
        numbers = np.stack([draw[i][0] for draw in found])
        edges = np.stack([draw[i][1] for draw in found])
        theory = SPECTRUM(curvature.block_theory(system, system.start(), 0, kind, alpha))
        expected = np.concatenate(
            [theory.values[:rank], theory.shares[:rank], theory.squared_cosines(0)[:rank]]
        )
        error = numbers.std(0, ddof=1) / np.sqrt(draws)
        # What is left at this size is the bias of order 1/d.
        assert np.all(np.abs(numbers.mean(0) - expected) < 3 * error + 2 / d)
        if kind == "hessian":
            np.testing.assert_allclose(edges.mean(0), [theory.left, theory.edge], rtol=0.03)
        else:
            # Where the edge belongs to the supremum of D few samples are near it: from below.
            assert 0.9 < edges.mean(0)[1] / theory.edge < 1.01


def test_emergence_map_counts_what_the_spectrum_has():
    mixture = streaming.mixture_softmax(100, 3, snr=4.0, learning_rate=1.0, ridge=0.01)
    alphas, snrs = jnp.array([0.7, 3.0, 20.0]), jnp.array([1.0, 6.0])
    counts, margins = curvature.emergence_map(
        mixture,
        0,
        "hessian",
        alphas=alphas,
        snrs=snrs,
        ts=jnp.array([0.0, 2.0]),
        rule=gaussian.GaussHermite(16),
    )
    assert counts.shape == (2, 2, 3)
    assert np.all(np.diff(counts, axis=-1) >= 0)
    assert counts[0, 0, 0] == 0
    assert counts[1, 1, 2] == 3
    own = streaming.mixture_softmax(100, 3, snr=6.0, learning_rate=1.0, ridge=0.01)
    summary = jax.tree.map(lambda x: x[-1], own.limit(jnp.array([0.0, 2.0])))
    theory = curvature.block_theory(own, summary, 0, "hessian", 3.0, gaussian.GaussHermite(16))
    np.testing.assert_allclose(theory.emergence()[1], margins[1, 1, 1], atol=1e-7)


def test_no_weight_no_bulk():
    system = softmax()
    theory = curvature.block_theory(system, system.start(), 0, "hessian", 2.0)
    dead = eqx.tree_at(
        lambda t: (t.weights, t.largest), theory, (0 * theory.weights, 0 * theory.largest)
    )
    left, right = dead.edges()
    assert np.isnan(left)
    assert np.isnan(right)
    # Fewer samples than dimensions: the matrix is singular.
    singular = eqx.tree_at(lambda t: t.alpha, theory, jnp.asarray(0.5))
    assert float(singular.edges()[0]) == 0


def test_wrong_input():
    system = softmax()
    with pytest.raises(ValueError, match="alpha: 0"):
        curvature.block_theory(system, system.start(), 0, "hessian", 0.0)
    with pytest.raises(ValueError, match="index: 3"):
        curvature.block_theory(system, system.start(), 3, "hessian", 1.0)
    with pytest.raises(ValueError, match="kind: 'fisher'"):
        curvature.block_theory(system, system.start(), 0, "fisher", 1.0)
    plain = streaming.OnePassSGD(
        streaming.logistic,
        streaming.noise_spectrum(20, 1.0),
        1.0,
        streaming.GaussianStart(),
        streaming.GaussianStart(),
    )
    with pytest.raises(ValueError, match="1 teacher and 0 mean columns"):
        curvature.block_theory(plain, plain.start(), 0, "hessian", 1.0)
    gram = np.array(system.start().blocks)
    gram[0, 0, 3] = gram[0, 3, 0] = 100.0
    indefinite = dataclasses.replace(system.start(), blocks=jnp.asarray(gram))
    with pytest.raises(ValueError, match="indefinite"):
        curvature.block_theory(system, indefinite, 0, "hessian", 1.0)
