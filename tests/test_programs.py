"""Compiled programs on disk."""

import json
import os
import subprocess
import sys

import jax
import pytest

from hdjax import cli, programs

CONFIG = """
family = "streaming"
[system]
dimension = 8
loss = "least_squares"
learning_rate = 0.5
start = {}
target = {}
[run]
times = [0.0, 1.0]
runs = 2
"""


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


def run(home, *words):
    """The command line in a process of its own."""
    # JAX leaves a variable of the second kind in the environment of this process.
    own = ("JAX_", "TF_CPP_")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(own)}
    (home / "config.toml").write_text(CONFIG)
    command = [sys.executable, "-m", "hdjax", *words]
    return subprocess.run(command, capture_output=True, text=True, cwd=home, env=environment)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="XDG directories")
def test_the_second_run_compiles_nothing_and_gives_the_same_bits(home):
    results = []
    for name in ("first", "second"):
        done = run(home, "run", "config.toml", "--out", name)
        assert (done.returncode, done.stderr) == (0, "")
        summary = json.loads((home / name / "summary.json").read_text())
        results.append(summary["statistics"])
        files = {file: file.stat().st_mtime_ns for file in programs.directory().rglob("*-cache")}
        results.append(files)
    first, written, second, after = results
    assert any("_advance" in file.name for file in written)
    assert written == after
    assert first == second
    # A process of its own would load JAX once more, which takes seconds.
    assert cli.main(["cache", "clear"]) == 0
    assert not programs.directory().exists()
    small = ("--no-cache", "--set", "run.fluctuations=false", "--set", "run.statistics=['risk']")
    assert run(home, "run", "config.toml", "--out", "third", *small).returncode == 0
    assert not programs.directory().exists()


def test_programs_are_kept_apart_by_processor(tmp_path):
    names = set()
    for flags in ("fpu avx2", "fpu avx2 avx512f"):
        cpuinfo = tmp_path / flags.replace(" ", "-")
        cpuinfo.write_text(f"processor : 0\nmodel name : A\nflags : {flags}\ncpu MHz : 1\n")
        names.add(programs.processor(cpuinfo))
    assert len(names) == 2
    cpuinfo.write_text(f"processor : 1\nmodel name : A\nflags : {flags}\ncpu MHz : 2\n")
    assert programs.processor(cpuinfo) in names


def test_a_directory_that_jax_was_given_stays():
    before = jax.config.jax_compilation_cache_dir
    try:
        jax.config.update("jax_compilation_cache_dir", "/elsewhere")
        programs.enable()
        assert jax.config.jax_compilation_cache_dir == "/elsewhere"
    finally:
        jax.config.update("jax_compilation_cache_dir", before)
