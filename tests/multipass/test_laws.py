"""Laws of eigenvalues: closed forms against quadrature and matrices, and edges close to zero."""

import numpy as np
import pytest

from hdjax.multipass.analysis import (
    malthusian_exponent,
    max_learning_rate,
    power_exponent,
    transition_learning_rate,
)
from hdjax.multipass.laws import MarchenkoPastur, SampleCovariance
from hdjax.multipass.rates import near_optimal


@pytest.mark.parametrize("ratio", [0.5, 2.0])
def test_sample_covariances_by_quadrature_and_by_a_matrix(ratio):
    """Two bulks: moments, transforms on both sides of zero, gamma_* and lambda* by their sums."""
    s, shares = np.array([0.3, 5.0]), np.array([0.7, 0.3])
    law = SampleCovariance(ratio, s, shares)
    x, w = law.rule(200)
    atom = max(0, 1 - 1 / ratio)
    np.testing.assert_allclose(w.sum(), 1 - atom, rtol=1e-10)
    np.testing.assert_allclose(w @ x, shares @ s, rtol=1e-10)
    second = shares @ s**2 + ratio * (shares @ s) ** 2
    np.testing.assert_allclose(w @ x**2, second, rtol=1e-10)
    for z in (-0.4, law.edges[0] / 2):
        np.testing.assert_allclose(w @ (1 / (x - z)) - atom / z, law.below(z), rtol=1e-8)
    assert len(law.intervals) == (2 if ratio < 1 else 1)
    np.testing.assert_allclose(law.density(x[::20]), density(law, x[::20]), rtol=1e-4, atol=2e-5)
    gamma = (transition_learning_rate(law) + max_learning_rate(law)) / 2
    root = malthusian_exponent(law, gamma)
    np.testing.assert_allclose(gamma * ratio / 2 * (w @ (x**2 / (x - root))), 1, rtol=1e-8)
    edge = w @ (x**2 / (x - law.edges[0]))
    np.testing.assert_allclose(transition_learning_rate(law), 2 / (ratio * edge), rtol=0.03)
    rng = np.random.default_rng(0)
    d, n = 600, int(600 / ratio)
    rows = rng.standard_normal((n, d)) * np.sqrt(np.repeat(s, (shares * d).astype(int)) / n)
    eigenvalues = np.linalg.eigvalsh(rows.T @ rows)
    np.testing.assert_allclose(np.mean(1 / (eigenvalues + 0.4)), law.below(-0.4), rtol=5e-3)
    high = eigenvalues.max(), eigenvalues[eigenvalues > 1e-9].min()
    np.testing.assert_allclose(high, law.edges[::-1], rtol=0.1)


def density(law, x, height=1e-6):
    """The density by fixed-point iteration just above the axis."""
    z = x + 1j * height
    m, s = -1 / z, law.eigenvalues[:, None]
    for _ in range(20000):
        m = 0.5 * m + 0.5 / (law.ratio * (law.weights @ (s / (1 + s * m))) - z)
    return m.imag / np.pi / law.ratio


def test_edge_cases_of_ratio_one():
    for law in (MarchenkoPastur(1.0), SampleCovariance(1.0, [1.0])):
        assert abs(law.edges[0]) < 1e-12
        np.testing.assert_allclose(transition_learning_rate(law), max_learning_rate(law), rtol=1e-9)
        x, w = law.rule(200)
        np.testing.assert_allclose([w.sum(), w @ x, w @ x**2], [1, 1, 2], rtol=5e-5)
        with pytest.raises(ValueError, match="lower edge is 0"):
            power_exponent(law, 1.0)
        with pytest.raises(ValueError, match="lower edge is 0"):
            near_optimal(law, 0.5)


@pytest.mark.parametrize("ratio", [0.9, 0.99, 0.999, 1.0, 1.01])
@pytest.mark.parametrize("law", [MarchenkoPastur, lambda r: SampleCovariance(r, [0.5, 2.0])])
def test_rules_of_laws_whose_lower_edge_is_close_to_zero(law, ratio):
    law = law(ratio)
    x, w = law.rule(400)
    np.testing.assert_allclose(w.sum(), min(1, 1 / ratio), atol=2e-8)
    np.testing.assert_allclose(w @ x, law.mean, rtol=1e-10)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: MarchenkoPastur(0.0), "ratio: 0.0"),
        (lambda: MarchenkoPastur(0.5, -1.0), "variance: -1.0"),
        (lambda: SampleCovariance(0.5, [1.0, -1.0]), "eigenvalues"),
        (lambda: SampleCovariance(0.5, [1.0, 2.0], [0.5, 0.6]), "weights"),
        (lambda: MarchenkoPastur(0.5).rule(0), "points: 0"),
    ],
)
def test_wrong_input_is_refused(call, message):
    with pytest.raises((ValueError, TypeError), match=message):
        call()
