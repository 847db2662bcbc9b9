"""Algorithms against plain formulas in R^d, in other bases."""

import numpy as np
import pytest

from hdjax.landscapes import GradientSpan
from hdjax.landscapes.algorithms import (
    BarzilaiBorwein,
    ConjugateGradient,
    GradientDescent,
    HeavyBall,
    LowerTriangular,
    Nesterov,
    SphereDescent,
)
from hdjax.landscapes.kernels import SquaredExponential
from tests.landscapes.plain import START, STEPS, assert_formula, assert_rest, descended, g, norm

MATRIX = np.tril(np.linspace(0.1, 0.4, STEPS**2).reshape(STEPS, STEPS))


def barzilai_borwein(k, points, variant):
    if k == 0:
        return 0.1
    s, y = points[-1] - points[-2], g(points[-1]) - g(points[-2])
    rate = s @ s / abs(s @ y) if variant == 1 else abs(s @ y) / (y @ y)
    return np.clip(rate, 0.2, 0.9)


def conjugate(beta):
    points, p = [START], None
    for _ in range(STEPS):
        now = g(points[-1])
        p = -now if p is None else beta(now, g(points[-2]), p) * p - now
        points.append(points[-1] + 0.3 * p)
    return points


def heavy_ball():
    points = [START, START]
    for _ in range(STEPS):
        points.append(points[-1] - 0.3 * g(points[-1]) + 0.4 * (points[-1] - points[-2]))
    return points[1:]


def nesterov():
    points, last = [START], START
    for _ in range(STEPS):
        ahead = points[-1] - 0.3 * g(points[-1])
        points.append(ahead + 0.4 * (ahead - last))
        last = ahead
    return points


def sphere():
    points = [START]
    for _ in range(STEPS):
        x = points[-1]
        moved = x - 0.3 * (g(x) - (x @ g(x)) / (x @ x) * x)
        points.append(norm(START) * moved / norm(moved))
    return points


def triangular():
    points = [START]
    for k in range(STEPS):
        points.append(START - sum(MATRIX[k, j] * g(points[j]) for j in range(k + 1)))
    return points


# name: (algorithm, points by its formula)
PLAIN = {
    "heavy ball": (HeavyBall(0.3, 0.4), heavy_ball()),
    "Nesterov": (Nesterov(0.3, 0.4), nesterov()),
    "FR": (ConjugateGradient(0.3, "FR"), conjugate(lambda g, h, p: g @ g / (h @ h))),
    "PR": (ConjugateGradient(0.3, "PR"), conjugate(lambda g, h, p: g @ (g - h) / (h @ h))),
    "PR+": (
        ConjugateGradient(0.3, "PR+"),
        conjugate(lambda g, h, p: max(0, g @ (g - h) / (h @ h))),
    ),
    "HS": (ConjugateGradient(0.3, "HS"), conjugate(lambda g, h, p: g @ (g - h) / (p @ (g - h)))),
    "BB1": (
        BarzilaiBorwein(0.1, 1, 0.2, 0.9),
        descended(lambda k, x: barzilai_borwein(k, x, 1)),
    ),
    "BB2": (
        BarzilaiBorwein(0.1, 2, 0.2, 0.9),
        descended(lambda k, x: barzilai_borwein(k, x, 2)),
    ),
    "sphere": (SphereDescent(0.3), sphere()),
    "lower triangular": (LowerTriangular(MATRIX), triangular()),
}


@pytest.mark.parametrize("name", PLAIN)
def test_algorithms_are_their_formulas_in_any_basis(name):
    assert_formula(*PLAIN[name])


@pytest.mark.parametrize("name", sorted(set(PLAIN) - {"heavy ball", "Nesterov"}))
def test_nothing_moves_without_a_gradient(name):
    assert_rest(PLAIN[name][0])


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: GradientDescent("fast"), TypeError, "fast"),
        (lambda: GradientDescent(-0.1), ValueError, r"-0\.1"),
        (lambda: HeavyBall(0.1, -0.5), ValueError, r"-0\.5"),
        (lambda: Nesterov(0.1, "much"), TypeError, "much"),
        (lambda: ConjugateGradient(0.1, "DY"), ValueError, "formula: 'DY'; allowed: FR, PR, PR"),
        (
            lambda: BarzilaiBorwein(0.0),
            ValueError,
            r"initial: 0\.0; allowed: a finite number, above 0",
        ),
        (lambda: BarzilaiBorwein(0.1, 3), ValueError, "variant: 3; allowed: 1, 2"),
        (
            lambda: BarzilaiBorwein(0.1, low=-1),
            ValueError,
            "low: -1; allowed: a finite number, at least 0",
        ),
        (
            lambda: BarzilaiBorwein(0.1, high=0),
            ValueError,
            "high: 0; allowed: a finite number, above 0",
        ),
        (lambda: LowerTriangular([[1.0, 0.0]]), ValueError, r"matrix: shape \(1, 2\)"),
        (lambda: LowerTriangular([1.0]), ValueError, "matrix: an array of shape"),
        (
            lambda: LowerTriangular([[np.inf]]),
            ValueError,
            r"matrix: \[\[inf\]\]; allowed: an array of finite real numbers",
        ),
        (
            lambda: GradientSpan(SquaredExponential(), SphereDescent(0.1), 5, radius=0),
            ValueError,
            "SphereDescent",
        ),
    ],
)
def test_wrong_arguments(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_a_gradient_that_comes_too_late_is_warned_of():
    with pytest.warns(UserWarning, match="the most recent gradient is not used"):
        LowerTriangular([[0.1, 0.0], [0.2, 0.0]])
