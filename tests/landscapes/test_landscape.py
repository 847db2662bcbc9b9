"""What all systems of the family share: times, divergence, and the check of a kernel."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hdjax as hd
from hdjax.landscapes import GradientSpan
from hdjax.landscapes.algorithms import GradientDescent
from hdjax.landscapes.kernels import FunctionKernel, SpinGlass, SquaredExponential
from tests.landscapes.problems import curve

SE, GD = SquaredExponential(), GradientDescent(0.5)


def test_traced_times_need_a_horizon(problem, references):
    system = problem(SE, GD)
    with pytest.raises(ValueError, match="ts: traced"):
        jax.jit(lambda ts: system.limit(ts, save=curve).values)(jnp.arange(3.0))
    horizon = system.horizon(np.arange(3.0))
    found = jax.jit(lambda ts: system.limit(ts, save=curve, horizon=horizon).values)(
        jnp.arange(3.0)
    )
    np.testing.assert_allclose(found[0], references["GD on SE"][1][:3], atol=1e-9)


def test_times_are_step_numbers():
    with pytest.raises(ValueError, match=r"ts: .* step numbers"):
        hd.simulate(GradientSpan(SE, GD, 5), [0.1, 0.2], key=jax.random.key(0), runs=1)


@pytest.mark.slow
def test_unbounded_landscapes_diverge_and_say_when():
    system = GradientSpan(SpinGlass([0, 0, 0, 1]), GradientDescent(0.5), 1000)
    result = hd.compare(system, np.arange(12.0), key=jax.random.key(0), runs=4, fluctuations=False)
    ends = result.codes["since"].values
    assert np.all((ends > 1) & (ends < 11))
    assert np.isfinite(result.runs["value"].values[:, :2]).all()
    assert np.isfinite(float(result.codes["limit_since"]))


def test_starts_are_not_realised():
    with pytest.raises(ValueError, match="start: 'realised'"):
        hd.compare(GradientSpan(SE, GD, 5), [0, 1], key=jax.random.key(0), runs=1, start="realised")


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: GradientSpan(SE, GD, 2.5), ValueError, r"dimension: 2\.5; allowed: an integer"),
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
    ],
)
def test_wrong_arguments(make, error, message):
    with pytest.raises(error, match=message):
        make()
