"""The limit of multi-pass SGD: reference values, and each way against all."""

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hdjax as hd
from hdjax.multipass import BlockODE, MultiPassSGD, Problem, Quadratic, Spectral, volterra
from tests.multipass.problems import LOSS, TIMES, D, N, plain_reference, reference

Q = [0.7483315281, 1.0353506069, 1.2294861785, 1.5202951015, 1.5946374133]


@pytest.mark.parametrize("solver", [Spectral(), BlockODE(hd.Integrator(rtol=1e-11, atol=1e-13))])
def test_reference_values(solver):
    """Section 9 of the derivation, to its ten digits; the loss as a quadratic form of its own."""
    out = MultiPassSGD(reference(), 0.5, solver=solver).limit(TIMES).values
    np.testing.assert_allclose(N * out["loss"], LOSS, rtol=2e-9)
    np.testing.assert_allclose(out["q"], Q, rtol=2e-9)
    np.testing.assert_allclose(out["own"], N * out["loss"], rtol=1e-12)
    np.testing.assert_allclose(out["rows"], out["loss"], rtol=1e-12)


@pytest.mark.slow
def test_volterra_equation_is_of_second_order():
    system = MultiPassSGD(reference(), 0.5)
    errors = [abs(N * float(volterra(system, 3.0, steps)[1][-1]) - LOSS[3]) for steps in (60, 240)]
    assert errors[1] < 1e-4
    assert 14 < errors[0] / errors[1] < 18


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
def test_derivatives_of_both_modes():
    plain = plain_reference()

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


def test_the_closed_form_knows_no_ridge():
    with pytest.raises(ValueError, match="solver: Spectral"):
        MultiPassSGD(plain_reference(), 0.5, ridge=0.1, solver=Spectral())
