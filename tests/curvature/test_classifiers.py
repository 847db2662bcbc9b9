"""What XOR's two layers learn, and what training samples leave in the parameters."""

import diffrax
import equinox as eqx
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
    rank = curvature.emergence.OutlierCount(index="theta")
    alignment = curvature.Alignment(system)
    assert float(rank(alignment, alignment.start())) == 2
    found = curvature.blocks.predicted(
        curvature.Block("theta", "gradient", 2), system, summary, 4.0, nodes
    )
    np.testing.assert_allclose(
        found["gradient_theta_eigenvalues"][:2], 4 * beta**2 * height, atol=1e-4
    )


@pytest.mark.slow
@pytest.mark.optimised
def test_training_samples_are_remembered():
    """Loss and edges on training data, d = 300, from the limit alone."""
    d, t = 300, 3.0
    system = mixtures.mixture_softmax(d, 3, snr=1.5, learning_rate=3.0)
    law = curvature.training_samples(system, jnp.array(t))
    loss = float(curvature.training_loss(system, law))
    n, simulator = int(t * d), system.simulator()

    @jax.jit
    def run(key):
        state = simulator.advance(simulator.init(key), jnp.asarray(0), jnp.asarray(n), key)
        samples = streaming.samples.draw_samples(system, key, 0, n, state.frozen)
        x, none = jnp.dot(samples.rows, state.moving), jnp.zeros(0, jnp.float32)
        losses = jax.vmap(lambda x, c: system.loss(x, none, c, none, None))(x, samples.component)
        tops = [
            jnp.linalg.eigvalsh(
                curvature.empirical(system, samples, state.moving, state.frozen, None, kind)
                .restrict([0])
                .dense()
            )[-1]
            for kind in ("hessian", "gradient")
        ]
        return losses.mean(), jnp.stack(tops)

    keys = jax.vmap(jax.random.key)(jnp.arange(9))
    losses, tops = jax.lax.map(run, keys)
    error = float(losses.std()) / 3
    assert abs(float(losses.mean()) - loss) < 4 * error + 2 / d
    test = float(system.statistics(law.summary)["risk"])
    assert test > loss + 0.2
    for kind, top in zip(("hessian", "gradient"), tops.T, strict=True):
        _, edge = curvature.block_theory(system, law.summary, 0, kind, t, nodes=law.nodes).edges()
        assert abs(float(top.mean()) / float(edge) - 1) < 0.06
        _, fresh = curvature.block_theory(system, law.summary, 0, kind, t).edges()
        assert float(edge) < 0.97 * float(fresh)
        # A comparison on training samples has their law, and none before there are n of them.
        alignment = curvature.Alignment(system, [curvature.Block(0, kind, 1)], alpha=t, train=True)
        own = eqx.filter_jit(alignment.limit)(jnp.array([1.0, t])).values.measured[f"{kind}_0_edge"]
        assert np.isnan(own[0])
        assert float(own[1]) == pytest.approx(float(edge), rel=0.01)


# A rule of so few nodes compiles and runs fast; what it gives is compared with the same rule.
@pytest.mark.filterwarnings("ignore:rule. QMC:UserWarning")
@pytest.mark.slow
@pytest.mark.optimised
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
    )
    runs, limits = (group["learned"].values[:, -1] for group in (result.runs, result.limit))
    assert runs.min() >= 1
    # Overlaps of order d^-1/2 meet noise of that order: most runs agree, not all.
    assert (runs == limits).mean() > 0.5
    assert abs(runs.mean() - limits.mean()) < 0.5
