"""Every algorithm and every kernel: the sampler without noise is the limit, with noise d^-1/2 off.

Rows of a table are numbers in one program, which compiles once for all of them.
"""

import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hdjax.landscapes import GradientSpan, Previsible
from hdjax.landscapes.algorithms import (
    Algorithm,
    BarzilaiBorwein,
    ConjugateGradient,
    GradientDescent,
    HeavyBall,
    LowerTriangular,
    Nesterov,
    SphereDescent,
)
from hdjax.landscapes.kernels import (
    Kernel,
    Matern32,
    Matern52,
    RationalQuadratic,
    SpinGlass,
    SquaredExponential,
)
from hdjax.landscapes.landscape import Horizon
from hdjax.landscapes.rates import Normalised, Polyak, RandomFunctionDescent, Steps

N, DIMENSIONS, RUNS = 7, (1e4, 1e6), 200
STATISTICS = ("value", "gradient_norm", "norm", "start_overlap", "gradient_overlap")

SE, RQ = SquaredExponential(), RationalQuadratic(1, 1.5, 2)
MATERN32, MATERN52 = Matern32(), Matern52(1.3, 0.8)
SUM = MATERN52 + SpinGlass([0, 0.3, 0.5])
FULL = [[0.3, 0.0, 0.0], [0.2, 0.4, 0.0], [0.1, 0.3, 0.5]]
STALE = [[0.3, 0.0, 0.0], [0.3, 0.3, 0.0], [0.3, 0.3, 0.0]]


def others():
    """What the reference values leave out, and cases without a definite covariance."""

    def best(kernel):
        return RandomFunctionDescent(kernel)

    # name: (kernel, algorithm, mean, radius)
    return {
        "steps": (SUM, GradientDescent(Steps([0.2, 0.1, 0.3])), 0, 1),
        "normalised": (SUM, GradientDescent(Normalised(0.3)), 0, 1),
        "Polyak": (RQ, GradientDescent(Polyak(-1.0, 0.3)), [1, 0.2], 0.7),
        "RFD on RQ": (RQ, GradientDescent(best(RQ)), 0, 1),
        "RFD on Matern 5/2": (MATERN52, GradientDescent(best(MATERN52)), 0, 1),
        "RFD on Matern 3/2": (MATERN32, GradientDescent(best(MATERN32)), 0, 1),
        "heavy ball": (SUM, HeavyBall(0.1, 0.4), [0, 0.3], 1),
        "Nesterov": (SE, Nesterov(0.3, 0.4), 0, 1),
        "FR": (MATERN52, ConjugateGradient(0.05, "FR"), 0, 1),
        "PR": (SUM, ConjugateGradient(0.1, "PR"), 0, 1),
        "PR with RFD": (SE, ConjugateGradient(best(SE), "PR"), 0, 1),
        "BB2": (SE, BarzilaiBorwein(0.3, 2), 0, 1),
        "BB2 between bounds": (RQ, BarzilaiBorwein(0.3, 2, 0.4, 0.9), [1, 0.2], 0.7),
        "sphere": (SUM, SphereDescent(0.1), 0, 1),
        "lower triangular": (SE, LowerTriangular(FULL), 0, 1),
        "a gradient too late": (MATERN52, LowerTriangular(STALE), 0, 1),
        "pure 2-spin": (SpinGlass([0, 0, 1]), SphereDescent(0.2), 0, 1),
        "no motion": (SE, GradientDescent(0.0), 0, 1),
        "from 0": (SE, GradientDescent(0.5), 0, 0),
    }


# Where errors grow fast, first steps.
CHAOTIC = {"Polyak": 5, "CG on a modulated SE": 6, "BB on a spin glass with ridge": 6}


class OneKernel(Kernel):
    """A kernel by its number."""

    members: list
    which: jax.Array

    def __call__(self, a, b, t, h):
        return self.jet(a, b, t, h).value

    def jet(self, a, b, t, h):
        jets = [lambda *pair, one=one: one.jet(*pair) for one in self.members]
        return jax.lax.switch(self.which, jets, a, b, t, h)


class OneAlgorithm(Algorithm):
    """An algorithm by its number; the others' memories stay as they are."""

    members: list
    which: jax.Array

    def init(self, x):
        return [member.init(x) for member in self.members]

    def step(self, state, k, x, f, g, dot):
        def steps(i):
            ahead, memory = self.members[i].step(state[i], k, x, f, g, dot)
            return ahead, [*state[:i], memory, *state[i + 1 :]]

        return jax.lax.switch(self.which, [lambda i=i: steps(i) for i in range(len(self.members))])


def landscape(kernels, algorithms, row, d):
    kernel, algorithm = OneKernel(kernels, row[0]), OneAlgorithm(algorithms, row[1])
    return GradientSpan(kernel, algorithm, d, mean=row[2], radius=row[3])


def tracked(order):
    numbers = order.value, order.gradient_norm, order.norm, order.points[0], order.gradients[0]
    return dict(zip(STATISTICS, numbers, strict=True))


def run(system, key):
    simulator, zero = system.simulator(Previsible(), Horizon(N)), jnp.zeros((), int)
    seen = simulator.advance(simulator.init(key), zero, zero + N - 1, key).run
    x, g = seen.points, seen.gradients
    numbers = seen.values, (g**2).sum(1), (x**2).sum(1), x @ x[0], g @ g[0]
    return dict(zip(STATISTICS, numbers, strict=True))


@eqx.filter_jit
def without_noise(kernels, algorithms, rows):
    """The limit, and the sampler without noise, of every row."""

    def both(row):
        system = landscape(kernels, algorithms, row, jnp.asarray(jnp.inf))
        limit = system.limit(jnp.arange(float(N)), save=tracked, horizon=Horizon(N)).values
        return limit, run(system, jax.random.key(0))

    return jax.lax.map(both, rows)


@eqx.filter_jit
def with_noise(kernels, algorithms, rows, keys):
    """Runs at each dimension (the same draws at all), and predicted deviations at d = 1."""

    def both(row):
        def at(d):
            system = landscape(kernels, algorithms, row, d)
            return jax.vmap(lambda key: run(system, key))(keys)

        system = landscape(kernels, algorithms, row, jnp.asarray(1.0))
        predicted = system.fluctuations(jnp.arange(float(N)), tracked, horizon=Horizon(N))
        return jax.vmap(at)(jnp.array(DIMENSIONS)), predicted

    return jax.lax.map(both, rows)


@pytest.fixture(scope="module")
def table(references):
    """Kernels, algorithms, and name -> row: a kernel, an algorithm, a mean and a radius."""
    with pytest.warns(UserWarning, match="zero on the diagonal"):
        more = others()
    systems = {name: make() for name, (make, *_) in references.items()} | {
        name: GradientSpan(*parts, np.inf, mean=mean, radius=radius)
        for name, (*parts, mean, radius) in more.items()
    }
    kernels, rows = [], {}
    for i, (name, system) in enumerate(systems.items()):
        same = [j for j, one in enumerate(kernels) if eqx.tree_equal(one, system.kernel)]
        kernels += [] if same else [system.kernel]
        mean = np.pad(system.mean.coefficients, (0, 1))[:2]
        rows[name] = (same[0] if same else len(kernels) - 1, i, mean, float(system.radius))
    return kernels, [system.algorithm for system in systems.values()], rows


def stacked(rows):
    return tuple(jnp.asarray(np.array(column)) for column in zip(*rows, strict=True))


@pytest.fixture(scope="module")
def noiseless(table):
    """Name, or numbers of kernel and algorithm (with a ridge) -> limit and noise-free run."""
    kernels, algorithms, rows = table
    pairs = itertools.product(range(len(kernels)), range(len(algorithms)))
    rows = rows | {pair: (*pair, np.array([0.0, 0.5]), 1.0) for pair in pairs}
    found = jax.tree.map(np.asarray, without_noise(kernels, algorithms, stacked(rows.values())))
    return {name: jax.tree.map(lambda x, i=i: x[i], found) for i, name in enumerate(rows)}


@pytest.mark.slow
def test_without_noise_it_is_the_limit(noiseless, references):
    """Two independent derivations, and the reference values."""
    for name in filter(lambda name: isinstance(name, str), noiseless):
        limit, found = noiseless[name]
        tame = slice(CHAOTIC.get(name, N))
        for statistic, expected in limit.items():
            message = f"{name}: {statistic}"
            one, other = found[statistic][tame], expected[tame]
            np.testing.assert_allclose(one, other, rtol=0, atol=1e-8, err_msg=message)
    for name, (_, *expected) in references.items():
        for statistic, numbers in zip(("value", "gradient_norm"), expected, strict=True):
            found = noiseless[name][1][statistic][: len(numbers)]
            np.testing.assert_allclose(found, numbers, rtol=0, atol=1e-8, err_msg=name)


@pytest.mark.slow
def test_every_algorithm_on_every_kernel(noiseless, table):
    """Four observations, whatever the rates do there; HS divides by what is nearly 0."""
    kernels, algorithms, _ = table
    for pair in filter(lambda name: not isinstance(name, str), noiseless):
        limit, found = noiseless[pair]
        kernel, algorithm = kernels[pair[0]], algorithms[pair[1]]
        tame = slice(3 if getattr(algorithm, "formula", "") == "HS" else 4)
        for statistic, expected in limit.items():
            one, other = found[statistic][tame], expected[tame]
            error = np.abs(one - other).max() / max(1.0, np.abs(other).max())
            assert error < 1e-7, (kernel, algorithm, statistic)


@pytest.mark.slow
@pytest.mark.long
def test_errors_shrink_like_the_root_of_d_by_the_predicted_amount(noiseless, table):
    """Root mean squares of 200 runs are known to 5 %, their ratio at two dimensions to d^-1/2."""
    kernels, algorithms, rows = table
    keys = jax.random.split(jax.random.key(0), RUNS)
    found = with_noise(kernels, algorithms, stacked(rows.values()), keys)
    runs, predicted = jax.tree.map(np.asarray, found)
    for i, name in enumerate(rows):
        for statistic, exact in noiseless[name][0].items():
            errors = (runs[statistic][i] - exact)[..., : CHAOTIC.get(name, N)]
            few, many = np.sqrt(np.array(DIMENSIONS)[:, None] * np.mean(errors**2, axis=1))
            expected = predicted[statistic][i, : few.size]
            moving = expected > 1e-6
            message = f"{name}: {statistic}"
            np.testing.assert_allclose(few[moving], many[moving], rtol=0.05, err_msg=message)
            np.testing.assert_allclose(many[moving], expected[moving], rtol=0.2, err_msg=message)
    # A stationary law does not know where the start is.
    names = list(rows)
    for statistic in ("value", "gradient_norm", "gradient_overlap"):
        one, other = (runs[statistic][names.index(name)] for name in ("from 0", "GD on SE"))
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-9)
