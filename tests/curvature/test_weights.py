"""The small matrices of samples against closed forms of softmax and of two ReLU layers."""

import jax.numpy as jnp
import numpy as np
import pytest

from hdjax.curvature.weights import check_kind, small_matrix, small_size
from hdjax.streaming import losses

NONE = jnp.zeros(0)


def test_softmax_has_the_covariance_of_its_classes():
    x = np.array([0.3, -1.2, 0.8])
    pi = np.exp(x) / np.exp(x).sum()
    loss = losses.MixtureSoftmax(3, labels=[2, 0])
    hessian = small_matrix(loss, "hessian", jnp.asarray(x), NONE, 0, NONE, None)
    np.testing.assert_allclose(hessian, np.diag(pi) - np.outer(pi, pi), atol=1e-15)
    for component, label in enumerate((2, 0)):
        square = small_matrix(loss, "gradient", jnp.asarray(x), NONE, component, NONE, None)
        slope = pi - np.eye(3)[label]
        np.testing.assert_allclose(square, np.outer(slope, slope), atol=1e-15)


def test_two_layers_have_their_blocks_in_order():
    """First the projections, then the second layer; a unit that is off has no part in it."""
    x, theta = np.array([0.7, -0.4, 1.1]), np.array([0.5, 2.0, -0.8])
    active, on = np.maximum(x, 0), (x > 0).astype(float)
    output = theta @ active
    loss = losses.MixtureLogistic([1.0, 0.0], losses.Perceptron("relu"))
    p = 1 / (1 + np.exp(-output))
    slope = np.concatenate([theta * on, active])
    mixed = np.diag(on)
    second = np.block([[np.zeros((3, 3)), mixed], [mixed, np.zeros((3, 3))]])
    for component, label in enumerate((1.0, 0.0)):
        arguments = jnp.asarray(x), NONE, component, NONE, jnp.asarray(theta)
        hessian = small_matrix(loss, "hessian", *arguments)
        expected = p * (1 - p) * np.outer(slope, slope) + (p - label) * second
        np.testing.assert_allclose(hessian, expected, atol=1e-15)
        square = small_matrix(loss, "gradient", *arguments)
        np.testing.assert_allclose(square, (p - label) ** 2 * np.outer(slope, slope), atol=1e-15)


def test_side_parameters_of_any_shape_are_counted():
    assert small_size(3, None) == 3
    assert small_size(2, (jnp.ones((4, 2)), jnp.ones(4))) == 14


def test_other_matrices_are_refused():
    with pytest.raises(ValueError, match="kind: 'fisher'; allowed: hessian, gradient"):
        check_kind("fisher")
    with pytest.raises(ValueError, match="kind: 'Hessian'"):
        small_matrix(losses.MixtureSoftmax(2), "Hessian", jnp.zeros(2), NONE, 0, NONE, None)
