"""Losses of mixtures: moments against quadrature, networks written out, what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import quad

from hdjax.streaming.losses import FunctionLoss, MixtureLogistic, MixtureSoftmax, Perceptron
from hdjax.streaming.projections import Projections
from tests.streaming.losses.closed_forms import assert_agree, moments, quadrature_moments
from tests.streaming.models import G, Q


def test_softmax_by_contrasts_is_that_by_all_projections():
    """The last of three components in two classes, from a mean that is not zero."""
    law = Projections(jnp.asarray(Q[:2, :2]), jnp.eye(2), 2, jnp.array([0.4, -0.2]))
    loss = MixtureSoftmax(2, labels=[1, 1, 0])
    found = moments(loss, law, jnp.asarray(2), None)
    assert_agree(found, quadrature_moments(loss, law, jnp.asarray(2), None), 1e-6)
    assert float(found.gradient[0]) < 0


def test_one_relu_unit_against_adaptive_quadrature():
    """The logit v max(x, 0) with x ~ N(mean, s^2); the panels end at the kink."""
    mean, s, v = 0.6, np.sqrt(1.44), -1.3
    law = Projections(jnp.array([[s**2]]), jnp.eye(1), 1, jnp.array([mean]))
    loss = MixtureLogistic([1.0, 0.0], Perceptron("relu"))

    def expectation(f):
        density = lambda x: np.exp(-(((x - mean) / s) ** 2) / 2) / (s * np.sqrt(2 * np.pi))  # noqa: E731
        return quad(lambda x: f(x) * density(x), -12, 12, points=[0], epsabs=1e-12)[0]

    for component, label in ((0, 1.0), (1, 0.0)):
        found = moments(loss, law, jnp.asarray(component), jnp.array([v]))
        slope = lambda x, y=label: 1 / (1 + np.exp(-v * max(x, 0))) - y  # noqa: E731
        g = lambda x, slope=slope: slope(x) * v * (x > 0)  # noqa: E731
        h = expectation(lambda x, g=g: (x - mean) * g(x)) / s**2
        risk = expectation(lambda x, y=label: np.log1p(np.exp(v * max(x, 0))) - y * v * max(x, 0))
        np.testing.assert_allclose(found.risk, risk, rtol=1e-9)
        np.testing.assert_allclose(found.gradient, [expectation(g)], rtol=1e-9)
        square = expectation(lambda x, g=g: g(x) ** 2)
        np.testing.assert_allclose(found.stein, [[h]], rtol=1e-8)
        np.testing.assert_allclose(found.noise, [[square]], rtol=1e-9)
        theta = expectation(lambda x, slope=slope: slope(x) * max(x, 0))
        np.testing.assert_allclose(found.theta_gradient, [theta], rtol=1e-9)


def test_a_perceptron_of_three_layers_is_its_matrices():
    rng = np.random.default_rng(0)
    x, second, last = rng.normal(size=3), rng.normal(size=(2, 3)), rng.normal(size=2)
    theta = (jnp.asarray(second), jnp.asarray(last))
    for name, phi in (("tanh", np.tanh), ("relu", lambda u: np.maximum(u, 0))):
        expected = last @ phi(second @ phi(x))
        np.testing.assert_allclose(Perceptron(name)(jnp.asarray(x), theta), expected, rtol=1e-12)


def gate(x, theta):
    return theta * jnp.tanh(x[0]) * x[1]


def gate_loss(x, teacher, component, noise, theta):
    logit = theta * jnp.tanh(x[0]) * x[1]
    label = jnp.where(component == 1, 1.0, 0.0).astype(x.dtype)
    return jax.nn.softplus(logit) - label * logit


def test_any_head_is_a_loss_of_its_function():
    law = Projections(jnp.asarray(G[1:, 1:]), jnp.eye(2), 2, jnp.array([0.3, -0.5]))
    own = MixtureLogistic([0.0, 1.0], gate, smooth=True)
    plain, theta = FunctionLoss(gate_loss, smooth=True), jnp.asarray(0.8)
    found, expected = (moments(x, law, jnp.asarray(1), theta) for x in (own, plain))
    assert_agree(found, expected, 1e-10)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: MixtureSoftmax(1), "classes: 1"),
        (lambda: MixtureSoftmax(2, [0, 2]), "labels"),
        (lambda: MixtureLogistic([0.5], Perceptron()), "labels"),
        (lambda: Perceptron("rleu"), "activation: 'rleu'"),
        (
            lambda: moments(MixtureSoftmax(3), Projections.natural(jnp.eye(2), 2), 0, None),
            r"MixtureSoftmax\(3\): 3 and 0",
        ),
        (
            lambda: MixtureLogistic([0.0], Perceptron()).check(3, 0, jnp.ones(2)),
            "which the head does not take with 3 columns",
        ),
        (
            lambda: MixtureLogistic([0.0], lambda x, theta: x).check(2, 0, None),
            r"head: output of shape \(2,\); allowed: a scalar",
        ),
        (lambda: MixtureLogistic([0.0], gate).check(1, 1, None), "target: 1 columns"),
    ],
)
def test_wrong_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
