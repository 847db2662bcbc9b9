"""Runs at finite size: against exact second moments and plain loops."""

import itertools

import jax
import numpy as np
import pytest

import hdjax as hd
from hdjax.multipass import (
    Direct,
    Homogenised,
    MomentumSGD,
    MultiPassSGD,
    Problem,
    Spectral,
    gaussian_problem,
)
from tests.multipass.problems import plain_reference


def exact_loss(problem, gamma, steps, ridge=0.0):
    """E L(X_k) by the recursion of mean and covariance, for any A and without asymptotics."""
    a, b = np.asarray(problem.matrix), np.asarray(problem.labels)
    n, d = a.shape
    h, g = a.T @ a + ridge * np.eye(d), a.T @ b
    m, s = np.asarray(problem.start), np.zeros((d, d))
    losses = []
    for _ in range(steps + 1):
        e = (a @ m - b) ** 2 + np.einsum("id,de,ie->i", a, s, a)
        losses.append(e.sum() / 2)
        step = -gamma / n * (h @ m - g)
        # E of the outer product of a step's change, ridge included.
        r, shrink = a @ m - b, ridge / n
        second = (a.T * e) @ a
        if ridge:
            cross = shrink * a.T @ (np.outer(r, m) + a @ s)
            second = second + cross + cross.T + n * shrink**2 * (np.outer(m, m) + s)
        s = s - gamma / n * (h @ s + s @ h) + gamma**2 / n * second - np.outer(step, step)
        m = m + step
    return np.array(losses)


def test_the_oracle_has_its_reference_values_and_is_the_mean_over_all_paths():
    problem = plain_reference()
    losses = exact_loss(problem, 0.5, 120)[[0, 12, 24, 60, 120]]
    expected = [3.4159944812, 0.9895496348, 0.4628879590, 0.2211439480, 0.1757542836]
    np.testing.assert_allclose(losses, expected, rtol=1e-9)
    a, b = np.asarray(problem.matrix), np.asarray(problem.labels)
    for ridge in (0.0, 0.6):
        total = 0.0
        for path in itertools.product(range(12), repeat=2):
            x = np.asarray(problem.start)
            for i in path:
                x = x - 0.5 * (a[i] * (a[i] @ x - b[i]) + ridge / 12 * x)
            total += ((a @ x - b) ** 2).sum() / 2 / 144
        np.testing.assert_allclose(exact_loss(problem, 0.5, 2, ridge)[2], total, rtol=1e-13)


@pytest.mark.parametrize("ridge", [None, 0.6])
def test_exact_second_moments(ridge):
    """Mean losses of 4000 runs within 4 standard errors of the oracle, in both precisions."""
    system = MultiPassSGD(plain_reference(), 0.5, ridge=ridge)
    method = Direct("float64") if ridge is None else Direct()
    result = hd.simulate(
        system, [0.0, 0.25, 1.0, 3.0], key=jax.random.key(0), runs=4000, method=method
    )
    exact = exact_loss(system.problem, 0.5, 36, ridge or 0.0)[[0, 3, 12, 36]] / 12
    gap = result.mean["loss"].values - exact
    error = result.std["loss"].values / np.sqrt(4000)
    assert abs(gap[0]) < 1e-6
    assert np.all(np.abs(gap[1:]) < 4 * error[1:]), gap / error


def test_batches_are_exactly_without_replacement():
    """One step from X_0: the variance of the gradient over all batches, with its n/(n - 1)."""
    problem = Problem(np.eye(4), np.arange(1.0, 5))
    system = MomentumSGD(problem, 1.0, batch_fraction=0.5)
    result = hd.simulate(
        system,
        [1],
        key=jax.random.key(0),
        runs=4000,
        statistics={"loss": None},
        probes={"x": lambda simulator, state, key: state[0]},
    )
    x = result.probes["x"].values[:, 0]
    # Exactly two coordinates jump from 0 to their label.
    assert np.all((x > 0).sum(1) == 2)
    pairs = {tuple(np.flatnonzero(row)) for row in x}
    counts = [np.mean([(row[list(pair)] > 0).all() for row in x]) for pair in pairs]
    assert len(pairs) == 6
    np.testing.assert_allclose(counts, 1 / 6, atol=4 * np.sqrt(5 / 36 / 4000))


@pytest.mark.parametrize("n", [7, 40])
def test_an_epoch_of_reshuffling_takes_every_sample_once(n):
    """With orthogonal rows and gamma |a|^2 = 1 a sample that was drawn is solved."""
    problem = Problem(np.eye(n), np.ones(n))
    system = MultiPassSGD(problem, 1.0, sampling="reshuffling")
    ts = np.arange(n + 1) / n
    result = hd.simulate(system, ts, key=jax.random.key(1), runs=3, method=Direct("float64"))
    expected = (1 - np.arange(n + 1) / n) / 2
    np.testing.assert_allclose(result.runs["loss"].values, np.tile(expected, (3, 1)), atol=1e-12)
    first = hd.simulate(
        system,
        [1 / n, 1 + 1 / n],
        key=jax.random.key(1),
        runs=3,
        probes={"x": lambda simulator, state, key: state},
    )
    chosen = first.probes["x"].values[:, 0].argmax(1)
    assert len(set(chosen)) > 1  # orders differ from run to run


def test_a_single_pass_is_the_loop():
    problem = plain_reference()
    system = MultiPassSGD(problem, 0.5, sampling="single_pass")
    result = hd.simulate(
        system, [0.5, 1.0], key=jax.random.key(0), runs=2, method=Direct("float64")
    )
    a, b, x = (np.asarray(part) for part in (problem.matrix, problem.labels, problem.start))
    for i in range(12):
        x = x - 0.5 * a[i] * (a[i] @ x - b[i])
    expected = ((a @ x - b) ** 2).mean() / 2
    np.testing.assert_allclose(result.runs["loss"].values[:, 1], expected, rtol=1e-12)


@pytest.mark.slow
def test_intervals_do_not_matter():
    """Records at any times, and blocks that end anywhere, leave a run as it is."""
    for sampling in ("replacement", "reshuffling"):
        system = MultiPassSGD(plain_reference(), 0.5, sampling=sampling)
        options = {"key": jax.random.key(2), "runs": 2, "method": Direct("float64")}
        some = hd.simulate(system, [1.25, 5.0], **options)
        many = hd.simulate(system, np.arange(0, 61) / 12, **options)
        np.testing.assert_allclose(some.runs["loss"][:, 1], many.runs["loss"][:, -1], rtol=1e-12)


def test_a_schedule_is_followed():
    """A rate that vanishes after an epoch stops the run."""
    schedule = hd.schedules.PiecewiseConstant(boundaries=[1.0], values=[0.5, 0.0])
    result = hd.simulate(
        MultiPassSGD(plain_reference(), schedule), [0.5, 1.0, 3.0], key=jax.random.key(0), runs=2
    )
    loss = result.runs["loss"].values
    np.testing.assert_array_equal(loss[:, 1], loss[:, 2])
    assert np.all(loss[:, 0] != loss[:, 1])


@pytest.mark.slow
def test_homogenised_sgd_has_the_mean_and_a_larger_spread():
    problem = gaussian_problem(200, 100, key=jax.random.key(7), noise=0.5)
    system = MultiPassSGD(problem, 0.8, solver=Spectral())
    results = [
        hd.compare(
            system,
            [0.0, 0.5, 1.0, 2.0],
            key=jax.random.key(8),
            runs=300,
            method=method,
            fluctuations=False,
        )
        for method in (None, Homogenised(dt=0.01))
    ]
    diffusion = results[1]
    for name in ("loss", "risk"):
        gap = (diffusion.mean[name] - diffusion.limit[name]).values[1:]
        error = diffusion.std[name].values[1:] / np.sqrt(300)
        assert np.all(np.abs(gap) < 4 * error + 0.003), (name, gap / error)
    ratio = (diffusion.std["loss"] / results[0].std["loss"]).values[1:]
    assert np.all(ratio > 1.1), ratio


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Direct("float16"), "dtype: 'float16'"),
        (lambda: Homogenised(dt=0.0), "dt: 0.0"),
    ],
)
def test_wrong_input_is_refused(make, message):
    with pytest.raises((ValueError, TypeError), match=message):
        make()
