"""The averaging operator, its energy and its losses agree with quadrature."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hdjax import gaussian, multiindex
from hdjax.multiindex import averaging, starts
from tests.multiindex.problems import CUBIC, LINK, A, M

THREE = jnp.array([[0.3, 0.1], [-0.2, 0.4], [0.1, 0.2]])


def test_reference_energies_and_average():
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


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_losses_are_not_negative(dtype):
    """At the optimum, M orthogonal, where K is rounding alone; dense tensors and power sums."""
    link = multiindex.links.ridge_sum(multiindex.links.relu(6), np.eye(3), weights=[0.5, 0.6, 0.7])
    link = jax.tree.map(lambda x: x.astype(dtype), link)
    for own in (link, link.dense()):

        @jax.jit
        def losses(key, own=own):
            m = jnp.linalg.qr(jax.random.normal(key, (3, 3), dtype))[0]
            gap = multiindex.OverlapSummary.of(m).gap
            readout = multiindex.averaging.average(own, m)
            return jnp.stack(
                [
                    multiindex.averaging.profiled_loss(own, m, gap),
                    multiindex.averaging.planted_loss(own, readout, m),
                ]
            )

        for seed in range(10):
            missed = losses(jax.random.key(seed)) - own.residual
            assert float(missed.min()) >= 0
            assert float(missed.max()) < 20 * jnp.finfo(dtype).eps
    # The derivative is kept where the value is zero.
    slope = jax.grad(lambda k: multiindex.averaging.profiled_loss(LINK, jnp.eye(2), k))(
        jnp.zeros((2, 2))
    )
    expected = averaging.energy_gradient(LINK, jnp.eye(2))
    np.testing.assert_allclose(slope, expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("make", "message"),
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
    ],
)
def test_wrong_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()
