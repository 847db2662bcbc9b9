"""Hostile input: whatever replaces an argument or a value of a config, the error names it.

The fuzzer takes the valid calls of `hostile.py` and the configs of `configs/`, and replaces one
argument or value at a time by one that it cannot be: numbers by text, complex numbers or booleans,
integers by fractions, instances by their classes, keys by misspelt ones.
"""

import copy
import inspect
import re
import tomllib
from pathlib import Path

import hypothesis
import hypothesis.strategies as st
import jax
import jaxtyping
import numpy as np
import pytest

import hdjax as hd
from hdjax import cli
from hdjax.config import ConfigError, Experiment
from tests.experiments import LEAST_SQUARES
from tests.hostile import CALLS, KEY, SYSTEM, mutations

CONFIGS = Path(__file__).parents[1] / "configs"
RAW = {path.stem: tomllib.loads(path.read_text()) for path in sorted(CONFIGS.glob("*.toml"))}
HOSTILE = [
    (call, name, label)
    for call, arguments in CALLS
    for name, value in arguments.items()
    for label, _ in mutations(call, name, value)
]


def named(name, message):
    """Whether a message has the form `name: value; allowed: rule`, with this name in front."""
    head, colon, rest = message.partition(": ")
    return bool(colon) and re.search(rf"\b{name}\b", head) is not None and "allowed" in rest


def refusal(call, *args, **kwargs):
    """The message with which a call is refused; that of a type checker of the tests is none."""
    with pytest.raises((ValueError, TypeError)) as caught:
        call(*args, **kwargs)
    assert not isinstance(caught.value, jaxtyping.TypeCheckError)
    return str(caught.value)


def where(call):
    return f"{call.__module__.removeprefix('hdjax.')}.{call.__qualname__}"


@pytest.mark.parametrize(("call", "arguments"), CALLS, ids=[where(call) for call, _ in CALLS])
def test_every_hostile_argument_is_named(call, arguments):
    for name, value in arguments.items():
        for label, hostile in mutations(call, name, value):
            message = refusal(call, **{**arguments, name: hostile})
            assert named(name, message), f"{name}, {label}: {message}"


def test_the_fuzzer_is_large():
    assert sum(1 for _ in HOSTILE) > 2500
    assert sum(1 for _ in VALUES) > 2500


# What an experiment takes besides a system, and what it cannot take.
OPTIONS = {"ts": [0.0, 1.0], "key": KEY, "runs": 2}
CALLED = {
    hd.simulate: ("system", SYSTEM),
    hd.compare: ("system", SYSTEM),
    hd.sweep: ("make_system", lambda x: SYSTEM),
    hd.scaling: ("make_system", lambda d: SYSTEM),
}
MORE = {hd.sweep: {"grid": {"x": [1, 2]}}, hd.scaling: {"dims": [4, 8]}}
WRONG = [
    ("runs", [0, -1, True, 1.5, 1e20, 10**20, 2**31, np.nan, "8", None, [2]]),
    ("ts", [None, "x", ["0", "1"], [1j], [0.0, np.nan], [1.0, 0.5], [-1.0], [], [[0.0]], 1.0]),
    ("key", [0, None, "x", jax.random.PRNGKey(0), jax.random.split(KEY)]),
    ("keep", ["curves", None, 1]),
    ("chunk", [0, 1.5, True, "x", 1j]),
    ("start", ["end", 1, True]),
    ("fluctuations", ["yes", 1, 0.5]),
    ("mean_correction", ["yes", 1, None]),
    ("progress", ["yes", 1, None]),
    ("statistics", ["risk", 3, ["rsik"], [3], [], ["risk", "risk"], {"risk": "x"}, {"": len}]),
    ("statistics", [{"time": len}, {3: len}, {"mine": SYSTEM}, {"mine": dict}]),
    ("probes", ["x", 3, {"x": 3}, {"x": "text"}, {"": len}, {"run": len}, {"x": dict}]),
    ("paths", ["x", 3, {"x": 3}, {"x": None}, {"": len}, {"time": len}]),
    ("method", ["direct", 3, hd.streaming.Direct, hd.multipass.Direct()]),
]


@pytest.mark.parametrize("call", CALLED, ids=lambda call: call.__name__)
def test_every_hostile_option_of_an_experiment_is_named(call):
    taken = inspect.signature(call).parameters
    name, valid = CALLED[call]
    arguments = {name: valid, **OPTIONS, **MORE.get(call, {})}
    own = [(name, [None, "x", 3]), ("grid", [None, "x", {}, {"x": []}, {3: [1]}, [1]])]
    own += [("devices", [3, "x", [0], [1.5], [True], [99]])]
    own += [("dims", [None, 8, "x", [8], [8, 8], [8, 4.5], [0, 8], [True, 8]])]
    for option, values in [*WRONG, *own]:
        # A scaling without runs is that of the limit.
        bare = (call, option) == (hd.scaling, "runs")
        for value in values[bare:] if option in taken else []:
            message = refusal(call, **{**arguments, option: value})
            assert named(option, message), f"{option}={value!r}: {message}"


@pytest.mark.parametrize("call", [hd.simulate, hd.compare, hd.limit, hd.make_plan])
def test_a_class_is_no_system(call):
    options = OPTIONS if "runs" in inspect.signature(call).parameters else {"ts": [0.0]}
    assert named("system", refusal(call, type(SYSTEM), **options))


@pytest.mark.parametrize("value", ["text", None, {}])
def test_what_a_statistic_or_probe_returns_is_numbers(value):
    for kind in ("statistics", "probes", "paths"):
        mine = {kind: {"mine": lambda *arguments: value}}
        assert named(kind, refusal(hd.simulate, SYSTEM, **OPTIONS, **mine))


def places(table, path=()):
    """The paths of all values and tables of a config, except for rules and arrays of numbers."""
    for key, value in table.items():
        if path or key not in ("family", "expect"):
            yield (*path, key), value
            if isinstance(value, dict):
                yield from places(value, (*path, key))


def replacements(value):
    """Values of TOML that no key has, where it has `value`."""
    if isinstance(value, bool):
        return ["yes", 2, [True]]
    if isinstance(value, int | float):
        return ["misspelt", float("nan"), [["x"]], {"misspelt": 1}]
    if isinstance(value, str):
        return [3, ["x", 3], {"misspelt": 1}]
    if isinstance(value, dict):
        return [3j, {**value, "misspelt": 1}, {"kind": "misspelt"}]
    return [{"misspelt": 1}, [{"misspelt": {"x": 1}}]]


# Values that their keys do take: a number in place of a word, and one more entry of a mapping.
TAKEN = {("threshold", 0), ("momentum", 0), ("weights", 1)}
VALUES = [
    (name, path, index)
    for name, raw in RAW.items()
    for path, value in places(raw)
    for index in range(len(replacements(value)))
    if not (isinstance(value, str | dict) and (path[-1], index) in TAKEN)
]


def replaced(raw, path, change):
    """A config with another value at a path, by a function of the old one."""
    raw = copy.deepcopy(raw)
    *tables, key = path
    table = raw
    for part in tables:
        table = table[part]
    table[key] = change(table[key])
    return raw


def assert_refused(name, path, change):
    with pytest.raises(ConfigError) as caught:
        Experiment.of(replaced(RAW[name], path, change), CONFIGS)
    message = str(caught.value)
    # A wrong kind is a mistake of its table, and an axis of a sweep is one of its last key.
    keys = [key.split(".")[-1] for key in (path[-2:] if path[-1] == "kind" else path[-1:])]
    assert any(named(re.escape(key), message) for key in [*keys, "misspelt"]), message


@pytest.mark.parametrize("config", RAW)
def test_every_hostile_value_of_a_config_is_named(config):
    for name, path, index in VALUES:
        if name == config:
            assert_refused(name, path, lambda value, index=index: replacements(value)[index])


NUMBERS = [
    (name, path)
    for name, raw in RAW.items()
    for path, value in places(raw)
    if isinstance(value, int | float) and not isinstance(value, bool)
]
NO_NUMBER = st.recursive(
    st.text(st.characters(min_codepoint=0x100), min_size=1) | st.just(float("nan")),
    lambda inner: st.lists(inner, min_size=1) | st.dictionaries(st.text(min_size=1), inner),
)


@hypothesis.settings(derandomize=True, max_examples=100, deadline=None, database=None)
@hypothesis.given(st.sampled_from(NUMBERS), NO_NUMBER)
def test_whatever_replaces_a_number_of_a_config_is_refused(place, value):
    name, path = place
    with pytest.raises(ConfigError) as caught:
        Experiment.of(replaced(RAW[name], path, lambda _: value), CONFIGS)
    assert all(": " in line and "\n" not in line for line in str(caught.value).splitlines())


HOSTILE_WORDS = [
    ("system.dimension=1.5", "system.dimension"),
    ("system.dimension=1e30", "system.dimension"),
    ("run.runs=1e20", "run.runs"),
    ("run.runs=true", "run.runs"),
    ("run.times={stop=1.0,num=1000000000}", "run.times"),
    ("run.times=[0.0,nan]", "run.times"),
    ("run.statistics=[3]", "run.statistics"),
    ("system.loss.sigma=[1.0,'x']", "system.loss.sigma"),
    ("system.loss={kind='../../etc'}", "system.loss"),
    ("system.a/b=1", "system.a/b"),
]


@pytest.mark.parametrize(("words", "key"), HOSTILE_WORDS)
def test_hostile_words_of_a_command_leave_nothing_behind(tmp_path, capsys, words, key):
    path, out = tmp_path / "small.toml", tmp_path / "out"
    path.write_text(LEAST_SQUARES)
    assert cli.main(["run", str(path), "--out", str(out), "--set", words]) == 2
    printed, errors = capsys.readouterr()
    assert named(re.escape(key), errors.removeprefix("error: "))
    assert "Traceback" not in printed + errors
    assert list(tmp_path.iterdir()) == [path]
