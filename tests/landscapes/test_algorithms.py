"""Algorithms against plain formulas in R^d, in other bases, and their rates against searches."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hdjax as hd
from hdjax.landscapes import Explicit, Function, GradientSpan
from hdjax.landscapes.algorithms import (
    BarzilaiBorwein,
    ConjugateGradient,
    GradientDescent,
    HeavyBall,
    LowerTriangular,
    Nesterov,
    SphereDescent,
)
from hdjax.landscapes.frame import conditional_law
from hdjax.landscapes.kernels import (
    Matern32,
    Matern52,
    RationalQuadratic,
    SpinGlass,
    SquaredExponential,
)
from hdjax.landscapes.rates import Clipped, Normalised, Polyak, RandomFunctionDescent, Steps

# A function of R^4 with values, gradients and a start in general position.
CURVATURES = np.array([0.3, 0.7, 1.1, 1.9])
START = np.array([1.0, -0.5, 0.8, 0.4])
STEPS = 5
MATRIX = np.tril(np.linspace(0.1, 0.4, STEPS**2).reshape(STEPS, STEPS))
norm = np.linalg.norm


def f(x):
    return CURVATURES @ x**2 / 2 + x[0] ** 3 / 6


def g(x):
    return CURVATURES * x + np.array([x[0] ** 2 / 2, 0, 0, 0])


def descended(rate):
    """x' = x - rate(k, x) g(x)."""
    points = [START]
    for k in range(STEPS):
        points.append(points[-1] - rate(k, points) * g(points[-1]))
    return points


def barzilai_borwein(k, points, variant):
    if k == 0:
        return 0.1
    s, y = points[-1] - points[-2], g(points[-1]) - g(points[-2])
    rate = s @ s / abs(s @ y) if variant == 1 else abs(s @ y) / (y @ y)
    return np.clip(rate, 0.2, 0.9)


def conjugate(beta):
    points, p = [START], None
    for _ in range(STEPS):
        now = g(points[-1])
        p = -now if p is None else beta(now, g(points[-2]), p) * p - now
        points.append(points[-1] + 0.3 * p)
    return points


def heavy_ball():
    points = [START, START]
    for _ in range(STEPS):
        points.append(points[-1] - 0.3 * g(points[-1]) + 0.4 * (points[-1] - points[-2]))
    return points[1:]


def nesterov():
    points, last = [START], START
    for _ in range(STEPS):
        ahead = points[-1] - 0.3 * g(points[-1])
        points.append(ahead + 0.4 * (ahead - last))
        last = ahead
    return points


def sphere():
    points = [START]
    for _ in range(STEPS):
        x = points[-1]
        moved = x - 0.3 * (g(x) - (x @ g(x)) / (x @ x) * x)
        points.append(norm(START) * moved / norm(moved))
    return points


def triangular():
    points = [START]
    for k in range(STEPS):
        points.append(START - sum(MATRIX[k, j] * g(points[j]) for j in range(k + 1)))
    return points


# name: (algorithm, points by its formula)
PLAIN = {
    "steps": (GradientDescent(Steps([0.3, 0.2])), descended(lambda k, x: [0.3, 0.2][min(k, 1)])),
    "normalised": (GradientDescent(Normalised(0.2)), descended(lambda k, x: 0.2 / norm(g(x[-1])))),
    "clipped": (
        GradientDescent(Clipped(0.3, 0.7)),
        descended(lambda k, x: 0.3 * min(1, 0.7 / norm(g(x[-1])))),
    ),
    "Polyak": (
        GradientDescent(Polyak(-0.1, 0.5)),
        descended(lambda k, x: 0.5 * (f(x[-1]) + 0.1) / norm(g(x[-1])) ** 2),
    ),
    "heavy ball": (HeavyBall(0.3, 0.4), heavy_ball()),
    "Nesterov": (Nesterov(0.3, 0.4), nesterov()),
    "FR": (ConjugateGradient(0.3, "FR"), conjugate(lambda g, h, p: g @ g / (h @ h))),
    "PR": (ConjugateGradient(0.3, "PR"), conjugate(lambda g, h, p: g @ (g - h) / (h @ h))),
    "PR+": (
        ConjugateGradient(0.3, "PR+"),
        conjugate(lambda g, h, p: max(0, g @ (g - h) / (h @ h))),
    ),
    "HS": (ConjugateGradient(0.3, "HS"), conjugate(lambda g, h, p: g @ (g - h) / (p @ (g - h)))),
    "BB1": (
        BarzilaiBorwein(0.1, 1, 0.2, 0.9),
        descended(lambda k, x: barzilai_borwein(k, x, 1)),
    ),
    "BB2": (
        BarzilaiBorwein(0.1, 2, 0.2, 0.9),
        descended(lambda k, x: barzilai_borwein(k, x, 2)),
    ),
    "sphere": (SphereDescent(0.3), sphere()),
    "lower triangular": (LowerTriangular(MATRIX), triangular()),
}


def run(algorithm, basis):
    """Points of R^d; the algorithm sees coefficients over the rows of `basis`, and their metric."""
    metric = jnp.asarray(basis @ basis.T)
    inverse = np.linalg.inv(basis)

    def dot(u, v):
        return u @ metric @ v

    x = jnp.asarray(START @ inverse)
    state, points = algorithm.init(x), [START]
    for k in range(STEPS):
        there = points[-1]
        gradient = jnp.asarray(g(there) @ inverse)
        x, state = algorithm.step(state, jnp.asarray(k), x, jnp.asarray(f(there)), gradient, dot)
        points.append(np.asarray(x) @ basis)
    return points


@pytest.mark.parametrize("name", PLAIN)
def test_algorithms_are_their_formulas_in_any_basis(name):
    """An orthonormal one, and one that is far from it (as the limit's)."""
    algorithm, expected = PLAIN[name]
    oblique = np.eye(4) + 0.4 * np.triu(np.ones((4, 4)), 1)
    for basis in (np.eye(4), oblique):
        np.testing.assert_allclose(run(algorithm, basis), expected, rtol=1e-11)


@pytest.mark.parametrize("name", sorted(set(PLAIN) - {"heavy ball", "Nesterov"}))
def test_nothing_moves_without_a_gradient(name):
    """Rates that divide by |g| included."""
    algorithm, x = PLAIN[name][0], jnp.asarray(START)
    state = algorithm.init(x)
    for k in range(2):
        arguments = jnp.asarray(k), x, jnp.asarray(0.3), jnp.zeros(4)
        ahead, state = algorithm.step(state, *arguments, jnp.vdot)
        np.testing.assert_allclose(ahead, START, rtol=1e-15)


@pytest.mark.parametrize(
    "kernel",
    [
        SquaredExponential(1.3, 0.8), RationalQuadratic(1.3, 0.8, 1.7), Matern32(1.3, 0.8),
        Matern52(1.3, 0.8),
    ],
)  # fmt: skip
def test_descent_goes_to_the_lowest_expected_value_along_its_direction(kernel):
    """Along a conjugate direction, which is not the gradient's; by a search on a grid."""
    rate = RandomFunctionDescent(kernel, 0.2)
    algorithm = ConjugateGradient(rate, "FR")
    x, value, gradient = jnp.array([0.3, -0.2]), jnp.asarray(-0.4), jnp.array([0.9, 0.5])
    state = (jnp.array([0.5, 0.9]), jnp.array([-0.5, -0.6]))
    ahead, (_, p) = algorithm.step(state, jnp.asarray(1), x, value, gradient, jnp.vdot)
    assert abs(jnp.vdot(p, gradient)) < 0.99 * norm(p) * norm(gradient)

    @eqx.filter_jit
    def expected(kernel, lengths):
        def at(length):
            y = x + length * p / jnp.linalg.norm(p)
            seen = x[None], value[None], gradient[None]
            return conditional_law(kernel, lambda r: 0.2 + 0.0 * r, *seen, y).mean[0]

        return jax.vmap(at)(lengths)

    lengths = jnp.linspace(0.0, 2.0, 20_001)
    best = lengths[jnp.argmin(expected(kernel, lengths))]
    np.testing.assert_allclose(norm(ahead - x), best, atol=1e-4)


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


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: GradientDescent("fast"), TypeError, "fast"),
        (lambda: GradientDescent(-0.1), ValueError, r"-0\.1"),
        (lambda: HeavyBall(0.1, -0.5), ValueError, r"-0\.5"),
        (lambda: Nesterov(0.1, "much"), TypeError, "much"),
        (lambda: ConjugateGradient(0.1, "DY"), ValueError, "formula: 'DY'; allowed: FR, PR, PR"),
        (lambda: BarzilaiBorwein(0.0), ValueError, r"initial: 0\.0; allowed: positive"),
        (lambda: BarzilaiBorwein(0.1, 3), ValueError, "variant: 3; allowed: 1, 2"),
        (lambda: BarzilaiBorwein(0.1, low=-1), ValueError, r"low: -1\.0; allowed: at least 0"),
        (lambda: BarzilaiBorwein(0.1, high=0), ValueError, r"high: 0\.0; allowed: positive"),
        (lambda: LowerTriangular([[1.0, 0.0]]), ValueError, r"matrix: shape \(1, 2\)"),
        (lambda: LowerTriangular([1.0]), ValueError, "matrix: an array of shape"),
        (lambda: LowerTriangular([[np.inf]]), ValueError, "matrix: inf; allowed: finite"),
        (lambda: Steps([]), ValueError, "values: none"),
        (lambda: Steps([0.1, np.nan]), ValueError, "values: nan; allowed: finite"),
        (lambda: Normalised(0.0), ValueError, r"length: 0\.0; allowed: positive"),
        (lambda: Clipped(0.1, -1.0), ValueError, r"threshold: -1\.0; allowed: positive"),
        (lambda: Clipped(0.0, 1.0), ValueError, r"rate: 0\.0; allowed: positive"),
        (lambda: Polyak(np.nan), ValueError, "lowest: nan; allowed: finite"),
        (lambda: Polyak(0.0, 0.0), ValueError, r"factor: 0\.0; allowed: positive"),
        (lambda: RandomFunctionDescent(SquaredExponential(), np.inf), ValueError, "mean: inf"),
        (lambda: Function(3.0), TypeError, "fn: 3.0; allowed: a function"),
        (lambda: Function(jnp.sum, "float16"), ValueError, "dtype: 'float16'"),
        (lambda: Explicit(variances=[0.5, 1.0]), ValueError, r"variances: \[0\.5, 1\.0\]"),
        (lambda: Explicit(variances=[-1.0, 3.0]), ValueError, "variances: .* allowed: positive"),
    ],
)
def test_wrong_arguments(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_a_gradient_that_comes_too_late_is_warned_of():
    with pytest.warns(UserWarning, match="the most recent gradient is not used"):
        LowerTriangular([[0.1, 0.0], [0.2, 0.0]])


def test_noise_is_refused_where_it_would_be_ignored():
    noise = SpinGlass([0, 1])
    system = GradientSpan(SquaredExponential(), GradientDescent(0.1), 4, noise=noise)
    for method in (Function(jnp.sum), hd.landscapes.Ambient()):
        with pytest.raises(ValueError, match="noise: a kernel; allowed"):
            hd.simulate(system, [0, 1], key=jax.random.key(0), runs=1, method=method)


@pytest.mark.parametrize(
    ("rate", "options", "message"),
    [
        (RandomFunctionDescent(SquaredExponential(1.0, 2.0)), {}, "kernel: .* up to its variance"),
        (RandomFunctionDescent(Matern52()), {}, "kernel: Matern52"),
        (RandomFunctionDescent(SquaredExponential(), 0.5), {}, "mean: 0.5"),
        (RandomFunctionDescent(SquaredExponential()), {"mean": -1.0}, "landscape, -1"),
    ],
)
def test_random_function_descent_knows_the_landscape(rate, options, message):
    for algorithm in (GradientDescent(rate), ConjugateGradient(rate, "FR")):
        with pytest.raises(ValueError, match=message):
            GradientSpan(SquaredExponential(), algorithm, 100, **options)
    own = GradientDescent(RandomFunctionDescent(SquaredExponential()))
    GradientSpan(SquaredExponential(2.0), own, 100)
    # Of a trend no number is the mean.
    GradientSpan(SquaredExponential(), own, 100, mean=[0.0, 0.5])
