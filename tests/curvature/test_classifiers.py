"""What two layers learn of XOR and softmax of its classes, against fixed points and runs."""

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hdjax as hd
from hdjax import curvature, streaming
from hdjax.curvature import classifiers
from hdjax.streaming import mixtures


def test_success_probabilities():
    expected = [0.09375, 0.234375, 0.380859375, 0.5126953125, 0.6229248047]
    found = [classifiers.success_probability(width) for width in range(4, 9)]
    np.testing.assert_allclose(found, expected, atol=1e-10)
    assert classifiers.success_probability(3) == 0
    assert classifiers.fixed_point_output(0.02) == pytest.approx(2.4423470354)
    assert classifiers.fixed_point_output(0.125) == 0
    for call in (
        lambda: classifiers.success_probability(0),
        lambda: classifiers.fixed_point_output(0.0),
        lambda: classifiers.softmax_fixed_point(1, 0.1),
    ):
        with pytest.raises(ValueError, match="allowed"):
            call()


# A rule of so few nodes compiles and runs fast; what it gives is compared with the same rule.
@pytest.mark.filterwarnings("ignore:rule. QMC:UserWarning")
@pytest.mark.slow
@pytest.mark.long
def test_rank_and_spectrum_of_the_fixed_point():
    """At infinite signal-to-noise, units on +mu, +mu, -mu: two means learned, rank two."""
    d, beta = 40, 0.04
    means = mixtures.xor_means(d)
    height = classifiers.fixed_point_output(beta)
    v = np.sqrt(height) * np.array([0.6, 0.8, 1.0])
    first = v[None] * np.asarray(means)[:, [0, 0, 1]]
    system = mixtures.xor(
        d,
        theta=jnp.asarray(v),
        snr=1e12,
        learning_rate=1.0,
        ridge=beta,
        start=first,
        rule=hd.gaussian.QMC(6),
    )
    summary = system.start()
    learned = classifiers.learned_means(system, summary, jnp.asarray(height / 2))
    assert learned.tolist() == [True, True, False, False]
    np.testing.assert_array_equal(
        classifiers.taken_means(np.asarray(summary.overlaps)[:3, 3:], v), [0, 0, 1]
    )
    # A fixed point: nothing moves.
    rate, side = system.vector_field(jnp.zeros(()), summary.state)
    assert np.abs(rate).max() < 1e-4
    assert np.abs(side.theta).max() < 1e-4
    nodes = curvature.quadrature(system, summary.overlaps)
    found = curvature.blocks.predicted(
        curvature.Block("theta", "hessian", 2), system, summary, 4.0, nodes
    )
    expected = beta * (1 - 4 * beta) * height
    np.testing.assert_allclose(
        found["hessian_theta_eigenvalues"], [expected, expected, 0], atol=1e-4
    )
    assert float(found["hessian_theta_rank"]) == 2
    assert float(found["hessian_theta_student"]) == pytest.approx(1, abs=1e-6)
    # Rank-deficient, and aligned all the same: the second layer is in its two outliers' space.
    assert float(found["hessian_theta_aligned"]) == pytest.approx(1, abs=1e-6)
    rank = curvature.OutlierCount(index="theta")
    alignment = curvature.Alignment(system)
    assert float(rank(alignment, alignment.start())) == 2
    found = curvature.blocks.predicted(
        curvature.Block("theta", "gradient", 2), system, summary, 4.0, nodes
    )
    np.testing.assert_allclose(
        found["gradient_theta_eigenvalues"][:2], 4 * beta**2 * height, atol=1e-4
    )


# A rule of so few nodes compiles and runs fast; what it gives is compared with the same rule.
@pytest.mark.filterwarnings("ignore:rule. QMC:UserWarning")
@pytest.mark.slow
def test_limits_and_runs_agree_on_what_is_learned():
    system = curvature.Alignment(
        mixtures.xor(
            60,
            theta=jnp.zeros(4),
            snr=100.0,
            learning_rate=2.0,
            ridge=0.02,
            rule=hd.gaussian.QMC(6),
            integrator=hd.Integrator(diffrax.Tsit5(), steps=40),
        ),
        theta_scale=1.0,
        threshold=classifiers.fixed_point_output(0.02) / 2,
    )
    result = hd.compare(
        system,
        [0.0, 15.0],
        key=jax.random.key(0),
        runs=32,
        start="realised",
        method=streaming.GramSampler(),
        statistics=["learned"],
        fluctuations=False,
    )
    runs, limits = (group["learned"].values[:, -1] for group in (result.runs, result.limit))
    assert runs.min() >= 1
    # Overlaps of order d^-1/2 meet noise of that order: most runs agree, not all.
    assert (runs == limits).mean() > 0.5
    assert abs(runs.mean() - limits.mean()) < 0.5


@pytest.mark.slow
def test_without_noise_softmax_ends_at_its_fixed_point():
    k, beta = 3, 0.05
    system = mixtures.mixture_softmax(
        60, k, snr=float("inf"), learning_rate=4.0, ridge=beta, start=0.1 * np.eye(60)[:, :k]
    )
    end = system.limit(jnp.array([0.0, 80.0]), save=lambda s: s.overlaps).values[-1]
    s = curvature.classifiers.softmax_fixed_point(k, beta)
    np.testing.assert_allclose(end[:k, k:], s * (np.eye(k) - 1 / k), atol=2e-4)
    assert curvature.classifiers.softmax_fixed_point(5, 0.01) == pytest.approx(
        3.2775458976, abs=1e-9
    )
