"""Methods on vectors of R^d: functions of one's own and drawn ones, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hdjax as hd
from hdjax.landscapes import Ambient, Explicit, Function, GradientSpan
from hdjax.landscapes.algorithms import GradientDescent, HeavyBall
from hdjax.landscapes.kernels import SpinGlass, SquaredExponential


def test_a_function_of_ones_own_is_descended():
    """In the engine, from the start that it drew; the limit is that of the kernel that was said."""
    system = GradientSpan(SpinGlass([0, 0, 0.1]), HeavyBall(0.3, 0.4), 4, mean=[0, 2])
    weights = jnp.array([0.5, 1.0, 1.5, 2.0])
    result = hd.simulate(
        system, np.arange(4.0), key=jax.random.key(0), runs=1, statistics=["norm", "value"],
        method=Function(lambda x: weights @ x**2, "float64"),
    )  # fmt: skip
    method = Function(lambda x: weights @ x**2, "float64")
    simulator = method.simulator(system, system.horizon(np.arange(4.0), method))
    x = last = np.asarray(simulator.init(jax.random.fold_in(jax.random.key(0), 0)).ahead)
    for k in range(4):
        np.testing.assert_allclose(result.runs["norm"][0, k], x @ x, rtol=1e-12)
        np.testing.assert_allclose(result.runs["value"][0, k], weights @ x**2, rtol=1e-12)
        x, last = x - 0.6 * np.asarray(weights) * x + 0.4 * (x - last), x


def test_functions_that_are_not_gaussian():
    """Random signs of the couplings' variance, and a random factor of mean square 1."""
    system, d = GradientSpan(SpinGlass([0, 0, 0.3]), GradientDescent(0.1), 20), 20
    keys = jax.random.split(jax.random.key(0), 400)
    signs = Explicit(couplings="rademacher").sample(system, d, keys[0]).tensors[2]
    np.testing.assert_allclose(np.abs(signs), np.sqrt(0.3 / d), rtol=1e-6)
    assert abs(np.sign(signs).mean()) < 4 / d
    method = Explicit(variances=[0.4, 1.6])
    squares = np.asarray(jax.vmap(lambda key: method.sample(system, d, key).factor)(keys)) ** 2
    low = np.isclose(squares, 0.4, rtol=1e-5)
    assert np.all(low | np.isclose(squares, 1.6, rtol=1e-5))
    assert abs(low.mean() - 0.5) < 4 * 0.5 / np.sqrt(400)


def test_noise_is_refused_where_it_would_be_ignored():
    noise = SpinGlass([0, 1])
    system = GradientSpan(SquaredExponential(), GradientDescent(0.1), 4, noise=noise)
    for method in (Function(jnp.sum), hd.landscapes.Ambient()):
        with pytest.raises(ValueError, match="noise: a kernel; allowed"):
            hd.simulate(system, [0, 1], key=jax.random.key(0), runs=1, method=method)


SE, GD = SquaredExponential(), GradientDescent(0.5)


@pytest.mark.parametrize(
    ("system", "options", "error", "message"),
    [
        (GradientSpan(SE, GD, 5), {"method": Explicit()}, ValueError, "features: None"),
        (GradientSpan(SpinGlass([0, 1]), GD, 5), {"method": Explicit(features=9)}, ValueError,
         "features: 9; allowed without a"),
        (GradientSpan(SE, GD, np.inf), {"method": Explicit(features=9)}, ValueError,
         "dimension: infinite"),
        (GradientSpan(SE * SE, GD, 5), {"method": Explicit(features=9)}, TypeError, "Product"),
    ],
)  # fmt: skip
def test_what_cannot_be_run_is_refused(system, options, error, message):
    with pytest.raises(error, match=message):
        hd.simulate(system, **({"ts": [0, 1]} | options), key=jax.random.key(0), runs=1)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Function(3.0), TypeError, "fn: 3.0; allowed: a function"),
        (lambda: Function(jnp.sum, "float16"), ValueError, "dtype: 'float16'"),
        (lambda: Explicit(variances=[0.5, 1.0]), ValueError, r"variances: \[0\.5, 1\.0\]"),
        (
            lambda: Explicit(variances=[-1.0, 3.0]),
            ValueError,
            r"variances: \[-1\.0, 3\.0\]; allowed",
        ),
        (lambda: Explicit(couplings="cauchy"), ValueError, "couplings: 'cauchy'"),
        (lambda: Explicit(features=0), ValueError, "features: 0"),
        (lambda: Explicit(dtype="float16"), ValueError, "dtype: 'float16'"),
        (lambda: Ambient(dtype="float32"), ValueError, "dtype: 'float32'; allowed: 'float64'"),
    ],
)
def test_wrong_arguments(make, error, message):
    with pytest.raises(error, match=message):
        make()
