"""The linear-noise equation: reference value, and predicted against measured spread."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from scipy.integrate import solve_ivp

import hdjax as hd
from hdjax.streaming import (
    GaussianStart,
    GramSampler,
    GramStart,
    Mixture,
    OnePassSGD,
    covariance,
    losses,
)
from hdjax.streaming.fluctuations import fluctuations
from hdjax.streaming.increment import increment
from hdjax.streaming.optimisers import Dana


def two_groups(loss, rate, block, d=100, **options):
    spectrum = hd.spectra.explicit([0.5, 2.0], [6 * d // 10, 4 * d // 10])
    start = GramStart(jnp.asarray(block), students=block.shape[-1] // 2)
    return OnePassSGD(loss, spectrum, rate, start, **options)


@pytest.mark.slow
def test_reference_of_least_squares():
    """sqrt(d) std of the excess risk at t = 1 from a fixed start (math, section 14)."""
    # |X - X*|^2 is .7 and .3 in the two groups; X* = 0 leaves nothing else.
    blocks = np.zeros((2, 2, 2))
    blocks[:, 0, 0] = [0.7, 0.3]
    exact = hd.Integrator(rtol=1e-8, atol=1e-11)
    model = two_groups(losses.LeastSquares(sigma=0.5), 0.8, blocks, integrator=exact)
    ts = jnp.array([0.0, 1.0])
    risk = lambda summary: model.statistics(summary)["risk"]  # noqa: E731
    std = model.fluctuations(ts, lambda summary: {"risk": risk(summary)})["risk"]
    assert float(std[0]) == 0
    np.testing.assert_allclose(std[1] * 10, 0.3201589864, rtol=2e-4)
    np.testing.assert_allclose(
        model.limit(ts, save=risk).values[1] - 0.125, 0.2477431484, rtol=1e-8
    )


D = 2000
GIVEN = np.stack([np.cos(np.arange(D)), np.sin(np.arange(D) + 1.0)], axis=1) / np.sqrt(D / 2)
HALF = np.array([0.6, 0.4])[:, None, None]
PAIR = np.array([[1.0, 0, 0, 0], [0.3, 0.8, 0, 0], [0.5, -0.2, 0.9, 0], [-0.1, 0.4, 0.2, 0.7]])


def trained(x, teacher, component, noise, theta):
    logit = theta["gain"] * jnp.tanh(x[0]) + theta["bias"]
    label = jnp.where(component == 0, 1.0, 0.0).astype(x.dtype)
    return jnp.logaddexp(0.0, logit) - label * logit


def mixture(d, start, means, **options):
    return OnePassSGD(
        losses.FunctionLoss(trained),
        hd.spectra.explicit([0.5, 2.0], [6 * d // 10, 4 * d // 10]),
        1.5,
        start,
        mixture=Mixture([0.3, 0.7], means, eigenvalues=[[0.1, 0.9], [1.2, 0.3]]),
        theta={"gain": 1.0, "bias": -0.2},
        **options,
    )


def one_column(loss, **options):
    return two_groups(loss, 1.1, HALF * np.array([[0.9, 0.3], [0.3, 0.7]]), D, **options)


MODELS = {
    "least squares": lambda: one_column(losses.LeastSquares(sigma=0.3)),
    "logistic": lambda: one_column(losses.Logistic("sampled")),
    "two columns, batch": lambda: two_groups(
        losses.LeastSquares(sigma=0.5, columns=2), 0.6, HALF * (PAIR @ PAIR.T), D,
        batch_size=2,
    ),
    "heavy ball": lambda: one_column(
        losses.Logistic("sampled"), optimiser=Dana(2.0, 0.7), ridge=0.3
    ),
    "mixture": lambda: mixture(D, GIVEN[:, :1] * 0.8, GIVEN),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_increment_covariance_is_that_of_one_step(name):
    """Sigma against brute force, and its own draws: within 5 standard errors of 20 000."""
    model, runs = MODELS[name](), 20_000
    simulator = model.simulator(GramSampler("float64"))

    def flat(summary):
        return ravel_pytree(summary.state)[0]

    @jax.jit
    def step(key):
        start = simulator.init(key)
        moved = simulator.advance(start, jnp.asarray(0), jnp.asarray(1), key)
        return D * (flat(simulator.summary(moved)) - flat(simulator.summary(start)))

    keys = jax.random.split(jax.random.key(3), runs)
    start = model.start()
    found = eqx.filter_jit(increment)(model.field(), jnp.zeros(()), start.state)
    sigma = np.asarray(eqx.filter_jit(found.covariance)())
    z = jax.random.normal(jax.random.key(4), (runs, found.normals))
    for draws in (jax.vmap(step)(keys), jax.jit(jax.vmap(found.sample))(z)):
        draws = np.asarray(draws)
        draws = draws - draws.mean(0)
        products = draws[:, :, None] * draws[:, None, :]
        error = products.std(0) / np.sqrt(runs)
        # One step at d = 2000 has corrections of relative order 1/d.
        slack = 3 / D * np.sqrt(np.outer(np.diag(sigma), np.diag(sigma)))
        assert np.all(np.abs(products.mean(0) - sigma) <= 5 * error + slack + 1e-12)
    assert np.linalg.eigvalsh(sigma).min() > -1e-10


@pytest.mark.slow
def test_start_covariance_is_that_of_the_law():
    model = OnePassSGD(
        losses.LeastSquares(),
        hd.spectra.explicit([0.5, 2.0], [60, 40]),
        0.5,
        GaussianStart(scale=1.2, overlap=0.4),
        np.sin(np.arange(100.0)) / np.sqrt(50),
    )
    simulator = model.simulator()
    blocks = jax.jit(jax.vmap(lambda k: simulator.summary(simulator.init(k)).blocks))(
        jax.random.split(jax.random.key(0), 20_000)
    )
    flat = np.asarray(blocks).reshape(20_000, -1)
    flat = flat - flat.mean(0)
    products = 100 * flat[:, :, None] * flat[:, None, :]
    error = products.std(0) / np.sqrt(len(flat))
    law = np.asarray(model.expansion().law)
    expected = np.zeros((2, 4, 2, 4))
    expected[[0, 1], :, [0, 1]] = law.reshape(2, 4, 4)
    expected = expected.reshape(8, 8)
    assert np.all(np.abs(products.mean(0) - expected) <= 5 * error + 1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "fixed"),
    [("least_squares", False), ("logistic", True), ("mixture", True), ("mixture", False)],
)
def test_predicted_spread_is_the_measured_one(name, fixed):
    """At d = 400, 6000 runs of the sampler (standard error of a std .9 %): within 5 %."""
    d = 400
    if name == "mixture":
        k = np.arange(d)
        means = np.stack([np.cos(k), np.sin(k + 1.0)], axis=1) / np.sqrt(d / 2)
        model = mixture(d, 0.7 * means[:, :1] if fixed else GaussianStart(scale=0.7), means)
    else:
        loss, rate = {
            "least_squares": (losses.LeastSquares(sigma=0.5), 0.8),
            "logistic": (losses.Logistic(), 4.0),
        }[name]
        spectrum = hd.spectra.explicit([0.5, 2.0], [240, 160])
        start, target = GaussianStart(scale=0.8, overlap=0.15), GaussianStart()
        if fixed:
            start, target = GramStart(HALF * np.array([[0.6, 0.15], [0.15, 0.9]])), None
        model = OnePassSGD(loss, spectrum, rate, start, target)
    names = ["risk", "overlaps"] if name == "mixture" else ["risk", "distance"]
    result = hd.compare(
        model, [0.0, 0.5, 1.0], key=jax.random.key(1), runs=6000, statistics=names,
        method=GramSampler("float64"),
    )  # fmt: skip
    for name in names:
        predicted = result.predicted_std[name].values
        measured = result.std[name].values
        first = 1 if fixed else 0
        moving = measured[first:] > 1e-6
        np.testing.assert_allclose(predicted[first:][moving], measured[first:][moving], rtol=0.05)
    z = result.zscore("risk").isel(time=-1)
    assert abs(float(z.mean())) < 0.2
    assert 0.9 < float(z.std()) < 1.1


def noise_of_least_squares(spectrum, gamma, sigma, distances, variances, ts):
    """Risk and its standard deviation from the derivation (section 5), on all groups, by SciPy.

    `distances` are those of the start in each eigenspace, `variances` d times their variances.
    """
    lam, w = np.asarray(spectrum.eigenvalues), np.asarray(spectrum.weights)
    g, beta = len(lam), lam * w

    def rate(t, z):
        y, p = z[:g], z[g:].reshape(g, g)
        own = lam * y
        e2 = own.sum() + sigma**2
        jacobian = gamma**2 * np.outer(beta, lam) - 2 * gamma * np.diag(lam)
        cross = np.outer(own, beta)
        noise = 4 * gamma**2 * (e2 * np.diag(own) + np.outer(own, own))
        noise += 2 * gamma**4 * e2**2 * np.outer(beta, beta) - 4 * gamma**3 * e2 * (cross + cross.T)
        drift = gamma**2 * beta * e2 - 2 * gamma * own
        return np.concatenate([drift, (jacobian @ p + p @ jacobian.T + noise).ravel()])

    start = np.concatenate([distances, np.diag(variances).ravel()])
    found = solve_ivp(rate, (0, ts[-1]), start, "DOP853", ts, rtol=1e-10, atol=1e-14).y.T
    variance = [lam @ z[g:].reshape(g, g) @ lam / 4 for z in found]
    risk = (found[:, :g] @ lam + sigma**2) / 2
    return risk, np.sqrt(np.array(variance) / float(spectrum.dimension))


def risk_of(model):
    return lambda summary: {"risk": model.statistics(summary)["risk"]}


STIFF = hd.Integrator(hd.streaming.ExponentialMidpoint(), rtol=1e-5, atol=1e-8)
# In modes that have come to rest, the midpoint rule is of order one: late times need more.
FINER = hd.Integrator(hd.streaming.ExponentialMidpoint(), rtol=1e-6, atol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("exponent", "given", "integrator"),
    [(1.5, False, None), (1.5, True, STIFF), (0.5, True, None), (2.0, False, STIFF)],
)
def test_spread_on_few_nodes_is_that_of_all_groups(exponent, given, integrator):
    """From random columns and from given ones, with an explicit and with a stiff solver."""
    d, ts = 70, np.array([0.0, 0.01, 0.1, 1.0, 10.0])
    spectrum = hd.spectra.power_law(d, exponent)
    start, target = GaussianStart(), GaussianStart()
    distances, variances = np.full(d, 2 / d), np.full(d, 8 / d)
    if given:
        start, target = np.random.default_rng(0).standard_normal((2, d)) / d**0.5
        distances, variances = (start - target) ** 2, np.zeros(d)
    model = OnePassSGD(
        losses.LeastSquares(sigma=0.2),
        spectrum,
        0.4,
        start,
        target,
        integrator=integrator,
    )
    assert model.reduction.spectrum.eigenvalues.size < d / 2
    risk, spread = noise_of_least_squares(spectrum, 0.4, 0.2, distances, variances, ts)
    found = model.fluctuations(jnp.asarray(ts), risk_of(model))["risk"]
    np.testing.assert_allclose(found, spread, rtol=2e-3, atol=1e-12)
    compressed = OnePassSGD(
        losses.LeastSquares(sigma=0.2), spectrum, 0.4, start, target,
        compression=1e-4, integrator=FINER,
    )  # fmt: skip
    limit = compressed.limit(jnp.asarray(ts), save=risk_of(compressed)).values["risk"]
    np.testing.assert_allclose(limit, risk, rtol=2e-3)


@pytest.mark.slow
@pytest.mark.parametrize("solver", [None, hd.streaming.ExponentialMidpoint()])
def test_spread_has_the_accuracy_that_is_asked_for(solver):
    """The tolerances of the system's integrator are those of its error bars."""
    spectrum, ts = hd.spectra.explicit([0.5, 2.0], [60, 40]), np.array([0.3, 1.0, 3.0])
    w = np.asarray(spectrum.weights)
    _, spread = noise_of_least_squares(spectrum, 0.8, 0.5, 2 * w, 8 * w, ts)
    errors = []
    for rtol in (1e-4, 1e-7):
        model = OnePassSGD(
            losses.LeastSquares(sigma=0.5), spectrum, 0.8, GaussianStart(), GaussianStart(),
            integrator=hd.Integrator(solver, rtol=rtol, atol=1e-3 * rtol),
        )  # fmt: skip
        found = model.fluctuations(jnp.asarray(ts), risk_of(model))["risk"]
        errors.append(np.abs(found / spread - 1).max())
    assert errors[1] < 1e-6
    assert errors[1] < errors[0] < 1e-3


def broad(**tolerances):
    law, stiff = GaussianStart(), hd.Integrator(hd.streaming.ExponentialMidpoint(), **tolerances)
    spectrum, loss = hd.spectra.power_law(100_000, 1.2), losses.LeastSquares(sigma=0.2)
    return OnePassSGD(loss, spectrum, 0.4, law, law, integrator=stiff)


@pytest.mark.optimised
@pytest.mark.slow
def test_stiff_steps_are_of_order_two_at_late_times():
    """At h lambda from 10^3 to 10^5, where frozen coefficients fall to order one."""
    model = broad(rtol=1e-6)
    near = jax.tree.map(lambda x: x[0], model.limit(jnp.array([100.0])).values)
    expansion = model.expansion(near)

    @eqx.filter_jit
    def std(expansion, steps):
        fixed = eqx.tree_at(
            lambda e: e.integrator.steps, expansion, steps, is_leaf=lambda x: x is None
        )
        return fluctuations(fixed, jnp.array([100.0]), risk_of(model))["risk"][0]

    found = np.array([float(std(expansion, jnp.asarray(n))) for n in (5.0, 10.0, 20.0, 160.0)])
    errors = np.abs(found[:-1] / found[-1] - 1)
    assert np.all(errors[:-1] / errors[1:] > 2.7)
    assert errors[-1] < 1e-6


@pytest.mark.slow
def test_tight_tolerances_are_met_on_a_broad_spectrum():
    ts = jnp.array([0.01, 1.0, 100.0, 1000.0])
    models = broad(rtol=1e-3), broad(rtol=1e-4)
    loose, tight = (model.fluctuations(ts, risk_of(model))["risk"] for model in models)
    np.testing.assert_allclose(loose, tight, rtol=1e-4)


@pytest.mark.slow
def test_spread_from_a_given_start_is_that_of_its_blocks():
    """A start that is handed over, on all groups and gathered at the nodes."""
    d, ts = 60, np.array([0.0, 0.5, 2.0])
    spectrum = hd.spectra.power_law(d, 1.0)
    model = OnePassSGD(
        losses.LeastSquares(sigma=0.2), spectrum, 0.4, GaussianStart(), GaussianStart()
    )
    distances = np.random.default_rng(1).standard_normal(d) ** 2 / d
    start = model.start()
    blocks = start.blocks.at[:, 0, 0].set(distances)
    start = eqx.tree_at(lambda s: s.blocks, start, blocks)
    _, spread = noise_of_least_squares(spectrum, 0.4, 0.2, distances, np.zeros(d), ts)
    found = model.fluctuations(jnp.asarray(ts), risk_of(model), start=start)["risk"]
    np.testing.assert_allclose(found, spread, rtol=2e-3)


@pytest.mark.optimised
@pytest.mark.slow
def test_spread_of_many_groups_on_nodes_and_without_any():
    spectrum = hd.spectra.power_law(300, exponent=0.4)
    start, target = GaussianStart(overlap=0.3), GaussianStart()
    loss = losses.LeastSquares(sigma=0.3)
    model = OnePassSGD(loss, spectrum, 0.4, start, target, compression=1e-3)
    result = hd.compare(model, [0.0, 1.0], key=jax.random.key(2), runs=1000, statistics=["risk"])
    np.testing.assert_allclose(result.predicted_std["risk"], result.std["risk"], rtol=0.08)
    nodes = model.reduction.spectrum.eigenvalues.size
    for what in ("limit", "predicted spread"):
        assert f"{what} on {nodes} nodes for 300 groups: sums over" in result.tree.attrs["note"]
    # The components' eigenvalues differ: there is no one spectrum to reduce.
    eigenvalues = np.stack([spectrum.eigenvalues, 2 * spectrum.eigenvalues])
    split = OnePassSGD(
        losses.ComponentLogistic([0.0, 1.0]), spectrum, 0.4, GaussianStart(),
        mixture=Mixture([0.5, 0.5], GaussianStart(columns=2), eigenvalues),
    )  # fmt: skip
    assert not covariance.fits(split.expansion())
    ts, plan = [0.0, 1.0], {"runs": 400, "statistics": ["risk"]}
    predicted = split.fluctuations(jnp.asarray(ts), risk_of(split))["risk"]
    measured = hd.simulate(split, ts, key=jax.random.key(2), **plan).std["risk"]
    # Three standard errors of a std.
    np.testing.assert_allclose(predicted, measured, rtol=0.11)


def exact_mean_risk(d, steps, batch):
    """E risk by the recursion for E delta_i^2, group by group (math, section 9)."""
    lam, counts = np.array([0.5, 2.0]), np.array([6 * d // 10, 4 * d // 10])
    total, g = np.array([0.7, 0.3]), 0.8 / d
    for _ in range(steps):
        spread = counts * lam * (lam @ total + 0.25) + lam**2 * total
        total = total * (1 - g * lam) ** 2 + g**2 / batch * spread
    return (lam @ total + 0.25) / 2


@pytest.mark.slow
@pytest.mark.parametrize("batch", [1, 3])
def test_bias_of_least_squares_is_the_exact_one(batch):
    """E risk minus the limit at d = 4000, by the exact recursion: the rest is O(1/d)."""
    blocks, d = np.zeros((2, 2, 2)), 4000
    blocks[:, 0, 0] = [0.7, 0.3]
    fine = hd.Integrator(rtol=1e-10, atol=1e-13)
    loss = losses.LeastSquares(sigma=0.5)
    model = two_groups(loss, 0.8, blocks, d, integrator=fine, batch_size=batch)
    ts = jnp.array([0.0, 1.0])
    risk = lambda summary: {"risk": model.statistics(summary)["risk"]}  # noqa: E731
    found = hd.streaming.bias(model, ts, risk)["risk"]
    exact = exact_mean_risk(d, d, batch) - float(model.limit(ts, save=risk).values["risk"][1])
    assert float(found[0]) == 0
    np.testing.assert_allclose(found[1], exact, rtol=2e-3)


@pytest.mark.optimised
@pytest.mark.slow
@pytest.mark.parametrize("name", ["logistic", "mixture"])
def test_bias_is_that_of_many_runs(name):
    """Mean of 40 000 runs at d = 20 minus the limit; next order allowed 15 %."""
    d, runs = 20, 40_000
    if name == "logistic":
        spectrum = hd.spectra.explicit([0.5, 2.0], [12, 8])
        start, target = GaussianStart(scale=1.5, overlap=0.3), GaussianStart(scale=2.0)
        rate = hd.schedules.PowerDecay(5.0, 0.5, 1.0)
        model = OnePassSGD(losses.Logistic(), spectrum, rate, start, target, ridge=0.3)
    else:
        k = np.arange(d)
        means = np.stack([np.cos(k), np.sin(k + 1.0)], axis=1) / np.sqrt(d / 2)
        model = mixture(d, 0.7 * means[:, :1], means, ridge=0.2, batch_size=2)
    ts = jnp.array([0.0, 1.0])
    plan = {"statistics": ["risk", "overlaps"], "method": GramSampler("float64")}
    result = hd.simulate(model, ts, key=jax.random.key(0), runs=runs, keep="summary", **plan)

    def chosen(summary):
        values = model.statistics(summary)
        return {name: values[name] for name in ("risk", "overlaps")}

    limit, found = model.limit(ts, save=chosen).values, hd.streaming.bias(model, ts, chosen)
    clear = 0
    for name in ("risk", "overlaps"):
        gap = result.mean[name].values[1] - np.asarray(limit[name])[1]
        error = result.std[name].values[1] / np.sqrt(runs)
        predicted = np.asarray(found[name])[1]
        assert np.all(np.abs(gap - predicted) <= 4 * error + 0.15 * np.abs(predicted) + 1e-7)
        clear += np.sum(np.abs(predicted) > 8 * error)
    assert clear >= 3
