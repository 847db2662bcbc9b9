"""What the documentation shows runs: its Python blocks, its configs, its commands."""

import re
import tomllib
from pathlib import Path

import pytest

from hdjax import config, expect

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
NUMBER = re.compile(r"-?\d+\.\d+(?:e[+-]?\d+)?")


def blocks(page, language):
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)


def name(page):
    return str(page.relative_to(ROOT))


def programs(page):
    """Pairs of a Python block and the text that the page shows below it as its output, if any."""
    shown = r"^```python\n(.*?)^```$(?:\n\n```text\n(.*?)^```$)?"
    return re.findall(shown, page.read_text(), re.MULTILINE | re.DOTALL)


def same_output(printed, shown):
    """Whether texts agree, in their decimals up to the rounding of another machine."""
    decimals = [[float(x) for x in NUMBER.findall(text)] for text in (printed, shown)]
    words = [NUMBER.sub("", text).split() for text in (printed, shown)]
    return words[0] == words[1] and decimals[0] == pytest.approx(decimals[1], rel=2e-3, abs=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if programs(page)], ids=name)
def test_python_blocks_run(page, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    # A page is read from top to bottom: its blocks share their names.
    names = {"__name__": name(page)}
    for block, shown in programs(page):
        exec(compile(block, name(page), "exec"), names)
        printed = capsys.readouterr().out
        # What a reader sees printed are numbers.
        assert not re.search(r"\bnan\b", printed)
        assert not shown or same_output(printed, shown), printed


def test_outputs_are_compared():
    assert same_output("risk  0.50001\n", "risk 0.5")
    assert not same_output("risk 0.51", "risk 0.5")
    assert not same_output("risk 0.5 0.5", "risk 0.5")
    assert not same_output("loss 0.5", "risk 0.5")


def test_make_knows_the_commands_of_the_readme():
    commands = set(re.findall(r"\bmake (\w+)", (ROOT / "README.md").read_text()))
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert {"demo", "test"} <= commands <= targets


SHOWN = [(name(page), block) for page in PAGES for block in blocks(page, "toml")]


@pytest.mark.parametrize("text", [pytest.param(t, id=label) for label, t in SHOWN])
def test_configs_are_valid_and_expect_something(text):
    experiment = config.Experiment.of(tomllib.loads(text))
    rules = experiment.config.expect.rules
    assert rules
    expect.check(rules, experiment.empty())
