"""Limits of multi-pass SGD and of SGD with momentum: reference values, and each way against all."""

from fractions import Fraction

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hdjax as hd
from hdjax.multipass import (
    BlockODE,
    MomentumSGD,
    MultiPassSGD,
    Problem,
    Quadratic,
    Recursion,
    SampleRisk,
    Spectral,
    Squaring,
    volterra,
)
from hdjax.multipass.laws import MarchenkoPastur
from hdjax.multipass.modes import law_modes, svd_modes
from hdjax.multipass.rates import condition_number

N, D = 12, 8


def reference():
    """The problem of the reference values; `own` is the loss as a quadratic form."""
    i, j = np.arange(N), np.arange(D)
    matrix = np.sqrt(2 / D) * np.sin(0.9 * np.outer(i + 1, j + 1) + 0.4 * i[:, None] ** 2 + 0.2 * j)
    labels = matrix @ np.cos(1 + j) + 0.3 * np.sin(2 * i)
    forms = {
        "q": Quadratic(np.diag(1 / (1 + j)) + 0.05, 0.1 * np.cos(j), 0.7),
        "own": Quadratic(matrix.T @ matrix, -matrix.T @ labels, labels @ labels / 2),
        "rows": SampleRisk(matrix, labels),
    }
    return Problem(matrix, labels, 0.1 * np.sin(j + 1), forms)


TIMES = jnp.array([0, 0.5, 1, 3, 10.0])
LOSS = [3.4159944812, 1.7684350519, 1.0128554974, 0.3124969023, 0.1754062904]
Q = [0.7483315281, 1.0353506069, 1.2294861785, 1.5202951015, 1.5946374133]


@pytest.mark.parametrize("solver", [Spectral(), BlockODE(hd.Integrator(rtol=1e-11, atol=1e-13))])
def test_reference_values(solver):
    """Section 9 of the derivation, to its ten digits; the loss as a quadratic form of its own."""
    out = MultiPassSGD(reference(), 0.5, solver=solver).limit(TIMES).values
    np.testing.assert_allclose(N * out["loss"], LOSS, rtol=2e-9)
    np.testing.assert_allclose(out["q"], Q, rtol=2e-9)
    np.testing.assert_allclose(out["own"], N * out["loss"], rtol=1e-12)
    np.testing.assert_allclose(out["rows"], out["loss"], rtol=1e-12)


def exact_inverse(matrix):
    """The inverse of A^T A in rational arithmetic."""
    rows = np.vectorize(Fraction)(matrix.astype(float))
    p = rows.shape[1]
    system = np.hstack([rows.T.dot(rows), np.vectorize(Fraction)(np.eye(p))])
    for c in range(p):
        system[c] /= system[c, c]
        for i in set(range(p)) - {c}:
            system[i] -= system[i, c] * system[c]
    return system[:, p:].astype(float)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_raw_units_have_full_rank(dtype):
    """A constant column beside large numbers: kappa in rational arithmetic, the floor by QR."""
    rng = np.random.default_rng(0)
    scales = np.array([20, 1e4, 1e8, 0.1, 10, 3e9])
    means = np.array([1975, 5e4, 3e8, 1.7, 70, 3e9])
    columns = means + scales * rng.standard_normal((16, 6))
    matrix = np.column_stack([np.ones(16), columns]).astype(dtype)
    labels = 200 + 80 * rng.standard_normal(16)
    modes, _ = svd_modes(Problem(matrix, labels))
    exact = matrix.astype(float)
    largest = np.linalg.svd(exact, compute_uv=False)[0] ** 2
    kappa = largest * np.linalg.eigvalsh(exact_inverse(matrix))[-1]
    assert kappa > 1e19
    np.testing.assert_allclose(condition_number(modes), kappa, rtol=1e-6)
    frame = np.linalg.qr(exact / np.linalg.norm(exact, axis=0))[0]
    residual = labels - frame @ (frame.T @ labels)
    np.testing.assert_allclose(modes.floor, residual @ residual / 2, rtol=1e-9)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_rounding_gives_no_rank(dtype):
    """Products of thin factors, and columns that are given twice and centred."""
    rng = np.random.default_rng(1)
    thin = rng.standard_normal((30, 5)) @ rng.standard_normal((5, 8))
    twice = np.repeat(rng.standard_normal((2000, 6)), 2, axis=1).astype(dtype)
    for matrix, rank in ((thin.astype(dtype), 5), (twice - twice.mean(axis=0), 6)):
        problem = Problem(matrix, np.ones(len(matrix)))
        for own in (problem, problem.scaled()):
            modes, _ = svd_modes(own)
            assert int((modes.eigenvalues > 0).sum()) == rank
        assert condition_number(modes) < 1e4


def test_modes_of_the_reference():
    modes = MultiPassSGD(reference(), 0.5).modes
    expected = [2.8663619530, 2.2544037097, 2.1976575445, 1.7070951311]
    expected += [1.1103270260, 0.5122402048, 0.3741365330, 0.1452756701]
    np.testing.assert_allclose(modes.eigenvalues, expected, atol=1e-10)
    np.testing.assert_allclose(modes.floor, 0.1244696961, atol=1e-10)


@pytest.mark.slow
def test_volterra_equation_is_of_second_order():
    system = MultiPassSGD(reference(), 0.5)
    errors = [abs(N * float(volterra(system, 3.0, steps)[1][-1]) - LOSS[3]) for steps in (60, 240)]
    assert errors[1] < 1e-4
    assert 14 < errors[0] / errors[1] < 18


def test_momentum_reference_values():
    steps = jnp.array([0, 1, 2, 5, 15, 30.0])
    expected = [3.4159944812, 1.9670871018, 1.2540763928, 0.5421031033, 0.2233985335, 0.2006863569]
    system = MomentumSGD(reference(), 0.6, batch_fraction=1 / 3, momentum=0.35)
    out = system.limit(steps).values
    np.testing.assert_allclose(N * out["loss"], expected, rtol=2e-9)
    np.testing.assert_allclose(out["own"], N * out["loss"], rtol=1e-12)


def discrete_volterra(system, last):
    """The loss by the discrete Volterra equation, with its kernel from h(k)."""
    modes, n = system.modes, N
    gamma, zeta, delta = (
        float(x) for x in (system.learning_rate(0.0), system.batch_fraction, system.momentum)
    )
    lam, rho = np.asarray(modes.eigenvalues), np.asarray(modes.residuals)
    omega = 1 + delta - gamma * zeta * lam
    h = [np.zeros(len(lam)), np.ones(len(lam))]
    for _ in range(last):
        h.append(omega * h[-1] - delta * h[-2])
    kappa = gamma**2 * zeta * (1 - zeta) * n / (n - 1)
    kernel = [kappa / n * np.sum(lam**2 * h[k + 1] ** 2) for k in range(last)]
    loss = []
    for k in range(last + 1):
        mean = float(modes.floor) + np.sum((rho * (h[k + 1] - delta * h[k])) ** 2) / 2
        loss.append(mean + sum(kernel[k - 1 - s] * loss[s] for s in range(k)))
    return np.array(loss) / n


@pytest.mark.parametrize("zeta", [0.25, 1.0])
def test_momentum_recursion_is_the_discrete_volterra_equation(zeta):
    system = MomentumSGD(reference(), 0.6, batch_fraction=zeta, momentum=0.35)
    loss = system.limit(jnp.arange(26.0)).values["loss"]
    np.testing.assert_allclose(loss, discrete_volterra(system, 25), rtol=1e-12)


@pytest.mark.parametrize(("zeta", "delta"), [(0.25, 0.35), (1 / 3, 0.0), (1.0, 0.7)])
def test_powers_of_the_matrix_are_the_recursion(zeta, delta):
    """All statistics, at times from 0 to 10^5 in one call."""
    steps = jnp.array([0, 1, 2, 3, 10, 77, 1000, 10**5])
    out = [
        MomentumSGD(reference(), 0.6, batch_fraction=zeta, momentum=delta, solver=solver())
        .limit(steps.astype(float))
        .values
        for solver in (Recursion, Squaring)
    ]
    for name in ("loss", "q", "rows"):
        np.testing.assert_allclose(out[1][name], out[0][name], rtol=1e-9)


def test_powers_of_the_matrix_go_beyond_2_to_the_32_steps():
    """Full batches without momentum: residuals (I - gamma A A^T)^k (A X_0 - b), not at rest yet."""
    problem, gamma, steps = reference(), 1e-10, [2**31, 2**32, 2**33 + 1]
    system = MomentumSGD(problem, gamma, batch_fraction=1.0, momentum=0.0, solver=Squaring())
    matrix = np.asarray(problem.matrix)
    values, vectors = np.linalg.eigh(matrix @ matrix.T)
    first = vectors.T @ (matrix @ np.asarray(problem.start) - np.asarray(problem.labels))
    decay = np.exp(np.array(steps)[:, None] * np.log1p(-gamma * values)[None])
    expected = ((decay * first) ** 2).sum(1) / (2 * N)
    losses = system.limit(jnp.asarray(steps, float)).values["loss"]
    np.testing.assert_allclose(losses, expected, rtol=1e-6)
    assert expected[2] < 0.9 * expected[1] < 0.81 * expected[0]


def test_momentum_of_full_batches_with_ridge_and_schedule_is_heavy_ball():
    """Nothing is random at zeta = 1: the limit is the algorithm, also where no sample looks."""
    rng = np.random.default_rng(0)
    matrix = np.pad(rng.standard_normal((6, 3)) / 2, ((0, 0), (0, 1)))
    forms = {"size": Quadratic(np.eye(4))}
    problem = Problem(matrix, rng.standard_normal(6), rng.standard_normal(4), forms)
    schedule = hd.schedules.PiecewiseConstant(boundaries=[4.0], values=[0.3, 0.1])
    system = MomentumSGD(problem, schedule, batch_fraction=1.0, momentum=0.4, ridge=0.2)
    x = before = np.asarray(problem.start)
    losses, sizes = [], []
    for k in range(13):
        residuals = matrix @ x - np.asarray(problem.labels)
        losses.append((residuals**2).mean() / 2)
        sizes.append((x**2).sum() / 2)
        gradient = matrix.T @ residuals + 0.2 * x
        x, before = x - (0.3 if k < 4 else 0.1) * gradient + 0.4 * (x - before), x
    out = system.limit(jnp.arange(13.0)).values
    np.testing.assert_allclose(out["loss"], losses, rtol=1e-12)
    np.testing.assert_allclose(out["size"], sizes, rtol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("ratio", "expected"),
    [(0.5, [0.62500, 0.20381, 0.13493, 0.12516]), (2.0, [0.62500, 0.22521, 0.05883, 0.00365])],
)
def test_the_law_gives_the_curve_of_a_large_matrix(ratio, expected):
    modes = law_modes(MarchenkoPastur(ratio), 1000, noise=0.5, risk=True)
    system = MultiPassSGD(None, 1.0, modes=modes, solver=Spectral())
    ts = jnp.array([0, 1, 3, 10.0])
    law = system.limit(ts).values
    np.testing.assert_allclose(law["loss"], expected, atol=6e-6)
    d = int(600 * ratio)
    problem = hd.multipass.gaussian_problem(600, d, key=jax.random.key(1), noise=0.5)
    own = MultiPassSGD(problem, 1.0, solver=Spectral()).limit(ts).values
    np.testing.assert_allclose(own["loss"], law["loss"], atol=0.02)
    np.testing.assert_allclose(own["risk"], law["risk"], atol=0.02)


@pytest.mark.slow
def test_lanczos_measures_give_the_curve_of_the_decomposition():
    problem = hd.multipass.gaussian_problem(300, 150, key=jax.random.key(2), noise=0.5)
    plain = Problem(problem.matrix, problem.labels)
    rule = hd.multipass.modes.lanczos_modes(plain, 20, jax.random.key(3), probes=8)
    ts = jnp.array([0, 0.5, 2, 8.0])
    exact = MultiPassSGD(plain, 0.8, solver=Spectral()).limit(ts).values["loss"]
    found = MultiPassSGD(plain, 0.8, modes=rule).limit(ts).values["loss"]
    np.testing.assert_allclose(found[0], exact[0], rtol=1e-10)
    np.testing.assert_allclose(found, exact, rtol=0.02)


def test_lanczos_ends_where_it_breaks_down():
    """Two distinct eigenvalues: two nodes, though more are asked for."""
    matrix = np.diag([1.0, 1.0, 2.0, 2.0, 2.0])
    rule = hd.multipass.modes.lanczos_modes(Problem(matrix, np.ones(5)), 5, jax.random.key(0))
    assert np.isfinite(np.asarray(rule.eigenvalues)).all()
    used = (np.asarray(rule.multiplicities) > 1e-9) | (np.asarray(rule.labels) ** 2 > 1e-9)
    values = np.unique(np.round(np.asarray(rule.eigenvalues)[used], 6))
    np.testing.assert_allclose(values, [1, 4])
    np.testing.assert_allclose(rule.multiplicities.sum(), 5, rtol=1e-10)


@pytest.mark.slow
def test_a_ridge_without_noise_ends_at_its_solution():
    """A small learning rate: gradient flow of L + delta/2 |X|^2, to its minimiser."""
    problem, delta = reference(), 0.7
    matrix, labels = np.asarray(problem.matrix), np.asarray(problem.labels)
    system = MultiPassSGD(problem, 1e-3, ridge=delta)
    out = system.limit(jnp.array([0.0, 3e4])).values
    solution = np.linalg.solve(matrix.T @ matrix + delta * np.eye(D), matrix.T @ labels)
    expected = problem.values(jnp.asarray(solution))
    for name in ("loss", "q"):
        np.testing.assert_allclose(out[name][1], expected[name], rtol=2e-3)


@pytest.mark.slow
def test_a_schedule_is_integrated():
    """A rate that halves at t = 1 goes on as the constant rate does from the same state."""
    problem = reference()
    schedule = hd.schedules.PiecewiseConstant(boundaries=[1.0], values=[0.5, 0.25])
    solver = BlockODE(hd.Integrator(rtol=1e-9, atol=1e-12))
    ts = jnp.array([0, 0.5, 1, 3.0])
    loss = N * MultiPassSGD(problem, schedule, solver=solver).limit(ts).values["loss"]
    np.testing.assert_allclose(loss[:3], LOSS[:3], rtol=1e-6)
    slow = N * MultiPassSGD(problem, 0.25, solver=solver).limit(ts).values["loss"]
    fast = LOSS[3]
    assert fast < loss[3] < slow[3]


@pytest.mark.slow
def test_derivatives_of_both_modes_and_of_the_recursion():
    problem = reference()
    plain = Problem(problem.matrix, problem.labels, problem.start)

    def final(rate, adjoint):
        system = MultiPassSGD(plain, 0.5, solver=BlockODE(hd.Integrator(adjoint=adjoint)))
        system = eqx.tree_at(lambda s: s.learning_rate.value, system, rate)
        return system.limit(jnp.array([0.0, 1.0])).values["loss"][1]

    rate = jnp.asarray(0.5)
    backward = jax.grad(final)(rate, diffrax.RecursiveCheckpointAdjoint())
    forward = jax.jvp(lambda r: final(r, diffrax.ForwardMode()), (rate,), (jnp.ones(()),))[1]
    h, adjoint = 1e-4, diffrax.RecursiveCheckpointAdjoint()
    numeric = (final(rate + h, adjoint) - final(rate - h, adjoint)) / (2 * h)
    np.testing.assert_allclose([backward, forward], numeric, rtol=1e-3)

    def loss(delta):
        system = MomentumSGD(plain, 0.6, batch_fraction=1 / 3, momentum=0.35)
        system = eqx.tree_at(lambda s: s.momentum, system, delta)
        return system.limit(jnp.array([15.0])).values["loss"][0]

    delta, h = jnp.asarray(0.35), 1e-5
    slope = jax.jvp(loss, (delta,), (jnp.ones(()),))[1]
    np.testing.assert_allclose(slope, (loss(delta + h) - loss(delta - h)) / (2 * h), rtol=1e-6)


def test_singular_matrices():
    """Columns of zeros, equal rows, more columns than rows: finite, and the same in both forms."""
    rng = np.random.default_rng(0)
    matrix = np.zeros((6, 9))
    matrix[:, :3] = rng.standard_normal((6, 3))
    matrix[3] = matrix[2]
    target = rng.standard_normal(9)
    problem = Problem(matrix, rng.standard_normal(6), target, {"size": Quadratic(np.eye(9))})
    curves = [
        MultiPassSGD(problem, 0.3, solver=solver).limit(TIMES).values
        for solver in (Spectral(), BlockODE(hd.Integrator(rtol=1e-10, atol=1e-12)))
    ]
    for name in ("loss", "size"):
        assert np.isfinite(curves[0][name]).all()
        np.testing.assert_allclose(curves[0][name], curves[1][name], rtol=1e-7)
    assert (curves[0]["size"] >= (target[3:] ** 2).sum() / 2).all()


@pytest.mark.slow
def test_a_sweep_of_rates_is_one_program():
    result = hd.sweep(
        lambda rate: MultiPassSGD(reference(), rate),
        {"rate": [0.1, 0.5]},
        [0.0, 1.0],
        key=jax.random.key(0),
        runs=2,
        statistics=["loss"],
    )
    assert result.tree.attrs["programs"] == 1
    np.testing.assert_allclose(N * result.limit["loss"].sel(rate=0.5)[-1], LOSS[2], rtol=1e-5)
