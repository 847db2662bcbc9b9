"""Tables of a config of one-pass SGD: what they build, and what is refused."""

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hdjax as hd
from hdjax.config.tables import slot
from hdjax.schema import read
from hdjax.streaming.losses import Hinge, Logistic
from tests.experiments import assert_same


def built(**tables):
    """A system from the tables of [system], with least squares where nothing is said."""
    base = {"dimension": 6, "loss": "least_squares", "learning_rate": 0.3, "target": {}}
    return read(slot("streaming", "system"), base | tables).build()


S, SP, L = hd.streaming, hd.spectra, hd.streaming.losses


@pytest.mark.parametrize(
    ("tables", "arguments"),
    [
        ({"loss": {"kind": "least_squares", "scale": 2.0}}, {"loss": L.LeastSquares(scale=2.0)}),
        ({"loss": {"kind": "logistic", "labels": "sampled"}}, {"loss": L.Logistic("sampled")}),
        ({"loss": {"kind": "phase_retrieval", "scale": 0.5}}, {"loss": L.PhaseRetrieval(0.5)}),
        ({"loss": "lipschitz_phase_retrieval"}, {"loss": L.LipschitzPhaseRetrieval()}),
        (
            {"spectrum": {"kind": "power_law", "exponent": 0.5}},
            {"spectrum": SP.power_law(6, exponent=0.5)},
        ),
        (
            {"spectrum": {"kind": "powers", "exponent": 1, "normalise": False}},
            {"spectrum": SP.powers(6, exponent=1.0, normalise=False)},
        ),
        (
            {"spectrum": {"kind": "uniform", "low": 0.5, "high": 2.0}},
            {"spectrum": SP.uniform(6, 0.5, 2.0)},
        ),
        (
            {"spectrum": {"kind": "marchenko_pastur", "ratio": 0.5}},
            {"spectrum": SP.marchenko_pastur(6, ratio=0.5)},
        ),
        (
            {"spectrum": {"kind": "explicit", "eigenvalues": [0.5, 2.0], "multiplicities": [4, 2]}},
            {"spectrum": SP.explicit([0.5, 2.0], [4, 2])},
        ),
        (
            {"spectrum": {"kind": "explicit", "eigenvalues": [0.5, 2.0], "weights": [0.6, 0.4]}},
            {"spectrum": SP.explicit([0.5, 2.0], [4, 2])},
        ),
        (
            {
                "dimension": None,
                "spectrum": {"kind": "covariance", "covariance": [[2.0, 1.0], [1.0, 2.0]]},
            },
            {"spectrum": SP.from_covariance([[2.0, 1.0], [1.0, 2.0]])},
        ),
        (
            {"learning_rate": {"kind": "power_decay", "initial": 0.4, "exponent": 0.5}},
            {"learning_rate": hd.schedules.PowerDecay(0.4, 0.5)},
        ),
        (
            {"learning_rate": {"kind": "cosine", "initial": 0.4, "horizon": 2.0}},
            {"learning_rate": hd.schedules.Cosine(0.4, 2.0)},
        ),
        (
            {"learning_rate": {"kind": "table", "times": [0, 1], "values": [0.4, 0.2]}},
            {"learning_rate": hd.schedules.Table([0.0, 1.0], [0.4, 0.2])},
        ),
        (
            {"learning_rate": {"kind": "piecewise_constant", "boundaries": [1], "values": [1, 0]}},
            {"learning_rate": hd.schedules.PiecewiseConstant([1.0], [1.0, 0.0])},
        ),
        ({"start": {"scale": 2.0, "overlap": 0.5}}, {"start": S.GaussianStart(2.0, 0.5)}),
        ({"start": [1, 0, 0, 0, 0, 0]}, {"start": jnp.eye(6)[:, 0]}),
        (
            {"start": {"kind": "gram", "blocks": [[2.0, 0.5], [0.5, 1.0]]}, "target": None},
            {"start": S.GramStart([[[2.0, 0.5], [0.5, 1.0]]]), "target": None},
        ),
        ({"ridge": 0.1, "batch_size": 4}, {"ridge": 0.1, "batch_size": 4}),
        (
            {"spectrum": {"kind": "power_law", "exponent": 0.5}, "compression": 1e-3},
            {"spectrum": SP.power_law(6, exponent=0.5), "compression": 1e-3},
        ),
        (
            {"integrator": {"solver": "dopri8", "rtol": 1e-8}},
            {"integrator": hd.Integrator(diffrax.Dopri8(), rtol=1e-8)},
        ),
    ],
)
def test_tables_stand_for_constructors(tables, arguments):
    base = {
        "loss": L.LeastSquares(),
        "spectrum": SP.identity(6),
        "learning_rate": 0.3,
        "start": S.GaussianStart(),
        "target": S.GaussianStart(),
    }
    assert_same(built(**tables), S.OnePassSGD(**base | arguments))


def test_the_critical_rate_is_that_of_the_start():
    system = built(learning_rate={"kind": "critical", "factor": 0.5}, start={"overlap": 0.3})
    # Least squares without noise: gamma_crit = 2 / (tr K/d) = 2.
    np.testing.assert_allclose(system.learning_rate(0.0), 1.0, rtol=1e-12)
    np.testing.assert_allclose(S.learning_rates.critical_learning_rate(system), 2.0, rtol=1e-12)


@pytest.mark.parametrize("kind", ["orthonormal", "opposite", "gaussian", "array"])
def test_means_of_a_mixture(kind):
    given = [[1.0, 0.0]] * 6
    means = {"kind": kind} | ({"values": given} if kind == "array" else {"scale": 2.0})
    mixture = {"probabilities": [0.25, 0.75], "means": means}
    loss = {"kind": "component_logistic", "labels": [0, 1]}
    system = built(loss=loss, mixture=mixture, target=None)
    np.testing.assert_array_equal(system.probabilities, [0.25, 0.75])
    gram = system.start().natural.sum(0)[1:, 1:]
    expected = {
        "orthonormal": [[4, 0], [0, 4]],
        "opposite": [[4, -4], [-4, 4]],
        "gaussian": [[4, 0], [0, 4]],
        "array": [[6, 0], [0, 0]],
    }
    np.testing.assert_allclose(gram, expected[kind], atol=1e-12)


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({"dimension": None}, "dimension: missing"),
        ({"spectrum": {"kind": "explicit", "eigenvalues": [1.0] * 5}}, "dimension: 6; allowed: 5"),
        (
            {"spectrum": {"kind": "explicit", "eigenvalues": [1, 2], "weights": [0.5, 0.6]}},
            "weights:",
        ),
        (
            {
                "spectrum": {
                    "kind": "explicit",
                    "eigenvalues": [1, 2],
                    "weights": [0.5, 0.5],
                    "multiplicities": [3, 3],
                }
            },
            "weights: given beside multiplicities",
        ),
        ({"target": None}, "0 teacher columns"),
        ({"spectrum": {"kind": "uniform", "low": 2.0, "high": 1.0}}, "low, high"),
        (
            {"mixture": {"probabilities": [0.5, 0.4]}},
            "probabilities",
        ),
        (
            {"mixture": {"probabilities": [0.2, 0.3, 0.5], "means": "opposite"}},
            "'opposite' with 3 components",
        ),
        (
            {"dimension": 2, "mixture": {"probabilities": [0.5, 0.5], "means": "orthonormal"}},
            "means: 2",
        ),
        ({"start": {"kind": "axis", "index": 6}}, "index: 6 in dimension 6; allowed: 0 to"),
    ],
)
def test_what_constructors_refuse(tables, message):
    with pytest.raises(ValueError, match=message):
        built(**tables)


def test_weights_share_out_the_dimension():
    weights = {"kind": "explicit", "eigenvalues": [1.0, 2.0, 3.0], "weights": [0.25, 0.25, 0.5]}
    for d in (5, 6, 7, 100):
        counts = built(dimension=d, spectrum=weights).spectrum.multiplicities
        assert counts.sum() == d
        np.testing.assert_allclose(counts, np.array([0.25, 0.25, 0.5]) * d, atol=1)


def test_flips_in_a_config():
    table = {"dimension": 50, "learning_rate": 0.3, "target": {}}
    for loss in ({"kind": "hinge", "flip": 0.1}, {"kind": "logistic", "flip": 0.1}):
        made = read(slot("streaming", "system"), {"loss": loss, **table}).build()
        assert isinstance(made.loss, Hinge | Logistic)
        assert made.loss.flip == 0.1


def test_columns_on_an_axis():
    system = built(start={"kind": "axis", "index": 2, "scale": 3.0}, target={"kind": "axis"})
    columns = np.asarray(system.columns.given)
    np.testing.assert_array_equal(columns, np.stack([3 * np.eye(6)[2], np.eye(6)[0]], axis=1))


def test_one_gram_block_is_spread_over_all_groups():
    block = [[2.0, 0.5], [0.5, 1.0]]
    system = built(
        spectrum={"kind": "explicit", "eigenvalues": [0.5, 2.0], "multiplicities": [4, 2]},
        start={"kind": "gram", "blocks": block},
        target=None,
    )
    expected = np.array([2 / 3, 1 / 3])[:, None, None] * np.array(block)
    np.testing.assert_allclose(system.start().natural, expected, rtol=1e-12)


def test_features_are_drawn_by_their_seed():
    """The same features as those of the call, and others with another seed."""
    options = {"inputs": 12, "alpha": 1.0, "beta": 0.7, "step": 0.1}

    def system(draw):
        table = {"kind": "power_law_features", "dimension": 5, "draw": draw, "batch_size": 2}
        return read(slot("streaming", "system"), table | options).build()

    key = jax.random.key(3)
    direct = hd.streaming.features.power_law_features(key, 5, batch_size=2, **options)
    assert_same(system(3), direct)
    gap = np.asarray(system(4).spectrum.eigenvalues) / np.asarray(direct.spectrum.eigenvalues) - 1
    assert np.abs(gap).max() > 0.01
