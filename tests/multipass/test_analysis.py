"""Laws, stability, rates: closed forms against quadrature, and against what curves do."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import quad
from scipy.optimize import brentq

from hdjax.multipass import MultiPassSGD, Spectral, gaussian_problem
from hdjax.multipass.analysis import (
    limit_loss,
    malthusian_exponent,
    max_learning_rate,
    power_exponent,
    transition_learning_rate,
)
from hdjax.multipass.laws import MarchenkoPastur, SampleCovariance
from hdjax.multipass.modes import Modes, law_modes, svd_modes
from hdjax.multipass.momentum import MomentumSGD
from hdjax.multipass.rates import (
    average_condition_number,
    best_momentum,
    best_plain,
    condition_number,
    implicit_conditioning_ratio,
    kernel_norm,
    limit_rate,
    near_optimal,
    root_rate,
    saturating_fraction,
)
from tests.multipass.test_limit import reference

HALF = MarchenkoPastur(0.5, 2.0)


@pytest.fixture(scope="module")
def modes():
    return svd_modes(reference())[0]


def test_stability_of_the_reference(modes):
    np.testing.assert_allclose(max_learning_rate(modes), 2.1490937799, atol=1e-10)
    np.testing.assert_allclose(12 * limit_loss(modes, 0.5), 0.1622085129, atol=1e-10)
    np.testing.assert_allclose(malthusian_exponent(modes, 0.5), 0.1446853843, atol=1e-10)
    assert malthusian_exponent(modes, 2.5) < 0
    assert limit_loss(modes, 2.5) == np.inf
    curve = MultiPassSGD(reference(), 0.5, solver=Spectral()).limit(jnp.array([0.0, 200.0])).values
    np.testing.assert_allclose(curve["loss"][1], limit_loss(modes, 0.5), rtol=1e-12)


def test_the_exponent_is_the_rate_of_the_curve(modes):
    """The slope of log(L - L_inf) over [20, 30] at two learning rates, one of them unstable."""
    for gamma, end in ((1.5, limit_loss(modes, 1.5)), (2.5, 0.0)):
        system = MultiPassSGD(reference(), gamma, solver=Spectral())
        loss = np.asarray(system.limit(jnp.array([0.0, 20.0, 30.0])).values["loss"]) - end
        rate = np.log(loss[1] / loss[2]) / 10
        np.testing.assert_allclose(rate, 2 * gamma * malthusian_exponent(modes, gamma), rtol=1e-3)


@pytest.mark.parametrize(
    ("law", "critical", "exponent", "stieltjes"),
    [
        (MarchenkoPastur(0.5, 2.0), 1.7836116249, 0.1010676315, 0.6666666667),
        (SampleCovariance(0.5, [2.0]), 1.7836116249, 0.1010676315, 0.6666666667),
        (MarchenkoPastur(1.5), 1.9207840751, 0.0188722228, 1.8821424692),
        (SampleCovariance(1.5, [2 / 3]), 1.9207840751, 0.0188722228, 1.8821424692),
    ],
)
def test_reference_values_of_laws(law, critical, exponent, stieltjes):
    np.testing.assert_allclose(transition_learning_rate(law), critical, atol=1e-9)
    gamma = (transition_learning_rate(law) + max_learning_rate(law)) / 2
    np.testing.assert_allclose(malthusian_exponent(law, gamma), exponent, atol=1e-9)
    np.testing.assert_allclose(law.below(-0.3), stieltjes, atol=1e-9)
    assert malthusian_exponent(law, critical / 2) == law.edges[0]


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
    found = []
    for z in x + 1j * height:
        m = -1 / z
        for _ in range(20000):
            s = law.eigenvalues
            m = 0.5 * m + 0.5 / (law.ratio * (law.weights * s / (1 + s * m)).sum() - z)
        found.append(m.imag / np.pi / law.ratio)
    return np.array(found)


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


@pytest.mark.parametrize(
    ("factor", "expected"), [(0.5, -1.5), (1.0, -0.5), (1.02, 0.0), (1.04, 0.0)]
)
def test_power_exponents_round_the_critical_rate(factor, expected):
    """The local exponent of L exp(2 gamma lambda* t) over a factor two in time, noiseless."""
    gamma = factor * transition_learning_rate(HALF)
    assert power_exponent(HALF, gamma) == expected
    modes = law_modes(HALF, 1000, points=500)
    system = MultiPassSGD(None, gamma, modes=modes, solver=Spectral())
    ts = np.array([150.0, 300.0])
    loss = np.asarray(system.limit(jnp.asarray(ts)).values["loss"])
    rate = 2 * gamma * malthusian_exponent(HALF, gamma)
    local = (np.log(loss[1] / loss[0]) + rate * 150) / np.log(2)
    np.testing.assert_allclose(local, expected, atol=0.06)


def test_rates_of_the_reference(modes):
    np.testing.assert_allclose(kernel_norm(modes, 0.6, 1 / 3, 0.35), 0.3384222029, atol=1e-10)
    np.testing.assert_allclose(
        root_rate(modes.eigenvalues, 0.6, 1 / 3, 0.35), 0.9103285370, atol=1e-10
    )
    np.testing.assert_allclose(limit_rate(modes, 0.6, 1 / 3, 0.35), 0.9109526980, atol=1e-9)
    tuned = near_optimal(modes, 0.25)
    np.testing.assert_allclose(tuned[:2], [0.0745523113, 0.8986373129], atol=1e-10)
    np.testing.assert_allclose(average_condition_number(modes), 6.4059233993, atol=1e-9)
    np.testing.assert_allclose(condition_number(modes), 19.7305023707, atol=1e-8)
    ratio = implicit_conditioning_ratio(modes)
    np.testing.assert_allclose(ratio, 1.4421574225, atol=1e-9)
    np.testing.assert_allclose(saturating_fraction(modes), ratio / (1 + ratio))


def test_the_kernel_norm_gives_the_limit_loss_of_momentum(modes):
    """Its sum with the exact factor n/(n - 1): L_inf = floor/(1 - |K|)."""
    system = MomentumSGD(reference(), 0.6, batch_fraction=1 / 3, momentum=0.35)
    norm = kernel_norm(modes, 0.6, 1 / 3, 0.35) * 12 / 11
    end = float(system.limit(jnp.array([600.0])).values["loss"][0])
    np.testing.assert_allclose(12 * end, float(modes.floor) / (1 - norm), rtol=1e-12)


@pytest.mark.parametrize("zeta", [0.05, 0.2, 0.9, 1.0])
def test_the_rate_is_that_of_the_recursion(zeta):
    """Late decay of the noiseless loss, n large: the root, not the closed form's Delta."""
    problem = gaussian_problem(400, 200, key=jax.random.key(0))
    modes = svd_modes(problem)[0]
    tuned = near_optimal(modes, zeta)
    system = MomentumSGD(
        problem, tuned.learning_rate, batch_fraction=zeta, momentum=tuned.momentum, modes=modes
    )
    last = {0.05: 1500, 0.2: 300, 0.9: 60, 1.0: 60}[zeta]
    first, end = np.asarray(system.limit(jnp.array([last / 2, last])).values["loss"])
    observed = (end / first) ** (2 / last)
    # At zeta = 1 all roots are on one circle, two of them double: a factor k^2.
    assert abs(observed - tuned.rate) < (2e-4 if zeta < 0.5 else 0.02)
    assert (tuned.rate > tuned.momentum) == (zeta < 1)


@pytest.mark.parametrize(
    ("ratio", "gamma", "zeta", "delta"),
    [(0.5, 0.5, 0.2, 0.3), (0.9, 0.5, 0.2, 0.3), (2.0, 0.8, 0.3, 0.0), (0.5, 1.2, 0.2, 0.2)],
)
def test_rates_of_laws_by_adaptive_quadrature(ratio, gamma, zeta, delta):
    """The kernel's sum and its generating function, integrated over the density to 1e-12."""
    law = MarchenkoPastur(ratio)
    low, high = law.edges

    def integral(f):
        def g(phi):
            x = low + (high - low) * np.sin(phi) ** 2
            density = law.density(np.array([x]))[0]
            return f(x) * density * (high - low) * np.sin(2 * phi)

        return ratio * quad(g, 0, np.pi / 2, limit=500, points=[1e-3, 0.1], epsabs=1e-12)[0]

    def omega(x):
        return 1 + delta - gamma * zeta * x

    def excess(x):
        strength = gamma**2 * zeta * (1 - zeta) * x * (x + delta) / (x - delta)
        return strength * integral(lambda y: y**2 / ((x + delta) ** 2 - omega(y) ** 2 * x)) - 1

    edge = root_rate(np.array(law.edges), gamma, zeta, delta)
    above = edge * (1 + 1e-6)
    expected = brentq(excess, above, 2, xtol=1e-13) if excess(above) > 0 else edge
    norm = integral(lambda y: y / (2 * (1 + delta) - gamma * zeta * y))
    norm *= gamma * (1 - zeta) * (1 + delta) / (1 - delta)
    for own in (law, SampleCovariance(ratio, [1 / ratio])):
        np.testing.assert_allclose(limit_rate(own, gamma, zeta, delta), expected, rtol=1e-8)
        np.testing.assert_allclose(kernel_norm(own, gamma, zeta, delta), norm, rtol=1e-9)


def test_a_kernel_that_does_not_decay_has_no_finite_sum(modes):
    for spectrum in (modes, HALF, SampleCovariance(0.5, [0.3, 5.0])):
        assert kernel_norm(spectrum, 4.0, 0.9, 0.0) == np.inf
        assert limit_rate(spectrum, 4.0, 0.9, 0.0) > 1
    assert limit_rate(MarchenkoPastur(1.0), 0.5, 0.2) == 1


@pytest.mark.parametrize("ratio", [0.9, 0.99, 0.999, 1.0, 1.01])
@pytest.mark.parametrize("law", [MarchenkoPastur, lambda r: SampleCovariance(r, [0.5, 2.0])])
def test_rules_of_laws_whose_lower_edge_is_close_to_zero(law, ratio):
    law = law(ratio)
    x, w = law.rule(400)
    np.testing.assert_allclose(w.sum(), min(1, 1 / ratio), atol=2e-8)
    np.testing.assert_allclose(w @ x, law.mean, rtol=1e-10)


@pytest.mark.slow
def test_the_best_parameters_beat_the_closed_form():
    """Near-optimal against best rates: better in every row, and never worse than plain SGD."""
    modes = svd_modes(gaussian_problem(400, 200, key=jax.random.key(0)))[0]
    eigenvalues = np.asarray(modes.eigenvalues)
    previous = 1.0
    for zeta in (0.05, 0.2, 0.5, 0.9):
        slide, best, plain = (f(modes, zeta) for f in (near_optimal, best_momentum, best_plain))
        assert best.rate < slide.rate - 0.005
        assert best.rate <= plain.rate + 1e-9
        assert best.rate < previous
        np.testing.assert_allclose(
            best.rate, limit_rate(modes, best.learning_rate, zeta, best.momentum), rtol=1e-9
        )
        grid = [
            limit_rate(modes, gamma, zeta, delta)
            for gamma in np.linspace(0.05, 1.9, 20) / max(1, zeta * eigenvalues.max() / 4)
            for delta in np.linspace(0, 0.95, 20)
        ]
        assert best.rate <= min(grid) + 1e-6
        previous = best.rate


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: transition_learning_rate(m), "belongs to a continuous law"),
        (lambda m: transition_learning_rate(np.ones(3)), "belongs to a continuous law"),
        (lambda m: max_learning_rate(np.ones(3)), "spectrum: ndarray"),
        (lambda m: malthusian_exponent(m, -1.0), "learning_rate: -1.0"),
        (lambda m: limit_rate(m, 0.5, 0.0), "batch_fraction: 0.0"),
        (lambda m: limit_rate(m, 0.5, 0.5, 1.0), "momentum: 1.0"),
        (lambda m: best_momentum(m, 1.2), "batch_fraction: 1.2"),
        (lambda m: MarchenkoPastur(0.0), "ratio: 0.0"),
        (lambda m: MarchenkoPastur(0.5, -1.0), "variance: -1.0"),
        (lambda m: SampleCovariance(0.5, [1.0, -1.0]), "eigenvalues"),
        (lambda m: SampleCovariance(0.5, [1.0, 2.0], [0.5, 0.6]), "weights"),
        (lambda m: MarchenkoPastur(0.5).rule(0), "points: 0"),
        (lambda m: law_modes(HALF, 10, noise=-1.0), "noise: -1.0"),
        (lambda m: law_modes(SampleCovariance(0.5, [1.0]), 10, risk=True), "risk: True"),
    ],
)
def test_wrong_input_is_refused(call, message, modes):
    with pytest.raises((ValueError, TypeError), match=message):
        call(modes)


def test_a_spectrum_of_zeros_has_no_exponent():
    zero = Modes(*[jnp.zeros(2)] * 4, jnp.ones(()), jnp.ones(()), {})
    with pytest.raises(ValueError, match="no positive eigenvalue"):
        malthusian_exponent(zero, 0.5)
