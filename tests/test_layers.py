"""Imports go downwards only, and what is imported is what is declared."""

import ast
import graphlib
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# The one table of layers: a part imports from lower lines only, never from its own.
LAYERS = (
    ("__init__", "__main__"),
    ("cli",),
    ("commands",),  # those of the command line that need `forecast`
    ("forecast",),  # predictions for a user's own data, on top of the families
    ("config", "expect", "doctor", "placement", "programs", "rundir"),
    ("schema",),  # tables of configs, from what the families register: they know nothing of it
    ("engine",),
    ("networks",),  # their trajectories, their curvature, theory of landscapes against them
    ("curvature",),  # looks at the families' trajectories
    ("landscapes", "multiindex", "multipass", "streaming"),  # families, side by side
    ("gaussian", "spectra", "random", "schedules", "datasets", "integrate"),
    ("system", "plots", "store", "signals", "hosts", "initial_value"),
    ("clocks", "limits", "checks", "reading"),
    ("layout", "annotations"),
    ("arrays", "codes", "precise", "reductions", "registry", "times"),
)
# The engine is written against the contract alone, and derives the keys of runs and probes; figures
# and files know datasets alone.
DATASETS = {"codes", "layout", "reading", "reductions", "times"}
ONLY = {
    "engine": {"system", "arrays", "checks", "random", "registry", "plots", "store"}
    | {"hosts"}
    | DATASETS,
    "plots": DATASETS,
    "store": DATASETS,
}

RANK = {part: rank for rank, parts in enumerate(LAYERS) for part in parts}
# NetCDF is read and written through xarray, which imports these.
ENGINES = {"h5netcdf", "h5py"}
# Imported where it is used, and an extra.
EXTRAS = {"sklearn": "data"}
# Comes with, and in step with, another dependency.
COMES_WITH = {"pydantic_core": "pydantic", "jaxlib": "jax", "pandas": "xarray"}
# Distributions whose module has another name.
MODULES = {"lazy_loader": "lazy-loader"}


def part_of(path):
    return path.relative_to(ROOT / "hdjax").with_suffix("").parts[0]


def imports(source):
    """Every module named by an import, wherever it stands: `from a import b` names a.b."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def wrong_imports(part, source):
    """The parts of hdjax that `part` may not import, but does."""
    found = {name.split(".")[1] for name in imports(source) if name.startswith("hdjax.")} - {part}
    allowed = ONLY.get(part, {other for other in RANK if RANK[other] > RANK[part]})
    return sorted(found - allowed)


def hidden_imports(source):
    """Modules of hdjax that are imported for a type checker alone."""
    return [
        name
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for name in imports(ast.unparse(node))
        if name.split(".")[0] == "hdjax"
    ]


def circle(sources):
    """Modules whose files import one another in a circle, by their imports at the top; [] if none.

    Who imports a name from a package, rather than a module of it, imports its `__init__`.
    """
    edges = {}
    for module, source in sources.items():
        top = [n for n in ast.parse(source).body if isinstance(n, ast.Import | ast.ImportFrom)]
        found = imports("\n".join(map(ast.unparse, top)))
        edges[module] = {name if name in sources else name.rpartition(".")[0] for name in found}
        edges[module] &= sources.keys() - {module}
    try:
        graphlib.TopologicalSorter(edges).prepare()
    except graphlib.CycleError as error:
        return error.args[1]
    return []


def module_of(path):
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    return name.removesuffix(".__init__")


def file_of_tests(module):
    """The file with the tests of a module: of its name, without a leading underscore."""
    folder, _, name = module.removeprefix("hdjax/").rpartition("/")
    return "/".join(filter(None, ("tests", folder, f"test_{name.removeprefix('_')}")))


def has_tests(module, sources):
    """Whether a file of tests of a module is among the sources of files, and holds a test."""
    return "\ndef test_" in sources.get(file_of_tests(module), "")


FILES = sorted((ROOT / "hdjax").rglob("*.py"))
OWN = [
    path.relative_to(ROOT).as_posix() for path in FILES if path.stem not in ("__init__", "__main__")
]
TESTS = {
    path.relative_to(ROOT).as_posix(): path.read_text()
    for path in sorted((ROOT / "tests").rglob("test_*.py"))
}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_downwards(path):
    assert part_of(path) in RANK, "not in the table of layers"
    assert wrong_imports(part_of(path), path.read_text()) == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_import_for_types_alone(path):
    assert hidden_imports(path.read_text()) == []


def test_no_circles_between_files():
    assert circle({module_of(path): path.read_text() for path in FILES}) == []


@pytest.mark.parametrize("module", OWN)
def test_every_module_has_a_file_of_tests(module):
    assert has_tests(module, TESTS), f"{module} has no tests in {file_of_tests(module)}"


def test_the_rules_can_be_broken():
    assert wrong_imports("gaussian", "from hdjax import spectra") == ["spectra"]
    assert wrong_imports("system", "def f():\n    import hdjax.engine.drive") == ["engine"]
    assert wrong_imports("engine", "from hdjax.streaming.model import OnePassSGD") == ["streaming"]
    assert wrong_imports("streaming", "from hdjax.streaming.model import OnePassSGD") == []
    hidden = "if TYPE_CHECKING:\n    from hdjax.streaming.model import OnePassSGD"
    assert hidden_imports(hidden) == ["hdjax.streaming.model.OnePassSGD"]
    assert circle({"a": "import b", "b": "from c import d", "c": "import a"}) != []
    assert circle({"a": "import b", "b": "from c import d", "c": "def f():\n    import a"}) == []
    assert file_of_tests("hdjax/cli.py") == "tests/test_cli.py"
    assert file_of_tests("hdjax/a/b/_c.py") == "tests/a/b/test_c.py"
    assert has_tests("hdjax/a/b.py", {"tests/a/test_b.py": "x = 1\n\n\ndef test_x(): ...\n"})
    assert not has_tests("hdjax/a/b.py", {"tests/a/test_b.py": "x = 1\n"})
    assert not has_tests("hdjax/a/b.py", {"tests/test_b.py": "\ndef test_x(): ...\n"})


def test_dependencies_are_those_that_are_imported():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = {spec.split(">")[0].split("[")[0] for spec in project["dependencies"]}
    used = {name.split(".")[0] for path in FILES for name in imports(path.read_text())}
    used = used - sys.stdlib_module_names - {"hdjax"}
    used = {(COMES_WITH | MODULES).get(name, name) for name in used}
    assert declared - ENGINES == used - set(EXTRAS)
    assert set(EXTRAS.values()) <= set(project["optional-dependencies"])
