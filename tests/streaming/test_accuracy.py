"""Expectations with a known error: rules found, refused and reviewed."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp
from scipy.special import erfc, gamma, ndtr

import hdjax as hd
from hdjax.gaussian import QMC, GaussHermite
from hdjax.streaming import GaussianStart, moments
from hdjax.streaming.losses import (
    DiscreteNoise,
    FunctionLoss,
    GaussianNoise,
    Hinge,
    UniformNoise,
)
from hdjax.streaming.projections import Projections
from tests.streaming.models import B, flipped_by_draw, hinge, isotropic


def absolute(x, teacher, component, noise, theta):
    return jnp.abs(x[0] - teacher[0])


def three_halves(x, teacher, component, noise, theta):
    return jnp.abs(x[0] - teacher[0]) ** 1.5


def flipped_by_factor(x, teacher, component, noise, theta):
    return jnp.maximum(1 - noise[0] * jnp.sign(teacher[0]) * x[0], 0)


def coin(x, teacher, component, noise, theta):
    # A grid that is symmetric about 1/2 takes 0.49 for 0.5, however fine.
    return jnp.where(noise[0] < 0.49, x[0], -x[0]) + x[0] ** 2 / 2


def insensitive(x, teacher, component, noise, theta):
    return jnp.maximum(jnp.abs(x[0] - teacher[0] - noise[0]) - 0.5, 0)


def quantile(x, teacher, component, noise, theta):
    error = x[0] - teacher[0] - noise[0]
    return jnp.maximum(0.7 * error, -0.3 * error)


def smooth(x, teacher, component, noise, theta):
    return jnp.log1p((x[0] - teacher[0]) ** 2)


def test_powers_of_the_error_as_plain_functions():
    """dD/dt = -2 gamma E[u g] + gamma^2 E g^2 with u ~ N(0, D) and K = I."""
    ts, rate = [0.0, 1.0, 4.0], 0.2

    def mean(power):
        return 2 ** (power / 2) * gamma((power + 1) / 2) / np.sqrt(np.pi)

    for loss, p, known in (
        (three_halves, 1.5, [2, 1.341, 0.3145]),
        (absolute, 1.0, [2, 1.612, 0.720]),
    ):

        def velocity(t, d, p=p):
            drift = p * mean(p) * d ** (p / 2)
            return -2 * rate * drift + rate**2 * p**2 * mean(2 * p - 2) * d ** (p - 1)

        exact = solve_ivp(velocity, (0, 4), [2.0], t_eval=ts, rtol=1e-9, atol=1e-12).y[0]
        found = hd.limit(isotropic(loss), ts).limit["distance"]
        np.testing.assert_allclose(exact, known, rtol=5e-4)
        np.testing.assert_allclose(found, exact, rtol=2e-3)


def closed_insensitive():
    s = np.sqrt(0.8 - 0.6 + 1.1 + 0.36)
    z = 0.5 / s
    density = np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi)
    return 2 * (s * density - 0.5 * ndtr(-z)), 2 * density / s, erfc(z / np.sqrt(2))


def closed_quantile():
    s = np.sqrt(0.8 - 0.6 + 1.1 + 0.36)
    return s / np.sqrt(2 * np.pi), 1 / (np.sqrt(2 * np.pi) * s), 0.29


NOISE = GaussianNoise(jnp.asarray(0.6))
FLIPS = DiscreteNoise([1.0, -1.0], [0.9, 0.1])


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        (FunctionLoss(hinge), Hinge()),
        (FunctionLoss(flipped_by_draw, noise=UniformNoise()), Hinge(flip=0.1)),
        (FunctionLoss(flipped_by_factor, noise=FLIPS), Hinge(flip=0.1)),
        (FunctionLoss(insensitive, noise=NOISE), closed_insensitive()),
        (FunctionLoss(quantile, noise=NOISE), closed_quantile()),
        # g = x + c with c = 1 or -1: H = (1, 0), C = Q + 1, R = Q/2 (E[c x] = 0).
        (FunctionLoss(coin, noise=UniformNoise()), (0.4, 1.0, 1.8)),
    ],
)
def test_a_system_finds_an_accurate_rule(loss, expected):
    law = Projections.natural(jnp.asarray(B), 1)
    found = moments(isotropic(loss).loss, law, 0, None)
    if isinstance(expected, tuple):
        risk, h, noise = expected
    else:
        closed = moments(expected, law, 0, None)
        np.testing.assert_allclose(found.stein[1], closed.stein[1], rtol=4e-3)
        risk, h, noise = closed.risk, closed.stein[0, 0], closed.noise[0, 0]
    np.testing.assert_allclose(found.risk, risk, rtol=2e-3)
    np.testing.assert_allclose(found.stein[0, 0], h, rtol=1e-2)
    np.testing.assert_allclose(found.noise[0, 0], noise, rtol=2e-3)


def test_a_grid_serves_smooth_losses():
    assert isotropic(smooth).loss.rule is None
    assert isotropic(FunctionLoss(smooth, smooth=True)).loss.rule is None


def jump_far_away(x, teacher, component, noise, theta):
    return -(x[0] ** 2) / 2 + 5 * jnp.maximum(jnp.abs(x[0]) - 3, 0)


def test_a_rule_that_was_given_is_checked_at_the_start_and_along_the_limit():
    with pytest.warns(UserWarning, match="rule: GaussHermite.* off by .* the start"):
        isotropic(FunctionLoss(hinge, rule=GaussHermite(12)))
    # The kink is ten standard deviations away at first.
    late = FunctionLoss(jump_far_away, rule=GaussHermite(8))
    made = isotropic(late, 1.0, GaussianStart(scale=0.3), target=False)
    with pytest.warns(UserWarning, match="rule: GaussHermite.* along the limit, at t = "):
        made.review(np.array([0.0, 3.0]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made.review(np.array([0.0, 0.5]))
        isotropic(FunctionLoss(hinge, rule=QMC(15)))


def through_where(x, teacher, component, noise, theta):
    return jnp.where(x[0] > 0, jnp.sqrt(x[0]), 0.0)


def guarded(x, teacher, component, noise, theta):
    return jnp.where(x[0] > 0, jnp.log1p(jnp.where(x[0] > 0, x[0], 1)), 0.0)


def heavy(x, teacher, component, noise, theta):
    return jnp.exp(x[0] ** 2)


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (FunctionLoss(absolute, smooth=True), r"smooth: .* 0\.79.* 0 "),
        (FunctionLoss(hinge, smooth=True), "smooth: True"),
        (through_where, "gradient is NaN .* jnp.where"),
        (heavy, "loss: an expectation is off by"),
    ],
)
def test_refusals(loss, message):
    with pytest.raises(ValueError, match=message):
        isotropic(loss)


def test_a_guarded_branch_is_no_fault():
    assert isotropic(guarded).loss.smooth is False


def test_a_loss_that_cannot_be_measured_gets_a_rule_for_jumps():
    found = []

    @jax.jit
    def made(scale):
        loss = FunctionLoss(jax.tree_util.Partial(scaled, scale))
        found.append(isotropic(loss).loss.rule)
        return scale

    made(1.0)
    assert found == [QMC(15)]


def scaled(scale, x, teacher, component, noise, theta):
    return scale * jnp.abs(x[0] - teacher[0])
