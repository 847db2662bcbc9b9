"""Pages of keys: their rows, and that those of the documentation are current."""

import re
from pathlib import Path

import pytest

from hdjax.config import reference
from hdjax.config.tables import Run, families
from hdjax.schema import ConfigError

ROOT = Path(__file__).parents[2]


def test_the_tables_of_the_documentation_are_current():
    """`python -m hdjax.config.reference docs/configs.md` writes them."""
    text = (ROOT / "docs" / "configs.md").read_text()
    assert set(re.findall(r"<!-- tables: (\w+) -->", text)) == {*families(), "run", "shared"}
    assert reference.updated(text) == text


def test_a_document_keeps_what_is_outside_of_its_marks():
    text = "before\n<!-- tables: run -->\nold\n<!-- end -->\nbetween `run`\n"
    found = reference.updated(text)
    assert found.startswith("before\n<!-- tables: run -->\n\n| key |")
    assert found.endswith("\n<!-- end -->\nbetween `run`\n")
    assert "old" not in found
    assert reference.updated(found) == found


def test_the_table_of_runs_has_a_row_for_each_key():
    rows = re.findall(r"^\| `(\w+)` \| (.*?) \|", reference.markdown("run"), re.MULTILINE)
    assert [key for key, _ in rows] == list(Run.model_fields)
    told = dict(rows)
    assert (told["times"], told["seed"], told["keep"]) == ("required", "0", "`runs`")
    assert (told["limit"], told["chunk"], told["paths"]) == ("true", "none", "none")


def test_links_lead_to_sections():
    """A slot of the tables has a section of its own, on the page of all families."""
    page = "\n".join(reference.markdown(name) for name in (*families(), "shared"))
    sections = {name.replace(".", "") for name in re.findall(r"^#### `([\w.]+)`$", page, re.M)}
    links = set(re.findall(r"\]\(#(\w+)\)", page))
    assert len(links) > 10
    assert links <= sections


def test_families_that_are_not_there_are_refused():
    with pytest.raises(ConfigError, match="did you mean 'streaming'"):
        reference.markdown("steaming")
