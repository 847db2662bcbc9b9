"""Empirical matrices against autodiff, and streamed ones against stored ones."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from hdjax import curvature, streaming
from hdjax.streaming import mixtures
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


# One program each: every operation by itself would be a program of its own.
DENSE = eqx.filter_jit(lambda matrix: matrix.dense())
DRAW = eqx.filter_jit(streaming.samples.draw_samples)
EMPIRICAL = eqx.filter_jit(curvature.empirical)


def run_of(system):
    state = eqx.filter_jit(system.simulator(Direct("float64")).init)(jax.random.key(0))
    samples = DRAW(system, jax.random.key(1), 0, N, state.frozen, jnp.float64)
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
        matrix = EMPIRICAL(*arguments, kind)
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
        shifted = EMPIRICAL(*arguments, include_ridge=True)
        plain = EMPIRICAL(*arguments)
        probe = jnp.ones((plain.size, 1))
        np.testing.assert_allclose(
            shifted.product(probe) - plain.product(probe), 0.3 * probe, atol=1e-14
        )


@pytest.mark.slow
def test_streamed_products_are_those_of_stored_samples():
    system = SYSTEMS["relu"]()
    state, samples = run_of(system)
    theta = state.side.theta
    stored = EMPIRICAL(system, samples, state.moving, state.frozen, theta)
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
    ],
)
def test_wrong_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.slow
def test_empty_components_and_one_sample():
    """A component that no sample is of, and n = 1: a matrix of rank one."""
    d = 40
    mixture = mixtures.mixture_softmax(
        d, 2, snr=4.0, learning_rate=1.0, probabilities=[1 - 1e-6, 1e-6]
    )
    means = mixtures.orthonormal_means(d, 2)
    samples = DRAW(mixture, jax.random.key(1), 0, 1, means)
    assert int(samples.component[0]) == 0
    x, means = (0.5 * means).astype(jnp.float32), means.astype(jnp.float32)
    block = EMPIRICAL(mixture, samples, x, means, None).restrict([0])
    values = np.linalg.eigvalsh(DENSE(block))
    assert values[-1] > 0
    np.testing.assert_allclose(values[:-1], 0, atol=1e-6 * values[-1])


def test_samples_without_noise_are_on_their_side_of_the_kink():
    """The empirical block of a unit on +mu: no sample of the other means has a part in it."""
    beta, d = 0.03, 41
    size = curvature.classifiers.fixed_point_output(beta)
    theta = size**0.5 * jnp.array([1.0, 1, -1, -1])
    means = mixtures.xor_means(d)
    columns = size**0.5 * means
    mixture = mixtures.xor(d, theta=theta, snr=np.inf, learning_rate=1.0, ridge=beta, start=columns)
    samples = DRAW(mixture, jax.random.key(0), 0, 200, means, jnp.float64)
    block = EMPIRICAL(mixture, samples, columns, means, theta).restrict([0])
    values = np.linalg.eigvalsh(DENSE(block))
    share = np.mean(np.asarray(samples.component) == 0)
    np.testing.assert_allclose(values[-1], 4 * share * beta * (1 - 4 * beta) * size, rtol=1e-12)
    assert abs(values[:-1]).max() < 1e-15
