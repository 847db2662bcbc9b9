"""Simulation: against exact second moments, its limit at several sizes, and itself."""

import itertools
import warnings

import jax
import jax.numpy as jnp
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
    Squaring,
    gaussian_problem,
)


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


def reference():
    i, j = np.arange(12), np.arange(8)
    matrix = np.sin(0.9 * np.outer(i + 1, j + 1) + 0.4 * i[:, None] ** 2 + 0.2 * j) / 2
    labels = matrix @ np.cos(1 + j) + 0.3 * np.sin(2 * i)
    return Problem(matrix, labels, 0.1 * np.sin(j + 1))


def test_the_oracle_has_its_reference_values_and_is_the_mean_over_all_paths():
    problem = reference()
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


@pytest.mark.optimised
@pytest.mark.parametrize("ridge", [None, 0.6])
def test_exact_second_moments(ridge):
    """Mean losses of 4000 runs within 4 standard errors of the oracle, in both precisions."""
    system = MultiPassSGD(reference(), 0.5, ridge=ridge)
    method = Direct("float64") if ridge is None else Direct()
    result = hd.simulate(
        system, [0.0, 0.25, 1.0, 3.0], key=jax.random.key(0), runs=4000, method=method
    )
    exact = exact_loss(system.problem, 0.5, 36, ridge or 0.0)[[0, 3, 12, 36]] / 12
    gap = result.mean["loss"].values - exact
    error = result.std["loss"].values / np.sqrt(4000)
    assert abs(gap[0]) < 1e-6
    assert np.all(np.abs(gap[1:]) < 4 * error[1:]), gap / error


@pytest.mark.optimised
@pytest.mark.slow
def test_runs_follow_the_limit_and_their_distance_shrinks():
    """Means within 4 standard errors and 3/n; the distance falls by about 2 from d = 100 to 400."""
    distances = {}
    for d in (100, 400):
        problem = gaussian_problem(2 * d, d, key=jax.random.key(4), noise=0.5, normalise_rows=True)
        result = hd.compare(
            MultiPassSGD(problem, 0.8, solver=Spectral()),
            np.linspace(0, 4, 9),
            key=jax.random.key(d),
            runs=48,
            fluctuations=False,
        )
        for name in ("loss", "risk"):
            gap = (result.mean[name] - result.limit[name]).values
            error = result.std[name].values / np.sqrt(48)
            assert np.all(np.abs(gap) < 4 * error + 3 / (2 * d)), (d, name, gap / error)
        distances[d] = [float(result.sup_error[name].median()) for name in ("loss", "risk")]
    ratio = np.array(distances[100]) / np.array(distances[400])
    assert np.all((ratio > 1.4) & (ratio < 2.9)), ratio


@pytest.mark.slow
@pytest.mark.optimised
def test_momentum_within_three_standard_errors_at_four_batch_fractions():
    problem = gaussian_problem(200, 100, key=jax.random.key(5), noise=0.5)
    steps = [0, 1, 2, 5, 10, 20, 40]
    result = hd.sweep(
        lambda zeta: MomentumSGD(problem, 0.4, batch_fraction=zeta, momentum=0.3),
        {"zeta": [0.05, 0.2, 0.5, 0.9]},
        steps,
        key=jax.random.key(26),
        runs=200,
        statistics=["loss"],
        shared_keys=False,
    )
    gap = (result.mean["loss"] - result.limit["loss"]).values[:, 1:]
    error = result.std["loss"].values[:, 1:] / np.sqrt(200)
    assert np.all(np.abs(gap) < 3 * error), gap / error


@pytest.mark.slow
@pytest.mark.optimised
def test_momentum_with_a_ridge_and_a_schedule_follows_its_limit():
    """Means of 200 runs within 3 standard errors, risk and loss."""
    problem = gaussian_problem(200, 100, key=jax.random.key(5), noise=0.5)
    schedule = hd.schedules.PowerDecay(initial=0.6, exponent=0.5, timescale=5.0)
    result = hd.compare(
        MomentumSGD(problem, schedule, batch_fraction=0.2, momentum=0.3, ridge=0.5),
        [1, 2, 5, 10, 20, 40],
        key=jax.random.key(7),
        runs=200,
    )
    for name in ("loss", "risk"):
        gap = (result.mean[name] - result.limit[name]).values
        error = result.std[name].values / np.sqrt(200)
        assert np.all(np.abs(gap) < 3 * error), (name, gap / error)


@pytest.mark.optimised
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
    problem = reference()
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
        system = MultiPassSGD(reference(), 0.5, sampling=sampling)
        options = {"key": jax.random.key(2), "runs": 2, "method": Direct("float64")}
        some = hd.simulate(system, [1.25, 5.0], **options)
        many = hd.simulate(system, np.arange(0, 61) / 12, **options)
        np.testing.assert_allclose(some.runs["loss"][:, 1], many.runs["loss"][:, -1], rtol=1e-12)


def test_a_schedule_is_followed():
    """A rate that vanishes after an epoch stops the run."""
    schedule = hd.schedules.PiecewiseConstant(boundaries=[1.0], values=[0.5, 0.0])
    result = hd.simulate(
        MultiPassSGD(reference(), schedule), [0.5, 1.0, 3.0], key=jax.random.key(0), runs=2
    )
    loss = result.runs["loss"].values
    np.testing.assert_array_equal(loss[:, 1], loss[:, 2])
    assert np.all(loss[:, 0] != loss[:, 1])


@pytest.mark.slow
@pytest.mark.optimised
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


@pytest.mark.slow
def test_above_the_largest_rate_the_curve_grows():
    problem = gaussian_problem(60, 30, key=jax.random.key(0), normalise_rows=True, noise=0.5)
    with pytest.warns(UserWarning, match="learning_rate: 2.5; allowed .* below 2 n/tr"):
        result = hd.compare(
            MultiPassSGD(problem, 2.5, solver=Spectral()),
            [0.0, 2.0, 6.0],
            key=jax.random.key(0),
            runs=4,
            fluctuations=False,
        )
    assert np.all(np.diff(result.limit["loss"]) > 0)
    assert np.all(result.mean["loss"][1:] > result.mean["loss"][0])


def test_rows_that_are_amplified_are_warned_of():
    matrix = np.eye(50, 20)
    matrix[0] = 1.5
    with pytest.warns(UserWarning, match="amplifies that sample"):
        hd.compare(
            MultiPassSGD(Problem(matrix, np.ones(50)), 0.95, solver=Spectral()),
            [0.0, 0.1],
            key=jax.random.key(0),
            runs=1,
            fluctuations=False,
        )


def test_unstable_momentum_and_localised_vectors_are_warned_of():
    problem = gaussian_problem(40, 20, key=jax.random.key(0))
    single = Problem(np.eye(100, 50) * np.linspace(0.5, 1, 50), np.ones(100))
    for system, message in (
        (MomentumSGD(problem, 2.5, batch_fraction=0.1, momentum=0.2), "is not stable"),
        (MomentumSGD(problem, 2.5, batch_fraction=1.0, momentum=0.2), "is not stable"),
        (MultiPassSGD(single, 0.5), "concentrated on few samples"),
        (MomentumSGD(single, 0.5, batch_fraction=0.5), "concentrated on few samples"),
    ):
        with pytest.warns(UserWarning, match=message):
            system.validate(compared=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        MomentumSGD(problem, 0.5, batch_fraction=0.1, momentum=0.2).validate(compared=True)


def test_a_law_alone_is_not_simulated():
    modes = hd.multipass.modes.law_modes(hd.multipass.laws.MarchenkoPastur(0.5), 100)
    system = MultiPassSGD(None, 1.0, modes=modes, solver=Spectral())
    with pytest.raises(ValueError, match=r"problem: None.*allowed"):
        hd.simulate(system, [0.0, 1.0], key=jax.random.key(0), runs=1)
    assert hd.limit(system, [0.0, 1.0]).limit["loss"][1] < 0.5


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: MultiPassSGD(None, 0.5), "problem, modes: None"),
        (lambda p: MultiPassSGD(p, -0.5), "learning_rate: -0.5"),
        (lambda p: MultiPassSGD(p, 0.5, ridge=-1.0), "ridge: -1.0"),
        (lambda p: MultiPassSGD(p, 0.5, sampling="shuffle"), "sampling: 'shuffle'"),
        (lambda p: MultiPassSGD(p, 0.5, ridge=0.1, solver=Spectral()), "solver: Spectral"),
        (lambda p: MomentumSGD(p, 0.5, batch_fraction=0.3), "a batch of 3.6 samples"),
        (lambda p: MomentumSGD(p, 0.5, batch_fraction=1.5), "batch_fraction: 1.5"),
        (lambda p: MomentumSGD(p, 0.5, batch_fraction=0.5, momentum=1.0), "momentum: 1.0"),
        (lambda p: MomentumSGD(p, np.inf, batch_fraction=0.5), "learning_rate: inf"),
        (lambda p: MomentumSGD(p, 0.5, batch_fraction=0.5, ridge=-1.0), "ridge: -1.0"),
        (
            lambda p: MomentumSGD(p, 0.5, batch_fraction=0.5, ridge=1.0, solver=Squaring()),
            "solver: Squaring",
        ),
        (lambda p: MomentumSGD(p, 0.5, batch_fraction=0.5, solver=Spectral()), "solver"),
        (lambda p: MultiPassSGD(p, 0.5, solver=Squaring()), "solver"),
        (lambda p: Problem(np.full((2, 2), np.nan), np.ones(2)), "matrix: NaN"),
        (lambda p: Problem(np.eye(3), np.ones(2)), r"labels: shape \(2,\)"),
        (lambda p: Problem(np.eye(3), np.ones(3), np.ones(2)), r"start: shape \(2,\)"),
        (lambda p: Problem(np.ones(3), np.ones(3)), "matrix: shape"),
        (
            lambda p: Problem(
                np.eye(2), np.ones(2), None, {"q": hd.multipass.Quadratic(np.eye(3))}
            ),
            "quadratics: q has dimension 3",
        ),
        (lambda p: hd.multipass.Quadratic(np.triu(np.ones((3, 3)))), "matrix: not symmetric"),
        (lambda p: hd.multipass.SampleRisk(np.eye(3), np.ones(2)), "rows, labels: shapes"),
        (lambda p: Direct("float16"), "dtype: 'float16'"),
        (lambda p: Homogenised(dt=0.0), "dt: 0.0"),
    ],
)
def test_wrong_input_is_refused(make, message):
    with pytest.raises((ValueError, TypeError), match=message):
        make(reference())


def test_reshuffling_has_no_limit_and_a_single_pass_ends():
    with pytest.raises(hd.NoLimitError, match="sampling: 'reshuffling'"):
        hd.compare(
            MultiPassSGD(reference(), 0.5, sampling="reshuffling"),
            [0.0, 1.0],
            key=jax.random.key(0),
            runs=1,
        )
    with pytest.raises(ValueError, match="up to 1, when a single pass"):
        hd.simulate(
            MultiPassSGD(reference(), 0.5, sampling="single_pass"),
            [0.0, 2.0],
            key=jax.random.key(0),
            runs=1,
        )


def test_scaling_keeps_the_iterates_predictions():
    problem = reference()
    x = jnp.asarray(np.linspace(-1, 1, 8))
    scaled = problem.scaled()
    np.testing.assert_allclose(scaled.trace, 1, rtol=1e-12)
    unit = np.sqrt(float(problem.trace))
    np.testing.assert_allclose(scaled.loss(unit * x), problem.loss(x), rtol=1e-12)
