"""The previsible frame: covariances, block structure, and the law of the next observation in it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hdjax.landscapes.frame import (
    block_covariance,
    conditional_law,
    jet_at,
    previsible_frame,
    rotated_covariance,
)
from hdjax.landscapes.kernels import Amplitude, Matern32, Matern52, SpinGlass, SquaredExponential
from tests.landscapes.problems import OTHERS, STATIONARY, X, Y

KERNELS = STATIONARY | OTHERS


@pytest.mark.slow
@pytest.mark.parametrize("name", KERNELS)
def test_block_covariance_is_the_derivative_of_the_covariance(name):
    kernel = KERNELS[name]

    def covariance(x, y):
        return jet_at(kernel, x, y).value

    block = block_covariance(kernel, X, Y)
    np.testing.assert_allclose(block[0, 0], covariance(X, Y))
    np.testing.assert_allclose(block[1:, 0], jax.grad(covariance)(X, Y), atol=1e-13)
    np.testing.assert_allclose(block[0, 1:], jax.grad(covariance, 1)(X, Y), atol=1e-13)
    mixed = jax.jacfwd(jax.grad(covariance), 1)(X, Y)
    np.testing.assert_allclose(block[1:, 1:], mixed, atol=1e-12)
    np.testing.assert_allclose(block_covariance(kernel, Y, X), block.T, atol=1e-13)


def test_reference_blocks():
    modulated = block_covariance(Amplitude([1, 0.3]) * SquaredExponential(), X, Y)
    expected = [
        [0.862835742, 0.370636831, -0.354910268],
        [-0.221104243, 0.767858944, 0.090946819],
        [0.381805849, 0.164007242, 0.705787523],
    ]
    np.testing.assert_allclose(modulated, expected, atol=1e-9)
    expected = [
        [0.695715609, 0.395845184, -0.494806480],
        [-0.395845184, 0.561307061, 0.535382374],
        [0.494806480, 0.535382374, 0.320384993],
    ]
    np.testing.assert_allclose(block_covariance(Matern32(), X, Y), expected, atol=1e-9)


KERNEL = Amplitude([1, 0.3]) * Matern52(1.0, 1.2) + SpinGlass([0, 0.3, 0.2])
D, N = 9, 3


@pytest.fixture(scope="module")
def trajectory():
    """Gradients in general position, points that they span, and their frame."""
    keys = jax.random.split(jax.random.key(0))
    start = jax.random.normal(keys[0], (D,)) / 3
    gradients = jax.random.normal(keys[1], (N, D)) / 3
    points = jnp.stack([start, start - 0.5 * gradients[0]])
    points = jnp.concatenate([points, (points[1] - 0.4 * gradients[1] - 0.1 * gradients[0])[None]])
    return points, gradients, previsible_frame(start, gradients)


def test_frame_is_previsible(trajectory):
    points, gradients, frame = trajectory
    np.testing.assert_allclose(frame @ frame.T, np.eye(D), atol=1e-13)
    np.testing.assert_allclose(points[0], np.linalg.norm(points[0]) * frame[0], atol=1e-13)
    for k in range(N):
        # x_k has no part beyond e_k, and g_k a positive one along e_{k+1}, none beyond.
        np.testing.assert_allclose((frame @ points[k])[k + 1 :], 0, atol=1e-13)
        np.testing.assert_allclose((frame @ gradients[k])[k + 2 :], 0, atol=1e-13)
        assert (frame @ gradients[k])[k + 1] > 0


@pytest.mark.slow
def test_covariance_has_blocks(trajectory):
    """One dense block, and the same N x N matrix kappa_3 in every direction that is left."""
    points, _, frame = trajectory
    covariance = np.asarray(rotated_covariance(KERNEL, points, frame))
    third = np.array([[jet_at(KERNEL, x, y).derivative for y in points] for x in points])
    inner = N + 1
    for c in range(inner, D + 1):
        np.testing.assert_allclose(covariance[c, :, c, :], third, atol=1e-13)
        others = np.delete(covariance[c], c, axis=1)
        np.testing.assert_allclose(others, 0, atol=1e-13)
    assert np.abs(covariance[1, :, 2, :]).max() > 1e-2
    np.testing.assert_allclose(
        covariance.reshape((D + 1) * N, -1), covariance.reshape((D + 1) * N, -1).T, atol=1e-13
    )


@pytest.mark.slow
def test_law_of_the_next_observation(trajectory):
    """Outside of what is spanned: mean 0 and variance s_k^2, the Schur complement of kappa_3."""
    points, gradients, frame = trajectory
    past, x = points[:2], points[2]
    law = conditional_law(KERNEL, lambda r: 0.5 * r, past, jnp.zeros(2), gradients[:2], x)
    mean, covariance = frame @ law.mean[1:], frame @ law.covariance[1:, 1:] @ frame.T
    third = np.array([[jet_at(KERNEL, u, v).derivative for v in points] for u in points])
    s2 = third[2, 2] - third[2, :2] @ np.linalg.solve(third[:2, :2], third[:2, 2])
    np.testing.assert_allclose(mean[3:], 0, atol=1e-12)
    np.testing.assert_allclose(covariance[3:, 3:], s2 * np.eye(D - 3), atol=1e-11)
    np.testing.assert_allclose(covariance[3:, :3], 0, atol=1e-12)
    # It is less than without the past, and the known directions are another matter.
    assert 0 < s2 < third[2, 2] - 1e-3
    assert np.abs(covariance[:3, :3] - s2 * np.eye(3)).max() > 1e-3


@pytest.mark.slow
def test_points_that_do_not_count(trajectory):
    points, gradients, _ = trajectory
    arguments = jnp.ones(3), gradients, 0.9 * points[2]
    masked = conditional_law(
        KERNEL, lambda r: 0.0 * r, points, *arguments, seen=jnp.array([True, True, False])
    )
    plain = conditional_law(
        KERNEL, lambda r: 0.0 * r, points[:2], arguments[0][:2], gradients[:2], arguments[2]
    )
    np.testing.assert_allclose(masked.mean, plain.mean, atol=1e-11)
    np.testing.assert_allclose(masked.covariance, plain.covariance, atol=1e-11)
