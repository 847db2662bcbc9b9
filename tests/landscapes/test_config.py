"""What configs of the family can say beyond constructors."""

import numpy as np
import pytest

from hdjax.config import Experiment
from hdjax.landscapes import ComponentWise, NextObservation
from hdjax.schema import ConfigError

SYSTEM = {
    "dimension": 20,
    "kernel": {"kind": "spin_glass", "coefficients": [0.0, 0.3, 0.1]},
    "algorithm": {"kind": "gradient_descent", "rate": 0.1},
}


def experiment(system, **tables):
    raw = {"family": "landscapes", "system": SYSTEM | system}
    return Experiment.of(raw | {"run": {"times": [0, 1], "runs": 2}} | tables)


@pytest.mark.slow
def test_methods_are_an_axis():
    methods = [{"name": "signs", "kind": "explicit", "couplings": "rademacher"}, "previsible"]
    result = experiment({}, sweep={"run.method": methods}).run(progress=False)
    assert result.runs["method"].values.tolist() == ["signs", "previsible"]
    runs = result.runs["value"].values
    assert np.abs(runs[0] - runs[1]).min() > 1e-6
    # The limit is that of the covariance.
    np.testing.assert_allclose(result.limit["value"][0], result.limit["value"][1])
    with pytest.raises(ConfigError, match=r"run\.method"):
        experiment({}, sweep={"run.method": ["streamed"]})


def test_component_wise_optimisers_make_another_system():
    system = experiment({"algorithm": {"kind": "rmsprop", "rate": 0.1, "decay": 0.5}}).system()
    assert isinstance(system, ComponentWise)
    assert float(system.optimiser.decay) == 0.5
    for name, value in (("spectrum", "identity"), ("kind", "next_observation")):
        wrong = experiment({"algorithm": {"kind": "adam", "rate": 0.1}, name: value})
        with pytest.raises(ValueError, match=f"{name}: given; allowed with Adam: its default"):
            wrong.system()


def test_observations_can_be_watched():
    system = experiment({"kind": "next_observation"}).system()
    assert isinstance(system, NextObservation)
    assert float(system.dimension) == 20
