"""TOML: overrides of single keys, and files that are meant to hurt."""

import pytest

import hdjax as hd
from hdjax import config
from tests.experiments import LEAST_SQUARES, told


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
    ("override", "message"),
    [
        ("run.seed", "--set run.seed: no key or no value; allowed: key=value"),
        ("run.seed=1 2", "--set run.seed=1 2: '1 2'; allowed: a value as in TOML"),
        ("run.seed.deep=1", "run.seed.deep: run.seed is 7; allowed: a table"),
        ("run.seed=1\nrun.runs=2", "allowed: a value as in TOML"),
        ("run.seed=" + "[" * 1000 + "]" * 1000, "allowed: a value as in TOML"),
        ("a." * 5000 + "a=1", "deeper than 32 tables"),
    ],
)
def test_mistakes_name_the_key_the_value_and_the_remedy(write, override, message):
    assert message in told(write(), override)
