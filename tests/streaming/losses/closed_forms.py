"""Tests of losses in closed form: reference values, quadrature, Stein's identity, singular laws."""

from typing import Any, ClassVar, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hdjax.gaussian import QMC
from hdjax.streaming import losses
from hdjax.streaming.moments import moments, quadrature_moments
from hdjax.streaming.projections import Projections
from tests.streaming.models import GRAM, B

# One compiled program takes a fraction of the time of its operations one by one.
moments, quadrature_moments = map(eqx.filter_jit, (moments, quadrature_moments))
FRAMES = ["natural", "centred"]
SINGULAR = [np.ones((2, 2)), np.zeros((2, 2)), np.diag([0.0, 1.0])]
# frame of W' = [X - X* | X*]: B = A^T B' A.
CENTRE = np.array([[1.0, 0.0], [1.0, 1.0]])


class Reference(NamedTuple):
    """A loss, its R, H and C under the covariance B, and the accuracy of quadrature there.

    A loss with `hard` labels, the signs of x*, is not defined where x* is zero.
    """

    loss: Any
    risk: float
    h: tuple[float, float]
    c: float
    tolerance: float
    hard: bool = False


def law(gram=GRAM, students=2):
    """The centred law of a covariance, in natural coordinates."""
    return Projections.natural(jnp.asarray(gram), students)


def in_frame(frame):
    """The law of the covariance B, in natural or in centred coordinates."""
    if frame == "natural":
        return law(B, 1)
    inverse = np.linalg.inv(CENTRE)
    return Projections(jnp.asarray(inverse.T @ B @ inverse), jnp.asarray(CENTRE), 1)


class ClosedForms:
    """The tests of losses in closed form; a subclass names them in `cases`."""

    cases: ClassVar[dict[str, Reference]]

    @pytest.mark.parametrize("frame", FRAMES)
    def test_reference_values(self, case, frame):
        law = in_frame(frame)
        found = moments(case.loss, law, 0, None)
        natural = np.linalg.solve(np.asarray(law.frame), np.asarray(found.stein))
        np.testing.assert_allclose(found.risk, case.risk, rtol=2e-9)
        np.testing.assert_allclose(natural[:, 0], case.h, rtol=2e-9)
        np.testing.assert_allclose(found.noise[0, 0], case.c, rtol=2e-9)

    @pytest.mark.parametrize("frame", FRAMES)
    def test_generic_path_agrees(self, case, frame):
        # Non-smooth losses: a tensor rule meets the jump at a random place of its grid.
        loss, tolerance, law = case.loss, case.tolerance, in_frame(frame)
        closed, generic = moments(loss, law, 0, None), quadrature_moments(loss, law, 0, None)
        np.testing.assert_allclose(generic.risk, closed.risk, rtol=tolerance)
        np.testing.assert_allclose(generic.stein, closed.stein, rtol=tolerance, atol=tolerance)
        np.testing.assert_allclose(generic.noise, closed.noise, rtol=tolerance)

    @pytest.mark.slow
    def test_derivative_of_risk_is_b_h(self, case):
        assert_derivative(case.loss)

    @pytest.mark.slow
    def test_singular_b_is_finite_with_gradient(self, case, gram):
        assert_finite(case.loss, gram)


def assert_derivative(loss):
    """d/dh R((I + hE)^T B (I + hE)) at 0 with E = e_a e_1^T is (B H)_{a1} (math, section 3)."""
    found = moments(loss, law(B, 1), 0, None)

    def risk(step, a):
        matrix = jnp.eye(2).at[a, 0].add(step)
        return moments(loss, law(matrix.T @ B @ matrix, 1), 0, None).risk

    expected = B @ np.asarray(found.stein)
    smooth = loss.smooth or not isinstance(loss, losses.FunctionLoss)
    for a in range(2):
        derivative = jax.jacfwd(risk)(0.0, a)
        np.testing.assert_allclose(
            derivative, expected[a, 0], rtol=1e-7 if smooth else 1e-2, atol=1e-8
        )


def assert_finite(loss, gram):
    """The drift and the risk have finite values and derivatives under a singular covariance."""

    def drift(gram):
        found = moments(loss, law(gram, 1), 0, None)
        return jnp.sum(gram @ found.stein) + jnp.sum(found.noise) + found.risk

    value, gradient = jax.value_and_grad(drift)(jnp.asarray(gram))
    assert np.isfinite(value)
    if gram.any():
        assert np.isfinite(gradient).all()


def assert_flips(loss, gram):
    """Moments with flipped labels are those of quadrature, and without flips those of no flip."""
    law = Projections.natural(jnp.asarray(gram), 1)
    closed = moments(loss, law, 0, None)
    found = quadrature_moments(loss, law, 0, None, QMC(16))
    for name in ("risk", "stein", "noise"):
        np.testing.assert_allclose(getattr(found, name), getattr(closed, name), atol=1.5e-3)
    never = moments(type(loss)(flip=0.0), law, 0, None)
    plain = moments(type(loss)(), law, 0, None)
    np.testing.assert_allclose(never.stein, plain.stein, rtol=1e-12)
    np.testing.assert_allclose(never.noise, plain.noise, rtol=1e-12)


def assert_agree(found, expected, tolerance):
    """All moments that are given agree."""
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
