"""The sampler on Gram blocks: SGD's own law, any dimension, one program."""

import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import hdjax as hd
from hdjax.streaming import (
    Direct,
    GaussianStart,
    GramSampler,
    Mixture,
    OnePassSGD,
    losses,
)
from hdjax.streaming.sampler import bartlett, fold
from tests.streaming.models import exact_mean_risk, least_squares, trained

LAM = np.array([0.5, 2.0])


@pytest.mark.slow
@pytest.mark.optimised
@pytest.mark.parametrize(
    ("d", "steps", "runs", "batch"),
    [(10, 10, 5000, 1), (10, 10, 5000, 3), (1000, 500, 2000, 1), (10**6, 3000, 256, 1)],
)
def test_exact_mean(d, steps, runs, batch):
    model = least_squares(d, batch_size=batch)
    result = hd.simulate(
        model, [steps / d], key=jax.random.key(1), runs=runs, statistics=["risk"],
        method=GramSampler(dtype="float64"),
    )  # fmt: skip
    exact = exact_mean_risk(d, steps, batch)
    error = float(result.std["risk"][0]) / np.sqrt(runs)
    assert abs(float(result.mean["risk"][0]) - exact) < 4 * error
    # The statistic is sharp: it sees the motion from the start.
    assert abs(exact - exact_mean_risk(d, 0, batch)) > 20 * error


def columns(count, **options):
    return GaussianStart(columns=count, **options)


D = 30
GIVEN = np.stack([np.cos(np.arange(D)), np.sin(np.arange(D) + 1.0)], axis=1) / np.sqrt(D)
PROBLEMS = {
    "least squares, two columns, ridge": (
        losses.LeastSquares(0.3, columns=2), 0.7, columns(2, overlap=0.3), columns(2),
        {"ridge": 0.5},
    ),
    "logistic, sampled": (losses.Logistic("sampled"), 3.0, columns(1), GIVEN[:, :1], {}),
    "phase retrieval": (losses.LipschitzPhaseRetrieval(), 0.25, columns(1), columns(1), {}),
    "softmax": (losses.Softmax(3), 2.0, columns(3), columns(3), {}),
    "huber, batch": (losses.Huber(0.5, 1.0), 1.5, GIVEN[:, :1], columns(1),
        {"batch_size": 3}),
    "one student, two teachers": (
        losses.ErfCommittee([1.0, 0.5], [1.0], 0.2), 1.0, GIVEN[:, 0], columns(2), {},
    ),
    "mixture": (
        losses.FunctionLoss(trained), 2.0, columns(1, scale=0.7), None,
        {
            "mixture": Mixture([0.3, 0.7], GIVEN, eigenvalues=[[0.1, 0.9], [1.2, 0.3]]),
            "theta": {"gain": 1.0, "bias": -0.2},
            "ridge": 0.3,
        },
    ),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", PROBLEMS)
def test_law_is_that_of_direct_sgd(name):
    """Two samples of 1000 runs after 60 steps: means within 4 s.e., and Kolmogorov-Smirnov."""
    loss, rate, start, target, options = PROBLEMS[name]
    # In every other problem a group has no more coordinates than there are columns.
    counts = (28, 2) if list(PROBLEMS).index(name) % 2 else (18, 12)
    spectrum = hd.spectra.explicit(LAM, counts)
    model = OnePassSGD(loss, spectrum, rate, start, target, **options)
    runs = 1000
    values = [
        hd.simulate(
            model, [2.0], key=jax.random.key(seed), runs=runs, method=method,
            statistics=["overlaps"],
        ).runs["overlaps"].values.reshape(runs, -1)
        for seed, method in enumerate([Direct(), GramSampler()])
    ]  # fmt: skip
    direct, sampled = values
    gap = direct.mean(0) - sampled.mean(0)
    error = np.sqrt((direct.var(0) + sampled.var(0)) / runs)
    assert np.all(np.abs(gap) <= 4 * error + 1e-6), (gap, error)
    moving = direct.std(0) > 1e-6
    level = 1e-3 / moving.sum()
    for a, b in zip(direct.T[moving], sampled.T[moving], strict=True):
        assert stats.ks_2samp(a, b).pvalue > level


@pytest.mark.slow
def test_drift_at_a_billion_dimensions():
    """1000 steps of size 1e-9: the mean motion is the limit's to 1 %, and float32 is refused."""
    d, steps = 10**9, 1000
    model = least_squares(d)
    result = hd.compare(
        model, [0.0, steps / d], key=jax.random.key(0), runs=512, method=GramSampler(),
        statistics=["distance"], fluctuations=False,
    )  # fmt: skip
    motion = result.runs["distance"].values[:, 1] - result.runs["distance"].values[:, 0]
    expected = np.diff(result.limit["distance"].values)[0]
    assert abs(expected) > 1e-8
    error = motion.std() / np.sqrt(512)
    assert abs(motion.mean() - expected) < max(4 * error, 0.01 * abs(expected))
    with pytest.raises(ValueError, match=r"dtype: 'float32' at d = 1e\+09"):
        hd.simulate(model, [1e-7], key=jax.random.key(0), runs=1, method=GramSampler("float32"))


@pytest.mark.slow
def test_draws_do_not_depend_on_the_interval():
    model = least_squares(40, batch_size=2)
    simulator, key = model.simulator(GramSampler()), jax.random.key(3)
    ticks = [jnp.asarray(k) for k in (0, 37, 64, 150)]
    advance = eqx.filter_jit(simulator.advance)
    whole = advance(simulator.init(key), ticks[0], ticks[-1], key)
    parts = simulator.init(key)
    for k0, k1 in itertools.pairwise(ticks):
        parts = advance(parts, k0, k1, key)
    np.testing.assert_array_equal(whole.moving, parts.moving)


@pytest.mark.slow
def test_dimensions_share_a_program():
    """d may be an array: one program for three dimensions, with the exact and the fast chi^2."""

    def make(d):
        law = GaussianStart()
        return OnePassSGD(losses.Logistic(), hd.spectra.identity(jnp.asarray(d)), 2.0, law, law)

    result = hd.sweep(
        make, {"d": [20.0, 300.0, 4000.0]}, [0.0, 0.2], key=jax.random.key(0), runs=64,
        start="realised", statistics=["risk"], method=GramSampler(),
    )  # fmt: skip
    assert result.tree.attrs["programs"] == 1
    errors = result.sup_error["risk"].median("run").values
    assert np.all(np.diff(errors) < 0)


@pytest.mark.slow
def test_fold_keeps_the_gram_matrix():
    top, rows = (jax.random.normal(jax.random.key(i), (5, n, 3)) for i, n in enumerate((3, 2)))
    top = top.at[0].set(0).at[1, :, 0].set(0)
    result = fold(top, rows.at[1, :, 0].set(0))
    rows = rows.at[1, :, 0].set(0)
    np.testing.assert_allclose(result.mT @ result, top.mT @ top + rows.mT @ rows, atol=1e-14)


def test_bartlett_is_a_wishart_factor():
    """Mean n I and variance n (1 + delta_ij) of its Gram matrix, in 40 000 draws."""
    n, draws = 7, 40_000
    generator = np.random.default_rng(0)
    dof = n - np.arange(3)
    lengths = jnp.asarray(np.sqrt(generator.chisquare(dof, (draws, 3))))
    triangle = bartlett(lengths, jnp.asarray(generator.normal(size=draws * 3)))
    gram = np.asarray(triangle.mT @ triangle)
    error = np.sqrt(n * (1 + np.eye(3)) / draws)
    assert np.all(np.abs(gram.mean(0) - n * np.eye(3)) < 4 * error)
    np.testing.assert_allclose(gram.var(0), n * (1 + np.eye(3)), rtol=0.05)


@pytest.mark.parametrize(
    ("method", "message"), [(lambda: GramSampler("float16"), "dtype: 'float16'")]
)
def test_wrong_arguments(method, message):
    with pytest.raises(ValueError, match=message):
        method()
