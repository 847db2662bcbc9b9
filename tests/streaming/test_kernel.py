"""Blocked SGD against SGD written one step at a time in NumPy."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from scipy.special import ndtri

from hdjax import random
from hdjax.random import Stream
from hdjax.streaming import _kernel
from hdjax.streaming.limit import Side

KEY = jax.random.key(5)


class Noise(NamedTuple):
    dim: int
    sigma: float = 0.3

    def __call__(self, z):
        return self.sigma * z


class Problem(NamedTuple):
    """A loss and everything that may vary with it."""

    loss: callable
    m: int = 1
    s: int = 1
    noise: Noise = Noise(0)
    probabilities: tuple = (1.0,)
    means: bool = False
    theta: dict | None = None
    ridge: float = 0.0
    batch: int = 1
    rate: callable = lambda t: 0.4 + 0 * t


def least_squares(x, teacher, component, noise, theta):
    return jnp.sum((x - teacher - noise) ** 2) / 2


def logistic(x, teacher, component, noise, theta):
    return jax.nn.softplus(x[0]) - jax.nn.sigmoid(teacher[0]) * x[0]


def phase_retrieval(x, teacher, component, noise, theta):
    return (x[0] ** 2 - teacher[0] ** 2) ** 2 / 8


def two_classes(x, teacher, component, noise, theta):
    label = (component == 1).astype(x.dtype)
    return jax.nn.softplus(x[0]) - label * x[0]


def two_layers(x, teacher, component, noise, theta):
    hidden = jnp.tanh(x + theta["bias"])
    return (jnp.dot(theta["head"], hidden) - jnp.tanh(teacher).sum() - noise[0]) ** 2 / 2


def decaying(t):
    return 0.6 / (1 + 2 * t)


def slow(t):
    return 0.05 + 0 * t


def wild(t):
    inside = (t * 33 > 2.5) & (t * 33 < 5.5)
    return jnp.where(inside, 0.4, jnp.inf)


HEAD = {"head": jnp.array([0.8, -0.6]), "bias": jnp.array([0.1, 0.2])}
PROBLEMS = {
    "least squares": Problem(least_squares, noise=Noise(1)),
    "two columns": Problem(least_squares, m=2, s=2, noise=Noise(2)),
    "logistic": Problem(logistic, rate=decaying),
    "phase retrieval": Problem(phase_retrieval),
    "ridge": Problem(logistic, ridge=0.7),
    "batch": Problem(least_squares, noise=Noise(1), batch=4, ridge=0.2),
    "mixture": Problem(two_classes, s=0, probabilities=(0.3, 0.7), means=True),
    "three covariances": Problem(two_classes, probabilities=(0.2, 0.5, 0.3), batch=2),
    "one shifted component": Problem(logistic, means=True),
    "theta": Problem(two_layers, m=2, s=2, noise=Noise(1), theta=HEAD, ridge=0.3, rate=decaying),
    "theta, batch": Problem(
        two_layers, m=2, s=1, noise=Noise(1), theta=HEAD, batch=3, ridge=0.2, rate=decaying
    ),
    "slow theta": Problem(two_layers, m=2, s=2, noise=Noise(3), theta=HEAD, rate=slow),
    "tame": Problem(logistic),
    "wild": Problem(logistic, rate=wild),
}


def arrays(problem, d, dtype):
    """X, X*, means (c, d) or None and scale (c, d)."""
    rng = np.random.default_rng(0)
    c = len(problem.probabilities)
    columns = rng.standard_normal((d, problem.m + problem.s)) / np.sqrt(d)
    means = rng.standard_normal((c, d)) / np.sqrt(d) if problem.means else None
    scale = np.sqrt(rng.uniform(0.2, 2, (c, d)))
    cast = [None if a is None else jnp.asarray(a, dtype) for a in (columns, means, scale)]
    return cast[0][:, : problem.m], cast[0][:, problem.m :], cast[1], cast[2]


def sgd(rate, ridge, d):
    """Plain SGD's rule: the gradient's weight and the ridge's share."""

    def rule(tick):
        weight = (rate(tick.astype(ridge.dtype) / d) / d).astype(ridge.dtype)
        return weight[None], -(ridge * weight)[None, None]

    return lambda moving, side: rule


def keywords(problem, d, dtype, steps):
    _, fixed, means, scale = arrays(problem, d, dtype)
    return {
        "fixed": fixed,
        "means": means,
        "scale": scale,
        "probabilities": jnp.asarray(problem.probabilities, dtype),
        "gradient": jax.grad(problem.loss, argnums=(0, 4)),
        "noise": problem.noise,
        "rules": sgd(problem.rate, jnp.asarray(problem.ridge, dtype), d),
        "steps": steps,
        "batch_size": problem.batch,
    }


@functools.cache
def runner(name, d, steps, dtype):
    rest = keywords(PROBLEMS[name], d, dtype, steps)
    return jax.jit(lambda start, k0, k1, key: _kernel.advance(*start, k0, k1, key, **rest))


def beginning(name, d=33, dtype=jnp.float64):
    theta = jax.tree.map(lambda x: x.astype(dtype), PROBLEMS[name].theta)
    return arrays(PROBLEMS[name], d, dtype)[0], Side(theta)


def blocked(name, k0, k1, *, d=33, steps=4, dtype=jnp.float64, key=KEY, start=None):
    start = beginning(name, d, dtype) if start is None else start
    return runner(name, d, steps, dtype)(start, jnp.int64(k0), jnp.int64(k1), key)


draw_pairs = jax.jit(random.normal_pairs, static_argnums=(2, 3, 4))
draw = jax.jit(random.normals, static_argnums=(2, 3, 4))


def sample(problem, tick, d, key=KEY):
    """Rows, components and noise of a tick, from the generator one tick at a time."""
    _, _, means, scale = arrays(problem, d, jnp.float64)
    k, c = problem.noise.dim, len(problem.probabilities)
    half, extra = -(-d // 2), k + (c > 1)
    steps, labels = random.stream(key, Stream.STEPS), random.stream(key, Stream.LABELS)
    pairs = draw_pairs(steps, jnp.int64(tick), 1, problem.batch * half, jnp.float64)
    pairs = np.asarray(pairs).reshape(problem.batch, half)
    z = np.concatenate([pairs.real, pairs.imag], axis=1)
    own = draw(labels, jnp.int64(tick), 1, problem.batch * extra, jnp.float64)
    own = np.asarray(own).reshape(problem.batch, extra)
    component = np.zeros(problem.batch, int)
    if c > 1:
        component = np.searchsorted(ndtri(np.cumsum(problem.probabilities)[:-1]), own[:, k])
    rows = z[:, :d] * np.asarray(scale)[component]
    if means is not None:
        rows = rows + np.asarray(means)[component]
    return rows, component, problem.noise.sigma * own[:, :k]


def step_by_step(name, k0, k1, d=33, key=KEY):
    """X <- X - gamma/d (mean of a g^T + tau X), theta alike; everything at the old parameters."""
    problem = PROBLEMS[name]
    x, side = jax.tree.map(np.asarray, beginning(name, d))
    theta = side.theta
    fixed = np.asarray(arrays(problem, d, jnp.float64)[1])
    gradient = jax.jit(jax.vmap(jax.grad(problem.loss, argnums=(0, 4)), (0, 0, 0, 0, None)))
    for tick in range(k0, k1):
        a, component, noise = sample(problem, tick, d, key)
        g, slope = gradient(a @ x, a @ fixed, component, noise, theta)
        rate = float(problem.rate(tick / d)) / d
        x = x - rate * (a.T @ np.asarray(g) / problem.batch + problem.ridge * x)
        theta = jax.tree.map(
            lambda t, s, rate=rate: t - rate * (np.asarray(s).mean(0) + problem.ridge * t),
            theta,
            slope,
        )
    return x, Side(theta)


def assert_same(actual, expected, **tolerance):
    jax.tree.map(lambda a, e: np.testing.assert_allclose(a, e, **tolerance), actual, expected)


@pytest.mark.parametrize(
    "name", [name for name in PROBLEMS if name not in ("slow theta", "tame", "wild")]
)
def test_equals_sgd_step_by_step(name):
    expected = step_by_step(name, 0, 50)
    assert np.abs(expected[0] - beginning(name)[0]).max() > 0.05
    assert_same(blocked(name, 0, 50), expected, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("name", ["least squares", "three covariances", "theta, batch"])
def test_float32_follows_float64(name):
    single = blocked(name, 0, 50, dtype=jnp.float32)
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(single))
    assert_same(single, blocked(name, 0, 50), rtol=0, atol=2e-5)


@pytest.mark.slow
@pytest.mark.parametrize("steps", [1, 3, 64])
def test_block_size_does_not_matter(steps):
    name = "theta, batch"
    blocks = blocked(name, 3, 40, steps=steps)
    assert_same(blocks, blocked(name, 3, 40), rtol=1e-11, atol=1e-13)


def test_number_of_blocks_drawn_at_a_time_does_not_matter(monkeypatch):
    expected = blocked("batch", 5, 40, d=400)  # 12 ticks at a time
    monkeypatch.setattr(_kernel, "_DRAWN", 1)
    one_block = runner.__wrapped__("batch", 400, 4, jnp.float64)
    state = one_block(beginning("batch", 400), jnp.int64(5), jnp.int64(40), KEY)
    assert_same(state, expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("d", [1, 2, 64])
def test_any_dimension(d):
    assert_same(blocked("slow theta", 0, 9, d=d), step_by_step("slow theta", 0, 9, d=d), rtol=1e-10)


def test_intervals_join_anywhere():
    whole = blocked("theta", 0, 90)
    state = None
    for k0, k1 in [(0, 1), (1, 14), (14, 14), (14, 16), (16, 71), (71, 90)]:
        state = blocked("theta", k0, k1, start=state)
    assert_same(state, whole, rtol=1e-11, atol=1e-13)


@pytest.mark.slow
def test_steps_outside_the_interval_do_nothing():
    start = beginning("theta", dtype=jnp.float32)
    assert_same(blocked("theta", 6, 6, dtype=jnp.float32), start, rtol=0)
    # The first block is 0..3, the second 4..7: at ticks 0, 1, 2 and from 6 on a step overflows.
    state = blocked("wild", 3, 6)
    assert_same(state, blocked("tame", 3, 6), rtol=0)
    assert not np.isfinite(blocked("wild", 3, 7)[0]).any()


def test_ticks_beyond_32_bits():
    name, k0 = "least squares", 2**33 + 5
    state = blocked(name, k0, k0 + 20)
    assert_same(state, step_by_step(name, k0, k0 + 20), rtol=1e-10, atol=1e-13)
    assert np.abs(state[0] - blocked(name, 5, 25)[0]).max() > 1e-3


@pytest.mark.slow
def test_int32_ticks_and_vmap_over_keys():
    rest = keywords(PROBLEMS["mixture"], 33, jnp.float32, 4)
    x, _ = beginning("mixture", dtype=jnp.float32)
    keys = jax.vmap(lambda i: jax.random.fold_in(KEY, i))(jnp.arange(3))
    run = jax.jit(
        jax.vmap(
            lambda key: _kernel.advance(x, Side(None), jnp.int32(2), jnp.int32(31), key, **rest)[0]
        )
    )
    batch = run(keys)
    for i in range(3):
        alone = blocked("mixture", 2, 31, dtype=jnp.float32, key=keys[i])[0]
        np.testing.assert_allclose(batch[i], alone, atol=1e-6)
    assert np.abs(batch[0] - batch[1]).max() > 1e-2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("ridge", "norm"), [(0.0, 0.865526684776384), (0.5, 0.6584266401196806)], ids=str
)
def test_reference_value_of_a_block(ridge, norm):
    """Explicit rows, gamma_k = .6 + .05 k, g = tanh x - tanh x*, computed independently."""
    n, d = 10, 14
    i, j = np.meshgrid(np.arange(n), np.arange(d), indexing="ij")
    rows = jnp.asarray(1.4 * np.sin(0.7 * (i + 1) * (j + 2) + 0.3 * i))
    j = np.arange(d)
    x = jnp.asarray(np.stack([np.cos(j), np.sin(2 * j)]) / np.sqrt(d))
    fixed = jnp.asarray(np.stack([np.cos(3 * j), np.sin(j / 2 + 1)]) / np.sqrt(d))
    samples = _kernel._Samples(rows, jnp.zeros((n, 1), int), jnp.zeros((n, 1, 0)))
    data = _kernel._Data(jnp.ones((1, d)), None, jnp.ones(1), fixed, Noise(0), 1)
    descent = _kernel._Descent(
        gradient=lambda x, teacher, *_: (jnp.tanh(x) - jnp.tanh(teacher), None),
        rules=sgd(lambda t: 0.6 + 0.05 * t * d, jnp.asarray(ridge), d),
        start=jnp.asarray(0),
        stop=jnp.asarray(n),
    )
    x, _ = _kernel._block(descent, data, samples, jnp.asarray(0), x, Side(None))
    assert float(jnp.linalg.norm(x)) == pytest.approx(norm, abs=2e-15)


@pytest.mark.slow
def test_law_of_the_samples():
    d, count = 5, 40_000
    probabilities, k = (0.1, 0.6, 0.3), 2
    means = jnp.asarray(np.linspace(-1, 1, 3 * d).reshape(3, d))
    scale = jnp.asarray(np.linspace(0.5, 2, 3 * d).reshape(3, d))
    data = _kernel._Data(
        scale, means, jnp.asarray(probabilities), jnp.zeros((0, d)), Noise(k, 0.5), 1
    )
    pairs = random.normal_pairs(KEY, 0, count, 3, jnp.float64)
    extras = random.normals(random.stream(KEY, Stream.LABELS), 0, count, data.extras, jnp.float64)
    samples = _kernel._samples(data, pairs, extras, count)
    rows, component, noise = jax.tree.map(np.asarray, samples)
    rows, component, noise = rows, component[:, 0], noise[:, 0]
    observed = np.bincount(component, minlength=3)
    assert stats.chisquare(observed, count * np.array(probabilities)).pvalue > 1e-3
    for c in range(3):
        z = (rows[component == c] - np.asarray(means)[c]) / np.asarray(scale)[c]
        assert stats.kstest(z.ravel(), "norm").pvalue > 1e-3
        assert np.abs(np.corrcoef(z.T) - np.eye(d)).max() < 4 / np.sqrt(len(z))
    assert stats.kstest(noise.ravel() / 0.5, "norm").pvalue > 1e-3
    everything = np.concatenate([rows, noise, component[:, None]], axis=1)
    correlation = np.corrcoef(everything.T)
    assert np.abs(correlation[:d, d : d + k]).max() < 4 / np.sqrt(count)
    assert np.abs(correlation[d : d + k, -1]).max() < 4 / np.sqrt(count)


def test_forward_derivative_in_the_learning_rate():
    rest = keywords(PROBLEMS["logistic"], 33, jnp.float64, 4)
    x, side = beginning("logistic")

    @jax.jit
    def final(gamma):
        rest["rules"] = sgd(lambda t: gamma + 0 * t, jnp.asarray(0.0), 33)
        return _kernel.advance(x, side, jnp.int64(0), jnp.int64(25), KEY, **rest)[0]

    value, slope = jax.jvp(final, (0.5,), (1.0,))
    h = 1e-5
    np.testing.assert_allclose(slope, (final(0.5 + h) - final(0.5 - h)) / (2 * h), atol=1e-8)
    np.testing.assert_allclose(value, final(0.5), atol=1e-12)


@pytest.mark.parametrize(
    ("backend", "block", "runs"), [("cpu", {4, 8}, [8, 1, 1]), ("gpu", {32, 8}, [None] * 3)]
)
def test_sizes_follow_the_backend(monkeypatch, backend, block, runs):
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    dims = [32, 1024, 16384]
    assert {_kernel.block_size(d) for d in dims} == block
    assert [_kernel.side_by_side(d) for d in dims] == runs
