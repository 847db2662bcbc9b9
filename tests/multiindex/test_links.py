"""Hermite tensors of links, the averaging operator and its energy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate

import hdjax as hd
from hdjax import gaussian, multiindex
from hdjax.multiindex import averaging, starts, tensors
from hdjax.multiindex.hermite import hermite, multi_indices
from hdjax.multiindex.links import from_coefficients

A = from_coefficients({(1, 0): 0.8, (1, 1): 0.6, (0, 2): 0.5})
M = jnp.array([[0.2, 0.1], [-0.15, 0.25]])
THREE = jnp.array([[0.3, 0.1], [-0.2, 0.4], [0.1, 0.2]])
CUBIC = from_coefficients({(1, 0): 0.3, (1, 1): 0.6, (2, 1): 0.4, (0, 3): -0.5, (3, 0): 0.2})
NEURONS = multiindex.links.ridge_sum(multiindex.links.sine(), np.eye(2))
ROTATION = jnp.array([[np.cos(0.7), -np.sin(0.7)], [np.sin(0.7), np.cos(0.7)]])
CLOSED = {
    "sine": (lambda: multiindex.links.sine(1.3, 25), lambda z: np.sin(1.3 * z)),
    "cosine": (lambda: multiindex.links.cosine(1.3, 24), lambda z: np.cos(1.3 * z)),
    "exponential": (lambda: multiindex.links.exponential(0.7, 20), lambda z: np.exp(0.7 * z)),
    "relu": (lambda: multiindex.links.relu(12), lambda z: max(z, 0.0)),
    "sign": (lambda: multiindex.links.sign(11), lambda z: np.sign(z)),
    "erf": (lambda: multiindex.links.erf(13), None),
}
ENERGIES = {
    "sine": lambda g: np.exp(-(1.3**2)) * np.sinh(1.3**2 * g),
    "cosine": lambda g: np.exp(-(1.3**2)) * np.cosh(1.3**2 * g),
    "exponential": lambda g: np.exp(0.49 * (1 + g)),
    "relu": lambda g: (np.sqrt(1 - g**2) + g * (np.pi - np.arccos(g))) / (2 * np.pi),
    "sign": lambda g: 2 / np.pi * np.arcsin(g),
    "erf": lambda g: 2 / np.pi * np.arcsin(g / 2),
}


def test_reference_tensor_and_values():
    tensor = from_coefficients({(1, 1): 1.0}).tensors[2]
    np.testing.assert_allclose(tensor, np.array([[0, 1], [1, 0]]) / np.sqrt(2))
    assert float(A.norm2) == pytest.approx(1.25)
    assert float(multiindex.averaging.energy(A, M)) == pytest.approx(0.041978992, abs=1e-9)
    s = [[0.666100000, 0.024459145], [0.024459145, 0.043900758]]
    np.testing.assert_allclose(multiindex.averaging.energy_gradient(A, M), s, atol=1e-9)
    averaged = multiindex.links.Link(multiindex.averaging.average(A, M), jnp.zeros(()), None, 2)
    expected = {
        (1, 0): 0.16,
        (0, 1): -0.12,
        (2, 0): 0.021970563,
        (1, 1): 0.038677670,
        (0, 2): -0.000569805,
    }
    for beta, value in expected.items():
        assert float(averaged.coefficient(beta)) == pytest.approx(value, abs=1e-9)
    z = jnp.array([0.4, -1.2])
    plain = 0.8 * 0.4 + 0.6 * 0.4 * -1.2 + 0.5 * (1.44 - 1) / np.sqrt(2)
    assert float(A(z)) == pytest.approx(plain, abs=1e-14)


@pytest.mark.parametrize("name", CLOSED)
def test_closed_forms_against_quadrature(name):
    make, function = CLOSED[name]
    link = make()
    if function is None:
        function = lambda z: float(jax.scipy.special.erf(z / np.sqrt(2)))  # noqa: E731
    for k in (0, 1, 2, 3, 4, 6, 7):
        weigh = lambda z, k=k: (  # noqa: E731
            function(z)
            * np.polynomial.hermite_e.hermeval(z, np.eye(k + 1)[k])
            / np.sqrt(float(np.prod(range(1, k + 1))))
            * np.exp(-(z**2) / 2)
            / np.sqrt(2 * np.pi)
        )
        value = integrate.quad(weigh, -12, 0, epsabs=1e-13)[0]
        value += integrate.quad(weigh, 0, 12, epsabs=1e-13)[0]
        assert float(link.coefficient((k,))) == pytest.approx(value, abs=1e-11)
    # The closed-form energy at a g at which what is truncated is small.
    g = 0.2
    own = sum(float(t.sum()) ** 2 * g**k for k, t in enumerate(link.tensors) if t is not None)
    missed = g ** (link.degree + 1) * float(link.residual)
    assert own == pytest.approx(ENERGIES[name](g), abs=missed + 1e-12)
    assert float(link.norm2) == pytest.approx(ENERGIES[name](1.0), abs=1e-12)
    if link.function is not None:
        assert float(link(jnp.array([0.7]))) == pytest.approx(function(0.7), abs=1e-12)


@pytest.mark.slow
def test_quadrature_reports_its_residual_and_drops_rounding():
    link = multiindex.links.from_function(lambda z: jnp.sin(z[0]) * z[1], 2, 4)
    exact = multiindex.links.product(
        multiindex.links.sine(1.0, 9), from_coefficients({(1,): 1.0}), degree=4
    )
    for own, other in zip(link.tensors, exact.tensors, strict=True):
        assert (own is None) == (other is None)
        if own is not None:
            np.testing.assert_allclose(own, other, atol=1e-12)
    assert float(link.residual) == pytest.approx(float(exact.residual), abs=1e-12)
    assert 0 < float(link.residual) < 0.01
    many = multiindex.links.from_function(lambda z: z[0] * z[4], 5, 2, threshold=0.02)
    assert float(many.coefficient((1, 0, 0, 0, 1))) == pytest.approx(1, abs=0.02)
    assert many.tensors[1] is None


@pytest.mark.slow
def test_rotation_ridge_truncation():
    z = jnp.array([0.4, -1.2])
    rotated = CUBIC.rotate(ROTATION)
    assert float(rotated(ROTATION @ z)) == pytest.approx(float(CUBIC(z)), abs=1e-13)
    assert float(rotated.norm2) == pytest.approx(float(CUBIC.norm2), abs=1e-14)
    ridge = multiindex.links.ridge(multiindex.links.sine(1.0, 15), [0.6, 0.8])
    series = multiindex.links.Link(ridge.tensors, ridge.residual, None, 2)
    assert float(series(z)) == pytest.approx(float(ridge(z)), abs=1e-6)
    cut = CUBIC.truncate(2)
    assert float(cut.norm2) == pytest.approx(float(CUBIC.norm2), abs=1e-14)
    assert float(cut(z)) == pytest.approx(float(CUBIC(z)), abs=1e-13)
    assert cut.degree == 2


@pytest.mark.parametrize("matrix", [M, THREE], ids=["q=2", "q=3"])
def test_energy_is_that_of_the_conditional_expectation(matrix):
    """E f(z) f(z') and E grad f(z) grad f(z')^T with E z z'^T = G, by quadrature."""
    gram = matrix.T @ matrix
    gap = jnp.eye(2) - gram

    @jax.jit
    def by_quadrature():
        root = gaussian.factor(jnp.eye(2) - gram @ gram)

        def pair(x):
            first, second = x[:2], gram @ x[:2] + root @ x[2:]
            slopes = jax.grad(CUBIC)(first)[:, None] * jax.grad(CUBIC)(second)[None, :]
            return CUBIC(first) * CUBIC(second), slopes

        return gaussian.expectation(pair, 4, gaussian.GaussHermite(6))

    @jax.jit
    def own():
        energy, auto = jax.value_and_grad(lambda m: multiindex.averaging.energy(CUBIC, m))(matrix)
        loss = multiindex.averaging.profiled_loss(CUBIC, matrix, gap)
        return energy, auto, multiindex.averaging.energy_gradient(CUBIC, matrix), loss

    energy, slope = by_quadrature()
    found, auto, s, loss = own()
    assert float(found) == pytest.approx(float(energy), abs=1e-13)
    np.testing.assert_allclose(s, slope, atol=1e-13)
    # The profiled loss without cancellation, and the gradient of E by autodiff.
    assert float(loss) == pytest.approx(float(CUBIC.norm2 - energy), abs=1e-13)
    np.testing.assert_allclose(auto, 2 * matrix @ s, atol=1e-13)


def test_loss_near_the_optimum_keeps_its_digits():
    tiny = 1e-20
    loss = multiindex.averaging.profiled_loss(CUBIC, jnp.eye(2), tiny * jnp.eye(2))
    weights = sum(k * float((t**2).sum()) for k, t in enumerate(CUBIC.tensors) if t is not None)
    assert float(loss) == pytest.approx(tiny * weights, rel=1e-12)


def test_planted_loss_and_slope():
    assert float(multiindex.averaging.planted_loss(A, A, M)) == pytest.approx(2.198156602, abs=1e-9)
    slope = averaging.correlation_gradient(A, A.tensors, M)
    expected = [[0.73, 0.052066017], [0.142066017, 0.175786797]]
    np.testing.assert_allclose(slope, expected, atol=1e-9)
    auto = jax.grad(lambda m: averaging.correlation(A, A.tensors, m))(M)
    np.testing.assert_allclose(slope, auto, atol=1e-14)


@pytest.mark.slow
def test_power_sums_are_their_dense_tensors():
    """Energy, S, losses, slopes and values of a sum of ridge functions, beside all the entries."""
    u = jax.random.normal(jax.random.key(0), (3, 4))
    u = u / jnp.linalg.norm(u, axis=0)[None]
    phi = from_coefficients({(0,): 0.3, (1,): 0.5, (2,): -0.4, (4,): 0.7})
    link = multiindex.links.ridge_sum(phi, u, jnp.array([1.0, -0.5, 0.3, 0.8]))
    full = link.dense()
    assert not link.is_dense
    assert full.is_dense
    matrix = 0.5 * jax.random.normal(jax.random.key(1), (2, 3))
    gap = jnp.eye(3) - matrix.T @ matrix
    other = from_coefficients({(1, 0): 0.3, (1, 1): 0.6, (2, 1): 0.4, (0, 4): -0.5}).tensors

    z = jnp.array([0.3, -1.1, 0.6])

    @jax.jit
    def everything(link):
        own = multiindex.averaging.average(link, matrix)
        return [
            multiindex.averaging.energy(link, matrix),
            multiindex.averaging.energy_gradient(link, matrix),
            multiindex.averaging.profiled_loss(link, matrix, gap),
            averaging.gradient_covariance(own, 2),
            [multiindex.averaging.planted_loss(link, readout, matrix) for readout in (own, other)],
            [averaging.correlation_gradient(link, readout, matrix) for readout in (own, other)],
            # The series of the averaged link, whose vectors are shorter than 1, and of the link.
            multiindex.links.Link(own, link.residual, None, 2)(z[:2]),
            multiindex.links.Link(link.tensors, link.residual, None, 3)(z),
            link(z),
            link.rotate(jnp.eye(3)[::-1]).coefficient((2, 0, 2)),
        ]

    found = everything(link)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-13), found, everything(full))
    assert float(found[-2]) == pytest.approx(float(found[-3]), abs=1e-13)
    assert multiindex.leaps.exponents(link) == multiindex.leaps.exponents(full) == [0, 0, 0]
    # What truncation misses: exact for orthogonal directions, a bound for others.
    short, exact = multiindex.links.sine(1.5, 3), multiindex.links.sine(1.5, 25)
    for directions in (jnp.eye(2), jnp.array([[1.0, 0.6], [0.0, 0.8]])):
        missing = multiindex.links.ridge_sum(exact, directions).norm2 - tensors.squared_norm(
            multiindex.links.ridge_sum(short, directions).tensors
        )
        bound = float(multiindex.links.ridge_sum(short, directions).residual)
        assert bound >= float(missing) - 1e-12
        assert bound == pytest.approx(float(missing), rel=1e-9 if directions[0, 1] == 0 else 0.5)


def test_hermite_polynomials_are_orthonormal():
    z, w = gaussian.GaussHermite(20).nodes(1)
    table = hermite(jnp.asarray(z[:, 0]), 8)
    np.testing.assert_allclose((table.T * w[None]) @ table, np.eye(9), atol=1e-12)
    assert len(multi_indices(3, 4)) == 15


def test_scaling_of_small_singular_values():
    """log10 of lambda_min^{-k}: slope k/2 a decade between d = 10^4 and 10^6, medians as stated."""
    sample = jax.jit(lambda keys, d: jax.vmap(lambda key: starts.haar_overlap(key, d, 2, 2))(keys))
    keys = jax.random.split(jax.random.key(1), 2001)
    statistic = multiindex.averaging.conditioning((1, 2, 4))
    medians = [
        np.median(
            jax.vmap(lambda m: statistic(None, multiindex.OverlapSummary.of(m)))(sample(keys, d)),
            axis=0,
        )
        for d in (jnp.asarray(1e4), jnp.asarray(1e6))
    ]
    np.testing.assert_allclose((medians[1] - medians[0]) / 2, [0.5, 1, 2], rtol=1e-3)
    np.testing.assert_allclose(10 ** medians[0], [236, 5.56e4, 3.09e9], rtol=0.25)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: from_coefficients({}), "coefficients"),
        (lambda: from_coefficients({(1,): 1.0, (1, 0): 1.0}), "coefficients"),
        (lambda: from_coefficients({(-1, 2): 1.0}), "coefficients"),
        (lambda: from_coefficients({(1,): np.nan}), "coefficients"),
        (lambda: A.rotate(2 * jnp.eye(2)), "rotation"),
        (lambda: multiindex.links.ridge(multiindex.links.sine(), [1.0, 1.0]), "direction"),
        (lambda: multiindex.links.ridge(A, [1.0, 0.0]), "link"),
        (lambda: multiindex.links.ridge_sum(A, np.eye(2)), "link"),
        (lambda: multiindex.links.ridge_sum(multiindex.links.sine(), 2 * np.eye(2)), "directions"),
        (
            lambda: multiindex.links.ridge_sum(multiindex.links.sine(), np.eye(2), np.ones(3)),
            "weights",
        ),
        (lambda: multiindex.freezing.escape_times(NEURONS, jnp.eye(2)), "power sums"),
        (lambda: multiindex.SaddleToSaddle(NEURONS, 100), "power sums"),
        (lambda: multiindex.GradientFlow(NEURONS, 100, multiindex.flows.Joint(1.0)), "power sums"),
        (lambda: multiindex.links.product(A), "factors"),
        (lambda: multiindex.links.from_function(lambda z: jnp.log(z[0]), 1, 3), "function"),
        (lambda: multiindex.links.from_function(lambda z: z[0], 0, 3), "variables"),
        (lambda: multiindex.links.sine(1.0, 0), "degree"),
        (lambda: starts.overlap(np.ones((4, 1)), np.eye(4)[:, :1]), "student"),
        (lambda: starts.overlap(np.eye(4)[:, :1], np.eye(5)[:, :1]), "target"),
        (lambda: hd.multiindex.leaps.leaps(A, threshold=0.0), "threshold"),
    ],
)
def test_wrong_links(make, message):
    with pytest.raises(ValueError, match=message):
        make()


LINK = multiindex.links.from_coefficients({(1, 0): 0.8, (0, 2): 0.6, (1, 1): 0.3, (2, 1): 0.2})


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: multiindex.averaging.energy(LINK, jnp.ones((2, 1)) / 3),
            r"matrix: shape \(2, 1\)",
        ),
        (lambda: averaging.energy_gradient(LINK, jnp.eye(3)), r"matrix: shape \(3, 3\)"),
        (
            lambda: multiindex.averaging.planted_loss(
                multiindex.links.sine(), multiindex.links.sine(degree=3), jnp.eye(1)
            ),
            "readout: a link with energy .* allowed: a polynomial",
        ),
        (
            lambda: multiindex.averaging.planted_loss(
                LINK, multiindex.links.relu(3).tensors, jnp.eye(2)
            ),
            "readout: degree 1 .* allowed: 2 variables",
        ),
        (
            lambda: averaging.correlation_gradient(
                LINK, multiindex.links.relu(3).tensors, jnp.eye(2)
            ),
            "readout: degree 1",
        ),
        (lambda: LINK.coefficient((1,)), r"beta: \(1,\); allowed: 2 degrees"),
        (lambda: LINK.coefficient((5, 0)), r"beta: \(5, 0\); .* at most 3"),
        (lambda: LINK.coefficient((-1, 2)), r"beta: \(-1, 2\)"),
        (lambda: LINK(jnp.ones(1)), r"z: shape \(1,\); allowed: \(2,\)"),
        (lambda: LINK.rotate(jnp.eye(3)), r"rotation: shape \(3, 3\)"),
        (lambda: LINK.truncate(-2), "degree: -2"),
        (lambda: multiindex.links.sine([1.0, 2.0]), "omega: .* allowed: a finite number"),
        (lambda: starts.haar_overlap(jax.random.key(0), 4.5, 3, 3), r"dimension: 4\.5"),
        (
            lambda: starts.haar_overlap(jax.random.key(0), 2, 3, 3),
            "dimension: 2; .* from 3 on",
        ),
        (lambda: starts.haar_odds(jax.random.key(0), 4, 3, 3), "at least q . r = 6"),
    ],
)
def test_shapes_and_indices_that_do_not_fit_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(("d", "q", "r"), [(4, 3, 3), (5, 2, 4), (4, 3, 2), (7, 3, 3)])
def test_haar_overlaps_at_any_dimension(d, q, r):
    """E tr G = q r/d; below q + r, at least q + r - d angles are zero."""
    keys = jax.random.split(jax.random.key(0), 4000)
    m = jax.vmap(lambda key: starts.haar_overlap(key, jnp.asarray(float(d)), q, r))(keys)
    squares = np.sum(np.asarray(m) ** 2, axis=(1, 2))
    error = squares.std() / len(squares) ** 0.5
    assert abs(squares.mean() - q * r / d) < 4 * error + 1e-12
    ones = np.linalg.svd(m, compute_uv=False) > 1 - 1e-9
    assert np.all(ones.sum(axis=1) == max(q + r - d, 0))
    # What cannot be known when a program is traced is no number.
    traced = jax.jit(lambda d: starts.haar_overlap(keys[0], d, 3, 3))(4.0)
    assert np.isnan(traced).all()


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_losses_are_not_negative(dtype):
    """At the optimum, M orthogonal, where K is rounding alone; dense tensors and power sums."""
    link = multiindex.links.ridge_sum(multiindex.links.relu(6), np.eye(3), weights=[0.5, 0.6, 0.7])
    link = jax.tree.map(lambda x: x.astype(dtype), link)
    for own in (link, link.dense()):
        for seed in range(10):
            m = jnp.linalg.qr(jax.random.normal(jax.random.key(seed), (3, 3), dtype))[0]
            gap = multiindex.OverlapSummary.of(m).gap
            profiled = multiindex.averaging.profiled_loss(own, m, gap)
            planted = multiindex.averaging.planted_loss(
                own, multiindex.averaging.average(own, m), m
            )
            for loss in (profiled, planted):
                assert 0 <= float(loss - own.residual) < 20 * jnp.finfo(dtype).eps
    # The derivative is kept where the value is zero.
    slope = jax.grad(lambda k: multiindex.averaging.profiled_loss(LINK, jnp.eye(2), k))(
        jnp.zeros((2, 2))
    )
    expected = averaging.energy_gradient(LINK, jnp.eye(2))
    np.testing.assert_allclose(slope, expected, rtol=1e-12)


def test_generative_exponents_at_any_number_of_bins():
    """Zeros of theory are zeros: z^2 e^{-z^2} has exponent 4, sign and relu known values."""
    bump = multiindex.links.from_function(lambda z: z[0] ** 2 * jnp.exp(-(z[0] ** 2)), 1, 12)
    for bins in (50, 700, 2000):
        zeta = multiindex.generative.generative_spectrum(bump, bins=bins)
        assert np.all(np.asarray(zeta[:3]) < 1e-6)
        assert multiindex.generative.generative_exponent(bump, bins=bins) == 4
    sign = multiindex.generative.generative_spectrum(multiindex.links.sign())
    np.testing.assert_allclose(sign, [2 / np.pi, 0, 1 / (3 * np.pi), 0], atol=1e-6)
    # Of relu, half of the mass is at zero: 2 phi(0)^2 + 1/2.
    relu = multiindex.generative.generative_spectrum(multiindex.links.relu(), bins=4000)
    np.testing.assert_allclose(relu[0], 0.5 + 1 / np.pi, atol=1e-4)
    with pytest.raises(ValueError, match="nodes: 1000; allowed: at least 3200"):
        multiindex.generative.generative_spectrum(bump, nodes=1000)
