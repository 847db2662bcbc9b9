"""Losses of several columns: softmax and committees; label noise that is a mixture."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hdjax as hd
from hdjax.gaussian import QMC, Trapezoid
from hdjax.streaming import losses, moments
from hdjax.streaming.losses import Committee, ErfCommittee, Softmax
from hdjax.streaming.moments import quadrature_moments as generic
from hdjax.streaming.projections import Projections

LOWER = np.array([[1.0, 0, 0, 0], [0.3, 0.8, 0, 0], [0.5, -0.2, 0.9, 0], [-0.1, 0.4, 0.2, 0.7]])
GRAM = LOWER @ LOWER.T


def law(gram=GRAM, students=2):
    return Projections.natural(jnp.asarray(gram), students)


def agree(found, expected, tolerance):
    for name in ("risk", "stein", "noise", "theta_gradient"):
        a, b = getattr(found, name), getattr(expected, name)
        if b is not None:
            np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance, err_msg=name)


def derivative_of_risk(loss, gram, m, theta=None):
    """(B H)_{ab} by autodiff of R((I + hE)^T B (I + hE)), E = e_a e_b^T (math, section 3)."""

    def risk(step):
        matrix = jnp.eye(len(gram)).at[:, :m].add(step)
        return moments(loss, law(matrix.T @ gram @ matrix, m), 0, theta).risk

    return jax.grad(risk)(jnp.zeros((len(gram), m)))


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
    agree(found, erf_by_quadrature(), 1e-4)
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
    agree(found, generic(Softmax(3, labels), law(THREE, 3), 0, None, QMC(15)), 1e-2)
    slope = derivative_of_risk(Softmax(3, labels), THREE, 3)
    np.testing.assert_allclose(slope, THREE @ found.stein, atol=1e-7)
    np.testing.assert_allclose(found.stein[:3].sum(0), 0, atol=1e-12)


def test_gaussian_mixture_noise_draws():
    noise = losses.GaussianMixtureNoise([0.3, 3.0], [0.8, 0.2])
    z = jax.random.normal(jax.random.key(0), (100_000, 2))
    draws = np.asarray(jax.vmap(noise)(z))[:, 0]
    variance = 0.8 * 0.09 + 0.2 * 9
    fourth = 3 * (0.8 * 0.3**4 + 0.2 * 81)
    assert abs((draws**2).mean() - variance) < 4 * np.sqrt((fourth - variance**2) / 1e5)
    inside = (np.abs(draws) < 1).mean()
    erf = jax.scipy.special.erf
    share = 0.8 * erf(1 / (0.3 * np.sqrt(2))) + 0.2 * erf(1 / (3 * np.sqrt(2)))
    assert abs(inside - share) < 4 * np.sqrt(share * (1 - share) / 1e5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Softmax(1), "classes: 1"),
        (lambda: Softmax(3, "hard"), "labels: 'hard'"),
        (lambda: losses.Huber(0.0), "delta: 0"),
        (lambda: losses.Huber(1.0, sigma=(1.0, 2.0)), "sigma, probabilities: shapes"),
        (lambda: losses.AbsoluteError(sigma=-1.0), "sigma: "),
        (lambda: losses.GaussianMixtureNoise([1.0, 2.0], [0.5, 0.4]), "sum 0.9"),
        (lambda: ErfCommittee([[1.0]]), "teacher_weights: shape"),
        (lambda: Committee(jnp.tanh, [1.0], [np.nan]), "weights: "),
        (lambda: system(ErfCommittee([1.0])), "theta: None"),
        (lambda: system(ErfCommittee([1.0, 1.0], [1.0])), "allowed with these second layers"),
        (lambda: system(Softmax(3)), r"allowed with Softmax\(3\)"),
    ],
)
def test_wrong_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def system(loss):
    law = hd.streaming.GaussianStart()
    return hd.streaming.OnePassSGD(loss, hd.spectra.identity(10), 0.5, law, law)
