"""Traps of the planted flow, signs of failure, generative exponents, configs of the family."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hdjax as hd
from hdjax import multiindex
from hdjax.config import Experiment
from hdjax.config.tables import slot
from hdjax.multiindex import GradientFlow, Reduced, links
from hdjax.multiindex.flows import Planted
from hdjax.multiindex.links import from_coefficients
from hdjax.schema import ConfigError, read

QUICK = hd.Integrator(rtol=1e-6)


def trapped(link, d, t, runs, student=None):
    """Which of `runs` starts end trapped, with their losses."""
    flow = GradientFlow(link, d, Planted() if student is None else student, integrator=QUICK)
    result = hd.simulate(
        flow,
        [t],
        key=jax.random.key(0),
        runs=runs,
        method=Reduced(),
        statistics=["trapped", "loss", "overlaps"],
        progress=False,
    )
    return result


@pytest.mark.slow
@pytest.mark.optimised
def test_single_index_is_trapped_from_half_of_the_starts():
    """h_2 + h_3: probability 1/2, all resting at m = -2/3, trapped iff m_0 < 0."""
    link = from_coefficients({(2,): 0.7, (3,): 0.7})
    result = trapped(link, 10**4, 40.0, 2000)
    share = float(result.mean["trapped"][-1])
    assert abs(share - multiindex.traps.single_probability(link)) < 3 * 0.5 / np.sqrt(2000)
    ends = result.runs["overlaps"].values[:, -1, 0, 0]
    starts = jax.vmap(
        lambda run: multiindex.starts.haar_overlap(
            jax.random.fold_in(jax.random.key(0), run), jnp.asarray(1e4), 1, 1
        )
    )(jnp.arange(1024))[:, 0, 0]
    caught = result.runs["trapped"].values[:, -1] == 1
    np.testing.assert_array_equal(caught[:1024], np.asarray(starts) < 0)
    np.testing.assert_allclose(ends[caught], -2 / 3, atol=1e-5)


@pytest.mark.slow
@pytest.mark.optimised
def test_two_cubics_are_trapped_from_31_of_48_starts():
    """As d grows; at d = 10^4 after a hundred times the typical time, within three errors."""
    link = from_coefficients({(3, 0): 1.0, (0, 3): 1.0})
    runs = 3000
    result = trapped(link, 10**4, 1000.0, runs)
    p = multiindex.traps.cubics_probability()
    assert p == 31 / 48
    assert abs(float(result.mean["trapped"][-1]) - p) < 3 * np.sqrt(p * (1 - p) / runs)
    # Some rest at M = 0 with loss 2 |f*|^2: four negative entries.
    lost = (result.runs["loss"].values[:, -1] > 3.5).mean()
    assert abs(lost - 1 / 16) < 3 * np.sqrt(15 / 16**2 / runs)


@pytest.mark.slow
@pytest.mark.optimised
def test_two_symmetries_trap_and_one_does_not():
    both = trapped(multiindex.traps.radial_harmonics({3: 0.02, 4: 0.04}), 10**6, 400.0, 500)
    expected = multiindex.traps.basin_probability({3: 0.02, 4: 0.04})
    error = np.sqrt(expected * (1 - expected) / 500)
    assert abs(float(both.mean["trapped"][-1]) - expected) < 3 * error
    one = trapped(multiindex.traps.radial_harmonics({3: 0.0, 4: 0.04}), 10**6, 400.0, 200)
    assert float(one.mean["trapped"][-1]) == 0


def test_probabilities():
    assert multiindex.traps.basin_probability({3: 0.02, 4: 0.04}) == pytest.approx(0.733, abs=1e-3)
    assert multiindex.traps.basin_probability({3: 0.04, 4: 0.02}) == pytest.approx(0.705, abs=1e-3)
    assert multiindex.traps.basin_probability({3: 0.01, 5: 0.04}) == pytest.approx(0.791, abs=1e-3)
    assert multiindex.traps.basin_probability({4: 0.04}) == 0
    for coefficients, expected in (
        ({1: 1.0}, 0),
        ({2: 1.0}, 0),
        ({3: 1.0}, 0.5),
        ({2: 1.0, 4: 0.3}, 0),
        ({2: 1.0, 5: 0.3}, 0.5),
        ({1: 1e-9, 2: 1.0}, 0),
    ):
        link = from_coefficients({(k,): value for k, value in coefficients.items()})
        assert multiindex.traps.single_probability(link) == expected
    # The harmonic polynomial of order 3 by its definition.
    link = multiindex.traps.radial_harmonics({3: 1.0})
    z = jnp.array([0.3, -1.1])
    radial = ((z**2 - 1) / np.sqrt(2)).sum() / np.sqrt(2)
    harmonic = np.real((0.3 - 1.1j) ** 3) / np.sqrt(4 * 6)
    assert float(link(z)) == pytest.approx(float(radial) + harmonic, abs=1e-12)
    assert float(link.norm2) == pytest.approx(2, abs=1e-12)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: multiindex.traps.radial_harmonics({}), "weights"),
        (lambda: multiindex.traps.radial_harmonics({0: 0.1}), "weights"),
        (lambda: multiindex.traps.basin_probability({2: 0.1}), "weights"),
        (
            lambda: multiindex.traps.single_probability(
                multiindex.traps.radial_harmonics({3: 1.0})
            ),
            "link",
        ),
        (
            lambda: multiindex.generative.generative_spectrum(
                multiindex.traps.radial_harmonics({3: 1.0})
            ),
            "link",
        ),
    ],
)
def test_wrong_families(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def curves(system, ts):
    result = hd.limit(
        system,
        ts,
        statistics=["loss", "cosines"],
        paths={
            "wait": multiindex.diagnostics.slow_growth("loss"),
            "fall": multiindex.diagnostics.oscillation("cosines"),
            "stuck": multiindex.diagnostics.trapped(0.01),
        },
    )
    return {name: float(result.paths_limit[name]) for name in ("wait", "fall", "stuck")}


@pytest.mark.slow
def test_signs_of_failure():
    """Each on a case that shows it, and on one that does not."""
    link = links.hermite_polynomial(2)
    ts = np.linspace(0, 20, 201)
    waiting = curves(GradientFlow(link, 100, start=[[0.1]]), ts)
    assert waiting["wait"] > 0.3  # 1/(8 g_0) = 12.5 at a saddle
    assert waiting["fall"] < 1e-7  # principal angles are monotone
    assert waiting["stuck"] == 0
    linear = curves(GradientFlow(links.hermite_polynomial(1), 100, start=[[0.6]]), ts / 10)
    assert linear["wait"] < 0.1
    swinging = curves(multiindex.StiefelDescent(link, 100, 5.0, start=[[0.3]]), np.arange(30.0))
    assert swinging["fall"] > 0.1
    cubic = from_coefficients({(2,): 0.7, (3,): 0.7})
    stuck = curves(GradientFlow(cubic, 100, Planted(), start=[[-0.2]]), ts)
    assert stuck["stuck"] == 1


@pytest.mark.slow
def test_generative_exponents():
    """Section 11 of the derivation; values move a little with the bins."""
    quadratic = multiindex.generative.generative_spectrum(links.hermite_polynomial(2))
    np.testing.assert_allclose(quadratic, [0, 0.995, 0, 0.850], atol=2e-3)
    cubic = multiindex.generative.generative_spectrum(links.hermite_polynomial(3))
    np.testing.assert_allclose(cubic, [0.663, 0.612, 0.936, 0.481], atol=2e-3)
    bump = links.from_function(lambda z: z[0] ** 2 * jnp.exp(-(z[0] ** 2)), 1, 12)
    assert multiindex.generative.generative_exponent(bump) == 4
    assert multiindex.generative.generative_exponent(links.hermite_polynomial(3)) == 1


def built(**tables):
    return read(slot("multiindex", "system"), {"dimension": 50, "link": "sine", **tables}).build()


PATHS = {
    "wait": {"kind": "slow_growth", "tolerance": 0.1},
    "fall": "oscillation",
    "stuck": {"kind": "trapped", "level": 0.2},
    "half": {"kind": "hitting_time", "statistic": "loss", "level": 0.5},
}


@pytest.mark.slow
def test_configs_build_what_they_say():
    flow = built(directions=2, algorithm={"kind": "gradient_flow", "metric": "canonical"})
    assert isinstance(flow, GradientFlow)
    assert (flow.problem.directions, flow.metric) == (2, "canonical")
    joint = {"kind": "joint", "ratio": 0.5, "start": "planted"}
    flow = built(algorithm={"kind": "gradient_flow", "student": joint})
    assert float(flow.student.ratio) == 0.5
    assert flow.student.start is not None
    flow = built(algorithm={"kind": "gradient_flow", "student": {"kind": "joint", "ratio": 0.0}})
    assert isinstance(flow.student, multiindex.flows.Profiled)
    sgd = built(
        algorithm={
            "kind": "sgd",
            "learning_rate": 0.1,
            "student": {"kind": "planted", "link": "erf"},
        }
    )
    assert float(sgd.student.link.residual) == pytest.approx(float(links.erf().residual))
    samples = built(
        algorithm={
            "kind": "finite_samples",
            "samples": 30,
            "readout": {"kind": "network", "width": 4},
            "step": 0.2,
        }
    )
    assert samples.readout.width == 4
    assert float(samples.step.value) == pytest.approx(0.2)
    descent = built(algorithm={"kind": "gradient_descent", "step": {"factor": 0.1}})
    assert float(descent.step.factor) == pytest.approx(0.1)
    saddle = built(dimension=1e12, algorithm="saddle_to_saddle", start=[[0.1]])
    assert float(saddle.problem.dimension) == 1e12
    for link in (
        {"kind": "product", "factors": ["cosine", {"kind": "exponential"}], "degree": 4},
        {"kind": "ridge_sum", "link": "erf", "directions": [[1.0, 0.6], [0.0, 0.8]]},
        {"kind": "ridge", "link": "relu", "direction": [0.6, 0.8]},
        {"kind": "radial_harmonics", "weights": {"m3": 0.1}},
    ):
        assert built(link=link).problem.link.variables == 2
    descent = built(
        algorithm={"kind": "gradient_descent", "step": 0.1, "retraction": "exponential"}
    )
    assert descent.retraction == "exponential"
    method = read(
        slot("multiindex", "method"),
        {"kind": "reduced", "dtype": "float32", "integrator": {"rtol": 1e-5}},
    ).build()
    assert (method.dtype, method.integrator.rtol) == ("float32", 1e-5)
    raw = {
        "family": "multiindex",
        "system": {"dimension": 50, "link": "sine"},
        "run": {"times": [0.0, 1.0], "runs": 1, "paths": PATHS},
    }
    paths = Experiment.of(raw).config.run.paths
    assert {name: path.build() for name, path in paths.items()} == {
        "wait": multiindex.diagnostics.slow_growth("loss", 0.1),
        "fall": multiindex.diagnostics.oscillation(),
        "stuck": multiindex.diagnostics.trapped(0.2),
        "half": hd.paths.hitting_time("loss", 0.5),
    }
    method = read(
        slot("multiindex", "method"), {"kind": "anisotropic", "eigenvalues": [1.0, 2.0]}
    ).build()
    assert method.preconditioned


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({"link": "sin"}, "did you mean 'sine'"),
        ({"link": {"kind": "coefficients", "values": [1.0], "degrees": []}}, "values"),
        ({"link": {"kind": "radial_harmonics", "weights": {"3": 1.0}}}, "weights"),
        ({"algorithm": "flow"}, "allowed"),
        ({"algorithm": {"kind": "sgd", "learning_rate": -1.0}}, "learning_rate"),
        ({"algorithm": {"kind": "finite_samples", "samples": 0}}, "samples"),
    ],
)
def test_wrong_configs(tables, message):
    with pytest.raises(ConfigError, match=message):
        built(**tables)
