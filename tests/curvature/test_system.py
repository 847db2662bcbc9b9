"""Curvature along training: what runs measure against what the limit says, and the failures."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hdjax as hd
from hdjax import curvature, streaming
from hdjax.curvature import Alignment, Block
from hdjax.streaming import mixtures
from tests.curvature.problems import fixed


# The bounds hold with a rule of few nodes too, which is fast.
@pytest.mark.filterwarnings("ignore:rule. QMC:UserWarning")
@pytest.mark.slow
@pytest.mark.optimised
@pytest.mark.long
def test_alignment_along_xor_training():
    """Share of a unit in its block's top space within 0.02 of theory, t = 0 to 12, d = 300.

    A single run is off by 0.03 (t = 2); the mean of 16 by a fourth of that.
    """
    d, ridge = 300, 0.02
    means = mixtures.xor_means(d)
    first, second = mixtures.xor_start(jax.random.key(0), means, [0, 2, 1, 3], overlap=0.3)
    mixture = mixtures.xor(
        d,
        theta=second,
        snr=10.0,
        learning_rate=2.0,
        ridge=ridge,
        start=first,
        rule=hd.gaussian.QMC(9),
    )
    threshold = curvature.classifiers.fixed_point_output(ridge) / 2
    blocks = [Block(0, "hessian", 2), Block("theta", "hessian", 4)]
    system = Alignment(mixture, blocks, alpha=8.0, threshold=threshold)
    result = hd.compare(
        system, [0.0, 2.0, 6.0, 12.0], key=jax.random.key(0), runs=16, start="realised"
    )
    for name, bound in (
        ("hessian_0_student", 0.02),
        ("hessian_0_cosines", 0.02),
        ("in_means", 0.02),
    ):
        gap = result.mean[name].values - result.limit[name].mean("run").values
        assert np.abs(gap).max() < bound, name
    student = result.mean["hessian_0_student"].values
    assert student[0] < 0.5
    assert student[-1] > 0.85
    outliers = result.mean["hessian_0_outliers"].values
    np.testing.assert_allclose(
        outliers, result.limit["hessian_0_outliers"].mean("run").values, rtol=0.1
    )
    assert result.mean["learned"].values[-1] == 4
    np.testing.assert_allclose(
        result.mean["hessian_theta_eigenvalues"].values[-1],
        result.limit["hessian_theta_eigenvalues"].mean("run").values[-1],
        rtol=0.06,
    )


@pytest.mark.slow
def test_columns_outside_the_means():
    far = Alignment(mixtures.mixture_softmax(100, 3, snr=4.0, learning_rate=1.0))
    np.testing.assert_array_equal(far.statistics(far.start())["outside_means"], 1)
    near = fixed(60, 1.0, blocks=())
    np.testing.assert_array_equal(near.statistics(near.start())["outside_means"][:2], 0)


@pytest.mark.slow
def test_fresh_samples_differ_between_records_and_runs():
    system = fixed(60, 2.0)
    result = hd.simulate(system, [0.0, 1e-9, 1.0], key=jax.random.key(0), runs=2)
    edge = result.runs["hessian_0_edge"].values
    assert edge[0, 0] != edge[1, 0]
    assert edge[0, 0] != edge[0, 2]
    # The same tick, the same samples.
    assert edge[0, 0] == edge[0, 1]


@pytest.mark.slow
def test_random_side_parameters():
    mixture = mixtures.xor(50, theta=jnp.zeros(3), snr=10.0, learning_rate=1.0)
    system = Alignment(mixture, theta_scale=2.0)
    simulator = system.simulator(streaming.GramSampler())
    theta = jax.vmap(lambda i: simulator.init(jax.random.key(i)).run.side.theta)(jnp.arange(500))
    assert abs(float(theta.std()) - 2) < 4 * 2 / (2 * 1500) ** 0.5
    with pytest.raises(ValueError, match="theta_scale"):
        hd.compare(system, [0.0, 1.0], key=jax.random.key(0), runs=2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: fixed(30, 0.0), "alpha: 0"),
        (lambda: fixed(30, 1.0, blocks=[Block(3)]), "column 3; allowed: 0 to 2"),
        (lambda: fixed(30, 1.0, blocks=[Block("theta")]), "without side parameters; allowed"),
        (lambda: fixed(30, 1.0, blocks=[Block(0), Block(0)]), "each block once"),
        (lambda: fixed(30, 1.0, theta_scale=1.0), "theta_scale"),
        (lambda: fixed(30, 1.0, threshold=-1.0), "threshold"),
        (
            lambda: hd.simulate(
                fixed(30, 2.0, train=True), [0.0, 2.0], key=jax.random.key(0), runs=1
            ),
            r"allowed: from 2 on, when training has used the 60 samples of a matrix \(t = alpha\)",
        ),
        (
            lambda: fixed(30, 2.0).simulator(streaming.Direct(data=streaming.data.Rademacher())),
            "samples are Gaussian",
        ),
        (
            lambda: Alignment(
                mixtures.mixture_softmax(30, 3, snr=1.0, learning_rate=40.0, ridge=1.0)
            ),
            "a product below the dimension, 30",
        ),
        (
            lambda: Alignment(
                mixtures.mixture_softmax(5, 3, snr=1.0, learning_rate=1.0), alpha=1.0
            ),
            "3 columns and 3 means in dimension 5",
        ),
        (
            lambda: Alignment(
                mixtures.mixture_softmax(
                    30, 3, snr=1.0, learning_rate=1.0, optimiser=streaming.optimisers.HeavyBall(1.0)
                ),
                train=True,
            ),
            "HeavyBall; allowed: plain SGD",
        ),
    ],
)
def test_wrong_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_warnings():
    """Tensor Gauss-Hermite with a kink, and a start that the limit without noise never leaves."""
    theta, hermite = jnp.array([1.0, -1.0]), hd.gaussian.GaussHermite(4)
    with pytest.warns(UserWarning, match="an expectation is off by 0.19 of its size"):
        kinked = mixtures.xor(40, theta=theta, snr=1.0, learning_rate=1.0, rule=hermite)
    with pytest.warns(UserWarning, match="an expectation is off by 0.19 of its size"):
        Alignment(kinked)
    quiet = Alignment(mixtures.xor(40, theta=theta, snr=float("inf"), learning_rate=1.0))
    with pytest.warns(UserWarning, match="never leaves"):
        quiet.validate(compared=True)
    quiet.validate(compared=True, realised=True)


def test_blocks_need_columns():
    with pytest.raises(TypeError, match="GramSampler"):
        fixed(30, 1.0).simulator(streaming.GramSampler())
