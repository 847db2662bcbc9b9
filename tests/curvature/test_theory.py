"""Edges, outliers and eigenvectors: reference values, and matrices of finite size."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hdjax import curvature, gaussian, streaming
from hdjax.streaming import mixtures

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
    return mixtures.mixture_softmax(
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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
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
        samples = streaming.samples.draw_samples(system, key, 0, alpha * d, means, jnp.float64)
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
            seen = curvature.block_theory(system, system.start(), 0, kind, alpha)
            _, edge = seen.seen_by(alpha * d).edges()
            np.testing.assert_allclose(edges.mean(0)[1], edge, rtol=0.03)
        largest, _ = LARGEST(curvature.block_theory(system, system.start(), 0, kind, alpha), d)
        np.testing.assert_allclose(edges.mean(0)[1], largest, rtol=0.03)


LARGEST = eqx.filter_jit(lambda theory, d: theory.largest_bulk_eigenvalue(d))


@pytest.mark.slow
@pytest.mark.parametrize("alpha", [2, 4])
def test_largest_bulk_eigenvalue(alpha):
    """Of 40 matrices at d = 300: their mean within 3 %, where the gradient's edge is 7 % off."""
    d, draws = 300, 40
    system = softmax(d)
    columns = np.zeros((d, 6))
    columns[:6] = COLUMNS
    x, means = jnp.asarray(columns[:, :3]), jnp.asarray(columns[:, 3:])
    ranks = {"hessian": 2, "gradient": 1}

    @jax.jit
    def measure(key):
        samples = streaming.samples.draw_samples(system, key, 0, alpha * d, means, jnp.float64)
        found = []
        for kind, rank in ranks.items():
            matrix = curvature.empirical(system, samples, x, means, None, kind).restrict([0])
            found.append(jnp.linalg.eigvalsh(matrix.dense())[-rank - 1])
        return jnp.stack(found)

    found = np.stack([measure(jax.random.key(i)) for i in range(draws)])
    for kind, values in zip(ranks, found.T, strict=True):
        theory = curvature.block_theory(system, system.start(), 0, kind, alpha)
        mean, deviation = LARGEST(theory, d)
        np.testing.assert_allclose(values.mean(), mean, rtol=0.03)
        assert 0.7 < values.std(ddof=1) / deviation < 1.4
        if kind == "gradient":
            assert theory.edges()[1] > 1.05 * values.mean()


@pytest.mark.slow
@pytest.mark.parametrize("alpha", [0.5, 3.0])
def test_constant_weights_are_those_of_spiked_covariances(alpha):
    """X = 0: D = 1/4, two equal spikes p snr; the formulas of Marchenko-Pastur and BBP."""
    snr, ratio = 4.0, 1 / alpha
    system = mixtures.mixture_softmax(
        60, 2, snr=snr, learning_rate=1.0, start=jnp.zeros((60, 2)), rule=gaussian.GaussHermite(8)
    )
    for kind in ("hessian", "gradient"):
        theory = curvature.block_theory(system, system.start(), 0, kind, alpha)
        found = SPECTRUM(theory)
        unit, spike = 0.25 / snr, 0.5 * snr
        ends = unit * (1 - np.sqrt(ratio) * np.array([1, -1])) ** 2
        np.testing.assert_allclose([found.left, found.edge], ends, rtol=1e-9)
        np.testing.assert_allclose(theory.zeros(), max(1 - alpha, 0), atol=1e-12)
        # The two outliers coincide: their space has principal angles, they have none.
        assert int(found.count) == 2
        np.testing.assert_allclose(
            found.values[:2], unit * (1 + spike) * (1 + ratio / spike), rtol=1e-9
        )
        share = (1 - ratio / spike**2) / (1 + ratio / spike)
        np.testing.assert_allclose(found.shares[:2], share, rtol=1e-9)
        np.testing.assert_allclose(found.principal_cosines(2), np.sqrt(share), rtol=1e-9)
    # Just below the threshold spike^2 = 1/alpha there is none.
    weak = eqx.tree_at(lambda t: t.alpha, theory, jnp.asarray(0.99 / spike**2))
    assert int(weak.emergence()[0]) == 0


@pytest.mark.slow
def test_outliers_cross_as_a_space():
    """Three spikes of weights p, 1/2 - p and 1/2: the first two cross at p = 1/4, their space not.

    A weight moves smoothly from one side of the crossing to the other, and the space of both keeps
    its angles with the means, though the vectors change places.
    """
    shares, angles = [], []
    for p in (0.245, 0.25, 0.255):
        system = mixtures.mixture_softmax(
            60,
            3,
            snr=20.0,
            learning_rate=1.0,
            probabilities=[p, 0.5 - p, 0.5],
            start=jnp.zeros((60, 3)),
            rule=gaussian.GaussHermite(4),
        )
        found = SPECTRUM(curvature.block_theory(system, system.start(), 0, "hessian", 6.0))
        assert int(found.count) == 3
        second = found.scaled[1:3]
        means = found.frame[:, 3:5]
        angles.append(jnp.linalg.svd(jnp.dot(second, means), compute_uv=False))
        shares.append(found.squared_cosines(3)[1:3])
    # Vectors change places ...
    assert shares[0][1] > 0.8
    assert shares[2][0] > 0.8
    assert max(shares[0][0], shares[2][1]) < 1e-6
    # ... and the space stays.
    np.testing.assert_allclose(angles[0], angles[1], atol=2e-3)
    np.testing.assert_allclose(angles[2], angles[1], atol=2e-3)


@pytest.mark.slow
def test_outliers_to_the_left():
    """Large weights and small means, d = 150: D vanishes along the weights, n = 8 d."""
    d, alpha, draws = 150, 8, 4
    gram = np.array(
        [[6.0, -6.0, 0.2, -0.2], [-6.0, 6.5, -0.2, 0.2], [0.2, -0.2, 0.1, 0], [-0.2, 0.2, 0, 0.1]]
    )
    columns = mixtures.columns_with_gram(d, gram)
    x, means = columns[:, :2], columns[:, 2:]
    system = mixtures.mixture_softmax(d, 2, snr=1.0, learning_rate=1.0, start=x, means=means)
    theory = curvature.block_theory(system, system.start(), 0, "hessian", alpha)
    found = eqx.filter_jit(lambda theory: theory.spectrum("left"))(theory)
    assert int(found.count) == int(theory.emergence("left")[0]) == 1
    assert int(theory.emergence()[0]) == 0

    @jax.jit
    def measure(key):
        samples = streaming.samples.draw_samples(system, key, 0, alpha * d, means, jnp.float64)
        block = curvature.empirical(system, samples, x, means, None).restrict([0])
        values, vectors = jnp.linalg.eigh(block.dense())
        cosine = jnp.dot(vectors[:, 0], x[:, 0]) ** 2 / (x[:, 0] ** 2).sum()
        return jnp.stack([values[0], cosine])

    measured = np.stack([measure(jax.random.key(i)) for i in range(draws)])
    error = measured.std(0, ddof=1) / np.sqrt(draws)
    expected = np.array([found.values[0], found.squared_cosines(0)[0]])
    assert np.all(np.abs(measured.mean(0) - expected) < 3 * error + [0.01 * expected[0], 2 / d])


@pytest.mark.slow
def test_fewer_samples_of_weight_than_dimensions():
    """D = 1 for half of the samples, n = d: zero half of the time, and then a left edge."""
    d = 300
    loss = streaming.losses.FunctionLoss(half_square, smooth=False, rule=gaussian.QMC(10))
    both = mixtures.orthonormal_means(d, 2)
    x, means = both[:, :1], both[:, 1:]
    system = streaming.OnePassSGD(
        loss,
        mixtures.noise_spectrum(d, 1.0),
        1.0,
        x,
        mixture=streaming.Mixture([1.0], means),
    )
    theory = curvature.block_theory(system, system.start(), 0, "hessian", 1.0)
    assert float(theory.zeros()) == pytest.approx(0.5, abs=1e-3)
    left, edge = theory.edges()
    np.testing.assert_allclose([left, edge], (1 - np.sqrt(0.5) * np.array([1, -1])) ** 2, rtol=3e-3)
    samples = streaming.samples.draw_samples(system, jax.random.key(0), 0, d, means, jnp.float64)
    block = curvature.empirical(system, samples, x, means, None)
    values = np.linalg.eigvalsh(DENSE(block))
    positive = values[values > 1e-12]
    assert len(positive) / d == pytest.approx(0.5, abs=0.1)
    assert positive[0] == pytest.approx(float(left), rel=0.25)


DENSE = eqx.filter_jit(lambda matrix: matrix.dense())


def half_square(x, teacher, component, noise, theta):
    return jnp.maximum(x[0], 0) ** 2 / 2


def test_without_noise_outliers_are_those_of_the_means():
    """Snr = infinity: sum_a p_a D_a mu_a mu_a^T, and a bulk at zero."""
    mixture = mixtures.mixture_softmax(
        40,
        3,
        snr=float("inf"),
        learning_rate=1.0,
        start=1.5 * mixtures.orthonormal_means(40, 3),
        rule=gaussian.GaussHermite(4),
    )
    found = SPECTRUM(curvature.block_theory(mixture, mixture.start(), 0, "hessian", 2.0))
    pi = jax.nn.softmax(mixture.start().overlaps[:3, 3:], axis=0)[0]
    expected = np.sort(pi * (1 - pi) / 3)[::-1]
    np.testing.assert_allclose(found.values[:3], expected, rtol=1e-12)
    np.testing.assert_allclose(found.shares[:3], 1, rtol=1e-12)
    assert float(found.edge) == 0
    assert int(found.count) == 3


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


@pytest.mark.slow
def test_wrong_input():
    system = softmax()
    with pytest.raises(ValueError, match="alpha: 0"):
        curvature.block_theory(system, system.start(), 0, "hessian", 0.0)
    theory = curvature.block_theory(system, system.start(), 0, "hessian", 1.0)
    with pytest.raises(ValueError, match="samples: 0"):
        theory.seen_by(0)
    with pytest.raises(ValueError, match="index: 3"):
        curvature.block_theory(system, system.start(), 3, "hessian", 1.0)
    with pytest.raises(ValueError, match="kind: 'fisher'"):
        curvature.block_theory(system, system.start(), 0, "fisher", 1.0)
