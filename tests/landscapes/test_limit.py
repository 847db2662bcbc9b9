"""The inverse-free limit: reference values, closed forms, derivatives, float32."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hdjax as hd
from hdjax.landscapes.algorithms import GradientDescent, LowerTriangular, SphereDescent
from hdjax.landscapes.kernels import Matern32, SpinGlass
from hdjax.landscapes.kernels import SquaredExponential as SE
from hdjax.landscapes.limit import Problem, trajectory
from hdjax.landscapes.rates import Steps
from tests.landscapes.problems import curve


def test_reference_values(reference):
    system, values, gradients = reference
    found = system.limit(np.arange(float(len(values))), save=curve).values
    np.testing.assert_allclose(found[0], values, atol=1e-9)
    np.testing.assert_allclose(found[1], gradients, atol=1e-9)


def test_reference_inner_products(references):
    for name, expected in {
        "GD on SE": (0.0232585694, 3.3658072735, 1.0),
        "RFD on SE": (0.0887192067, 4.2049118448, None),
        "sphere GD on a mixed spin glass": (3.4998837410, 1.0, 0.7137462422),
    }.items():
        last = jax.tree.map(
            lambda leaf: leaf[-1], references[name][0]().limit(np.arange(7.0)).values
        )
        np.testing.assert_allclose(last.gradients[0], expected[0], atol=1e-9)
        np.testing.assert_allclose(last.norm, expected[1], atol=1e-9)
        if expected[2] is not None:
            np.testing.assert_allclose(last.points[0], expected[2], atol=1e-9)


def test_first_steps_in_closed_form(problem):
    gamma = 0.7
    value, square = problem(SE(), GradientDescent(gamma)).limit(np.arange(2.0), save=curve).values
    np.testing.assert_allclose(value[1], -gamma * np.exp(-(gamma**2) / 2), rtol=1e-13)
    expected = 1 + np.exp(-(gamma**2)) * ((1 - gamma**2) ** 2 - 1)
    np.testing.assert_allclose(square[1], expected, rtol=1e-13)


def test_quadratics_follow_the_semicircle_law(references):
    """f_k = |x_0|^2/2 int h (1 - gamma h)^2k over a semicircle of radius 2 (2c)^1/2 round m."""
    m, c, gamma, n = 2.0, 0.2, 0.3, 20
    found, _ = references["GD on a quadratic"][0]().limit(np.arange(float(n)), save=curve).values
    angle = (np.arange(400) + 0.5) * np.pi / 400
    h = m + 2 * np.sqrt(2 * c) * np.cos(angle)
    density = 2 / np.pi * np.sin(angle) ** 2 * np.pi / 400
    exact = [0.5 * (density * h * (1 - gamma * h) ** (2 * k)).sum() for k in range(n)]
    np.testing.assert_allclose(found, exact, atol=1e-14)


def test_pure_spin_glasses_are_homogeneous(problem):
    """<x_k, g_k> = p f_k, at every step."""
    orders = problem(SpinGlass([0, 0, 0, 1]), SphereDescent(0.1)).limit(np.arange(10.0)).values
    own = jnp.diagonal(orders.point_gradients)
    np.testing.assert_allclose(own, 3 * orders.value, atol=1e-13)


def test_stationary_limits_do_not_see_the_start(problem):
    near, far = (
        problem(SE(), GradientDescent(0.5), radius=r).limit(np.arange(6.0), save=curve).values
        for r in (0.0, 3.0)
    )
    np.testing.assert_allclose(near[0], far[0], atol=1e-13)


@pytest.mark.slow
def test_panels_do_not_change_the_numbers(monkeypatch, references):
    system = references["CG on SE"][0]()
    plain = trajectory(system.problem, 11, curve)
    monkeypatch.setattr("hdjax.landscapes.limit._SHORT", 4)
    for one, other in zip(plain, trajectory(system.problem, 11, curve), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12)


def test_spin_glass_descends_towards_the_threshold(problem):
    """3-spin on the sphere: -1.562 at 125 steps of size 0.1, above -2 (2/3)^1/2."""
    value, _ = (
        problem(SpinGlass([0, 0, 0, 1]), SphereDescent(0.1))
        .limit(np.arange(126.0), save=curve)
        .values
    )
    np.testing.assert_allclose(value[125], -1.562, atol=1e-3)
    assert np.all(np.diff(value) < 0)
    assert value[125] > -2 * np.sqrt(2 / 3)


@pytest.mark.slow
def test_derivatives_agree_with_differences(problem):
    def last(parameters):
        gamma, scale, radius = parameters
        kernel = SE(scale=scale) + SpinGlass([0.0, 0.0, 0.1])
        system = problem(kernel, GradientDescent(gamma), [0.0, 0.5], radius)
        return system.limit(np.arange(5.0), save=lambda order: order.value).values[-1]

    at = jnp.array([0.4, 0.9, 1.1])
    gradient = jax.jit(jax.grad(last))(at)
    step = 1e-5 * jnp.eye(3)
    values = jax.jit(jax.vmap(last))(jnp.concatenate([at[None] + step, at[None] - step]))
    np.testing.assert_allclose(gradient, (values[:3] - values[3:]) / 2e-5, rtol=1e-7)


def test_schedules_and_matrices_are_the_same_method(problem):
    steps = [0.7, 0.5, 0.9]
    matrix = np.tril(np.tile(steps, (3, 1)))
    one, other = (
        problem(SE(), algorithm).limit(np.arange(4.0), save=curve).values
        for algorithm in (GradientDescent(Steps(steps)), LowerTriangular(matrix))
    )
    np.testing.assert_allclose(one[0], other[0], atol=1e-14)


def test_float32_serves(problem):
    system = problem(SpinGlass([0, 0, 0, 1]), SphereDescent(0.1))
    single = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), system.problem)
    assert isinstance(single, Problem)
    value, square = trajectory(single, 50, curve)
    exact, exact_square = trajectory(system.problem, 50, curve)
    assert value.dtype == jnp.float32
    # A rate of 0.1 is itself rounded.
    np.testing.assert_allclose(value, exact, atol=5e-6)
    np.testing.assert_allclose(square, exact_square, atol=1e-4)


def test_mini_batch_noise(problem):
    system = problem(
        SpinGlass([0, 0, 0.3, 0.4]),
        hd.landscapes.algorithms.HeavyBall(0.15, 0.3),
        [0, 2],
        noise=SpinGlass([0, 0.4, 0.5]),
    )
    value, square = system.limit(np.arange(7.0), save=curve).values
    expected = [1, 0.4108, 0.214215327, 0.148570698, 0.110379634, 0.086045055, 0.070095169]
    np.testing.assert_allclose(value, expected, atol=1e-9)
    expected = [7.2, 2.4807768, 1.355411627, 1.068762758, 0.897696753, 0.791538891, 0.724980888]
    np.testing.assert_allclose(square, expected, atol=1e-9)


def test_repeated_points_are_harmless(problem):
    """Without motion every observation is the first one, Matern 3/2 at h = 0 included."""
    value, square = (
        problem(Matern32(), GradientDescent(0.0)).limit(np.arange(4.0), save=curve).values
    )
    np.testing.assert_allclose(value, 0.0, atol=1e-14)
    np.testing.assert_allclose(square, 3.0, atol=1e-13)
