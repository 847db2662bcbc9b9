"""The previsible sampler: its law at any d (`test_every_algorithm.py`: what it tends to)."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import hdjax as hd
from hdjax.landscapes import Ambient, Explicit, GradientSpan, OverlapWithStep, Previsible
from hdjax.landscapes.algorithms import GradientDescent, HeavyBall, SphereDescent
from hdjax.landscapes.kernels import (
    Amplitude,
    FunctionKernel,
    Matern32,
    RationalQuadratic,
    SpinGlass,
    SquaredExponential,
)
from hdjax.landscapes.simulate import _PROPOSED, _chi_squared, draw

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
@pytest.mark.optimised
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


def test_dimension_is_a_number_in_the_program():
    """From 1 to 10^12 without a second compilation."""
    traces = []

    def make(d):
        return GradientSpan(SquaredExponential(), GD, d)

    horizon = make(2).horizon(np.arange(4.0))
    limit = make(2).limit(np.arange(4.0), save=lambda order: order.value).values[-1]

    @eqx.filter_jit
    def value(system, key):
        traces.append(1)
        simulator = system.simulator(Previsible(), horizon)
        zero = jnp.zeros((), int)
        state = simulator.advance(simulator.init(key), zero, zero + 3, key)
        return simulator.summary(state).value

    gaps = [abs(float(value(make(d), jax.random.key(0)) - limit)) for d in (1, 10**6, 10**12)]
    assert len(traces) == 1
    assert gaps[0] > 1e-2 > gaps[1] > 1e-5 > gaps[2]


@pytest.mark.slow
def test_draws_do_not_depend_on_interval_or_horizon():
    system = GradientSpan(SquaredExponential(), GD, 30)
    key = jax.random.key(3)

    def curve(times):
        result = hd.simulate(system, times, key=key, runs=2, statistics=["value"])
        return result.runs["value"].values

    whole = curve(np.arange(6.0))
    np.testing.assert_allclose(curve([2.0, 3.0, 5.0]), whole[:, [2, 3, 5]], rtol=1e-12)
    np.testing.assert_allclose(curve([0.0, 2.0]), whole[:, [0, 2]], rtol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("freedom", [1.0, 2.0, 3.0, 40.0, 1e6])
def test_chi_squared_without_a_loop(freedom):
    normals = jax.random.normal(jax.random.key(1), (50_000, _PROPOSED))
    drawn = jax.vmap(lambda z: _chi_squared(z, jnp.asarray(freedom)))(normals)
    assert stats.kstest(np.asarray(drawn), stats.chi2(freedom).cdf).pvalue > 1e-3


def test_infinite_dimension_draws_nothing():
    draws = draw(jax.random.key(0), jnp.asarray(2), 5, jnp.asarray(jnp.inf))
    assert np.all(np.asarray(draws.innovations) == 0)
    assert draws.length == 1


@pytest.mark.slow
def test_runs_may_be_longer_than_there_are_dimensions():
    system = GradientSpan(SquaredExponential(), GD, 2)
    result = hd.simulate(system, np.arange(9.0), key=jax.random.key(0), runs=4)
    assert np.isfinite(result.runs["value"].values).all()


@pytest.mark.slow
def test_unbounded_landscapes_diverge_and_say_when():
    system = GradientSpan(SpinGlass([0, 0, 0, 1]), GradientDescent(0.5), 1000)
    result = hd.compare(system, np.arange(12.0), key=jax.random.key(0), runs=4, fluctuations=False)
    ends = result.codes["since"].values
    assert np.all((ends > 1) & (ends < 11))
    assert np.isfinite(result.runs["value"].values[:, :2]).all()
    assert np.isfinite(float(result.codes["limit_since"]))


SE = SquaredExponential()
SPLIT = hd.spectra.explicit([0.5, 1.5], [2, 2])


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: GradientSpan(SE, GD, 0), ValueError, r"dimension: 0\.0; allowed: positive"),
        (lambda: GradientSpan(SE, GD, 2.5), ValueError, r"dimension: 2\.5; allowed: an integer"),
        (lambda: GradientSpan(SE, GD, np.nan), ValueError, "dimension: nan"),
        (lambda: GradientSpan(SE, GD, 5, radius=-1.0), ValueError, r"radius: -1\.0"),
        (
            lambda: GradientSpan(SpinGlass([0, 0, 1]), GD, 5, radius=0.0),
            ValueError,
            "nothing moves",
        ),
        (lambda: GradientSpan(SE, SphereDescent(0.1), 5, radius=0), ValueError, "SphereDescent"),
        (
            lambda: GradientSpan(FunctionKernel(lambda a, b, t: -t), GD, 5),
            ValueError,
            "kernel: variances -1 of f and -1 of its derivatives at x_0; allowed: at least 0",
        ),
        (
            lambda: GradientSpan(FunctionKernel(lambda a, b, t: jnp.exp(t) + a * t), GD, 5),
            ValueError,
            "kernel: .* in the other order; allowed: symmetric",
        ),
        (
            lambda: GradientSpan(
                FunctionKernel(lambda a, b, t: jnp.exp(-jnp.sqrt(a + b - t))), GD, 5
            ),
            ValueError,
            "kernel: variances .* twice differentiable",
        ),
        (lambda: GradientSpan(SE, GD, 5, spectrum=SPLIT), ValueError, "allowed: that of the spect"),
        (lambda: GradientSpan(SE, GD, 5, shares=[1.0]), ValueError, "shares: given"),
        (lambda: GradientSpan(SE, GD, 4, spectrum=SPLIT, shares=[1.0]), ValueError, "shares: shap"),
        (lambda: GradientSpan(SE, GD, 4, spectrum=SPLIT, shares=[0.5, 1]), ValueError, "sum 1.5"),
        (lambda: Previsible(nugget=-1.0), ValueError, r"nugget: -1\.0"),
        (lambda: Explicit(couplings="cauchy"), ValueError, "couplings: 'cauchy'"),
        (lambda: Explicit(features=0), ValueError, "features: 0"),
        (lambda: Explicit(dtype="float16"), ValueError, "dtype: 'float16'"),
        (lambda: Ambient(dtype="float32"), ValueError, "dtype: 'float32'; allowed: 'float64'"),
        (lambda: OverlapWithStep(-1), ValueError, "step: -1"),
        (lambda: OverlapWithStep(0, "values"), ValueError, "of: 'values'"),
    ],
)
def test_wrong_arguments(make, error, message):
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize(
    ("system", "options", "error", "message"),
    [
        (GradientSpan(SE, GD, 5), {"method": Explicit()}, ValueError, "features: None"),
        (GradientSpan(SpinGlass([0, 1]), GD, 5), {"method": Explicit(features=9)}, ValueError,
         "features: 9; allowed without a"),
        (GradientSpan(SE, GD, np.inf), {"method": Explicit(features=9)}, ValueError,
         "dimension: infinite"),
        (GradientSpan(SE * SE, GD, 5), {"method": Explicit(features=9)}, TypeError, "Product"),
        (GradientSpan(SE, GD, 4, spectrum=SPLIT), {}, ValueError, "method: Previsible; allowed"),
        (GradientSpan(SE, GD, 5), {"method": "direct"}, TypeError, "method: 'direct'"),
        (GradientSpan(SE, GD, 5), {"ts": [0.1, 0.2]}, ValueError, "ts: .* step numbers"),
    ],
)  # fmt: skip
def test_what_cannot_be_run_is_refused(system, options, error, message):
    with pytest.raises(error, match=message):
        hd.simulate(system, **({"ts": [0, 1]} | options), key=jax.random.key(0), runs=1)


def test_starts_are_not_realised():
    with pytest.raises(ValueError, match="start: 'realised'"):
        hd.compare(GradientSpan(SE, GD, 5), [0, 1], key=jax.random.key(0), runs=1, start="realised")


def test_float32_is_refused():
    with jax.enable_x64(False):
        system = GradientSpan(SquaredExponential(), GD, 100)
        with pytest.raises(ValueError, match="Previsible in float32"):
            hd.simulate(system, [0, 1], key=jax.random.key(0), runs=1)


def test_a_nugget_that_is_too_small_is_named():
    """Smooth kernels need one, kernels with two derivatives do not."""
    for nugget in (0.0, 1e-14, 1e-12):
        system = GradientSpan(SE, GradientDescent(0.5), 100)
        with pytest.raises(ValueError, match=r"nugget: .* of observation .* at least 1e-11"):
            hd.simulate(system, range(12), key=jax.random.key(0), runs=2, method=Previsible(nugget))
    rough = GradientSpan(Matern32(), GradientDescent(0.3), 100)
    result = hd.simulate(rough, range(8), key=jax.random.key(0), runs=2, method=Previsible(0.0))
    assert np.isfinite(result.runs["value"].values).all()
