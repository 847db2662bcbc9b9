"""The limit of SGD with momentum: reference values, an integral equation, and powers."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hdjax as hd
from hdjax.multipass import MomentumSGD, Problem, Quadratic, Recursion, Squaring
from tests.multipass.problems import N, plain_reference, reference


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


def test_derivatives_of_the_recursion():
    plain = plain_reference()

    def loss(delta):
        system = MomentumSGD(plain, 0.6, batch_fraction=1 / 3, momentum=0.35)
        system = eqx.tree_at(lambda s: s.momentum, system, delta)
        return system.limit(jnp.array([15.0])).values["loss"][0]

    delta, h = jnp.asarray(0.35), 1e-5
    slope = jax.jvp(loss, (delta,), (jnp.ones(()),))[1]
    np.testing.assert_allclose(slope, (loss(delta + h) - loss(delta - h)) / (2 * h), rtol=1e-6)


def test_powers_of_the_matrix_know_no_ridge():
    options = {"batch_fraction": 0.5, "ridge": 1.0, "solver": Squaring()}
    with pytest.raises(ValueError, match="solver: Squaring"):
        MomentumSGD(plain_reference(), 0.5, **options)


@pytest.mark.parametrize("ridge", [None, 0.2])
def test_the_discrete_volterra_equation_has_the_loss_of_the_recursion(ridge):
    problem = hd.multipass.gaussian_problem(
        60, 30, key=jax.random.key(0), noise=0.5, normalise_rows=True
    )
    options = {"batch_fraction": 0.1, "momentum": 0.4, "ridge": ridge}
    system = hd.multipass.MomentumSGD(problem, 0.6, **options)
    steps, loss = hd.multipass.discrete_volterra(system, 300)
    recursion = system.limit(jnp.asarray(steps, float)).values["loss"]
    np.testing.assert_allclose(loss, recursion, rtol=1e-12)


def test_systems_without_a_discrete_volterra_equation_are_refused():
    problem = hd.multipass.Problem(np.eye(4), np.ones(4))
    moving = hd.schedules.PowerDecay(0.5, 1.0)
    scheduled = hd.multipass.MomentumSGD(problem, moving, batch_fraction=0.25)
    with pytest.raises(ValueError, match="learning_rate: a schedule"):
        hd.multipass.discrete_volterra(scheduled, 10)
    constant = hd.multipass.MomentumSGD(problem, 0.5, batch_fraction=0.25)
    with pytest.raises(ValueError, match="steps: 0; allowed: an integer"):
        hd.multipass.discrete_volterra(constant, 0)
