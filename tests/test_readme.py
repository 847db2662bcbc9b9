"""What the documentation shows runs: its Python blocks, its configs, its links, its commands."""

import re
import tomllib
from pathlib import Path

import pytest

from hdjax import config, expect

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page, language):
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)


def name(page):
    return str(page.relative_to(ROOT))


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")], ids=name)
def test_python_blocks_run(page, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    # A page is read from top to bottom: its blocks share their names.
    names = {"__name__": name(page)}
    for block in blocks(page, "python"):
        exec(compile(block, name(page), "exec"), names)
    # What a reader sees printed are numbers.
    assert not re.search(r"\bnan\b", capsys.readouterr().out)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page):
    targets = re.findall(r"\]\(([^)#\s]+)", page.read_text())
    local = [target for target in targets if "://" not in target]
    assert [target for target in local if not (page.parent / target).exists()] == []


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
