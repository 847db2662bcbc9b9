"""Rates of SGD with momentum: references, recursions, quadrature, and searches."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import quad
from scipy.optimize import brentq

from hdjax.multipass import MomentumSGD, gaussian_problem
from hdjax.multipass.laws import MarchenkoPastur, SampleCovariance
from hdjax.multipass.modes import svd_modes
from hdjax.multipass.rates import (
    average_condition_number,
    best_momentum,
    best_plain,
    condition_number,
    implicit_conditioning_ratio,
    kernel_norm,
    limit_loss_with_batches,
    limit_rate,
    near_optimal,
    root_rate,
    saturating_fraction,
)
from tests.multipass.problems import HALF, reference


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
        (lambda m: limit_rate(m, 0.5, 0.0), "batch_fraction: 0.0"),
        (lambda m: limit_rate(m, 0.5, 0.5, 1.0), "momentum: 1.0"),
        (lambda m: best_momentum(m, 1.2), "batch_fraction: 1.2"),
    ],
)
def test_wrong_input_is_refused(call, message, modes):
    with pytest.raises((ValueError, TypeError), match=message):
        call(modes)


def test_the_loss_at_late_times_with_batches_and_momentum():
    """The recursion after 10^4 steps, and infinity where it grows."""
    problem = gaussian_problem(60, 30, key=jax.random.key(0), noise=0.5, normalise_rows=True)
    system = MomentumSGD(problem, 0.6, batch_fraction=0.1, momentum=0.4)
    late = system.limit(jnp.array([0.0, 1e4])).values["loss"][1]
    found = limit_loss_with_batches(system.modes, 0.6, 0.1, 0.4)
    np.testing.assert_allclose(found, late, rtol=1e-10)
    assert limit_loss_with_batches(system.modes, 60.0, 0.1, 0.4) == np.inf
    with pytest.raises(ValueError, match=r"momentum: 1\.0; allowed"):
        limit_loss_with_batches(system.modes, 0.6, 0.1, 1.0)
