"""The exact means, against the second moments step by step and against many runs."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hdjax as hd
from hdjax.multipass import means

exact_means = eqx.filter_jit(means.exact_means)


def heavy(n, d):
    """A problem whose rows have very different lengths."""
    plain = hd.multipass.gaussian_problem(n, d, key=jax.random.key(0), noise=0.5)
    lengths = np.exp(0.4 * np.random.default_rng(0).standard_normal(n))
    return hd.multipass.Problem(
        plain.matrix * lengths[:, None], plain.labels, 0.3 * np.ones(d), plain.quadratics
    )


def step_by_step(problem, rate, ridge, steps):
    """The mean loss per sample and the mean risk after each of `steps`, without any scheme."""
    a, b = np.asarray(problem.matrix), np.asarray(problem.labels)
    (n, d), risk = a.shape, problem.quadratics["risk"]
    h, t = a.T @ a + ridge * np.eye(d), np.asarray(risk.matrix)
    m, s = np.asarray(problem.start), np.zeros((d, d))
    found = []
    for k in range(max(steps) + 1):
        if k in steps:
            loss = np.sum((a @ m - b) ** 2) + np.sum((a @ s) * a)
            found.append((loss / (2 * n), float(risk(jnp.asarray(m))) + np.sum(t * s) / 2))
        e = (a @ m - b) ** 2 + np.sum((a @ s) * a, axis=1)
        move = -rate / n * (h @ m - a.T @ b)
        noise = rate**2 / n * (a.T * e) @ a - np.outer(move, move)
        m, s = m + move, s - rate / n * (h @ s + s @ h) + noise
    return np.array(found).T


@pytest.mark.parametrize("ridge", [0.0, 0.5])
def test_it_is_the_recursion_step_by_step(ridge):
    problem = heavy(40, 20)
    system = hd.multipass.MultiPassSGD(problem, 0.4, ridge=ridge)
    ts = jnp.array([0.0, 0.25, 2.0, 8.0])
    exact = exact_means(system, ts)
    loss, risk = step_by_step(problem, 0.4, ridge, [0, 10, 80, 320])
    np.testing.assert_allclose(exact["loss"], loss, rtol=5e-3)
    np.testing.assert_allclose(exact["risk"], risk, rtol=5e-3)
    limit = system.limit(ts).values["loss"]
    assert np.abs(limit / loss - 1).max() > 0.03, "the limit is as good: the test says nothing"


def test_compare_adds_the_correction_to_the_limit():
    system = hd.multipass.MultiPassSGD(heavy(30, 10), 0.2)
    ts = jnp.array([0.0, 1.0])
    result = hd.limit(system, ts, mean_correction=True)
    exact = means.exact_means(system, ts)
    for name in ("loss", "risk"):
        np.testing.assert_allclose(result.predicted_mean[name].values, exact[name], rtol=1e-9)


def test_it_refuses_what_it_does_not_know():
    problem, ts = heavy(30, 10), jnp.array([0.0, 1.0])
    other = hd.multipass.MultiPassSGD(problem, 0.4, sampling="reshuffling")
    with pytest.raises(hd.NoMeanCorrectionError, match="reshuffling"):
        means.check(other)
    modes = hd.multipass.MultiPassSGD(problem, 0.4).modes
    with pytest.raises(hd.NoMeanCorrectionError, match="problem: None"):
        hd.limit(hd.multipass.MultiPassSGD(None, 0.4, modes=modes), ts, mean_correction=True)
    many = hd.multipass.Problem(jnp.ones((2000, 1100)), jnp.ones(2000))
    system = hd.multipass.MultiPassSGD(many, 0.4, modes=modes)
    with pytest.raises(hd.NoMeanCorrectionError, match=r"n = 2000, d = 1100"):
        means.check(system)
