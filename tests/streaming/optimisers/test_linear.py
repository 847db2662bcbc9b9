"""Optimisers with a linear memory have the limits, means and error bars of their recursions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hdjax as hd
from hdjax.streaming import Direct, GaussianStart, GramSampler, Mixture, OnePassSGD
from hdjax.streaming.optimisers import Averaging, Dana, HeavyBall, Momentum
from hdjax.streaming.optimisers.linear import moved, times_weights
from tests.streaming.optimisers.problems import FINE, LAM, check_error_bars, least_squares

OPTIMISERS = {
    "heavy ball": HeavyBall(2.0),
    "nesterov": HeavyBall(hd.schedules.PowerDecay(3.0, 1.0)),
    "dana": Dana(hd.schedules.PowerDecay(4.0, 1.0), 0.6),
    "averaging": Averaging(hd.schedules.PowerDecay(10.0, 1.0, 0.1)),
    "momentum": Momentum(0.8),
}


RECURSIONS = {
    # (U_{k+1}, X_{k+1}) from (U_k, X_k) and the gradient G of a step, at t = .5 with gamma = .6.
    "heavy ball": lambda u, x, g, d: (u - 2 * u / d + g / d, x - 0.6 / d * u),
    "nesterov": lambda u, x, g, d: (u - 3 / 1.5 * u / d + g / d, x - 0.6 / d * u),
    "dana": lambda u, x, g, d: (
        u - 4 / 1.5 * u / d + g / d,
        x - 0.6 / d * g - 0.6 / d * u,
    ),
    "averaging": lambda u, x, g, d: (u + 10 / 6 / d * (x - u), x - 0.6 / d * g),
    "momentum": lambda u, x, g, d: (0.8 * u + 0.6 / d * g, x - 0.8 * u - 0.6 / d * g),
}


@pytest.mark.parametrize("name", RECURSIONS)
def test_steps_are_those_of_the_recursions(name):
    """Of columns in R^d and of trained parameters alike."""
    d, rng = 20, np.random.default_rng(0)
    u, x, g = rng.standard_normal((3, d, 2))
    weights, mixing = OPTIMISERS[name].step(jnp.asarray(0.6), jnp.asarray(0.5), jnp.asarray(20.0))
    expected = RECURSIONS[name](u, x, g, d)
    change = moved((jnp.asarray(u), jnp.asarray(x)), jnp.asarray(g), weights, mixing)
    np.testing.assert_allclose(u + change[0], expected[0], atol=1e-14)
    np.testing.assert_allclose(x + change[1], expected[1], atol=1e-14)
    z = np.concatenate([u, x], axis=1)
    kept = z @ np.kron(np.eye(2) + mixing, np.eye(2))
    found = kept - times_weights(jnp.asarray(g), weights)
    np.testing.assert_allclose(found, np.concatenate(expected, axis=1), atol=1e-14)


def exact_risks(d, ts, optimiser, *, sigma=0.5, gamma=0.6, ridge=0.0, batch=1):
    """E risk of least squares at finite d: the recursion of each eigenvalue's second moments."""
    counts = np.array([0.6, 0.4]) * d
    blocks = len(optimiser.memory) + 1
    first = np.array([memory.iterate for memory in optimiser.memory] + [True], float)
    second = np.array([0.7, 0.3])[:, None, None] * np.outer(first, first)
    step = jax.jit(lambda t: optimiser.step(jnp.asarray(gamma), t, jnp.asarray(float(d))))
    last = round(ts[-1] * d)
    weights, mixing = (np.asarray(x) for x in jax.vmap(step)(jnp.arange(last) / d))
    risks = []
    for k in range(last + 1):
        risk = (LAM @ second[:, -1, -1] + sigma**2) / 2
        if k in np.round(np.array(ts) * d):
            risks.append(risk)
        if k == last:
            return np.array(risks)
        w, e = weights[k], np.eye(blocks)[-1]
        m = np.eye(blocks) + mixing[k] - ridge * np.outer(e, w)
        mean = m[None] - LAM[:, None, None] * np.outer(e, w)[None]
        new = mean.swapaxes(1, 2) @ second @ mean
        # The noise of a sample's gradient: E[a a^T x^2] has the fourth moments of a Gaussian.
        square = LAM**2 * second[:, -1, -1] + LAM * counts * 2 * risk
        second = new + (square / batch)[:, None, None] * np.outer(w, w)


@pytest.mark.slow
@pytest.mark.parametrize("name", OPTIMISERS)
def test_limit_is_that_of_the_exact_means(name):
    ts, options = [0.0, 1.0, 4.0], {"ridge": 0.2}
    system = least_squares(100, OPTIMISERS[name], batch_size=2, **options)
    limit = system.limit(jnp.array(ts), save=lambda s: system.statistics(s)["risk"]).values
    gaps = [
        exact_risks(d, ts, OPTIMISERS[name], batch=2, **options)[1:] - limit[1:]
        for d in (400, 1600)
    ]
    assert np.abs(gaps[1]).max() < 2e-3
    np.testing.assert_allclose(gaps[0] / gaps[1], 4, rtol=0.15)


# The other two are Dana's with other numbers.
@pytest.mark.slow
@pytest.mark.parametrize("method", [Direct("float64"), GramSampler("float64")])
@pytest.mark.parametrize("name", ["dana", "averaging", "momentum"])
def test_simulations_have_the_exact_mean(name, method):
    """At d = 20, where the limit is off by much more than 4 standard errors."""
    ts, runs, options = [0.0, 1.0, 3.0], 4000, {"ridge": 0.2}
    system = least_squares(20, OPTIMISERS[name], batch_size=2, **options)
    plan = {"key": jax.random.key(1), "runs": runs, "statistics": ["risk"], "method": method}
    result = hd.simulate(system, ts, **plan)
    exact = exact_risks(20, ts, OPTIMISERS[name], batch=2, **options)
    error = result.std["risk"].values / np.sqrt(runs)
    assert np.all(np.abs(result.mean["risk"].values - exact)[1:] < 4 * error[1:])


@pytest.mark.slow
def test_fixed_momentum_is_a_learning_rate():
    ts = jnp.array([0.0, 0.7, 2.0])
    systems = least_squares(100, Momentum(0.75), gamma=0.2), least_squares(100, None, gamma=0.8)
    first, second = (
        s.limit(ts, save=lambda x, s=s: s.statistics(x)["risk"]).values for s in systems
    )
    np.testing.assert_allclose(first, second, rtol=1e-8)


def head(x, teacher, component, noise, theta):
    logit = jnp.dot(theta, jnp.tanh(x))
    label = jnp.where(component == 0, 1.0, 0.0).astype(x.dtype)
    return jnp.logaddexp(0.0, logit) - label * logit


@pytest.mark.slow
@pytest.mark.parametrize("optimiser", [HeavyBall(1.0), Averaging(2.0)])
def test_side_parameters_have_memories_too(optimiser):
    d = 200
    means = np.stack([np.cos(np.arange(d)), np.sin(np.arange(d) + 1.0)], axis=1) / np.sqrt(d / 2)
    system = OnePassSGD(
        head,
        hd.spectra.explicit([0.5], [d]),
        1.5,
        GaussianStart(scale=0.7, columns=2),
        mixture=Mixture([0.4, 0.6], means),
        theta=jnp.array([0.6, -0.4]),
        optimiser=optimiser,
        ridge=0.1,
    )
    theta = {"theta": lambda system, summary: jnp.concatenate(summary.side.parameters)}
    plan = {"statistics": theta, "fluctuations": False}
    result = hd.compare(system, [0.0, 1.0, 3.0], key=jax.random.key(2), runs=64, **plan)
    limit = result.limit["theta"].values
    error = result.std["theta"].values / 8
    assert np.abs(limit[-1] - limit[0]).min() > 0.01
    assert np.all(np.abs(result.mean["theta"].values - limit) < 4 * error + 4 / d)


@pytest.mark.slow
@pytest.mark.long
def test_error_bars_and_bias():
    check_error_bars(least_squares(40, OPTIMISERS["averaging"], ridge=0.1), "average_risk")


@pytest.mark.slow
def test_exponential_midpoint_with_memories():
    ts = jnp.array([0.0, 1.0, 3.0])
    exponential = hd.Integrator(hd.streaming.ExponentialMidpoint(), steps=400)
    systems = [
        least_squares(100, OPTIMISERS["dana"], integrator=integrator)
        for integrator in (FINE, exponential)
    ]
    fine, coarse = (
        s.limit(ts, save=lambda x, s=s: s.statistics(x)["risk"]).values for s in systems
    )
    np.testing.assert_allclose(coarse, fine, rtol=2e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    "method",
    [hd.streaming.Homogenised(dt=0.02), hd.streaming.CorrectedDiffusion(dt=0.02)],
    ids=["homogenised", "corrected"],
)
def test_diffusions_with_memories(method):
    system = least_squares(1000, OPTIMISERS["dana"])
    plan = {"statistics": ["risk"], "method": method, "fluctuations": True}
    result = hd.compare(system, [0.0, 0.5, 1.5], key=jax.random.key(5), runs=400, **plan)
    std, predicted = result.std["risk"].values[1:], result.predicted_std["risk"].values[1:]
    gap = np.abs(result.mean["risk"].values - result.limit["risk"].values)[1:]
    assert np.all(gap < 4 * std / 20 + 3 / 1000)
    if isinstance(method, hd.streaming.CorrectedDiffusion):
        np.testing.assert_allclose(std, predicted, rtol=0.15)


def test_wrong_optimisers():
    with pytest.raises(ValueError, match=r"beta: 1\.0"):
        Momentum(1.0)
    with pytest.raises(TypeError, match="optimiser: 'adam'"):
        least_squares(20, "adam")
    with pytest.raises(ValueError, match="Greedy with HeavyBall"):
        least_squares(20, HeavyBall(1.0), gamma=hd.streaming.optimisers.Greedy())
    with pytest.raises(hd.NoMeanCorrectionError, match="remembers single steps"):
        least_squares(20, Momentum(0.5)).mean_correction(jnp.array([0.0, 1.0]), lambda s: {})
