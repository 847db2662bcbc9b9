"""Learning rates that follow the state have reference values and are the steepest ones."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hdjax as hd
from hdjax.streaming import Direct, GaussianStart, GramSampler, GramStart, OnePassSGD, losses
from hdjax.streaming.optimisers import AdaGradNorm, Greedy, Polyak
from tests.streaming.optimisers.problems import (
    FINEST,
    least_squares,
    reference,
    risks,
)


@pytest.mark.slow
def test_reference_risks():
    loss = losses.LeastSquares(sigma=0.5)
    greedy, polyak = (risks(reference(loss, rate)) for rate in (Greedy(), Polyak()))
    np.testing.assert_allclose(greedy[1:], [0.516177851, 0.389914628, 0.231856448], rtol=2e-8)
    np.testing.assert_allclose(polyak[1:], [0.516676300, 0.391211677, 0.230403512], rtol=2e-8)


@pytest.mark.slow
def test_greedy_isotropic_closed_form():
    """V(1) for V(0) = 2 and sigma = .6, by Lambert's function."""
    blocks = np.array([[[2.0, 0.0], [0.0, 0.0]]])
    system = hd.streaming.OnePassSGD(
        losses.LeastSquares(sigma=0.6),
        hd.spectra.identity(50),
        Greedy(),
        GramStart(blocks, students=1),
        integrator=FINEST,
    )
    excess = 2 * risks(system, jnp.array([0.0, 1.0]))[1] - 0.36
    np.testing.assert_allclose(excess, 0.9119995498, rtol=1e-8)


LOSSES = {
    "least squares": (losses.LeastSquares(sigma=0.5), {"ridge": 0.2, "batch_size": 3}),
    "logistic": (losses.Logistic(), {"ridge": 0.1}),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("statistic", ["risk", "distance"])
def test_rules_are_the_steepest_of_all_rates(name, statistic):
    """Of all constant rates, the rule's makes the statistic fall fastest at the start."""
    loss, options = LOSSES[name]
    rule = Greedy() if statistic == "risk" else Polyak()
    system = reference(loss, 1.0, **options)
    field, start = system.field(), system.start()
    own = rule.rate(field, start.state)

    def slope(gamma):
        moved = reference(loss, hd.schedules.Constant(gamma), **options)
        velocity, _ = moved.vector_field(jnp.zeros(()), start.state)

        def value(blocks):
            summary = hd.streaming.GramSummary(blocks, start.side, start.eigenvalues, start.layout)
            return system.statistics(summary)[statistic]

        return jax.jvp(value, (start.blocks,), (velocity,))[1]

    slopes = jax.vmap(slope)(own * jnp.array([0.98, 1.0, 1.02]))
    assert slopes[1] < 0
    # A parabola in gamma with its minimum in the middle.
    np.testing.assert_allclose(slopes[0], slopes[2], rtol=1e-6)
    assert slopes[1] < slopes[0]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rule", "method"), [(Greedy(), hd.streaming.Direct()), (Polyak(0.8), GramSampler())]
)
def test_simulation_follows_the_limit(rule, method):
    d = 400
    system = hd.streaming.OnePassSGD(
        losses.LeastSquares(sigma=0.3),
        hd.spectra.explicit([0.5, 2.0], [240, 160]),
        rule,
        GaussianStart(),
        GaussianStart(),
    )
    plan = {"method": method, "start": "law", "fluctuations": False}
    result = hd.compare(system, [0.0, 0.5, 1.5], key=jax.random.key(3), runs=96, **plan)
    gap = result.mean["risk"].values - result.limit["risk"].values
    error = result.std["risk"].values / np.sqrt(96)
    assert np.all(np.abs(gap) <= 4 * error + 2 * result.limit["risk"].values / d)


@pytest.mark.slow
def test_the_rate_is_a_statistic():
    """Polyak's rate on least squares with K = I is D/(D + sigma^2), with D the distance."""
    system = OnePassSGD(
        losses.LeastSquares(sigma=0.5),
        hd.spectra.identity(50),
        Polyak(),
        GaussianStart(),
        GaussianStart(),
    )
    plan = {"statistics": ["distance", "learning_rate"], "fluctuations": False}
    result = hd.compare(system, [0.0, 1.0, 3.0], key=jax.random.key(0), runs=4, **plan)
    for group in (result.runs, result.limit):
        distance = group["distance"].values
        np.testing.assert_allclose(group["learning_rate"], distance / (distance + 0.25), rtol=1e-9)


@pytest.mark.slow
def test_error_bars_of_rules():
    """The linear-noise equation with a rate that follows the state, within 7 % of 6000 runs."""
    system = reference(losses.LeastSquares(sigma=0.5), Greedy())
    options = {"statistics": ["risk"], "method": GramSampler("float64"), "keep": "summary"}
    result = hd.compare(
        system, [0.0, 1.0], key=jax.random.key(4), runs=6000, fluctuations=True, **options
    )
    predicted = result.predicted_std["risk"].values[1]
    np.testing.assert_allclose(result.std["risk"].values[1], predicted, rtol=0.07)


@pytest.mark.slow
@pytest.mark.parametrize("method", [Direct(), GramSampler()])
def test_adagrad_norm_follows_its_limit(method):
    system = OnePassSGD(
        hd.streaming.losses.Logistic(),
        hd.spectra.explicit([0.5, 2.0], [120, 80]),
        AdaGradNorm(2.0, 0.5),
        GaussianStart(scale=2.0),
        GaussianStart(),
        batch_size=2,
    )
    own = {
        "risk": lambda system, summary: system.statistics(summary)["risk"],
        "accumulated": lambda system, summary: summary.side.accumulated,
    }
    plan = {"statistics": own, "method": method, "start": "law", "fluctuations": False}
    result = hd.compare(system, [0.0, 0.5, 2.0], key=jax.random.key(3), runs=96, **plan)
    for name in own:
        gap = result.mean[name].values - result.limit[name].values
        error = result.std[name].values / np.sqrt(96)
        assert np.all(np.abs(gap) <= 4 * error + 2 * result.limit[name].values / 200)
    assert result.limit["accumulated"].values[-1] > 0.05


@pytest.mark.slow
def test_error_bars_of_adagrad_norm():
    """Within 6 % of 8000 runs; corrections of means are refused."""
    system = least_squares(40, None, gamma=AdaGradNorm(0.7, 1.0), ridge=0.1)
    plan = {"statistics": ["risk"], "method": GramSampler("float64"), "keep": "summary"}
    ts = [0.0, 0.5, 1.5]
    result = hd.compare(system, ts, key=jax.random.key(4), runs=8000, fluctuations=True, **plan)
    spread = result.predicted_std["risk"].values[1:]
    np.testing.assert_allclose(result.std["risk"].values[1:], spread, rtol=0.06)
    with pytest.raises(hd.NoMeanCorrectionError, match="AdaGradNorm accumulates squared"):
        hd.limit(system, ts, mean_correction=True)


@pytest.mark.slow
def test_wrong_rules():
    with pytest.raises(ValueError, match="factor"):
        Polyak(0.0)
    with pytest.raises(ValueError, match="largest"):
        Greedy(-1.0)
    with pytest.raises(ValueError, match="1 student and 0 teacher"):
        hd.streaming.OnePassSGD(
            losses.ComponentLogistic([0.0, 1.0]),
            hd.spectra.identity(20),
            Polyak(),
            GaussianStart(),
            mixture=hd.streaming.Mixture([0.5, 0.5], means=GaussianStart(columns=2)),
        )
