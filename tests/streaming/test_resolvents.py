"""The resolvent of a summary: contour integrals of it are all moments."""

import numpy as np
import pytest

import hdjax as hd
from hdjax.streaming import GramStart, OnePassSGD, losses
from hdjax.streaming.resolvents import Resolvent


def test_resolvent_statistic_holds_every_moment():
    spectrum = hd.spectra.explicit([0.5, 2.0], [60, 40])
    block = np.array([[0.6, 0.15], [0.15, 0.9]])
    start = GramStart(np.asarray(spectrum.weights)[:, None, None] * block)
    model = OnePassSGD(losses.Logistic(), spectrum, 3.0, start)
    summary = model.start()
    z = hd.streaming.resolvents.contour(0.5, 2.0, 160)
    weights = hd.streaming.resolvents.contour_weights(0.5, 2.0, 160)
    s = np.asarray(hd.streaming.resolvents.Resolvent(tuple(z))(model, summary))
    s = s[..., 0] + 1j * s[..., 1]
    for power in (0, 1, 2, 3):
        moment = np.einsum("z,zab->ab", weights * z**power, s)
        expected = summary.moment(lambda lam, power=power: lam**power)
        np.testing.assert_allclose(moment, expected, atol=1e-10)


@pytest.mark.parametrize(("low", "high"), [(0.0, 3.0), (1.0, 1.0), (-0.5, 0.2)])
def test_contours_go_round_their_interval_once(low, high):
    """Cauchy's formula: 1 and z e^z inside, 0 outside."""
    z = hd.streaming.resolvents.contour(low, high, 96)
    weights = hd.streaming.resolvents.contour_weights(low, high, 96)
    for inside in (low, (low + high) / 2, high):
        np.testing.assert_allclose(weights @ (1 / (z - inside)), 1, atol=1e-8)
        found = weights @ (z * np.exp(z) / (z - inside))
        np.testing.assert_allclose(found, inside * np.exp(inside), atol=1e-7)
    np.testing.assert_allclose(weights @ (1 / (z - high - 10)), 0, atol=1e-8)


def test_the_resolvent_of_columns_is_that_of_matrices():
    """W^T (z - K)^{-1} W of explicit columns in four dimensions."""
    rng = np.random.default_rng(0)
    columns, eigenvalues = rng.normal(size=(4, 2)), np.array([0.2, 0.7, 1.5, 4.0])
    spectrum = hd.spectra.explicit(eigenvalues)
    model = OnePassSGD(losses.LeastSquares(), spectrum, 0.1, columns[:, 0], columns[:, 1])
    for z in (-1.0 + 0.5j, 2.0 + 0.1j):
        found = np.asarray(Resolvent((z,))(model, model.start()))[0]
        inverse = np.linalg.inv(z * np.eye(4) - np.diag(eigenvalues))
        expected = columns.T @ inverse @ columns
        np.testing.assert_allclose(found[..., 0] + 1j * found[..., 1], expected, rtol=1e-10)


@pytest.mark.parametrize("points", [[], ["a"], [np.nan], np.inf])
def test_points_that_are_no_numbers_are_refused(points):
    with pytest.raises(ValueError, match=r"points: .*; allowed: one or more finite numbers"):
        Resolvent(points)


def test_points_are_hashable_in_every_form():
    forms = [Resolvent(np.array([2.0, 3j])), Resolvent([2.0, 3j]), Resolvent((2.0, 3j))]
    assert len(set(forms)) == 1
    assert Resolvent(1j).points == (1j,)
