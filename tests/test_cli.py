"""The command: files, table and exit codes, and that nothing computed is lost."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from hdjax import cli, doctor, plots, store
from hdjax.engine import drive

CONFIG = """
family = "streaming"

[system]
dimension = 12
loss = { kind = "least_squares", sigma = 0.5 }
learning_rate = 0.3
target = {}

[run]
times = [0.0, 0.5, 1.0]
runs = 6
chunk = 2
start = "realised"
fluctuations = false
statistics = ["risk"]

[expect]
rules = ["sup_error(risk) < 5", "value(risk, t=1) > 0"]
"""


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "small.toml"
    file.write_text(CONFIG)
    return str(file)


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


def files(folder):
    return sorted(file.name for file in folder.iterdir())


@pytest.mark.slow
def test_run_writes_files_and_prints_a_table(path, out, capsys):
    assert cli.main(["run", path, "--out", str(out)]) == 0
    printed, errors = capsys.readouterr()
    assert files(out) == ["figure.png", "result.nc", "summary.json"]
    assert "sup error" in printed
    assert "PASS  sup_error(risk) < 5" in printed
    assert str(out / "result.nc") in printed
    assert errors == ""
    summary = json.loads((out / "summary.json").read_text())
    assert [line["passed"] for line in summary["expect"]] == [True, True]
    assert summary["config"]["system"]["dimension"] == 12
    assert summary["runs"] == 6
    loaded = store.load(out / "result.nc")
    assert json.loads(loaded.attrs["expect"]) == summary["expect"]
    assert summary["statistics"]["risk"]["mean"] == loaded["risk_mean"].values.tolist()

    # A saved result is drawn again without its config.
    assert cli.main(["plot", str(out)]) == 0
    assert cli.main(["plot", str(out / "result.nc"), "--statistic", "risk"]) == 0
    elsewhere = out / "new" / "risk.pdf"
    assert cli.main(["plot", str(out), "--statistic", "risk", "--out", str(elsewhere)]) == 0
    assert elsewhere.read_bytes().startswith(b"%PDF")
    assert (out / "risk.png").exists()
    assert cli.main(["plot", str(out), "--statistic", "rsik"]) == 2
    assert "did you mean 'risk'" in capsys.readouterr().err


def test_a_failed_expectation_is_exit_code_1_and_keeps_the_results(path, out, capsys):
    change = 'expect.rules=["sup_error(risk) < 5", "value(risk, t=1) < 0"]'
    assert cli.main(["run", path, "--out", str(out), "--set", change]) == 1
    assert "FAIL  value(risk, t=1) < 0" in capsys.readouterr().out
    assert files(out) == ["figure.png", "result.nc", "summary.json"]
    summary = json.loads((out / "summary.json").read_text())
    assert [line["passed"] for line in summary["expect"]] == [True, False]


@pytest.mark.slow
def test_results_go_to_a_folder_of_the_config_s_name(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["run", path, "--set", "run.runs=0", "--set", "run.start=law"]) == 2
    assert not (tmp_path / "results").exists()
    rules = 'expect.rules=["limit(risk, t=1) > 0"]'
    words = ["run", path, "--set", "run.runs=0", "--set", "run.start=law", "--set", rules]
    assert cli.main(words) == 0
    assert "summary.json" in files(tmp_path / "results" / "small")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run", "none.toml"], "config: no file 'none.toml'"),
        (["run"], "Missing argument"),
        (["rnu"], "rnu"),
        (["run", "{path}", "--uot", "x"], "--uot"),
        (["run", "{path}", "--set", "run.rnus=1"], "run.rnus: unknown key; did you mean 'runs'"),
        (["run", "{path}", "--set", "run.statistics=['rsik']"], "'rsik'"),
        (["run", "{path}", "--set", "expect.rules=['sup_error(rsik) < 1']"], "did you mean 'risk'"),
        (["run", "{path}", "--set", "system.dimension=1e12"], "error: "),
        (["run", "{path}", "--out", "{path}"], "File exists"),
        (["scaling", "{path}"], "scaling: missing"),
        (["sweep", "{path}"], "sweep: missing"),
        (["plot", "none"], "no file 'none'"),
        (["schema", "steaming"], "did you mean 'streaming'"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(path, tmp_path, monkeypatch, capsys, words, message):
    monkeypatch.chdir(tmp_path)
    assert cli.main([word.replace("{path}", path) for word in words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert message in line


def test_a_missing_extra_is_one_line_and_exit_code_2(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    config = Path(__file__).resolve().parents[1] / "configs" / "digits_random_features.toml"
    assert cli.main(["run", str(config)]) == 2
    errors = capsys.readouterr().err
    assert "pip install 'hdjax[data]'" in errors
    assert "Traceback" not in errors


def test_a_wrong_rule_is_found_before_anything_is_run(path, monkeypatch):
    def never(*_, **__):
        raise AssertionError

    monkeypatch.setattr(drive, "_execute", never)
    assert cli.main(["run", path, "--set", "expect.rules=['value(risk, t=0.7) < 1']"]) == 2


def test_ctrl_c_keeps_the_runs_that_were_finished(path, out, monkeypatch, capsys):
    execute, calls = drive._execute, []

    def interrupted(*arguments):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return execute(*arguments)

    monkeypatch.setattr(drive, "_execute", interrupted)
    assert cli.main(["run", path, "--out", str(out)]) == 130
    assert "what was finished is kept (4 runs)" in capsys.readouterr().err
    kept = store.load(out / "result.nc")
    assert kept.sizes["run"] == 4
    assert np.isfinite(kept["risk"]).all()
    assert json.loads((out / "summary.json").read_text())["runs"] == 4

    def at_once(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(drive, "_execute", at_once)
    assert cli.main(["run", path, "--out", str(out)]) == 130
    assert capsys.readouterr().err == "interrupted: nothing was finished\n"


def test_a_figure_that_fails_is_a_warning(path, out, monkeypatch, capsys):
    def broken(*_):
        raise RuntimeError("no fonts")

    monkeypatch.setattr(plots, "plot_all", broken)
    assert cli.main(["run", path, "--out", str(out)]) == 0
    assert capsys.readouterr().err == "warning: no figure: no fonts\n"
    assert files(out) == ["result.nc", "summary.json"]


@pytest.mark.slow
def test_warnings_are_one_line(path, out, capsys):
    words = ["run", path, "--out", str(out), "--set", "system.loss=phase_retrieval"]
    words += ["--set", "run.start=law", "--set", "system.learning_rate=0.02"]
    cli.main(words)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("warning: start: its overlap")


@pytest.mark.slow
def test_scaling_and_sweep(path, out, capsys):
    words = ["scaling", path, "--out", str(out), "--set", "scaling.dims=[8, 16]"]
    rules = "expect.rules=['sup_error(risk, dimension=8) > 0', 'exponent(risk) < 5']"
    assert cli.main([*words, "--set", rules]) == 0
    printed = capsys.readouterr().out
    assert "exponent" in printed
    assert json.loads((out / "summary.json").read_text())["dimensions"] == [8, 16]

    words = ["run", path, "--out", str(out), "--set", "sweep.system.loss.sigma=[0.1, 0.5]"]
    assert cli.main([*words, "--set", "expect.rules=['value(risk, sigma=0.5) > 0']"]) == 0
    assert "sigma" in capsys.readouterr().out
    assert json.loads((out / "summary.json").read_text())["axes"] == {"sigma": [0.1, 0.5]}


def test_doctor_schema_and_help(monkeypatch, capsys):
    monkeypatch.setattr(doctor, "main", lambda: 1)
    assert cli.main(["doctor"]) == 1
    assert cli.main(["schema", "streaming"]) == 0
    assert json.loads(capsys.readouterr().out)["properties"]["system"]
    assert cli.main(["schema"]) == 0
    assert "oneOf" in (every := json.loads(capsys.readouterr().out)) or "anyOf" in every
    for words in ([], ["--help"], ["run", "--help"]):
        assert cli.main(words) == 0
        assert "Usage: hdjax" in capsys.readouterr().out


def test_python_m_hdjax(tmp_path):
    words = [sys.executable, "-m", "hdjax", "run", "none.toml"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == "error: config: no file 'none.toml'\n"
