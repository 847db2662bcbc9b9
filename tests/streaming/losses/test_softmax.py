"""Softmax regression: two classes are logistic regression, three agree with quadrature."""

import numpy as np
import pytest

from hdjax.gaussian import QMC
from hdjax.streaming import losses
from hdjax.streaming.losses import Softmax
from tests.streaming.losses.closed_forms import (
    assert_agree,
    derivative_of_risk,
    law,
    moments,
    quadrature_moments,
)
from tests.streaming.models import GRAM, isotropic


@pytest.mark.slow
@pytest.mark.parametrize("labels", ["soft", "sampled"])
def test_softmax_of_two_classes_is_logistic(labels):
    found = moments(Softmax(2, labels), law(), 0, None)
    difference = np.kron(np.eye(2), [[1.0], [-1.0]])
    pair = moments(losses.Logistic(labels), law(difference.T @ GRAM @ difference, 1), 0, None)
    sign = np.array([[1.0, -1.0]])
    np.testing.assert_allclose(found.risk, pair.risk, rtol=1e-9)
    np.testing.assert_allclose(found.stein, difference @ pair.stein @ sign, atol=1e-10)
    np.testing.assert_allclose(found.noise, sign.T @ pair.noise @ sign, atol=1e-9)


THREE = np.random.default_rng(0).normal(size=(9, 6)) / 3
THREE = THREE.T @ THREE


@pytest.mark.slow
@pytest.mark.parametrize("labels", ["soft", "sampled"])
def test_softmax_of_three_classes_against_the_generic_path(labels):
    found = moments(Softmax(3, labels), law(THREE, 3), 0, None)
    generic = quadrature_moments(Softmax(3, labels), law(THREE, 3), 0, None, QMC(15))
    assert_agree(found, generic, 1e-2)
    slope = derivative_of_risk(Softmax(3, labels), THREE, 3)
    np.testing.assert_allclose(slope, THREE @ found.stein, atol=1e-7)
    np.testing.assert_allclose(found.stein[:3].sum(0), 0, atol=1e-12)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Softmax(1), "classes: 1"),
        (lambda: Softmax(3, "hard"), "labels: 'hard'"),
        (lambda: isotropic(Softmax(3)), r"allowed with Softmax\(3\)"),
    ],
)
def test_wrong_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()
