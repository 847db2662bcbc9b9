"""Experiments: what is written is what is built and run, and what cannot be run is told."""

from pathlib import Path

import jax
import numpy as np
import pytest

import hdjax as hd
from hdjax import config, expect
from tests.experiments import assert_same, told

CONFIGS = sorted((Path(__file__).parents[2] / "configs").glob("*.toml"))


# A config may choose few nodes, which its run says: see log2_nodes.
@pytest.mark.filterwarnings("ignore:rule. QMC:UserWarning")
@pytest.mark.slow
@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_configs_that_are_shipped_are_valid_and_expect_something(path):
    experiment = config.load(path)
    rules = experiment.config.expect.rules
    assert rules
    expect.check(rules, experiment.empty())
    assert experiment.choose() in ("compare", "scaling", "sweep")
    assert set(experiment.statistics())
    assert len(experiment.times) > 1


@pytest.mark.slow
def test_a_config_runs_as_the_call_that_it_stands_for(write):
    experiment = config.load(write())
    result = experiment.run(progress=False)
    system = hd.streaming.OnePassSGD(
        hd.streaming.losses.LeastSquares(sigma=0.5),
        hd.spectra.identity(10),
        0.3,
        hd.streaming.GaussianStart(),
        hd.streaming.GaussianStart(),
    )
    direct = hd.compare(system, [0.0, 0.5, 1.0], key=jax.random.key(7), runs=3, statistics=["risk"])
    np.testing.assert_allclose(result.runs["risk"], direct.runs["risk"])
    np.testing.assert_allclose(result.limit["risk"], direct.limit["risk"])
    assert result.tree.attrs["config"]["system"]["loss"]["sigma"] == 0.5


def test_files_that_are_no_configs(write, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"config: no file .*none.toml"):
        config.load(tmp_path / "none.toml")
    with pytest.raises(config.ConfigError, match=r"not TOML.*line 1"):
        config.load(write("family = streaming"))
    with pytest.raises(config.ConfigError, match=r"family: missing; allowed: .*streaming"):
        config.load(write("[run]\nruns = 1"))
    with pytest.raises(config.ConfigError, match="system: missing"):
        config.load(write('family = "streaming"\n[run]\nruns = 1\ntimes = [1.0]'))


def test_a_sweep_of_too_many_points(write):
    axis = "{ stop = 1.0, num = 10_001 }"
    axes = f"\n[sweep]\nsystem.ridge = {axis}\nsystem.learning_rate = {axis}"
    with pytest.raises(config.ConfigError, match="sweep: 100020001 points; allowed: at most"):
        config.load(write(extra=axes))


SWEEP = """
[sweep]
"system.loss.sigma" = [0.1, 0.2]
system.learning_rate = { start = 0.1, stop = 0.4, num = 4 }
"""


def test_sweeps_name_their_axes_by_the_end_of_the_key(write):
    experiment = config.load(write(extra=SWEEP))
    assert experiment.choose() == "sweep"
    assert experiment.axes == {
        "sigma": "system.loss.sigma",
        "learning_rate": "system.learning_rate",
    }
    rates = list(experiment.grid["system.learning_rate"])
    np.testing.assert_allclose(rates, [0.1, 0.2, 0.3, 0.4])
    both = '[sweep]\n"system.start.scale" = [1.0]\n"system.target.scale" = [2.0]'
    assert set(config.load(write(extra=both)).axes) == {"start_scale", "target_scale"}


def test_tables_in_a_sweep_go_by_their_names(write):
    rates = """
    [sweep]
    "system.learning_rate" = [{ name = "slow", kind = "constant", value = 0.1 }, "greedy", 0.3]
    """
    experiment = config.load(write(extra=rates))
    assert list(experiment.grid["system.learning_rate"]) == ["slow", "greedy", "0.3"]
    assert experiment.grid["system.learning_rate"]["slow"] == {"kind": "constant", "value": 0.1}
    with pytest.raises(config.ConfigError, match="allowed: different values"):
        config.load(write(extra='[sweep]\n"system.ridge" = [0.1, 0.1]'))


def test_points_of_a_sweep_may_change_several_keys(write):
    points = """
    [sweep]
    "system.loss.sigma" = [0.1, 0.2]

    [[sweep.system]]
    name = "as it is"

    [[sweep.system]]
    name = "other"
    ridge = 0.5
    "loss.sigma" = 0.3
    "start.scale" = 2.0
    """
    experiment = config.load(write(extra=points))
    assert experiment.axes == {"sigma": "system.loss.sigma", "system": "system"}
    names = experiment.grid["system"]
    assert list(names) == ["as it is", "other"]
    plain, other = (experiment.system({"system": table}) for table in names.values())
    assert (float(plain.ridge), float(other.ridge)) == (0.0, 0.5)
    assert float(other.loss.sigma) == pytest.approx(0.3)
    with pytest.raises(config.ConfigError, match="tables with a name and keys of the system"):
        config.load(write(extra="[[sweep.system]]\nridge = 0.1"))
    with pytest.raises(config.ConfigError, match="did you mean 'ridge'"):
        config.load(write(extra='[[sweep.system]]\nname = "a"\nrigde = 0.1'))


@pytest.mark.slow
def test_a_sweep_is_run_at_its_points(write):
    experiment = config.load(write(extra=SWEEP), ["system.learning_rate=0.3"])
    assert_same(
        experiment.system({"system.loss.sigma": 0.2}).loss, hd.streaming.losses.LeastSquares(0.2)
    )
    result = experiment.run(progress=False)
    assert result.runs["risk"].dims == ("sigma", "learning_rate", "run", "time")
    # Label noise adds sigma^2/2 at the start, where the learning rate has done nothing.
    rise = np.diff(result.limit["risk"].isel(time=0), axis=0)
    np.testing.assert_allclose(rise, (0.2**2 - 0.1**2) / 2, rtol=1e-6)


def test_what_a_table_asks_for_must_be_there(write):
    experiment = config.load(write())
    for kind in ("sweep", "scaling"):
        with pytest.raises(config.ConfigError, match=f"{kind}: missing"):
            experiment.run(kind)
    both = config.load(write(extra=SWEEP + "[scaling]\ndims = [8, 16]"))
    with pytest.raises(config.ConfigError, match="sweep, scaling: both"):
        both.choose()
    assert both.choose("scaling") == "scaling"


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("run.paths.a={ kind = 'value_at', statistic = 'risk', t = 1.0 }", "run.paths"),
        ("run.limit=false", "run.limit"),
        ("run.fluctuations=true", "run.fluctuations"),
    ],
)
def test_options_that_a_scaling_would_ignore_are_refused(write, option, message):
    experiment = config.load(write(extra="[scaling]\ndims = [8, 16]"), [option])
    with pytest.raises(config.ConfigError, match=message):
        experiment.run()


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("run.statistics=['rsik']", "run.statistics: 'rsik'; did you mean 'risk'"),
        (
            "run.paths.a={ kind = 'first_bad_time', statistic = 'distance' }",
            "run.paths.a.statistic: 'distance'; allowed: risk",
        ),
    ],
)
def test_statistics_that_are_not_recorded(write, override, message):
    with pytest.raises(config.ConfigError) as caught:
        config.load(write(), [override]).statistics()
    assert message in str(caught.value)


@pytest.mark.slow
def test_limit_alone_and_simulation_alone(write):
    path = {"kind": "value_at", "statistic": "risk", "t": 0.5}
    experiment = config.load(write(), ["run.runs=0"])
    assert experiment.run().tree.attrs["kind"] == "limit"
    raw = config.load(write(), ["run.limit=false"]).raw
    with_path = raw | {"run": raw["run"] | {"paths": {"half": path}}}
    result = config.Experiment.of(with_path).run(progress=False)
    assert result.tree.attrs["kind"] == "simulate"
    np.testing.assert_allclose(result.paths["half"], result.runs["risk"][:, 1])
    for override in ("run.start=realised", "run.limit=false"):
        with pytest.raises(config.ConfigError, match="runs: 0"):
            config.load(write(), ["run.runs=0", override])


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "sweep.run.runs=[1, 2]",
            "sweep.run.runs: no key of the system; allowed: keys of the system",
        ),
        ("sweep.system.ridge=[]", "sweep.system.ridge: []"),
        ("sweep.system.ridge=[0.1, -0.1]", "system.ridge: -0.1"),
        ("sweep.system.rigde=[0.1]", "system.rigde: unknown key; did you mean 'ridge'"),
        ("sweep.system.ridge=[{ name = [1], value = 0.1 }]", "sweep: name [1]; allowed: text"),
    ],
)
def test_mistakes_name_the_key_the_value_and_the_remedy(write, override, message):
    assert message in told(write(), override)
