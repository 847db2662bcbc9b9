"""The velocities of the reduced flows and of those in R^d have reference values and agree."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hdjax import multiindex
from hdjax.multiindex import GradientFlow, flows, links
from hdjax.multiindex.flows import Joint, Planted, Profiled
from tests.multiindex.problems import NEURONS, A, M

RATES = {
    ("profiled", "embedded"): [[0.254698456, 0.021966240], [-0.175619680, 0.010270212]],
    ("profiled", "canonical"): [[0.254698456, 0.021966240], [-0.175619680, 0.010270212]],
    ("planted", "embedded"): [[1.391943617, 0.086513617], [0.301021396, 0.345304356]],
    ("planted", "canonical"): [[1.413314924, 0.050894772], [0.329516472, 0.359551894]],
}


@pytest.mark.parametrize(("kind", "metric"), RATES)
def test_reference_velocities(kind, metric):
    student = Profiled() if kind == "profiled" else Planted()
    velocity, _ = flows.reduced_velocity(A, student, metric, (M, None))
    np.testing.assert_allclose(velocity, RATES[kind, metric], atol=1e-9)
    # The same from columns in R^d.
    target = jnp.eye(12, 2)
    w = multiindex.starts.lift(jax.random.key(3), M, target)
    np.testing.assert_allclose(w.T @ w, np.eye(2), atol=1e-14)
    full, _ = flows.full_velocity(A, student, metric, target, (w, None))
    np.testing.assert_allclose(full.T @ target, velocity, atol=1e-13)
    np.testing.assert_allclose(w.T @ full + full.T @ w, np.zeros((2, 2)), atol=1e-13)


def test_gradient_in_r_d_is_that_of_the_loss():
    """Along a retracted curve the loss falls at |W'|^2 (horizontal: the metric is Euclidean)."""
    target = jnp.eye(12, 2)
    w = multiindex.starts.lift(jax.random.key(3), M, target)

    def loss(t, velocity):
        columns, _ = jnp.linalg.qr(w + t * velocity)
        return Profiled().loss(A, flows.full_summary(columns, target, None))

    velocity, _ = flows.full_velocity(A, Profiled(), "horizontal", target, (w, None))
    slope = (loss(1e-5, velocity) - loss(-1e-5, velocity)) / 2e-5
    assert float(slope) == pytest.approx(-float((velocity**2).sum()), rel=1e-8)


def test_ridge_is_a_flow_of_a_shrunk_link():
    student = Profiled(ridge=jnp.array([0.0, 0.5, 0.2]))
    slope = student.slope(A, M, None)

    def objective(matrix):
        """The ridge objective minimised over the link, degree by degree, by its closed form."""
        averaged = multiindex.averaging.average(A, matrix)
        parts = [jnp.sum(averaged[k] ** 2) / (1 + rho) for k, rho in ((1, 0.5), (2, 0.2))]
        return -sum(parts)

    np.testing.assert_allclose(-jax.grad(objective)(M) / 2, slope, atol=1e-14)
    readout = student.readout(A, M, None)
    np.testing.assert_allclose(readout[1], multiindex.averaging.average(A, M)[1] / 1.5, atol=1e-15)


def test_odds_are_the_inverse_of_overlaps():
    back = flows.from_odds(flows.to_odds(M))
    np.testing.assert_allclose(back.matrix, M, atol=1e-15)
    np.testing.assert_allclose(back.gap, np.eye(2) - M.T @ M, atol=1e-15)
    far = flows.from_odds(1e9 * jnp.eye(2))
    np.testing.assert_allclose(far.gap, 1e-18 * np.eye(2), rtol=1e-6)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: GradientFlow(A, 10, Planted(), directions=3), "student"),
        (lambda: GradientFlow(A, 10, Joint(1.0, links.sine())), "student"),
        (lambda: GradientFlow(A, 10, Profiled(ridge=jnp.ones(2))), "ridge"),
        (lambda: multiindex.GradientFlow(NEURONS, 100, multiindex.flows.Joint(1.0)), "power sums"),
        (lambda: Joint(0.0), "ratio"),
        (lambda: Profiled(-1.0), "ridge"),
    ],
)
def test_wrong_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()
