"""Curvature along training: what runs measure against what the limit says, and the failures."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hdjax as hd
from hdjax import config, curvature, streaming
from hdjax.curvature import Alignment, Block
from hdjax.streaming import mixtures

STATE = [
    [2.05, -1.38, -0.06, 1.2, 0.1, 1.2],
    [-1.38, 2.24, -0.48, -0.5, 1.43, -0.5],
    [-0.06, -0.48, 1.35, -0.3, -0.55, 0.9],
    [1.2, -0.5, -0.3, 2.0, 0.0, 1.0],
    [0.1, 1.43, -0.55, 0.0, 2.42, 0.0],
    [1.2, -0.5, 0.9, 1.0, 0.0, 2.5],
]


TWO = (Block(0, "hessian", 2),)


def fixed(d, alpha, snr=4.0, blocks=TWO, **options):
    """No training: a given state at any dimension."""
    columns = mixtures.columns_with_gram(d, STATE)
    mixture = mixtures.mixture_softmax(
        d,
        3,
        snr=snr,
        learning_rate=1.0,
        probabilities=[0.5, 0.3, 0.2],
        start=columns[:, :3],
        means=columns[:, 3:],
    )
    return Alignment(mixture, blocks, alpha=alpha, **options)


# The bounds hold with a rule of few nodes too, which is fast.
@pytest.mark.filterwarnings("ignore:rule. QMC:UserWarning")
@pytest.mark.slow
@pytest.mark.optimised
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
@pytest.mark.parametrize(
    ("d", "alpha", "snr", "no_separation", "unconcentrated"),
    [
        (100, 0.7, 0.2, 1, 1),  # no outlier at all
        (30, 3600.0, 0.16, 1, 0),  # outliers next to a bulk that is nearly a point
        (200, 8.0, 2.0, 0, 1),  # outliers apart from a bulk that is as wide as their distance
        (60, 30.0, 30.0, 0, 0),
    ],
)
def test_diagnostics_on_both_sides(d, alpha, snr, no_separation, unconcentrated):
    """X = 0, where the block is that of a spiked covariance: each failure without the other."""
    mixture = mixtures.mixture_softmax(
        d,
        2,
        snr=snr,
        learning_rate=1.0,
        start=jnp.zeros((d, 2)),
        rule=hd.gaussian.GaussHermite(4),
    )
    system = Alignment(mixture, TWO, alpha=alpha)
    simulator = system.simulator(horizon=system.horizon(np.zeros(1)))
    run = jax.jit(lambda key: system.statistics(simulator.summary(simulator.init(key))))
    for found in (run(jax.random.key(0)), system.statistics(system.start())):
        assert found["hessian_0_no_separation"] == no_separation
        assert found["hessian_0_unconcentrated"] == unconcentrated


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
    plain = mixtures.xor(40, theta=theta, snr=1.0, learning_rate=1.0)
    with pytest.warns(UserWarning, match="off by some 5e-3"):
        curvature.quadrature(plain, plain.start().overlaps, hermite)
    quiet = Alignment(mixtures.xor(40, theta=theta, snr=float("inf"), learning_rate=1.0))
    with pytest.warns(UserWarning, match="never leaves"):
        quiet.validate(compared=True)
    quiet.validate(compared=True, realised=True)


@pytest.mark.slow
def test_empty_components_and_one_sample():
    """A component that no sample is of, and n = 1: a matrix of rank one."""
    d = 40
    mixture = mixtures.mixture_softmax(
        d, 2, snr=4.0, learning_rate=1.0, probabilities=[1 - 1e-6, 1e-6]
    )
    means = mixtures.orthonormal_means(d, 2)
    samples = streaming.samples.draw_samples(mixture, jax.random.key(1), 0, 1, means)
    assert int(samples.component[0]) == 0
    x, means = (0.5 * means).astype(jnp.float32), means.astype(jnp.float32)
    block = curvature.empirical(mixture, samples, x, means, None).restrict([0])
    values = np.linalg.eigvalsh(block.dense())
    assert values[-1] > 0
    np.testing.assert_allclose(values[:-1], 0, atol=1e-6 * values[-1])


def test_blocks_need_columns():
    with pytest.raises(TypeError, match="GramSampler"):
        fixed(30, 1.0).simulator(streaming.GramSampler())


BASE = {
    "family": "curvature",
    "system": {
        "dimension": 60,
        "model": {"kind": "softmax", "classes": 3, "snr": 4.0},
        "learning_rate": 1.0,
        "ridge": 0.04,
        "alpha": 2.0,
        "blocks": [{"index": 0, "rank": 2}],
    },
    "run": {"times": [0.0, 1.0], "runs": 2},
}


def system_of(**changes):
    raw = {**BASE, "system": {**BASE["system"], **changes}}
    return config.Experiment.of(raw).system()


def test_configs():
    system = system_of()
    assert system.blocks == (Block(0, "hessian", 2),)
    assert float(system.training.eigenvalues[0, 0]) == 0.25
    xor = {"kind": "xor", "snr": "infinite"}
    leaning = {"kind": "leaning", "units": 6, "classes": 3}
    system = system_of(model=xor, start=leaning, threshold="half")
    assert float(system.training.eigenvalues[0, 0]) == 0
    assert system.training.theta.tolist() == [1, -1, 1, 1, -1, 1]
    assert float(system.threshold) == pytest.approx(
        curvature.classifiers.fixed_point_output(0.04) / 2
    )
    deep = {"kind": "three_layers", "snr": 3.0, "second": [[1.0, 0.0]], "theta": [1.0]}
    assert system_of(model=deep).training.layout.students == 2
    system = system_of(start={"kind": "gram", "students": 3, "gram": STATE})
    np.testing.assert_allclose(system.start().gram.overlaps, STATE, atol=1e-10)
    tilted = system_of(model=xor | {"angle": 60.0}, start=leaning)
    gram = tilted.start().gram.overlaps[6:, 6:]
    np.testing.assert_allclose(gram[0], [1, -1, 0.5, -0.5], atol=1e-12)
    system = system_of(optimiser={"kind": "heavy_ball", "damping": 2.0}, steps=50)
    assert isinstance(system.training.optimiser, streaming.optimisers.HeavyBall)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": {"kind": "xor", "snr": 1.0}}, "theta, start"),
        ({"model": {"kind": "softmax", "classes": 3, "snr": 0.0}}, "system.model.snr: 0"),
        ({"blocks": [{"index": 0, "kind": "fisher"}]}, "system.blocks.0.kind: 'fisher'"),
        ({"alhpa": 1.0}, "did you mean 'alpha'"),
    ],
)
def test_configs_that_are_wrong(changes, message):
    with pytest.raises(ValueError, match=message):
        system_of(**changes)


@pytest.mark.slow
@pytest.mark.optimised
def test_training_in_the_top_space_alone():
    """Keeps most of the progress, the complement loses most; records do not change a run."""
    d = 80
    mixture = mixtures.mixture_softmax(d, 3, snr=6.0, learning_rate=1.0, ridge=0.01)
    system, key = Alignment(mixture), jax.random.key(0)

    def fall(method):
        result = hd.simulate(
            system, [0.0, 1.1, 3.0], key=key, runs=2, method=method, statistics=["risk"]
        )
        return result.runs["risk"].values

    top = fall(curvature.ProjectedSGD("top", rank=3, refresh=40, samples=400))
    off = fall(curvature.ProjectedSGD("complement", rank=3, refresh=40, samples=400))
    plain = fall(None)
    progress = plain[:, 0] - plain[:, -1]
    assert np.all(top[:, 0] - top[:, -1] > 0.7 * progress)
    assert np.all(off[:, 0] - off[:, -1] < 0.5 * progress)


def test_methods_that_are_wrong():
    with pytest.raises(ValueError, match="space: 'bottom'"):
        curvature.ProjectedSGD("bottom")
    with pytest.raises(ValueError, match="refresh: 0"):
        curvature.ProjectedSGD(refresh=0)
    heavy = mixtures.mixture_softmax(
        20, 2, snr=1.0, learning_rate=1.0, optimiser=streaming.optimisers.HeavyBall(1.0)
    )
    with pytest.raises(ValueError, match="HeavyBall"):
        curvature.ProjectedSGD().simulator(heavy)
