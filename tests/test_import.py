"""`import hdjax` costs next to nothing: a name is imported when it is first used."""

import ast
import importlib.metadata
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import hdjax as hd

STUB = Path(hd.__file__).with_suffix(".pyi")


def modules_after(*statements):
    """The modules that a fresh interpreter has loaded after some statements."""
    code = "; ".join([*statements, "import sys; print(*sys.modules)"])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_every_listed_name_exists():
    assert {name: getattr(hd, name) for name in hd.__all__}.keys() == set(hd.__all__)


def test_the_stub_lists_what_it_imports():
    tree = ast.parse(STUB.read_text())
    nodes = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    imported = {alias.name for node in nodes for alias in node.names}
    listed = next(node.value for node in tree.body if isinstance(node, ast.Assign))
    assert set(ast.literal_eval(listed)) == imported == set(hd.__all__)


def test_the_version_is_the_installed_one():
    assert hd.__version__ == importlib.metadata.version("hdjax")


def test_importing_the_package_imports_no_family():
    loaded = modules_after("import hdjax")
    assert not {"jax", "diffrax", "matplotlib", "xarray", "hdjax.streaming"} & loaded


def test_a_limit_needs_neither_figures_nor_statistics():
    loaded = modules_after("import hdjax", "hdjax.streaming.OnePassSGD", "hdjax.spectra.identity")
    heavy = {"matplotlib", "pandas", "pydantic", "scipy.stats", "scipy.optimize", "hdjax.curvature"}
    assert not heavy & loaded


FAMILIES = ("curvature", "landscapes", "multiindex", "multipass", "networks", "streaming")


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_and_its_submodules_list_their_names(family):
    """Some 25 names a family; a submodule lists what users need, and nothing that it imports."""
    package = getattr(hd, family)
    assert len(package.__all__) <= 25
    for name in package.__all__:
        module = getattr(package, name)
        if not inspect.ismodule(module):
            continue
        assert module.__doc__
        for listed in module.__all__:
            found = getattr(module, listed)
            assert getattr(found, "__module__", module.__name__).startswith(module.__name__)
