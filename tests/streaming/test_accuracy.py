"""Expectations with a known error: rules found, refused and reviewed; noise that is summed."""

import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy.integrate import solve_ivp
from scipy.special import erfc, gamma, ndtr

import hdjax as hd
from hdjax.config.tables import slot
from hdjax.gaussian import QMC, GaussHermite
from hdjax.schema import read
from hdjax.streaming import GaussianStart, moments
from hdjax.streaming.losses import (
    DiscreteNoise,
    FunctionLoss,
    GaussianNoise,
    Hinge,
    Logistic,
    UniformNoise,
)
from hdjax.streaming.moments import quadrature_moments
from hdjax.streaming.projections import Projections

B = np.array([[0.8, 0.3], [0.3, 1.1]])


def system(
    loss: Any, learning_rate: Any = 0.2, start: Any = None, target: bool = True, **options: Any
):
    return hd.streaming.OnePassSGD(
        loss,
        hd.spectra.identity(100),
        learning_rate,
        GaussianStart() if start is None else start,
        GaussianStart() if target else None,
        **options,
    )


def absolute(x, teacher, component, noise, theta):
    return jnp.abs(x[0] - teacher[0])


def three_halves(x, teacher, component, noise, theta):
    return jnp.abs(x[0] - teacher[0]) ** 1.5


def hinge(x, teacher, component, noise, theta):
    return jnp.maximum(1 - jnp.sign(teacher[0]) * x[0], 0)


def flipped_by_draw(x, teacher, component, noise, theta):
    label = jnp.where(noise[0] < 0.1, -1.0, 1.0) * jnp.sign(teacher[0])
    return jnp.maximum(1 - label * x[0], 0)


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
        found = hd.limit(system(loss), ts).limit["distance"]
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
    found = moments(system(loss).loss, law, 0, None)
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
    assert system(smooth).loss.rule is None
    assert system(FunctionLoss(smooth, smooth=True)).loss.rule is None


@pytest.mark.parametrize(
    ("loss", "law"),
    [
        (Hinge(flip=0.2), B),
        (Logistic("soft", flip=0.2), B),
        (Logistic("sampled", flip=0.2), B),
        (Logistic("hard", flip=0.2), np.array([[0.8, -0.5], [-0.5, 0.6]])),
    ],
)
def test_flipped_labels_in_closed_form(loss, law):
    law = Projections.natural(jnp.asarray(law), 1)
    closed = moments(loss, law, 0, None)
    found = quadrature_moments(loss, law, 0, None, QMC(16))
    for name in ("risk", "stein", "noise"):
        np.testing.assert_allclose(getattr(found, name), getattr(closed, name), atol=1.5e-3)
    never = moments(type(loss)(flip=0.0), law, 0, None)
    plain = moments(type(loss)(), law, 0, None)
    np.testing.assert_allclose(never.stein, plain.stein, rtol=1e-12)
    np.testing.assert_allclose(never.noise, plain.noise, rtol=1e-12)


@pytest.mark.slow
@pytest.mark.optimised
def test_flipped_labels_against_sgd_in_numpy():
    d, rate, runs, t = 100, 0.4, 60, 4
    eigenvalues = np.repeat([4.0, 2.0, 1.0, 0.5, 0.25], d // 5)
    eigenvalues *= d / eigenvalues.sum()
    rng = np.random.default_rng(0)
    x, target = rng.normal(size=(2, runs, d)) / np.sqrt(d)
    for _ in range(t * d):
        a = rng.normal(size=(runs, d)) * np.sqrt(eigenvalues)
        label = np.sign((a * target).sum(1)) * np.where(rng.random(runs) < 0.1, -1, 1)
        active = label * (a * x).sum(1) < 1
        x += rate / d * (active * label)[:, None] * a
    distance = ((x - target) ** 2).sum(1)
    spectrum = hd.spectra.explicit(eigenvalues[:: d // 5], [d // 5] * 5)
    for loss in (Hinge(flip=0.1), FunctionLoss(flipped_by_draw, noise=UniformNoise())):
        made = hd.streaming.OnePassSGD(loss, spectrum, rate, GaussianStart(), GaussianStart())
        result = hd.compare(
            made, [0.0, t], key=jax.random.key(0), runs=60, statistics=["distance"], progress=False
        )
        for values in (distance, np.asarray(result.runs["distance"])[:, -1]):
            error = values.std() / np.sqrt(runs)
            # Means differ from the limit by order 1/d, besides.
            assert abs(values.mean() - float(result.limit["distance"][-1])) < 4 * error + 0.01


def test_discrete_noise():
    noise = DiscreteNoise([[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]], [0.5, 0.0, 0.5])
    draws = jax.vmap(noise)(jax.random.normal(jax.random.key(0), (10_000, 1)))
    assert set(np.unique(np.asarray(draws)).tolist()) == {0.0, 1.0, 4.0, 5.0}
    assert abs(float((draws[:, 0] == 0).mean()) - 0.5) < 4 * 0.005
    branches = [(float(p), part(jnp.zeros(part.dim)).tolist()) for p, part in noise.branches()]
    assert branches == [(0.5, [0.0, 1.0]), (0.0, [2.0, 3.0]), (0.5, [4.0, 5.0])]


def test_flips_in_a_config():
    table = {"dimension": 50, "learning_rate": 0.3, "target": {}}
    for loss in ({"kind": "hinge", "flip": 0.1}, {"kind": "logistic", "flip": 0.1}):
        made = read(slot("streaming", "system"), {"loss": loss, **table}).build()
        assert isinstance(made.loss, Hinge | Logistic)
        assert made.loss.flip == 0.1


def jump_far_away(x, teacher, component, noise, theta):
    return -(x[0] ** 2) / 2 + 5 * jnp.maximum(jnp.abs(x[0]) - 3, 0)


def test_a_rule_that_was_given_is_checked_at_the_start_and_along_the_limit():
    with pytest.warns(UserWarning, match="rule: GaussHermite.* off by .* the start"):
        system(FunctionLoss(hinge, rule=GaussHermite(12)))
    # The kink is ten standard deviations away at first.
    late = FunctionLoss(jump_far_away, rule=GaussHermite(8))
    made = system(late, 1.0, GaussianStart(scale=0.3), target=False)
    with pytest.warns(UserWarning, match="rule: GaussHermite.* along the limit, at t = "):
        made.review(np.array([0.0, 3.0]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made.review(np.array([0.0, 0.5]))
        system(FunctionLoss(hinge, rule=QMC(15)))


def through_where(x, teacher, component, noise, theta):
    return jnp.where(x[0] > 0, jnp.sqrt(x[0]), 0.0)


def guarded(x, teacher, component, noise, theta):
    return jnp.where(x[0] > 0, jnp.log1p(jnp.where(x[0] > 0, x[0], 1)), 0.0)


def heavy(x, teacher, component, noise, theta):
    return jnp.exp(x[0] ** 2)


@pytest.mark.parametrize(
    ("make", "kind", "message"),
    [
        (lambda: system(FunctionLoss(absolute, smooth=True)), ValueError, r"smooth: .* 0\.79.* 0 "),
        (lambda: system(FunctionLoss(hinge, smooth=True)), ValueError, "smooth: True"),
        (lambda: system(through_where), ValueError, "gradient is NaN .* jnp.where"),
        (lambda: system(heavy), ValueError, "loss: an expectation is off by"),
        (lambda: system(lambda x, y: x[0]), TypeError, r"function: .*\(x, y\); allowed: f\("),
        (lambda: system(lambda x, *_: x), ValueError, r"returns shapes \[\(1,\)\]; allowed: f\("),
        (lambda: system(lambda x, y, c, n, t: y[1] - x[0]), ValueError, r"IndexError .* axis 0"),
        (lambda: system(lambda x, y, c, n, t: x[0] > 0), ValueError, "returns bool; allowed: f"),
        (lambda: system(quantile), ValueError, r"IndexError .* noise \(0,\) of NoNoise"),
        (lambda: Hinge(flip=1.5), ValueError, "flip: 1.5; allowed: 0 to 1"),
        (lambda: Hinge(flip="a"), ValueError, "flip: a; allowed: 0 to 1"),
        (lambda: Logistic(flip=[0.1, 0.2]), ValueError, "flip: .*; allowed: 0 to 1"),
        (lambda: Logistic(flip=-0.1), ValueError, "flip: -0.1; allowed: 0 to 1"),
        (lambda: DiscreteNoise([1.0], [0.5, 0.5]), ValueError, "values, probabilities: shapes"),
        (lambda: DiscreteNoise([1.0, 2.0], [0.5, 0.4]), ValueError, "sum 0.9"),
        (lambda: DiscreteNoise([1.0, np.inf], [0.5, 0.5]), ValueError, "values: "),
        (
            lambda: system(Hinge(), optax.cosine_decay_schedule(0.5, 100)),
            TypeError,
            "learning_rate: optax.*from_optax",
        ),
    ],
)
def test_refusals(make, kind, message):
    with pytest.raises(kind, match=message):
        make()


def test_a_guarded_branch_is_no_fault():
    assert system(guarded).loss.smooth is False


def test_what_moves_is_not_told_that_it_rests():
    warm_up = hd.schedules.Table([0.0, 1.0], [0.0, 0.5])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        system(hd.streaming.losses.LeastSquares(), warm_up).validate(compared=True)
        system(hinge).validate(compared=True)
    with pytest.warns(UserWarning, match="never leaves"):
        system(hd.streaming.losses.PhaseRetrieval(), warm_up).validate(compared=True)


def test_a_loss_that_cannot_be_measured_gets_a_rule_for_jumps():
    found = []

    @jax.jit
    def made(scale):
        loss = FunctionLoss(jax.tree_util.Partial(scaled, scale))
        found.append(system(loss).loss.rule)
        return scale

    made(1.0)
    assert found == [QMC(15)]


def scaled(scale, x, teacher, component, noise, theta):
    return scale * jnp.abs(x[0] - teacher[0])
