"""Least squares: moments in closed form, label noise that is a mixture, several columns."""

from typing import ClassVar

import numpy as np
import pytest

import hdjax as hd
from hdjax.streaming import GaussianStart, OnePassSGD
from hdjax.streaming.losses import LeastSquares
from tests.streaming.losses.closed_forms import ClosedForms, Reference, law, moments
from tests.streaming.models import GRAM, B


class TestClosedForms(ClosedForms):
    cases: ClassVar = {
        "least_squares": Reference(LeastSquares(sigma=0.5), 0.775, (1.0, -1.0), 1.55, 1e-9)
    }


def test_scale_and_mixture_of_label_noise():
    """R = c/2 (D + E sigma^2), H = c (1, -1), C = c^2 (D + E sigma^2), by hand."""
    loss = LeastSquares([0.3, 2.0], scale=1.5, probabilities=[0.8, 0.2])
    found = moments(loss, law(B, 1), 0, None)
    variance = 0.8 - 2 * 0.3 + 1.1 + 0.8 * 0.09 + 0.2 * 4
    np.testing.assert_allclose(found.risk, 0.75 * variance, rtol=1e-12)
    np.testing.assert_allclose(found.stein[:, 0], [1.5, -1.5], rtol=1e-12)
    np.testing.assert_allclose(found.noise[0, 0], 2.25 * variance, rtol=1e-12)


def test_two_columns_against_the_covariance_of_the_errors():
    """The errors x - x* - noise of two columns, by the linear map (I, -I) of the projections."""
    found = moments(LeastSquares(sigma=0.4, columns=2), law(), 0, None)
    difference = np.kron(np.array([[1.0], [-1.0]]), np.eye(2))
    errors = difference.T @ GRAM @ difference + 0.16 * np.eye(2)
    np.testing.assert_allclose(found.risk, np.trace(errors) / 2, rtol=1e-12)
    np.testing.assert_allclose(found.noise, errors, rtol=1e-12)
    np.testing.assert_allclose(found.stein, difference, rtol=1e-12)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LeastSquares(sigma=-1.0), "sigma"),
        (lambda: LeastSquares(scale=0.0), r"scale: 0\.0; allowed: a finite number, above 0"),
        (lambda: LeastSquares([0.1, 1.0], columns=2, probabilities=[0.5, 0.5]), "columns: 2"),
        (
            lambda: OnePassSGD(
                LeastSquares(),
                hd.spectra.identity(20),
                0.1,
                GaussianStart(),
                np.ones((20, 2)),
            ),
            "1 student and 2 teacher",
        ),
    ],
)
def test_wrong_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()
