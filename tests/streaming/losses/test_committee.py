"""Committees: reference values, quadrature, integration by parts, trained second layers."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hdjax.gaussian import QMC, Trapezoid
from hdjax.streaming.losses import Committee, ErfCommittee
from hdjax.streaming.moments import quadrature_moments as generic
from tests.streaming.losses.closed_forms import assert_agree, derivative_of_risk, law, moments
from tests.streaming.models import GRAM, isotropic


@pytest.mark.slow
def test_erf_committee_reference():
    loss = ErfCommittee(teacher_weights=[0.7, 1.2], weights=[1.0, -0.5], sigma=0.2)
    found = moments(loss, law(), 0, None)
    np.testing.assert_allclose(found.risk, 0.4597920249, rtol=2e-9)
    column = [0.2450952810, -0.1733944438, -0.2242227193, -0.4149172778]
    np.testing.assert_allclose(found.stein[:, 0], column, rtol=2e-9)
    noise = [[0.3207186075, -0.1491752886], [-0.1491752886, 0.0910118613]]
    np.testing.assert_allclose(found.noise, noise, rtol=2e-9)
    np.testing.assert_allclose(derivative_of_risk(loss, GRAM, 2), GRAM @ found.stein, atol=1e-10)


@functools.cache
def erf_by_quadrature():
    """The generic path with a second layer that is trained: 15^5 nodes, label noise included."""
    loss = Committee(
        lambda u: jax.scipy.special.erf(u / jnp.sqrt(2.0)),
        [0.7, 1.2],
        rule=Trapezoid(15, radius=5.5),
    )
    return jax.jit(lambda v: generic(loss, law(), 0, v))(jnp.array([1.0, -0.5]))


def test_erf_committee_against_the_generic_path():
    trained = ErfCommittee(teacher_weights=[0.7, 1.2])
    found = moments(trained, law(), 0, jnp.array([1.0, -0.5]))
    assert_agree(found, erf_by_quadrature(), 1e-4)
    assert np.abs(found.theta_gradient).min() > 0.01


def test_trained_second_layer_descends_the_risk():
    trained, v = ErfCommittee(teacher_weights=[0.7, 1.2], sigma=0.2), jnp.array([1.0, -0.5])
    found = moments(trained, law(), 0, v)
    slope = jax.grad(lambda v: moments(trained, law(), 0, v).risk)(v)
    np.testing.assert_allclose(found.theta_gradient, slope, rtol=1e-10)


@pytest.mark.slow
def test_relu_committee_by_integration_by_parts():
    """E phi' phi' = (pi - angle)/(2 pi) and E phi'' phi = S/(2 pi B_ii) for ReLU."""
    v, v_star = np.array([1.0, -0.5]), np.array([0.7, 1.2])
    loss = Committee(jax.nn.relu, v_star, v, sigma=0.1, smooth=False, rule=QMC(15))
    found = moments(loss, law(), 0, None)
    diagonal = np.diag(GRAM)
    spread = np.sqrt(np.maximum(np.outer(diagonal, diagonal) - GRAM**2, 0))
    angle = np.arctan2(spread, GRAM)
    slopes = (np.pi - angle) / (2 * np.pi)
    bends = spread / (2 * np.pi * diagonal[:, None])
    w = np.concatenate([v, -v_star])
    h = w[:, None] * slopes[:, :2] * v[None]
    h[[0, 1], [0, 1]] += v * (bends @ w)[:2]
    np.testing.assert_allclose(found.stein, h, atol=2e-2)
    products = (spread + (np.pi - angle) * GRAM) / (2 * np.pi)
    np.testing.assert_allclose(found.risk, (w @ products @ w + 0.01) / 2, rtol=5e-3)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ErfCommittee([[1.0]]), "teacher_weights: shape"),
        (lambda: Committee(jnp.tanh, [1.0], [np.nan]), "weights: "),
        (lambda: isotropic(ErfCommittee([1.0])), "theta: None"),
        (lambda: isotropic(ErfCommittee([1.0, 1.0], [1.0])), "allowed with these second layers"),
    ],
)
def test_wrong_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()
