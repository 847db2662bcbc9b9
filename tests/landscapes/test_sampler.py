"""The previsible sampler: its law at any d (`test_every_algorithm.py`: what it tends to)."""

import jax
import numpy as np
import pytest
from scipy import stats

import hdjax as hd
from hdjax.landscapes import Ambient, Explicit, GradientSpan, OverlapWithStep, Previsible
from hdjax.landscapes.algorithms import GradientDescent, HeavyBall, SphereDescent
from hdjax.landscapes.kernels import (
    Amplitude,
    Matern32,
    RationalQuadratic,
    SpinGlass,
    SquaredExponential,
)

GD = GradientDescent(0.5)
RECORDED = {"value": None, "gradient_norm": None, "norm": None, "gradient_overlap": None} | {
    "from one": OverlapWithStep(1, "gradients"),
    "from two": OverlapWithStep(2),
}


def samples(system, times, method, runs, seed):
    """Every statistic at every time, one row a run."""
    result = hd.simulate(
        system, times, key=jax.random.key(seed), runs=runs, method=method, statistics=RECORDED
    )
    return np.concatenate([result.runs[name].values for name in RECORDED], axis=1)


def assert_same_law(one, other, level=4.0):
    """First and second moments of all columns within 4 s.e., Kolmogorov-Smirnov on each."""
    moving = one.std(0) > 1e-6
    one, other = one[:, moving], other[:, moving]
    for power in (1, 2):
        a, b = one**power, other**power
        error = np.sqrt(a.var(0) / len(a) + b.var(0) / len(b))
        assert np.all(np.abs(a.mean(0) - b.mean(0)) < level * error)
    bound = 1e-3 / moving.sum()
    assert all(stats.ks_2samp(a, b).pvalue > bound for a, b in zip(one.T, other.T, strict=True))


LAWS = {
    "SE": (SquaredExponential(), GD, 2, {}),
    "modulated, mean": (
        Amplitude([1, 0.3]) * RationalQuadratic(), HeavyBall(0.3, 0.4), 4, {"mean": [0.5, 0.1]},
    ),
    "matern + spin glass": (
        Matern32(0.5) + SpinGlass([0, 0.3, 0.2]), SphereDescent(0.2), 6, {},
    ),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", LAWS)
def test_law_is_that_of_conditioning_all_coordinates(name):
    """Up to more steps than dimensions; the other side never uses a frame."""
    kernel, algorithm, d, options = LAWS[name]
    system = GradientSpan(kernel, algorithm, d, **options)
    times = np.arange(4.0)
    exact = samples(system, times, Ambient(), 4000, 0)
    assert_same_law(exact, samples(system, times, Previsible(), 4000, 1))


@pytest.mark.slow
def test_law_is_that_of_explicit_tensors():
    """A quadratic for 9 steps in 6 dimensions, and a noisy one."""
    quadratic = GradientSpan(SpinGlass([0, 0, 0.2]), HeavyBall(0.3, 0.3), 6, mean=[0, 2])
    noise = SpinGlass([0, 0.4, 0.5])
    noisy = GradientSpan(
        SpinGlass([0, 0, 0.3]), GradientDescent(0.15), 20, mean=[0, 2], noise=noise
    )
    for system, steps in ((quadratic, 9), (noisy, 4)):
        times = np.arange(float(steps))
        explicit = samples(system, times, Explicit(dtype="float64"), 4000, 0)
        assert_same_law(explicit, samples(system, times, Previsible(), 4000, 1))


def first_step(d, gamma):
    """E f_1, E f_1^2 and E |g_1|^2 of GD on SE(1, 1), exact for every d."""
    m = np.cumprod([1.0] + [(d + 2 * i) / d for i in range(3)])
    m = [m[j] * (1 + 2 * gamma**2 / d) ** (-d / 2 - j) for j in range(4)]
    mean = -gamma * (1 + gamma**2 / d) ** (-d / 2 - 1)
    square = 1 / d + gamma**2 * (m[2] - m[1] / d)
    gradient = 1 + (m[1] - 2 * gamma**2 * m[2] + gamma**4 * m[3])
    gradient -= (m[0] - 2 * gamma**2 * m[1] + gamma**4 * m[2]) / d + (d - 1) / d * m[0]
    return mean, square, gradient


@pytest.mark.slow
@pytest.mark.optimised
def test_first_step_in_closed_form_at_finite_d():
    """Three dimensions in one program."""
    runs, gamma = 100_000, 0.7
    result = hd.sweep(
        lambda d: GradientSpan(SquaredExponential(), GradientDescent(gamma), d),
        {"d": [1.0, 2.0, 50.0]}, [0, 1], key=jax.random.key(0), runs=runs, start=None,
        statistics={"value": None, "square": lambda s, o: o.value**2, "gradient_norm": None},
    )  # fmt: skip
    assert result.tree.attrs["programs"] == 1
    for i, d in enumerate((1, 2, 50)):
        for name, exact in zip(result.statistics, first_step(d, gamma), strict=True):
            mean, std = (float(group[name][i, 1]) for group in (result.mean, result.std))
            assert abs(mean - exact) < 4 * std / np.sqrt(runs), (d, name)


@pytest.mark.slow
def test_errors_shrink_like_the_root_of_d():
    def make(d):
        return GradientSpan(SquaredExponential(), GD, d)

    result = hd.scaling(
        make, [10**2, 10**4, 10**6, 10**8], np.arange(6.0), key=jax.random.key(0), runs=400,
        statistics=["value", "gradient_norm"],
    )  # fmt: skip
    for name in result.statistics:
        assert -0.55 < float(result.exponent[name]) < -0.45
