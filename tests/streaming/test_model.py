"""The system: simulations against its limit at several d, and what its constructor refuses."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import hdjax as hd
from hdjax.streaming import ExponentialMidpoint, GaussianStart, Mixture, OnePassSGD, losses
from tests.streaming.models import isotropic, trained, two_means


@pytest.mark.optimised
@pytest.mark.slow
@pytest.mark.parametrize("kind", ["trained_head", "different_spectra"])
def test_mixtures_follow_their_limit(kind):
    """Two components, side parameters, commuting covariances: error at d = 100 and 1600."""

    def make(d):
        if kind == "trained_head":
            theta = {"gain": 1.0, "bias": -0.2}
            return two_means(d, losses.FunctionLoss(trained), theta=theta)
        means = np.stack([np.ones(d), -np.ones(d)], axis=1) / np.sqrt(d)
        return OnePassSGD(
            losses.ComponentLogistic([1.0, 0.0]),
            hd.spectra.explicit([0.5, 1.5], [d // 2, d // 2]),
            2.0,
            GaussianStart(scale=0.7),
            mixture=Mixture([0.3, 0.7], means, eigenvalues=[[0.1, 0.9], [1.2, 0.3]]),
        )

    errors = []
    for d in (100, 1600):
        result = hd.compare(
            make(d),
            np.linspace(0, 3, 7),
            key=jax.random.key(d),
            runs=32,
            start="realised",
            statistics=["risk", "overlaps"],
            fluctuations=False,
        )
        errors.append([float(result.sup_error[s].median()) for s in ("risk", "overlaps")])
        gap = result.runs["risk"].values - result.limit["risk"].values
        bias = np.abs(gap.mean(0)) - 4 * gap.std(0) / np.sqrt(32)
        assert bias.max() < 3 / d
    ratio = np.array(errors[0]) / np.array(errors[1])
    assert np.all((ratio > 2.5) & (ratio < 6.5)), ratio


@pytest.mark.slow
def test_schedules_of_time_and_of_steps_agree():
    """An Optax schedule is a function of the step k = t d."""

    def run(rate):
        model = OnePassSGD(
            losses.LeastSquares(),
            hd.spectra.identity(64),
            rate,
            GaussianStart(),
            GaussianStart(),
        )
        result = hd.compare(
            model,
            [0.0, 1.0, 2.0],
            key=jax.random.key(0),
            runs=4,
            statistics=["risk"],
            fluctuations=False,
        )
        return result.runs["risk"].values, result.limit["risk"].values

    by_step = run(hd.schedules.from_optax(optax.cosine_decay_schedule(0.8, 128), 64))
    by_time = run(hd.schedules.Cosine(0.8, 2.0))
    constant = run(0.8)
    np.testing.assert_allclose(by_step[0], by_time[0], rtol=2e-4)
    np.testing.assert_allclose(by_step[1], by_time[1], rtol=1e-4)
    assert np.abs(by_time[1][-1] / constant[1][-1] - 1) > 0.1


@pytest.mark.optimised
@pytest.mark.slow
@pytest.mark.parametrize(
    ("loss", "rate", "overlap", "end"),
    [
        (losses.LeastSquares(sigma=0.3), 0.6, 0.0, 1.0),
        (losses.Logistic(), 3.0, 0.0, 1.0),
        (losses.PhaseRetrieval(), 0.03, 0.5, 1.0),
    ],
    ids=["least_squares", "logistic", "phase_retrieval"],
)
def test_error_falls_like_the_root_of_d(loss, rate, overlap, end):
    """Exponent of the median of sup_t |SGD - limit| from d = 64 to 2048 within [-.57, -.43]."""

    def make(d):
        start = GaussianStart(overlap=overlap)
        return OnePassSGD(loss, hd.spectra.power_law(d, 0.3), rate, start, GaussianStart())

    result = hd.scaling(
        make,
        [64, 2048],
        np.linspace(0, end, 11),
        key=jax.random.key(6),
        runs=64,
        start="realised",
        statistics=["risk"],
    )
    assert -0.57 <= float(result.exponent["risk"]) <= -0.43


@pytest.mark.slow
@pytest.mark.parametrize(("loss", "exponent"), [("least squares", 1.5), ("logistic", 0.6)])
def test_compression_meets_its_tolerance(loss, exponent):
    """The risk on few nodes is that on 1000 groups, over many decades of the spectrum."""
    loss, gamma = {
        "least squares": (losses.LeastSquares(sigma=0.2), 0.4),
        "logistic": (losses.Logistic(), 2.0),
    }[loss]
    start = hd.streaming.GaussianStart(scale=1.5, overlap=0.3)
    ts = jnp.array([0.0, 0.01, 0.1, 1.0, 8.0])

    def risk(tolerance):
        model = OnePassSGD(
            loss, hd.spectra.power_law(1000, exponent), gamma, start, hd.streaming.GaussianStart(),
            compression=tolerance,
            integrator=hd.Integrator(ExponentialMidpoint(), rtol=1e-8, atol=1e-12),
        )  # fmt: skip
        return model.limit(ts, save=lambda s: model.statistics(s)["risk"]).values

    exact = risk(None)
    errors = [float(jnp.abs(risk(tolerance) / exact - 1).max()) for tolerance in (5e-3, 1e-5)]
    assert errors[0] < 5e-3
    assert errors[1] < 3e-5


def test_notes_tell_the_nodes_of_a_compression():
    law = GaussianStart()
    arguments = losses.LeastSquares(), hd.spectra.power_law(100, 0.5), 0.3, law, law
    assert OnePassSGD(*arguments[:1], hd.spectra.identity(100), *arguments[2:]).about(None) == {}
    compressed = OnePassSGD(*arguments, compression=1e-3)
    nodes = compressed.start().blocks.shape[0]
    assert nodes < 60
    note = compressed.about(None)["limit"]
    assert note.startswith(f"limit on {nodes} nodes for 100 groups: sums over the spectrum are")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"learning_rate": -0.1}, "learning_rate|value"),
        ({"learning_rate": np.nan}, "learning_rate|value"),
        ({"ridge": -1.0}, "ridge: -1"),
        ({"ridge": np.inf}, "ridge: inf"),
        ({"batch_size": 0}, "batch_size: 0"),
        ({"compression": 0}, "compression: 0"),
        ({"compression": 12}, "compression: 12; allowed: None, or a relative error"),
        (
            {"spectrum": hd.spectra.power_law(20, 0.5), "compression": 1e-30},
            "compression: 1e-30; allowed: an error that fewer nodes",
        ),
        (
            {"mixture": Mixture([0.5, 0.5], eigenvalues=[[1.0, 2.0]])},
            "mixture.eigenvalues: shape",
        ),
    ],
)
def test_wrong_systems(change, message):
    arguments = {
        "loss": losses.LeastSquares(),
        "spectrum": hd.spectra.identity(20),
        "learning_rate": 0.1,
        "start": GaussianStart(),
        "target": GaussianStart(),
    }
    with pytest.raises(ValueError, match=message):
        OnePassSGD(**(arguments | change))


def test_wrong_parts():
    with pytest.raises(ValueError, match="probabilities"):
        Mixture([0.5, 0.6])
    with pytest.raises(TypeError, match="spectrum"):
        OnePassSGD(losses.LeastSquares(), np.ones(3), 0.1, GaussianStart())
    with pytest.raises(TypeError, match="method"):
        two_means(20).simulator("direct")
    with pytest.raises(TypeError, match=r"learning_rate: optax.*from_optax"):
        isotropic(losses.Hinge(), optax.cosine_decay_schedule(0.5, 100))


def test_values_changed_behind_the_constructor_are_checked_at_the_engine():
    model = eqx.tree_at(lambda m: m.ridge, two_means(20), jnp.asarray(-1.0))
    with pytest.raises(ValueError, match="ridge: -1"):
        hd.simulate(model, [0.0], key=jax.random.key(0), runs=1)
