"""What the pages of docs/ say about the code, looked up in the code."""

import inspect
import re
import unicodedata
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


# The page of notation names internal functions too, with their files.
PAGES = [
    ROOT / "README.md",
    *(page for page in sorted((ROOT / "docs").rglob("*.md")) if page.stem != "notation"),
]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_pages_use_public_names_alone(page):
    """A name of a family, or of a submodule that the family shows, is one that it lists."""
    for family, name, inner in re.findall(r"\bhd\.([a-z]\w+)\.(\w+)(?:\.(\w+))?", page.read_text()):
        package = getattr(hd, family, None)
        if not hasattr(package, "__all__"):
            continue
        assert name in package.__all__, f"hd.{family}.{name}"
        found = getattr(package, name)
        if inner and inspect.ismodule(found):
            assert inner in found.__all__, f"hd.{family}.{name}.{inner}"


def test_every_page_is_in_the_navigation():
    # A page that the navigation names and docs/ lacks is a file of the root.
    of_the_root = {"index.md", "changelog.md"}
    shown = re.findall(r"[\w/-]+\.md$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)
    pages = {str(p.relative_to(ROOT / "docs")) for p in (ROOT / "docs").rglob("*.md")}
    assert len(shown) == len(set(shown))
    # The reference is put there with the pages that are made.
    assert set(shown) == (pages - {"api.md"}) | of_the_root


def anchors(page):
    """The anchors of the headings of a page, those of the site."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    for heading in re.findall(r"^#+ (.*)$", text, re.MULTILINE):
        plain = unicodedata.normalize("NFKD", heading).encode("ascii", "ignore").decode()
        yield re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", plain).strip().lower())


@pytest.mark.parametrize(
    "page", [*PAGES, ROOT / "docs" / "notation.md"], ids=lambda page: page.name
)
def test_links_lead_to_a_heading(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if "://" in target:
            continue
        file, _, anchor = target.partition("#")
        other = (page.parent / file).resolve() if file else page
        assert other.exists(), target
        assert not anchor or anchor in anchors(other), target
