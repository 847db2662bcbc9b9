"""The right-hand side of the limit: reference values of two models, and summaries of columns."""

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hdjax as hd
from hdjax.gaussian import Trapezoid
from hdjax.streaming import Direct, GaussianStart, OnePassSGD, losses
from hdjax.streaming.field import law_of
from hdjax.streaming.limit import block_path
from hdjax.streaming.projections import Layout
from tests.streaming.models import G, Q, S


def softmax(x, teacher, component, noise, theta):
    return jax.nn.logsumexp(x) - x[component]


def mixture_field(
    loss, s, q, g, probabilities, eigenvalues, ridge, rate, theta=None, optimiser=None
):
    """A block field with students and means (natural frame) from Gram blocks alone."""
    optimiser = hd.streaming.optimisers.SGD() if optimiser is None else optimiser
    layout = hd.streaming.projections.Layout(s.shape[0], 0, s.shape[1], optimiser.memory)
    field = hd.streaming.field.BlockField(
        loss,
        hd.schedules.Constant(jnp.asarray(rate)),
        optimiser,
        jnp.asarray(ridge),
        jnp.asarray(probabilities),
        jnp.asarray(eigenvalues),
        jnp.ones(1),
        layout,
        1,
    )
    # Memories come first, and start at zero.
    blocks = jnp.pad(jnp.asarray(np.block([[q, s], [s.T, g]])), (layout.first, 0))[None]
    return field, (blocks, hd.streaming.limit.Side(theta))


def integrate(field, state, t):
    integrator = hd.Integrator(diffrax.Dopri8(), rtol=1e-9, atol=1e-11)
    alive = lambda y: jnp.isfinite(y[0]).all()  # noqa: E731
    ts = jnp.array([0.0, t])
    blocks, side = block_path(integrator, field, state, ts, lambda y: y, alive).values
    return np.asarray(blocks[-1].sum(0)), jax.tree.map(lambda x: np.asarray(x[-1]), side.theta)


@pytest.mark.slow
def test_softmax_mixture_reference():
    """Model S of the spectral-alignment note, T1: three classes, correlated means, lambda = 2."""
    loss = hd.streaming.losses.FunctionLoss(softmax, rule=Trapezoid(21, radius=6.0))
    field, state = mixture_field(loss, S, Q, G, [0.5, 0.3, 0.2], np.full((3, 1), 0.5), 0.1, 1.5)
    parts = field.component_moments(state)
    expected = [
        [-0.4554951533, 0.2017276653, 0.3135505119],
        [0.1928529640, -0.4329123117, 0.2407964463],
        [0.2626421892, 0.2311846464, -0.5543469582],
    ]
    np.testing.assert_allclose(np.asarray(parts.gradient).T, expected, atol=2e-7)
    loss_mean = float(jnp.dot(field.probabilities, parts.risk))
    np.testing.assert_allclose(loss_mean, 0.7281220496, atol=2e-7)
    gram, _ = integrate(field, state, 2.0)
    s_end = [
        [0.8259163, -0.3154691, 0.1449610],
        [-0.4424675, 0.8998193, -0.3123193],
        [-0.1612034, -0.2880230, 0.4636857],
    ]
    np.testing.assert_allclose(gram[:3, 3:], s_end, atol=2e-6)
    np.testing.assert_allclose(np.diag(gram)[:3], [1.2238373, 1.0502309, 0.7343232], atol=2e-6)


@pytest.mark.slow
def test_heavy_ball_reference():
    """Model S again, by heavy ball with c = 2 from no momentum."""
    field, state = mixture_field(
        hd.streaming.losses.FunctionLoss(softmax, rule=Trapezoid(15, radius=6.0)),
        S,
        Q,
        G,
        [0.5, 0.3, 0.2],
        np.full((3, 1), 0.5),
        0.1,
        1.5,
        optimiser=hd.streaming.optimisers.HeavyBall(2.0),
    )
    gram, _ = integrate(field, state, 2.0)
    found = gram[3, 6], gram[5, 8], gram[3, 3], gram[3, 4]
    np.testing.assert_allclose(found, [0.8175157, 0.4791766, 1.1633323, -0.1263012], atol=2e-6)


@pytest.mark.slow
def test_adam_reference():
    """Model S once more, by Adam with second moments of .3 at the start."""
    optimiser = hd.streaming.optimisers.Adam(jnp.asarray(5.0), jnp.asarray(0.3))
    field, (blocks, _) = mixture_field(
        hd.streaming.losses.FunctionLoss(softmax, rule=Trapezoid(15, radius=6.0)),
        S,
        Q,
        G,
        [0.5, 0.3, 0.2],
        np.full((3, 1), 0.5),
        0.1,
        0.5,
        optimiser=optimiser,
    )
    side = hd.streaming.limit.Side(None, None, optimiser.accumulator(1, 3))
    integrator = hd.Integrator(rtol=1e-8, atol=1e-10)
    alive = lambda y: jnp.isfinite(y[0]).all()  # noqa: E731
    ts, start = jnp.array([0.0, 2.0]), (blocks, side)
    blocks, side = block_path(integrator, field, start, ts, lambda y: y, alive).values
    found = [blocks[-1, 0, 0, 3], blocks[-1, 0, 0, 0], *side.accumulated[-1, 0]]
    expected = [0.8262907, 1.2429485, 0.0873905, 0.0575220, 0.0666508]
    np.testing.assert_allclose(found, expected, atol=2e-6)


def xor(x, teacher, component, noise, theta):
    logit = jnp.dot(theta, jnp.tanh(x))
    label = jnp.where(component < 2, 1.0, 0.0).astype(x.dtype)
    return jnp.logaddexp(0.0, logit) - label * logit


@pytest.mark.slow
def test_xor_with_trained_second_layer_reference():
    """Model X of the spectral-alignment note, T2, tanh: side parameters theta = v are trained."""
    s = np.array([[0.9, -0.9, 0.2, -0.2], [-0.1, 0.1, 0.7, -0.7]])
    q = np.array([[1.3, 0.1], [0.1, 0.9]])
    g = np.kron(np.eye(2), np.array([[1.0, -1.0], [-1.0, 1.0]]))
    field, state = mixture_field(
        hd.streaming.losses.FunctionLoss(xor),
        s,
        q,
        g,
        np.full(4, 0.25),
        np.full((4, 1), 1 / 3),
        0.05,
        2.0,
        theta=jnp.array([0.8, -1.1]),
    )
    velocity = field.coefficients(jnp.zeros(()), state).side.theta
    np.testing.assert_allclose(velocity, [-0.2021722, 0.2478532], atol=1e-6)
    gram, theta = integrate(field, state, 2.0)
    np.testing.assert_allclose(theta, [0.5208724, -0.7389921], atol=1e-6)
    np.testing.assert_allclose(
        [gram[0, 2], gram[0, 4], gram[1, 4]], [0.6676627, 0.2690709, 0.4892030], atol=1e-6
    )
    np.testing.assert_allclose(
        [gram[0, 0], gram[0, 1], gram[1, 1]], [0.9119420, 0.1314171, 0.7206066], atol=1e-6
    )


def test_summaries_hold_the_moments_of_explicit_columns():
    """W^T q(K) W, W^T W and the summary of an average, from columns in nine dimensions."""
    spectrum = hd.spectra.explicit([0.5, 2.0], [5, 4])
    law = GaussianStart()
    average = hd.streaming.optimisers.Averaging(1.0)
    model = OnePassSGD(losses.LeastSquares(), spectrum, 0.6, law, law, optimiser=average)
    simulator, key = model.simulator(Direct("float64")), jax.random.key(0)

    @jax.jit
    def run(key):
        state = simulator.advance(simulator.init(key), jnp.asarray(0), jnp.asarray(7), key)
        return state, simulator.summary(state)

    state, summary = run(key)
    memory, x = np.asarray(state.moving).T
    target = np.asarray(state.frozen)[:, 0]
    assert np.abs(memory - x).max() > 1e-3
    columns, k = np.stack([x, target], axis=1), np.diag([0.5] * 5 + [2.0] * 4)
    np.testing.assert_allclose(summary.overlaps, columns.T @ columns, rtol=1e-10)
    found = summary.moment(lambda eigenvalues: eigenvalues**3)
    np.testing.assert_allclose(found, columns.T @ k**3 @ columns, rtol=1e-10)
    columns = np.stack([memory, target], axis=1)
    every = np.stack([memory, x, target], axis=1)
    found = summary.with_memories.sum(0)
    np.testing.assert_allclose(found, every.T @ every, rtol=1e-10)
    own = summary.at(0)
    np.testing.assert_allclose(own.moment(jnp.sqrt), columns.T @ np.sqrt(k) @ columns, rtol=1e-10)


def test_the_law_of_projections_is_w_k_w():
    """B_c = W^T K_c W and W^T mu_c of each component, for X, X* and two means in 6 dimensions."""
    columns = np.random.default_rng(0).normal(size=(6, 4))
    kappa, layout = np.array([[0.3, 1.2], [2.0, 0.1]]), Layout(1, 1, 2)
    inside = np.asarray(layout.to_frame(jnp.asarray(columns)))
    blocks = jnp.asarray(np.stack([rows.T @ rows for rows in np.split(inside, [4])]))
    for component in range(2):
        law = law_of(layout, jnp.asarray(kappa), blocks, component)
        k = np.diag(np.repeat(kappa[component], [4, 2]))
        own, mean = columns[:, :2], columns[:, 2 + component]
        np.testing.assert_allclose(law.gram, own.T @ k @ own, rtol=1e-10)
        np.testing.assert_allclose(law.frame.T @ law.mean, own.T @ mean, rtol=1e-10)
