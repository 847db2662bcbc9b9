"""Clipped gradients and their signs: at single samples, and the closed forms of least squares."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import quad

from hdjax.streaming.losses import Huber, LeastSquares, Softmax
from hdjax.streaming.losses.altered import Altered, Surrogate, clipped, signed
from tests.streaming.losses.closed_forms import law, moments
from tests.streaming.models import GRAM, B


def test_gradients_are_clipped_by_their_norm_and_signed_entry_by_entry():
    loss, nothing = LeastSquares(columns=2), jnp.zeros(2)
    x = jnp.array([3.0, -4.0])
    for level, expected in ((2.0, [1.2, -1.6]), (7.0, [3.0, -4.0]), (None, [1.0, -1.0])):
        altered = Altered(loss, None if level is None else jnp.array([level]))
        arguments = x, nothing, jnp.asarray(0), nothing, None
        np.testing.assert_allclose(altered.gradient(*arguments)[0], expected, rtol=1e-12)
        # The value of the loss is unchanged.
        assert float(altered(*arguments)) == 12.5


def test_a_level_for_each_component():
    altered, nothing = Altered(LeastSquares(), jnp.array([0.5, 2.0])), jnp.zeros(1)
    for component, expected in ((0, 0.5), (1, 2.0)):
        arguments = jnp.array([3.0]), nothing, jnp.asarray(component), nothing, None
        np.testing.assert_allclose(altered.gradient(*arguments)[0], [expected], rtol=1e-12)


def test_least_squares_in_one_column_has_closed_forms():
    """u = x - x* - noise ~ N(0, s^2): means of the clipped gradient by adaptive quadrature."""
    loss, level, scale = LeastSquares(0.5, scale=1.5), 0.7, 1.5
    s = np.sqrt(B[0, 0] - 2 * B[0, 1] + B[1, 1] + 0.25)

    def mean(f):
        density = lambda u: np.exp(-((u / s) ** 2) / 2) / (s * np.sqrt(2 * np.pi))  # noqa: E731
        edges = [-level / scale, 0, level / scale]
        return quad(lambda u: f(u) * density(u), -10, 10, points=edges, epsabs=1e-12)[0]

    for made, gradient in (
        (clipped(loss, jnp.array([level])), lambda u: np.clip(scale * u, -level, level)),
        (signed(loss), np.sign),
    ):
        assert isinstance(made, Surrogate)
        found = moments(made, law(B, 1), 0, None)
        # Stein's lemma: E[u g] = s^2 h.
        h = mean(lambda u, gradient=gradient: u * gradient(u)) / s**2
        np.testing.assert_allclose(found.stein[:, 0], [h, -h], rtol=1e-8)
        square = mean(lambda u, gradient=gradient: gradient(u) ** 2)
        np.testing.assert_allclose(found.noise[0, 0], square, rtol=1e-8)
        np.testing.assert_allclose(found.risk, scale / 2 * s**2, rtol=1e-12)


@pytest.mark.parametrize("loss", [LeastSquares(columns=2), Softmax(2), Huber(1.0)])
def test_other_losses_go_by_quadrature_with_a_rule_for_jumps(loss):
    for made in (clipped(loss, jnp.array([0.7])), signed(loss)):
        assert isinstance(made, Altered)
        assert not made.smooth
        assert made.rule is not None


def test_signs_of_two_columns():
    """E[sign(u_i) sign(u_j)] = 2/pi arcsin(correlation of u_i and u_j), by quadrature."""
    found = moments(signed(LeastSquares(columns=2)), law(), 0, None)
    difference = np.kron(np.array([[1.0], [-1.0]]), np.eye(2))
    errors = difference.T @ GRAM @ difference
    correlation = errors / np.sqrt(np.outer(np.diag(errors), np.diag(errors)))
    expected = 2 / np.pi * np.arcsin(correlation)
    # What 8192 points leave of an integrand that jumps.
    np.testing.assert_allclose(found.noise, expected, atol=8e-3)
