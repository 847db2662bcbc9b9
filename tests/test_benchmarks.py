"""The files of benchmarks, and their comparison; nothing here measures a time."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture
def scripts(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    import compare
    import report

    return report, compare


def test_rows_are_paired_by_what_was_measured(scripts, tmp_path, monkeypatch, capsys):
    report, compare = scripts
    first, second = tmp_path / "first.json", tmp_path / "second.json"
    rows = [{"d": 10, "seconds": 2.0}, {"d": 20, "seconds": 4.0}]
    report.write(first, "mine", table=rows)
    report.write(second, "mine", table=[{"d": 20, "seconds": 8.0}, {"d": 30, "seconds": 1.0}])
    assert json.loads(first.read_text())["tables"] == {"table": rows}
    monkeypatch.setattr(sys, "argv", ["compare.py", str(first), str(second)])
    compare.main()
    (line,) = capsys.readouterr().out.splitlines()
    assert line.split() == ["table:", "d", "20:", "seconds", "4", "8", "2.00", "*"]


@pytest.mark.parametrize("content", ["", "{}", '{"tables": 3}'])
def test_other_files_are_refused(scripts, tmp_path, content):
    _, compare = scripts
    (tmp_path / "file.json").write_text(content)
    with pytest.raises(SystemExit, match="allowed: a file that a benchmark wrote"):
        compare.load(tmp_path / "file.json")


def test_every_script_is_run_and_described():
    # That of accelerators has a target of its own.
    scripts = {path.stem for path in FOLDER.glob("*.py")} - {"report", "compare", "accelerator"}
    makefile = (FOLDER.parent / "Makefile").read_text()
    assert "bench-gpu:" in makefile
    listed = makefile.split("BENCHMARKS := ")[1].split("\n\n")[0].replace("\\", " ").split()
    assert set(listed[: len(scripts)]) == scripts
    readme = (FOLDER / "README.md").read_text()
    assert all(f"`{name}.py`" in readme for name in scripts)


@pytest.mark.slow
def test_the_benchmark_of_accelerators_runs_anywhere(tmp_path):
    file = tmp_path / "accelerator.json"
    words = ["--small", "--repeats", "1", "--tables", "sgd", "rounding", "--json", str(file)]
    script = FOLDER / "accelerator.py"
    subprocess.run([sys.executable, script, *words], check=True, capture_output=True)
    (sgd,), (rounding,) = json.loads(file.read_text())["tables"].values()
    assert sgd["rate"] > 0
    assert 0 < rounding["difference"] < 1e-4


@pytest.mark.slow
def test_a_benchmark_leaves_a_file(tmp_path):
    file = tmp_path / "limit.json"
    words = ["--dims", "16", "--repeats", "1", "--json", str(file)]
    subprocess.run([sys.executable, FOLDER / "limit.py", *words], check=True, capture_output=True)
    found = json.loads(file.read_text())
    assert found["benchmark"] == "limit"
    assert {row["d"] for row in found["tables"]["limits"]} == {16}
