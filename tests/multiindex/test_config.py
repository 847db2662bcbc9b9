"""Configs of the family build what they say."""

import pytest

import hdjax as hd
from hdjax import multiindex
from hdjax.config import Experiment
from hdjax.config.tables import slot
from hdjax.multiindex import GradientFlow, links
from hdjax.schema import ConfigError, read


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
