"""Moments by quadrature: losses of users, Stein's identity, singular laws, what is refused."""

import jax.numpy as jnp
import numpy as np
import pytest

from hdjax.streaming import moments
from hdjax.streaming.losses import FunctionLoss, GaussianNoise, LeastSquares
from hdjax.streaming.moments import mean_over_samples
from hdjax.streaming.projections import Projections
from tests.streaming.losses.closed_forms import SINGULAR, assert_derivative, assert_finite
from tests.streaming.models import B


def cauchy(x, teacher, component, noise, theta):
    return jnp.log1p((x[0] - teacher[0]) ** 2)


def quantile(x, teacher, component, noise, theta):
    error = x[0] - teacher[0] - noise[0]
    return jnp.maximum(0.7 * error, -0.3 * error)


def log_cosh(x, teacher, component, noise, theta):
    u = x[0] - jnp.tanh(teacher[0])
    return jnp.logaddexp(u, -u) - jnp.log(jnp.asarray(2.0, u.dtype))


USER = {
    "cauchy": FunctionLoss(cauchy),
    "quantile": FunctionLoss(quantile, noise=GaussianNoise(jnp.asarray(0.6)), smooth=False),
    "log_cosh": FunctionLoss(log_cosh),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", USER)
def test_derivative_of_risk_is_b_h(name):
    assert_derivative(USER[name])


def test_quantile_loss_against_its_closed_form():
    # g = 0.7 - 1{u < 0} with u ~ N(0, s^2), s^2 = Q - 2M + P + sigma^2: E[u g] = s^2 h,
    # h = phi(0)/s, and C = E g^2 = (0.7^2 + 0.3^2)/2.
    found = moments(USER["quantile"], Projections.natural(jnp.asarray(B), 1), 0, None)
    s = np.sqrt(0.8 - 0.6 + 1.1 + 0.36)
    h = 1 / (np.sqrt(2 * np.pi) * s)
    np.testing.assert_allclose(found.stein[:, 0], [h, -h], rtol=1e-2)
    np.testing.assert_allclose(found.noise[0, 0], 0.29, rtol=1e-2)
    np.testing.assert_allclose(found.risk, s / np.sqrt(2 * np.pi), rtol=1e-2)


@pytest.mark.slow
@pytest.mark.parametrize("gram", SINGULAR)
@pytest.mark.parametrize("name", USER)
def test_singular_b_is_finite_with_gradient(gram, name):
    assert_finite(USER[name], gram)


def test_means_are_over_projections_and_all_parts_of_the_noise():
    """E (z_0 z_1)^2 = 1, and E noise^4 of a mixture of two Gaussians."""
    loss = LeastSquares([0.3, 2.0], probabilities=[0.8, 0.2])
    law = Projections.natural(jnp.asarray(B), 1)
    square, fourth = mean_over_samples(
        lambda z, noise: ((z[0] * z[1]) ** 2, noise[0] ** 4), loss, law
    )
    np.testing.assert_allclose(square, 1.0, rtol=1e-12)
    np.testing.assert_allclose(fourth, 3 * (0.8 * 0.3**4 + 0.2 * 16), rtol=1e-12)


def test_laws_that_a_loss_does_not_take_are_refused():
    law = Projections.natural(jnp.eye(3), 2)
    with pytest.raises(ValueError, match=r"2 student and 1 teacher columns"):
        moments(LeastSquares(), law, 0, None)
