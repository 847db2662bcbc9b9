"""Empirical matrices and their solvers against dense ones."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from hdjax import curvature, streaming
from hdjax.streaming.simulate import Direct

D, N = 30, 70
SYSTEMS = {
    "softmax": lambda: streaming.mixtures.mixture_softmax(
        D, 3, snr=2.0, learning_rate=1.0, ridge=0.3
    ),
    "relu": lambda: streaming.mixtures.xor(
        D, theta=jnp.array([0.5, -0.7, 0.3]), snr=3.0, learning_rate=1.0
    ),
    "softplus": lambda: streaming.mixtures.three_layers(
        D,
        second=jnp.array([[0.5, 0.2], [-0.3, 0.6]]),
        third=jnp.array([1.0, -1.0]),
        snr=5.0,
        learning_rate=1.0,
        activation="softplus",
    ),
}


DENSE = eqx.filter_jit(lambda matrix: matrix.dense())


def run_of(system):
    state = system.simulator(Direct("float64")).init(jax.random.key(0))
    samples = streaming.samples.draw_samples(
        system, jax.random.key(1), 0, N, state.frozen, jnp.float64
    )
    return state, samples


@pytest.mark.slow
@pytest.mark.parametrize("name", list(SYSTEMS))
def test_products_are_those_of_autodiff(name):
    """Hessian and gradient covariance of all parameters at once, their blocks, top and dual."""
    system = SYSTEMS[name]()
    state, samples = run_of(system)
    theta, m = state.side.theta, state.moving.shape[1]
    flat, unravel = ravel_pytree((state.moving.T, theta))
    none = jnp.zeros(0)

    def losses(flat):
        columns, theta = unravel(flat)
        x = jnp.dot(samples.rows, columns.T)
        return jax.vmap(lambda x, c: system.loss(x, none, c, none, theta))(x, samples.component)

    hessian = jax.jit(jax.hessian(lambda flat: losses(flat).mean()))(flat)
    jacobian = jax.jit(jax.jacobian(losses))(flat)
    arguments = system, samples, state.moving, state.frozen, theta
    for kind, dense in (("hessian", hessian), ("gradient", jacobian.T @ jacobian / N)):
        matrix = curvature.empirical(*arguments, kind)
        np.testing.assert_allclose(DENSE(matrix), dense, atol=1e-14)
        block = matrix.restrict([1])
        np.testing.assert_allclose(DENSE(block), dense[D : 2 * D, D : 2 * D], atol=1e-14)
    if theta is not None:
        upper = matrix.restrict(range(m, matrix.weights.shape[1]))
        np.testing.assert_allclose(DENSE(upper), dense[m * D :, m * D :], atol=1e-14)
        np.testing.assert_allclose(
            matrix.restrict([0, m]).dense()[-1, :-1], dense[m * D, :D], atol=1e-14
        )
    # The last matrix is the gradient's: n < its size, and the dual has the same spectrum.
    gradients = jax.vmap(
        lambda x, c: ravel_pytree(system.loss.gradient(x, none, c, none, theta))[0]
    )(jnp.dot(samples.rows, state.moving), samples.component)
    dual = np.linalg.eigvalsh(curvature.matrices.dual_gram(samples.rows, gradients, m))[::-1]
    exact = np.linalg.eigvalsh(dense)[::-1]
    np.testing.assert_allclose(dual[:20], exact[:20], atol=1e-13)
    start = matrix.lift(jnp.concatenate([state.moving, state.frozen], axis=1))
    found = jax.jit(lambda start: curvature.top_space(matrix.product, start, 4, jax.random.key(2)))(
        start
    )
    np.testing.assert_allclose(found.values, exact[:4], atol=1e-11)
    assert np.all(found.residuals < 1e-6 * exact[0])
    np.testing.assert_allclose(found.vectors.T @ found.vectors, np.eye(4), atol=1e-10)
    if name == "softmax":
        shifted = curvature.empirical(*arguments, include_ridge=True)
        plain = curvature.empirical(*arguments)
        probe = jnp.ones((plain.size, 1))
        np.testing.assert_allclose(
            shifted.product(probe) - plain.product(probe), 0.3 * probe, atol=1e-14
        )


@pytest.mark.slow
def test_streamed_products_are_those_of_stored_samples():
    system = SYSTEMS["relu"]()
    state, samples = run_of(system)
    theta = state.side.theta
    stored = curvature.empirical(system, samples, state.moving, state.frozen, theta)
    streamed = curvature.matrices.StreamedMatrix(
        system, jax.random.key(1), state.moving, state.frozen, theta, chunk=14, chunks=5
    )
    probe = jax.random.normal(jax.random.key(5), (stored.size, 3))
    np.testing.assert_allclose(streamed.product(probe), stored.product(probe), atol=1e-14)
    block = curvature.matrices.StreamedMatrix(
        system,
        jax.random.key(1),
        state.moving,
        state.frozen,
        theta,
        chunk=14,
        chunks=5,
        indices=[2],
    )
    np.testing.assert_allclose(
        block.product(probe[:D]), stored.restrict([2]).product(probe[:D]), atol=1e-14
    )


def test_top_space_of_close_and_degenerate_eigenvalues():
    values = np.concatenate([[3.0, 3.0, 2.999], np.linspace(0, 2.5, 97)])
    rotation = np.linalg.qr(np.random.default_rng(0).standard_normal((100, 100)))[0]
    matrix = jnp.asarray(rotation * values @ rotation.T)
    found = curvature.top_space(
        lambda v: jnp.dot(matrix, v), jnp.zeros((100, 1)), 3, jax.random.key(0), tolerance=1e-9
    )
    np.testing.assert_allclose(found.values, [3, 3, 2.999], atol=1e-9)
    np.testing.assert_allclose(
        curvature.alignment.principal_cosines(found.vectors, jnp.asarray(rotation[:, :3])),
        1,
        atol=1e-8,
    )


@pytest.mark.slow
def test_spectral_measure_of_a_wishart_matrix_with_an_outlier():
    rng = np.random.default_rng(1)
    rows = rng.standard_normal((400, 150))
    rows[:, 0] *= 5
    matrix = jnp.asarray(rows.T @ rows / 400)
    product = lambda v: jnp.dot(matrix, v)  # noqa: E731
    exact = np.linalg.eigvalsh(matrix)
    top = curvature.top_space(product, jnp.eye(150)[:, :1], 1, jax.random.key(0))
    measure = curvature.spectral_measure(
        product, 150, jax.random.key(1), known=top, probes=20, steps=40
    )
    assert measure.atoms.dtype == jnp.float64
    assert float(measure.weights.sum()) == pytest.approx(1, abs=1e-12)
    # Lanczos is exact for moments; the probes' spread is what is left (4 standard errors).
    for power, bound in ((1, 0.02), (2, 0.04)):
        bulk = (exact[:-1] ** power).sum() / 150
        own = float(measure.mean(lambda x: x**power)) - exact[-1] ** power / 150  # noqa: B023
        assert abs(own / bulk - 1) < bound
    grid = jnp.linspace(-1, 40, 4000)
    assert float(jnp.trapezoid(measure.density(grid, 0.1), grid)) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: curvature.matrices.SampleMatrix(jnp.ones((2, 3)), jnp.ones((3, 1, 1)), 1),
            "rows, weights",
        ),
        (
            lambda: curvature.matrices.SampleMatrix(jnp.ones((0, 3)), jnp.ones((0, 1, 1)), 1),
            "1 or more",
        ),
        (
            lambda: curvature.matrices.SampleMatrix(jnp.ones((2, 3)), jnp.ones((2, 1, 1)), 2),
            "columns: 2",
        ),
        (
            lambda: curvature.matrices.SampleMatrix(
                jnp.ones((2, 3)), jnp.ones((2, 2, 2)), 1
            ).restrict([2]),
            "indices",
        ),
        (
            lambda: curvature.matrices.SampleMatrix(
                jnp.ones((2, 3)), jnp.ones((2, 2, 2)), 1
            ).restrict([1, 0]),
            r"columns \(below 1\) first",
        ),
        (
            lambda: curvature.top_space(lambda v: v, jnp.ones((5, 1)), 4, jax.random.key(0)),
            "rank: 4",
        ),
        (
            lambda: curvature.spectral_measure(lambda v: v, 5, jax.random.key(0), steps=6),
            "probes, steps",
        ),
        (
            lambda: curvature.empirical(
                SYSTEMS["softmax"](),
                run_of(SYSTEMS["softmax"]())[1],
                jnp.ones((D, 3)),
                jnp.ones((D, 3)),
                None,
                "gradient",
                include_ridge=True,
            ),
            "include_ridge",
        ),
        (lambda: curvature.Block(0, "fisher"), "kind: 'fisher'"),
        (lambda: curvature.Block(-1), "index: -1"),
        (lambda: curvature.Block(0, rank=0), "rank: 0"),
    ],
)
def test_wrong_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
