"""The predicted spread against exact moments and many runs, and where it is refused."""

import itertools
import warnings

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hdjax as hd
from hdjax.multipass import MultiPassSGD, Problem, Spectral, fluctuations, gaussian_problem, moments
from hdjax.multipass.diagnostics import linear_noise_error, row_kurtosis
from hdjax.schedules import Constant, PiecewiseConstant

exact = jax.jit(moments.exact_variances)
closed = jax.jit(moments.closed_variances)
HALVED = PiecewiseConstant([1.0], [0.8, 0.4])


def plain(problem):
    """A, b and X_0 in NumPy."""
    return tuple(np.asarray(x) for x in (problem.matrix, problem.labels, problem.start))


def rescaled(problem, spread, seed):
    """The problem with rows of unequal lengths."""
    scales = np.exp(spread * np.random.default_rng(seed).standard_normal(problem.samples))
    return Problem(problem.matrix * scales[:, None], problem.labels * scales).scaled()


def loss_std(system, ts):
    program = eqx.filter_jit(lambda own, ts: own.fluctuations(ts, lambda s: {"loss": s["loss"]}))
    return np.asarray(program(system, jnp.asarray(ts))["loss"])


def enumerated(problem, rate, steps):
    """Standard deviations of the loss after 0 ... steps steps, over all draws of the samples."""
    matrix, labels, start = plain(problem)
    n, found = len(labels), []
    for k in range(steps + 1):
        losses = []
        for draws in itertools.product(range(n), repeat=k):
            x = start
            for j, i in enumerate(draws):
                x = x - rate(j / n) * matrix[i] * (matrix[i] @ x - labels[i])
            losses.append(((matrix @ x - labels) ** 2).mean() / 2)
        found.append(np.std(losses))
    return np.array(found)


def fourth_moments(problem, gamma, steps):
    """Means and standard deviations of the loss after 0 ... steps steps, from E y(x)y(x)y(x)y.

    With y = (X, 1) the moments up to order four are one symmetric tensor.
    """
    matrix, labels, start = plain(problem)
    n, y = len(labels), np.append(start, 1)
    v = np.column_stack([matrix, -labels])
    u = np.column_stack([-gamma * matrix, np.zeros(n)])
    form, found = v.T @ v / 2 / n, []
    tensor = np.einsum("a,b,c,d->abcd", y, y, y, y)
    for _ in range(steps + 1):
        mean = (form * tensor[:, :, -1, -1]).sum()
        square = np.tensordot(np.tensordot(tensor, form, 2), form, 2)
        found.append((mean, np.sqrt(max(square - mean**2, 0))))
        parts, rest = [], np.broadcast_to(tensor, (n, *tensor.shape))
        for moved in range(1, 5):
            rest = np.einsum("ia...,ia->i...", rest, v)
            letters, fixed = "abcd"[:moved], "abcd"[moved:]
            terms = ",".join(["i" + letter for letter in letters] + ["i" + fixed])
            part = np.einsum(f"{terms}->abcd", *[u] * moved, rest, optimize=True) / n
            for places in itertools.combinations(range(4), moved):
                others = [place for place in range(4) if place not in places]
                parts.append(np.moveaxis(part, range(4), [*places, *others]))
        tensor = tensor + sum(parts)
    return np.array(found).T


@pytest.mark.parametrize(("n", "d", "rate"), [(4, 2, HALVED), (3, 5, Constant(0.7))])
def test_small_problems_are_exact(n, d, rate):
    """Against all n^k sequences of draws."""
    problem, steps = gaussian_problem(n, d, key=jax.random.key(5), noise=0.5), 5
    system = MultiPassSGD(problem, rate)
    predicted = loss_std(system, np.arange(steps + 1) / n)
    expected = enumerated(problem, lambda t: float(rate(t)), steps)
    np.testing.assert_allclose(predicted, expected, rtol=1e-10)
    assert predicted[0] == 0
    assert "exact" in system.about(None)["fluctuations"]


@pytest.mark.parametrize(("n", "unit", "spread"), [(24, True, 0), (24, False, 0), (40, False, 0.3)])
def test_exact_where_samples_are_few_or_unlike(n, unit, spread):
    """Where the linear-noise equation was .6 to 1.5 times the right one."""
    problem = gaussian_problem(n, 10, key=jax.random.key(n), noise=0.5, normalise_rows=unit)
    problem = rescaled(problem, spread, n) if spread else problem
    gamma, steps = 0.6, n
    _, expected = fourth_moments(problem, gamma, steps)
    ks = np.array([1, n // 4, n])
    variances = exact(moments.chain(problem), Constant(gamma), jnp.asarray(ks))
    np.testing.assert_allclose(np.sqrt(variances), expected[ks], rtol=1e-8)


def closed_by_all_steps(problem, gamma, steps):
    """The closed theory of `moments.py` by its plain sum over the steps, with y = (X, 1)."""
    matrix, labels, start = plain(problem)
    n, y = len(labels), np.append(start, 1)
    v = np.column_stack([matrix, -labels])
    g = gamma * np.column_stack([matrix, np.zeros(n)])
    maps = np.eye(len(y)) - np.einsum("ia,ib->iab", g, v)
    seconds, means, weights = [np.outer(y, y)], [y], [v.T @ v / 2 / n]
    for _ in range(steps):
        seconds.append(np.mean(maps @ seconds[-1] @ maps.transpose(0, 2, 1), axis=0))
        means.append(maps.mean(0) @ means[-1])
        weights.append(np.mean(maps.transpose(0, 2, 1) @ weights[-1] @ maps, axis=0))
    total = 0
    for k in range(steps):
        forms = maps.transpose(0, 2, 1) @ weights[steps - 1 - k] @ maps - weights[steps - k]
        m, cov = means[k], seconds[k] - np.outer(means[k], means[k])
        products = forms @ cov
        squares = np.einsum("iab,ab->i", forms, seconds[k]) ** 2
        squares += 2 * np.einsum("iab,iba->i", products, products)
        squares += 4 * np.einsum("a,iab,ibc,c->i", m, products, forms, m, optimize=True)
        total += squares.mean()
    return np.sqrt(total)


@pytest.mark.parametrize("gamma", [0.3, 1.0])
def test_the_closed_theory_is_its_sum_over_all_steps(gamma):
    problem = rescaled(gaussian_problem(30, 12, key=jax.random.key(6), noise=0.5), 0.2, 6)
    ks = np.array([0, 3, 30, 90])
    variances = closed(moments.chain(problem), jnp.array(gamma), jnp.array(ks))
    expected = [closed_by_all_steps(problem, gamma, k) for k in ks]
    np.testing.assert_allclose(
        np.sqrt(variances)[[0, 2, 3]], np.array(expected)[[0, 2, 3]], rtol=4e-3
    )
    # The sum is taken as an integral, which three steps are few for.
    np.testing.assert_allclose(np.sqrt(variances)[1], expected[1], rtol=0.04)


@pytest.mark.parametrize("n", [40, 80])
def test_the_closed_theory_is_near_the_exact_one(n):
    """Gaussian rows, where the linear-noise equation is up to a third off."""
    problem = gaussian_problem(n, 10, key=jax.random.key(7), noise=0.5)
    recursion, steps = moments.chain(problem), jnp.array([n // 4, n, 2 * n])
    ratio = closed(recursion, jnp.array(0.5), steps) / exact(recursion, Constant(0.5), steps)
    np.testing.assert_allclose(np.sqrt(ratio), 1, atol=0.05)


@pytest.mark.slow
def test_nothing_is_said_of_a_spread_as_large_as_the_loss():
    """Without noise log L wanders off, and a Gaussian vector is a bad likeness."""
    problem = gaussian_problem(40, 12, key=jax.random.key(8), normalise_rows=True)
    system = MultiPassSGD(problem, 1.0, solver=Spectral())
    ts = np.array([0.25, 8.0])
    steps = jnp.array([10, 320])
    variances = closed(moments.chain(problem), jnp.array(1.0), steps)
    assert np.sqrt(variances[1]) > 0.5 * system.limit(jnp.asarray(ts)).values["loss"][1]
    predicted = loss_std(system, ts)
    np.testing.assert_allclose(predicted[0], np.sqrt(variances[0]), rtol=1e-6)
    assert np.isnan(predicted[1])


def warned(system):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        system.validate(compared=True)
    return [str(w.message) for w in caught]


def test_the_linear_noise_equation_is_warned_of_where_it_does_not_carry():
    """Few samples or heavy rows; of unlike rows it is silent where another theory predicts."""
    few = gaussian_problem(60, 20, key=jax.random.key(9), noise=0.5, normalise_rows=True)
    (message,) = warned(MultiPassSGD(few, HALVED))
    assert "n = 60" in message
    assert "26 %" in message
    assert not warned(MultiPassSGD(few, 0.8))
    many = gaussian_problem(400, 40, key=jax.random.key(9), noise=0.5)
    system = MultiPassSGD(many, HALVED)
    assert not warned(system)
    assert "linear-noise" in system.about(None)["fluctuations"]
    heavy = rescaled(many, 0.4, 9)
    messages = warned(MultiPassSGD(heavy, PiecewiseConstant([1.0], [0.2, 0.1])))
    assert "heaviest row" in messages[-1]


def test_the_error_of_the_linear_noise_equation():
    """It grows with 1/sqrt(n), d/n and the kurtosis of the rows."""
    even = Problem(jnp.ones((100, 3)), jnp.ones(100))
    np.testing.assert_allclose(linear_noise_error(even), 0.2)
    np.testing.assert_allclose(
        linear_noise_error(Problem(jnp.ones((400, 200)), jnp.ones(400))), 0.15
    )
    one = Problem(even.matrix.at[0].multiply(10.0), even.labels)
    kurtosis = (99 + 1e4) / 100 / ((99 + 100) / 100) ** 2
    np.testing.assert_allclose(row_kurtosis(one), kurtosis)
    np.testing.assert_allclose(linear_noise_error(one), 0.2 + 0.75 * (kurtosis - 1))


@pytest.mark.slow
@pytest.mark.parametrize(("spread", "n"), [(0.0, 40), (0.0, 80), (0.3, 40), (0.3, 80)])
def test_the_linear_noise_equation_is_as_far_off_as_estimated(spread, n):
    """Largest error over times; at n = 80 the right spread is exact too."""
    problem = gaussian_problem(n, 8, key=jax.random.key(10), noise=0.5)
    problem = rescaled(problem, spread, 10) if spread else problem
    ts = np.array([0.25, 0.5, 1.0, 2.0])
    system = MultiPassSGD(problem, 0.4)
    predicted = np.sqrt(fluctuations.linear_noise_variances(system, jnp.asarray(ts)))
    steps = jnp.asarray(np.round(ts * n).astype(int))
    right = np.sqrt(exact(moments.chain(problem), Constant(0.4), steps))
    assert np.abs(predicted / right - 1).max() < linear_noise_error(problem)


@pytest.mark.optimised
@pytest.mark.slow
@pytest.mark.parametrize("gamma", [0.4, 1.2])
def test_the_spread_is_predicted(gamma):
    """Within 10 % at 1.2, 16 % at 0.4; d = n/2 = 200, 1500 runs (a standard error of 1.8 %).

    At small rates residuals are further from Gaussian, and the spread is underestimated.
    """
    problem = gaussian_problem(400, 200, key=jax.random.key(1), noise=0.5, normalise_rows=True)
    result = hd.compare(
        MultiPassSGD(problem, gamma, solver=Spectral()),
        [0.1, 0.5, 1.0, 2.0, 3.0],
        key=jax.random.key(2),
        runs=1500,
        statistics=["loss"],
    )
    ratio = result.predicted_std["loss"] / result.std["loss"]
    np.testing.assert_allclose(ratio, 1, atol=0.1 if gamma > 1 else 0.16)


def plain_covariance(problem, gamma, end, steps):
    """The linear-noise equation on all modes, by Euler's method with Richardson's extrapolation."""
    u, s, _ = np.linalg.svd(np.asarray(problem.matrix), full_matrices=False)
    lam, n = s**2, problem.samples
    start = (u.T @ np.asarray(problem.labels)) ** 2 / 2 / n
    floor = (np.asarray(problem.labels) ** 2).sum() / 2 / n - start.sum()
    h = lam**2 / n

    def solve(steps):
        v, p, dt = start.copy(), np.zeros((len(lam), len(lam))), end / steps
        for _ in range(steps):
            loss = floor + v.sum()
            j = -2 * gamma * np.diag(lam) + gamma**2 * np.outer(h, np.ones(len(lam)))
            a = 2 * lam * v - 2 * gamma * loss * h
            c = np.diag(4 * loss * lam**2 * v) + np.outer(a, a)
            c = c - 2 * gamma**2 * loss**2 * np.outer(h, h)
            p = p + dt * (j @ p + p @ j.T + gamma**2 * c)
            v = v + dt * (-2 * gamma * lam * v + gamma**2 * loss * h)
        return p.sum()

    return np.sqrt((2 * solve(2 * steps) - solve(steps)) / n)


@pytest.mark.slow
def test_gauss_rules_give_the_equation_of_all_modes():
    problem = gaussian_problem(120, 60, key=jax.random.key(3), noise=0.5)
    system = MultiPassSGD(problem, 0.8, solver=Spectral())
    predicted = np.sqrt(fluctuations.linear_noise_variances(system, jnp.array([0.0, 1.0])))
    np.testing.assert_allclose(predicted[0], 0, atol=1e-12)
    np.testing.assert_allclose(predicted[1], plain_covariance(problem, 0.8, 1.0, 400), rtol=2e-3)


def test_functions_of_the_loss_have_a_spread_to_first_order():
    problem = gaussian_problem(12, 5, key=jax.random.key(3), noise=0.5)
    system = MultiPassSGD(problem, 0.8, solver=Spectral())
    ts = jnp.array([0.0, 1.0])
    both = eqx.filter_jit(
        lambda own: own.fluctuations(ts, lambda s: {"loss": s["loss"], "log": jnp.log(s["loss"])})
    )
    predicted, loss = both(system), system.limit(ts).values["loss"]
    np.testing.assert_allclose(predicted["log"], predicted["loss"] / loss, rtol=1e-10)


@pytest.mark.slow
def test_other_quadratics_are_not_predicted():
    problem = gaussian_problem(60, 20, key=jax.random.key(3))
    system = MultiPassSGD(problem, 0.8, solver=Spectral())
    predicted = system.fluctuations(jnp.array([0.0, 1.0]), lambda s: s)
    assert np.isfinite(predicted["loss"]).all()
    assert np.isnan(predicted["risk"]).all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: MultiPassSGD(p, 0.5, ridge=0.1), "ridge"),
        (lambda p: MultiPassSGD(p, 0.5, sampling="reshuffling"), "reshuffling"),
        (lambda p: MultiPassSGD(Problem(np.eye(40), np.ones(40)), HALVED), "d <= n/2"),
    ],
)
def test_where_it_is_refused(make, message):
    system = make(gaussian_problem(20, 10, key=jax.random.key(0)))
    with pytest.raises(hd.NoFluctuationsError, match=message):
        system.fluctuations(jnp.array([0.0, 1.0]), lambda s: s)
