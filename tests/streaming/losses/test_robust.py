"""Robust losses: moments in closed form, log-cosh against adaptive quadrature, wrong input."""

from typing import ClassVar

import numpy as np
import pytest
from scipy.integrate import quad

from hdjax.streaming.losses import AbsoluteError, Huber, LogCosh
from tests.streaming.losses.closed_forms import ClosedForms, Reference, law, moments
from tests.streaming.models import B


class TestClosedForms(ClosedForms):
    cases: ClassVar = {
        "huber": Reference(
            Huber(0.7, sigma=(0.3, 3.0), probabilities=(0.8, 0.2)),
            0.6735394583,
            (0.3923786530, -0.3923786530),
            0.3590872085,
            2e-3,
        ),
        "absolute": Reference(
            AbsoluteError(sigma=(0.3, 3.0), probabilities=(0.8, 0.2)),
            1.2646935864,
            (0.5911278082, -0.5911278082),
            1.0,
            2e-3,
        ),
    }


def test_log_cosh_against_adaptive_quadrature():
    """f = a/2 u^2 + (b - a) log cosh u with u ~ N(0, D): f' = a u + (b - a) tanh u."""
    a, b, s = 0.4, 2.0, np.sqrt(B[0, 0] - 2 * B[0, 1] + B[1, 1])

    def mean(f):
        density = lambda u: np.exp(-((u / s) ** 2) / 2) / (s * np.sqrt(2 * np.pi))  # noqa: E731
        return quad(lambda u: f(u) * density(u), -12 * s, 12 * s, points=[0], epsabs=1e-12)[0]

    found = moments(LogCosh(a, b), law(B, 1), 0, None)
    risk = mean(lambda u: a / 2 * u**2 + (b - a) * np.log(np.cosh(u)))
    h = mean(lambda u: a + (b - a) / np.cosh(u) ** 2)
    noise = mean(lambda u: (a * u + (b - a) * np.tanh(u)) ** 2)
    np.testing.assert_allclose(found.risk, risk, rtol=1e-7)
    np.testing.assert_allclose(found.stein[:, 0], [h, -h], rtol=1e-7)
    np.testing.assert_allclose(found.noise[0, 0], noise, rtol=1e-7)


def test_hubers_loss_of_a_large_delta_is_least_squares():
    """No residual reaches delta: R = (D + sigma^2)/2, H = (1, -1) and C = D + sigma^2."""
    found, variance = moments(Huber(60.0, 0.5), law(B, 1), 0, None), 1.3 + 0.25
    np.testing.assert_allclose(found.risk, variance / 2, rtol=1e-12)
    np.testing.assert_allclose(found.stein[:, 0], [1, -1], rtol=1e-12)
    np.testing.assert_allclose(found.noise[0, 0], variance, rtol=1e-12)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Huber(0.0), "delta: 0"),
        (lambda: Huber(1.0, sigma=(1.0, 2.0)), "sigma, probabilities: shapes"),
        (lambda: AbsoluteError(sigma=-1.0), "sigma: "),
        (lambda: LogCosh(2.0, 1.0), "convexity, smoothness: 2.0, 1.0; allowed: convexity at most"),
        (lambda: LogCosh(-1.0), r"convexity: -1\.0; allowed: a finite number, at least 0"),
    ],
)
def test_wrong_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()
