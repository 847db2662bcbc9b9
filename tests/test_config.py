"""Configs: what is written is what is built, and what is wrong is said in one line."""

import json
import zipfile
from pathlib import Path

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hdjax as hd
from hdjax import config, expect
from hdjax.config.tables import slot
from hdjax.schema import read

CONFIGS = sorted((Path(__file__).parents[1] / "configs").glob("*.toml"))

LEAST_SQUARES = """
family = "streaming"

[system]
dimension = 10
loss = { kind = "least_squares", sigma = 0.5 }
learning_rate = 0.3
start = {}
target = {}

[run]
times = [0.0, 0.5, 1.0]
runs = 3
seed = 7
statistics = ["risk"]
"""


@pytest.fixture
def write(tmp_path):
    def to_file(text=LEAST_SQUARES, extra=""):
        path = tmp_path / "experiment.toml"
        path.write_text(text + extra)
        return path

    return to_file


def built(**tables):
    """A system from the tables of [system], with least squares where nothing is said."""
    base = {"dimension": 6, "loss": "least_squares", "learning_rate": 0.3, "target": {}}
    return read(slot("streaming", "system"), base | tables).build()


def assert_same(system, other):
    """Equal structure and equal leaves."""
    leaves, structure = jax.tree.flatten(system)
    others, other_structure = jax.tree.flatten(other)
    assert structure == other_structure
    for a, b in zip(leaves, others, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)


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


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("system.lerning_rate=1", "system.lerning_rate: unknown key; did you mean 'learning_rate'"),
        ("system.loss.sgima=1", "system.loss.sgima: unknown key; did you mean 'sigma'"),
        ("rnu.runs=1", "rnu: unknown key; did you mean 'run'"),
        ("system.loss=logstic", "system.loss: 'logstic'; did you mean 'logistic'"),
        (
            "system.spectrum.kind=power-law",
            "system.spectrum: 'power-law'; did you mean 'power_law'",
        ),
        ("system.spectrum=power_law", "system.spectrum.exponent: missing"),
        ("system.loss.kind=1", "system.loss: '1'; allowed: absolute_error"),
        ("system.loss=1", "system.loss: 1; allowed: a table"),
        (
            "system.learning_rate=-1",
            "system.learning_rate: -1; allowed: greater than or equal to 0",
        ),
        ("system.learning_rate='1'", "system.learning_rate: '1'"),
        ("system.learning_rate=nan", "system.learning_rate: nan; allowed: a finite number"),
        ("system.dimension=1.5", "system.dimension: 1.5; allowed: integer"),
        ("system.ridge=true", "system.ridge: True; allowed: number"),
        ("system.start=missing.npy", "missing.npy'; allowed: a path relative to the config"),
        ("system.start=[[1.0], [2.0, 3.0]]", "system.start: rows of unequal length"),
        ("system.start=['a']", "allowed: real numbers"),
        ("run.start=realized", "run.start: 'realized'; did you mean 'realised'"),
        ("run.method=driect", "run.method: 'driect'; did you mean 'direct'"),
        ("run.method.dtype=float16", "run.method.dtype: 'float16'"),
        ("run.times={ stop = 1.0, num = 0 }", "run.times.num: 0"),
        ("run.times={ stop = 1.0, num = 3, spacing = 'log' }", "start: 0; allowed with spacing"),
        ("run.times={ stop = 1.0, nmu = 3 }", "run.times.nmu: unknown key; did you mean 'num'"),
        ("run.statistics=[]", "run.statistics: []"),
        ("run.statistics=[{ kind = 'resolvent' }]", "run.statistics.0.high: missing"),
        ("run.paths.half.kind=hiting_time", "did you mean 'hitting_time'"),
        ("run.runs=-1", "run.runs: -1"),
        ("scaling.dims=[8]", "scaling.dims: [8]"),
        ("scaling.dims=[8, 0]", "scaling.dims.1: 0"),
        (
            "sweep.run.runs=[1, 2]",
            "sweep.run.runs: no key of the system; allowed: keys of the system",
        ),
        ("sweep.system.ridge=[]", "sweep.system.ridge: []"),
        ("sweep.system.ridge=[0.1, -0.1]", "system.ridge: -0.1"),
        ("sweep.system.rigde=[0.1]", "system.rigde: unknown key; did you mean 'ridge'"),
        ("sweep.system.ridge={ stop = 1.0 }", "sweep.system.ridge.num: missing"),
        ("expect.rules=[1]", "expect.rules.0: 1; allowed: string"),
        ("family=steaming", "family: 'steaming'; did you mean 'streaming'"),
        ("run.seed", "--set run.seed: no key or no value; allowed: key=value"),
        ("run.seed=1 2", "--set run.seed=1 2: '1 2'; allowed: a value as in TOML"),
        ("run.seed.deep=1", "run.seed.deep: run.seed is 7; allowed: a table"),
        ("run.seed=1\nrun.runs=2", "allowed: a value as in TOML"),
        ("run.seed=" + "[" * 1000 + "]" * 1000, "allowed: a value as in TOML"),
        ("a." * 5000 + "a=1", "deeper than 32 tables"),
        ("family=[]", "family: []; allowed: curvature"),
        ("system=1", "system: 1; allowed: a table"),
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
        ("run.times=[0.0, inf]", "run.times: holds entries that are not finite"),
        ("run.times=[1, true]", "run.times: holds true or false"),
        ("run.times='/dev/zero'", "run.times: no file"),
        ("sweep.system.ridge={ stop = 1.0, num = 1e9 }", "sweep.system.ridge.num: 1000000000.0"),
        ("sweep.system.ridge=[{ name = [1], value = 0.1 }]", "sweep: name [1]; allowed: text"),
    ],
)
def test_mistakes_name_the_key_the_value_and_the_remedy(write, override, message):
    with pytest.raises(config.ConfigError) as caught:
        config.load(write(), [override])
    (line,) = str(caught.value).splitlines()
    assert message in line


def test_each_mistake_has_a_line(write):
    overrides = ["system.a=1", "system.b=1", "run.runs=-1", "run.keep=all"]
    with pytest.raises(config.ConfigError) as caught:
        config.load(write(), overrides)
    assert len(str(caught.value).splitlines()) == 4


def test_files_that_are_no_configs(write, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"config: no file .*none.toml"):
        config.load(tmp_path / "none.toml")
    with pytest.raises(config.ConfigError, match=r"not TOML.*line 1"):
        config.load(write("family = streaming"))
    with pytest.raises(config.ConfigError, match=r"family: missing; allowed: .*streaming"):
        config.load(write("[run]\nruns = 1"))
    with pytest.raises(config.ConfigError, match="system: missing"):
        config.load(write('family = "streaming"\n[run]\nruns = 1\ntimes = [1.0]'))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a = " + "[" * 1000 + "]" * 1000, "nested too deeply"),
        ("a = " + "[" * 40 + "]" * 40, "nested deeper than 32"),
        (".".join(["a"] * 20_000) + " = 1", "a key of more than 32 parts"),
        ("[" + ".".join(["a"] * 20_000) + "]", "a key of more than 32 parts"),
        ("a = { " + '"b" . ' * 20_000 + "c = 1 }", "a key of more than 32 parts"),
        ("a = " + "9" * 5000, "not TOML"),
        (b"a = '\xff'", "not TOML: 'utf-8'"),
        (b"a = '\0'", "not TOML"),
        ('"two\\nlines" = 1\n' + LEAST_SQUARES, r"'two\nlines': unknown key"),
        ("k" * 10_000 + " = 1\n" + LEAST_SQUARES, "kkk...: unknown key"),
    ],
)
def test_files_that_are_meant_to_hurt(tmp_path, text, message):
    path = tmp_path / "experiment.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(config.ConfigError) as caught:
        config.load(path)
    (line,) = str(caught.value).splitlines()
    assert message in line
    assert len(line) < 300


def test_the_first_of_many_mistakes_are_told(write):
    unknown = "".join(f"key_{i} = 1\n" for i in range(10_000))
    with pytest.raises(config.ConfigError) as caught:
        config.load(write(unknown + LEAST_SQUARES))
    assert len(str(caught.value).splitlines()) == 20


def test_a_sweep_of_too_many_points(write):
    axis = "{ stop = 1.0, num = 10_001 }"
    axes = f"\n[sweep]\nsystem.ridge = {axis}\nsystem.learning_rate = {axis}"
    with pytest.raises(config.ConfigError, match="sweep: 100020001 points; allowed: at most"):
        config.load(write(extra=axes))


def test_archives_that_are_damaged(write, tmp_path):
    np.savez(tmp_path / "whole.npz", a=np.arange(1000.0))
    whole = (tmp_path / "whole.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(whole[: len(whole) // 2])
    np.savez(tmp_path / "objects.npz", a=np.array([{}], object))
    with zipfile.ZipFile(tmp_path / "text.npz", "w") as archive:
        archive.writestr("a", "no array")
    # A bit within the numbers, which the checksum covers.
    middle = len(whole) // 2
    flipped = whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]
    (tmp_path / "flipped.npz").write_bytes(flipped)
    np.save(tmp_path / "whole.npy", np.arange(1000.0))
    (tmp_path / "cut.npy").write_bytes((tmp_path / "whole.npy").read_bytes()[:500])
    np.save(tmp_path / "nan.npy", np.array([0.0, np.nan]))
    (tmp_path / "folder.npy").mkdir()
    for name, message in (
        ("cut.npz", "is no array file"),
        ("flipped.npz", "Bad CRC-32"),
        ("objects.npz", "Object arrays cannot be loaded"),
        ("text.npz", "is no array"),
        ("cut.npy", "is no array file"),
        ("nan.npy", "not finite"),
        ("folder.npy", "no file"),
    ):
        with pytest.raises(config.ConfigError) as caught:
            config.load(write(), [f"run.times={name}"])
        (line,) = str(caught.value).splitlines()
        assert line.startswith("run.times: ")
        assert message in line


def test_overrides_have_the_types_of_toml(write):
    overrides = ["run.runs=5", "run.times=[0, 2.0]", "system.loss=logistic", "run.chunk = 2"]
    experiment = config.load(write(), overrides)
    assert (experiment.config.run.runs, experiment.config.run.chunk) == (5, 2)
    assert experiment.times.tolist() == [0.0, 2.0]
    assert isinstance(experiment.system().loss, hd.streaming.losses.Logistic)
    assert experiment.raw["run"]["runs"] == 5


def test_text_on_the_way_becomes_its_table(write):
    experiment = config.load(write(), ["system.loss=logistic", "system.loss.labels=hard"])
    assert experiment.system().loss.labels == "hard"


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


def test_times_of_a_file_keep_their_precision(write, tmp_path):
    np.save(tmp_path / "times.npy", np.array([0.0, 0.2, 0.6], np.float32))
    experiment = config.load(write(), ["run.times='times.npy'"])
    assert experiment.times.dtype == np.float32


@pytest.mark.parametrize(
    ("family", "system"),
    [
        ("multipass", {"dimension": 4, "problem": {"samples": 8}, "learning_rate": 0.5}),
        (
            "networks",
            {"samples": 20, "network": {"kind": "mlp", "hidden": []}, "optimiser": "adam"},
        ),
    ],
)
def test_a_table_of_a_statistic_without_options_is_its_name(family, system):
    own = "loss" if family == "multipass" else "cost"

    def experiment(name):
        run = {"times": [0.0, 1.0], "runs": 1, "limit": False, "statistics": [{"name": name}]}
        return config.Experiment.of({"family": family, "system": system, "run": run})

    assert list(experiment(own).statistics()) == [own]
    with pytest.raises(config.ConfigError, match=rf"^run\.statistics: 'x'; allowed: .*{own}"):
        experiment("x").statistics()


def test_arrays_come_from_files_beside_the_config(write, tmp_path):
    start = np.linspace(0, 1, 10)
    np.save(tmp_path / "start.npy", start)
    np.savez(tmp_path / "both.npz", a=start, b=2 * start)
    np.savez(tmp_path / "one.npz", a=start)
    path = write()
    for name in ("start.npy", "one.npz"):
        system = config.load(path, [f"system.start={name}"]).system()
        np.testing.assert_array_equal(system.columns.given[:, 0], start)
    entry = 'system.start={ file = "both.npz", key = "b" }'
    np.testing.assert_array_equal(
        config.load(path, [entry]).system().columns.given[:, 0], 2 * start
    )
    for wrong, message in (
        ("both.npz", "key: None for 'both.npz'; allowed: a, b"),
        ('{ file = "both.npz", key = "c" }', "key: 'c' for 'both.npz'; allowed: a, b"),
        ('{ file = "start.npy", key = "a" }', "allowed: none with .npy files"),
        ('{ file = "start.npy", kye = "a" }', "with key for .npz files"),
    ):
        with pytest.raises(config.ConfigError) as caught:
            config.load(path, [f"system.start={wrong}"])
        assert message in str(caught.value)
    (tmp_path / "bad.npy").write_text("no array")
    np.save(tmp_path / "objects.npy", np.array([{}]), allow_pickle=True)
    for name in ("bad.npy", "objects.npy"):
        with pytest.raises(config.ConfigError, match="is no array file"):
            config.load(path, [f"system.start={name}"])


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
