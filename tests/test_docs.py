"""What the pages of docs/ say about the code, looked up in the code."""

import re
from pathlib import Path

import pytest

import hdjax as hd

ROOT = Path(__file__).resolve().parents[1]
ROWS = re.findall(
    r"^\|.*\| ((?:`hd\.[\w.]+`(?:, )?)+) \| `([\w/.]+)` \|$",
    (ROOT / "docs" / "notation.md").read_text(),
    re.MULTILINE,
)
NAMES = [(name, file) for names, file in ROWS for name in re.findall(r"`(hd\.[\w.]+)`", names)]


def test_the_page_of_notation_is_read():
    lines = (ROOT / "docs" / "notation.md").read_text().splitlines()
    tables = [line for line in lines if line.startswith("| ") and not line.startswith("| letter")]
    assert len(ROWS) == len(tables) > 40


@pytest.mark.parametrize(("name", "file"), NAMES, ids=lambda value: value)
def test_a_name_of_the_notation_exists_where_the_page_says(name, file):
    first, *parts = name.split(".")[1:]
    found = getattr(hd, first)
    for part in parts:
        fields = getattr(found, "__dataclass_fields__", {})
        assert hasattr(found, part) or part in fields, f"{name}: no {part}"
        found = getattr(found, part, None)
    # A file that defines it: the last part is a class, a function, a field or a method in it.
    assert re.search(rf"\b{re.escape(parts[-1] if parts else first)}\b", (ROOT / file).read_text())
