"""Tables of configs are their constructors: what a table may hold, the constructor checks."""

import importlib
import inspect
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Annotated, get_args, get_origin

import pytest

from hdjax import registry
from hdjax.config.tables import families, load_family
from hdjax.registry import Bounds, Each, In, OneOf
from hdjax.schema import parameters

ROOT = Path(__file__).parents[1]


for family in families():
    load_family(family)


ENTRIES = [entry for name in registry.slots() for entry in registry.entries(name).values()]


ENTRIES = list({(entry.slot, entry.kind): entry for entry in ENTRIES}.values())


def marks(annotation):
    """What annotations say of numbers or words, each with the type beside it."""
    for part in (annotation, *get_args(annotation)):
        if get_origin(part) is Annotated:
            inner, mark, *_ = get_args(part)
            yield mark, inner


def numbers(bounds, kind):
    """One number that bounds allow, and some that they do not."""
    low = bounds.least if bounds.above is None else bounds.above
    high = bounds.most if bounds.below is None else bounds.below
    inside = low + 1 if low is not None and low >= 1 else 1 if kind is int else 0.5
    wrong = [None if low is None else low - 1, None if high is None else high + 1]
    wrong += [bounds.above, bounds.below]
    convert = int if kind is int else float
    return convert(inside), [convert(value) for value in wrong if value is not None]


def examples(annotation):
    """A value that an annotation allows and some that it does not; none where it says nothing."""
    for mark, kind in marks(annotation):
        match mark:
            case Bounds():
                return numbers(mark, kind)
            case Each(bounds, _, _):
                inside, wrong = numbers(bounds, float)
                return [inside], [[value] for value in wrong]
            case OneOf(words):
                return words[0], ["none of them" if kind is str else max(words) + 1]
            case In("schedule" | "landscapes.rate"):
                return 0.5, []
    plain = {str: "risk", float: 1.0, int: 1}
    return (plain[annotation], []) if annotation in plain else None


def cases():
    """Calls with one argument that the table refuses."""
    for entry in ENTRIES:
        constructor = entry.constructor
        # A function of a config alone is checked by its table.
        if constructor.__name__.startswith("_") or constructor.__name__ not in dir(
            importlib.import_module(constructor.__module__)
        ):
            continue
        own = inspect.signature(constructor).parameters.values()
        required = [parameter for parameter in own if parameter.default is parameter.empty]
        given = {parameter.name: examples(parameter.annotation) for parameter in required}
        if None in given.values():
            continue
        given = {name: value for name, (value, _) in given.items()}
        for parameter in own:
            for wrong in (examples(parameter.annotation) or (0, []))[1]:
                name = parameter.name
                arguments = given | {name: wrong}
                label = f"{entry.slot}.{entry.kind}.{name}={wrong}"
                yield pytest.param(constructor, name, arguments, id=label)


@pytest.mark.parametrize(("constructor", "name", "arguments"), list(cases()))
def test_constructors_refuse_what_their_tables_refuse(constructor, name, arguments):
    with pytest.raises(ValueError, match=name):
        constructor(**arguments)


PACKAGE = """
import hdjax as hd
from hdjax.registry import Positive, Size, register


class Quartic(hd.streaming.losses.FunctionLoss):
    "f = scale (x - x*)^4."

    def __init__(self, scale: Positive = 1.0):
        super().__init__(lambda x, y, component, noise, theta: scale * (x[0] - y[0]) ** 4)


@register("toy.system", "")
def system(dimension: Size, rate: Positive = 0.1):
    "Least squares."
    start = hd.streaming.GaussianStart()
    spectrum = hd.spectra.identity(dimension)
    return hd.streaming.OnePassSGD(hd.streaming.losses.LeastSquares(), spectrum, rate, start, start)
"""


POINTS = """
[hdjax.families]
toy = outside

[hdjax.streaming.loss]
quartic = outside:Quartic
"""


RUN = """
[run]
times = [0.0, 0.5]
runs = 0
statistics = ["risk"]
"""


QUARTIC = """
family = "streaming"

[system]
dimension = 4
loss = { kind = "quartic", scale = 0.5 }
learning_rate = 0.01
target = {}
"""


@pytest.fixture
def command(tmp_path):
    """The command with another package installed beside this one."""
    (tmp_path / "outside.py").write_text(PACKAGE)
    info = tmp_path / "outside-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: outside\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(POINTS)
    path = os.pathsep.join([str(tmp_path), str(ROOT), os.environ.get("PYTHONPATH", "")])

    def run(*arguments, text=None):
        if text is not None:
            (tmp_path / "config.toml").write_text(text)
        return subprocess.run(
            [sys.executable, "-m", "hdjax", *arguments],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": path, "JAX_PLATFORMS": "cpu"},
        )

    return run


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "wrong", "message"),
    [
        (QUARTIC, "system.loss.scale=-1", "system.loss.scale: -1; allowed: greater than 0"),
        (
            'family = "toy"\n[system]\ndimension = 4\n',
            "system.rat=1",
            "system.rat: unknown key; did you mean 'rate'?",
        ),
    ],
)
def test_other_packages_add_losses_and_families(command, tmp_path, text, wrong, message):
    done = command("run", "config.toml", "--out", "out", text=text + RUN)
    assert done.returncode == 0, done.stderr
    risk = json.loads((tmp_path / "out" / "summary.json").read_text())["statistics"]["risk"]
    assert risk["limit"][1] < risk["limit"][0]
    refused = command("run", "config.toml", "--out", "other", "--set", wrong)
    assert refused.returncode == 2
    (line,) = refused.stderr.splitlines()
    assert message in line


@pytest.mark.slow
def test_what_other_packages_add_is_described(command):
    schema = json.loads(command("schema", "toy").stdout)
    assert schema["properties"]["family"]["const"] == "toy"
    assert "| `rate` | number > 0 | 0.1 |" in command("schema", "toy", "--markdown").stdout
    assert "`quartic`" in command("schema", "streaming", "--markdown").stdout
    assert "quartic" in command("schema", "streaming").stdout


def test_every_key_is_described():
    """By the docstring of its constructor: it is what a reader of the tables sees."""
    missing = [
        f"{entry.slot}.{entry.kind}.{parameter.name}"
        for entry in ENTRIES
        for parameter in parameters(entry)
        if not parameter.text
    ]
    assert missing == []


def test_two_constructors_of_one_name_are_refused():
    registry.register("test.shape", "ball")(dict)
    registry.register("test.shape", "ball")(dict)
    with pytest.raises(ValueError, match=r"kind: 'ball' of builtins.list; allowed in test.shape"):
        registry.register("test.shape", "ball")(list)
