"""Tables of a config other than its system: ranges, bounds, and the JSON schema."""

import json

import numpy as np
import pytest

from hdjax import config
from tests.experiments import told


@pytest.mark.parametrize(
    ("times", "values"),
    [
        ("[0, 0.5, 2]", [0, 0.5, 2]),
        ("{ stop = 1.0, num = 3 }", [0, 0.5, 1]),
        ("{ start = 0.01, stop = 1.0, num = 3, spacing = 'log' }", [0.01, 0.1, 1]),
    ],
)
def test_times(write, times, values):
    experiment = config.load(write(), [f"run.times={times}"])
    np.testing.assert_allclose(experiment.times, values)


def test_json_schema_knows_the_names():
    schema = config.json_schema("streaming")
    every = json.dumps(config.json_schema())
    assert all(f'"const": "{family}"' in every for family in config.FAMILIES)
    assert schema["additionalProperties"] is False
    text = json.dumps(schema)
    for name in ("learning_rate", "power_law", "hitting_time", "resolvent", "realised", "dims"):
        assert f'"{name}"' in text
    with pytest.raises(config.ConfigError, match="did you mean 'streaming'"):
        config.json_schema("steaming")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("run.start=realized", "run.start: 'realized'; did you mean 'realised'"),
        ("run.times={ stop = 1.0, num = 0 }", "run.times.num: 0"),
        ("run.times={ stop = 1.0, num = 3, spacing = 'log' }", "start: 0; allowed with spacing"),
        ("run.times={ stop = 1.0, nmu = 3 }", "run.times.nmu: unknown key; did you mean 'num'"),
        ("run.statistics=[]", "run.statistics: []"),
        ("run.runs=-1", "run.runs: -1"),
        ("scaling.dims=[8]", "scaling.dims: [8]"),
        ("scaling.dims=[8, 0]", "scaling.dims.1: 0"),
        ("sweep.system.ridge={ stop = 1.0 }", "sweep.system.ridge.num: missing"),
        ("expect.rules=[1]", "expect.rules.0: 1; allowed: string"),
        ("family=steaming", "family: 'steaming'; did you mean 'streaming'"),
        ("family=[]", "family: []; allowed: curvature"),
        ("run=[]", "run: []; allowed: a table"),
        ("run.seed=9223372036854775808", "run.seed: 9223372036854775808; allowed: less than"),
        ("run.seed=-1", "run.seed: -1; allowed: greater than or equal to 0"),
        ("run.seed=nan", "run.seed: nan; allowed: integer"),
        ("run.seed=true", "run.seed: True; allowed: integer"),
        ("run.runs=1e30", "run.runs: 1000000000000000019884624838656; allowed: "),
        ("system.dimension=9223372036854775807", "system.dimension: 9223372036854775807; allowed:"),
        ("run.times={ stop = 1.0, num = 1e9 }", "run.times.num: 1000000000.0; allowed: less than"),
        ("run.times=1", "run.times: 1; allowed: a list of times, finite, at least 0 and increas"),
        ("run.times=[]", "run.times: []; allowed: a list of times"),
        ("run.times=[1.0, 0.5]", "run.times: [1.0, 0.5]; allowed: a list of times"),
        ("sweep.system.ridge={ stop = 1.0, num = 1e9 }", "sweep.system.ridge.num: 1000000000.0"),
    ],
)
def test_mistakes_name_the_key_the_value_and_the_remedy(write, override, message):
    assert message in told(write(), override)
