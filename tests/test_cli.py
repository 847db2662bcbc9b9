"""The command: files, table and exit codes, and that nothing computed is lost."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from hdjax import cli, doctor, plots, store
from hdjax.engine import drive
from tests.engine.problems import at_chunk, interrupt

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


FILES = ["figure.png", "log.txt", "result.nc", "run.json", "summary.json"]


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "small.toml"
    file.write_text(CONFIG)
    return str(file)


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


def to_resume(folder):
    return f"to go on: hdjax resume {folder}"


def files(folder):
    return sorted(file.name for file in folder.iterdir())


@pytest.mark.slow
def test_run_writes_files_and_prints_a_table(path, out, capsys):
    assert cli.main(["run", path, "--out", str(out)]) == 0
    printed, errors = capsys.readouterr()
    assert files(out) == FILES
    assert "sup error" in printed
    assert "PASS  sup_error(risk) < 5" in printed
    assert str(out / "result.nc") in printed
    assert errors == ""
    summary = json.loads((out / "summary.json").read_text())
    assert [line["passed"] for line in summary["expect"]] == [True, True]
    assert summary["config"]["system"]["dimension"] == 12
    assert summary["runs"] == 6
    loaded = store.load(out / "result.nc")
    assert loaded.attrs["expect"] == summary["expect"]
    assert summary["statistics"]["risk"]["mean"] == loaded["mean/risk"].values.tolist()

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
    assert files(out) == FILES
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

    monkeypatch.setattr(drive.Loop, "run", never)
    assert cli.main(["run", path, "--set", "expect.rules=['value(risk, t=0.7) < 1']"]) == 2


def test_ctrl_c_keeps_the_runs_that_were_finished(path, out, monkeypatch, capsys):
    interrupt(monkeypatch, 3)
    assert cli.main(["run", path, "--out", str(out)]) == 130
    assert "what was finished is kept (4 runs)" in capsys.readouterr().err
    kept = store.load(out / "result.nc")
    assert kept["runs"].sizes["run"] == 4
    assert np.isfinite(kept["runs/risk"]).all()
    assert json.loads((out / "summary.json").read_text())["runs"] == 4

    interrupt(monkeypatch, 1)
    assert cli.main(["run", path, "--out", str(out), "--force"]) == 130
    assert capsys.readouterr().err == f"interrupted: nothing was finished; {to_resume(out)}\n"
    assert store.load(out / "result.nc")["runs"].sizes["run"] == 4


def stop_at(monkeypatch, call, number):
    """A signal before the given chunk is computed."""
    at_chunk(monkeypatch, call, lambda: signal.raise_signal(number))


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 75), (signal.SIGUSR1, 75), (signal.SIGINT, 130)]
)
def test_signals_keep_what_was_finished(path, out, monkeypatch, capsys, number, code):
    before = signal.getsignal(number)
    stop_at(monkeypatch, 3, number)
    assert cli.main(["run", path, "--out", str(out)]) == code
    told = capsys.readouterr().err
    assert told == f"interrupted: what was finished is kept (4 runs); {to_resume(out)}\n"
    assert files(out) == ["checkpoint", *FILES]
    assert store.load(out / "result.nc")["runs"].sizes["run"] == 4
    assert signal.getsignal(number) == before


def test_a_signal_while_files_are_written_loses_nothing_and_a_second_one_stops(
    path, out, monkeypatch, capsys
):
    drawn, signals = plots.plot_all, [signal.SIGTERM]

    def stopped(data):
        for number in signals:
            signal.raise_signal(number)
        return drawn(data)

    monkeypatch.setattr(plots, "plot_all", stopped)
    assert cli.main(["run", path, "--out", str(out)]) == 0
    assert files(out) == FILES
    assert capsys.readouterr().err == ""
    signals.append(signal.SIGINT)
    assert cli.main(["run", path, "--out", str(out), "--force"]) == 75
    assert capsys.readouterr().err == "interrupted: what was not written is lost\n"
    assert store.load(out / "result.nc")["runs"].sizes["run"] == 6


def test_an_ignored_signal_stays_ignored(path, out, monkeypatch):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        stop_at(monkeypatch, 2, signal.SIGHUP)
        assert cli.main(["run", path, "--out", str(out)]) == 0
    finally:
        signal.signal(signal.SIGHUP, before)


def numbers(folder):
    """All numbers of a result, by group and name."""
    tree = store.load(folder / "result.nc")
    return {
        f"{node.path}/{name}": variable.values
        for node in tree.subtree
        for name, variable in node.data_vars.items()
    }


@pytest.mark.parametrize("command", ["run", "resume"])
def test_an_interrupted_run_goes_on_with_the_same_numbers(
    path, out, tmp_path, monkeypatch, capsys, command
):
    whole = tmp_path / "whole"
    assert cli.main(["run", path, "--out", str(whole)]) == 0
    with monkeypatch.context() as patch:
        stop_at(patch, 3, signal.SIGTERM)
        assert cli.main(["run", path, "--out", str(out)]) == 75
    capsys.readouterr()
    words = ["run", path, "--out", str(out)] if command == "run" else ["resume", str(out)]
    assert cli.main([*words, "--json"]) == 0
    *reports, last = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert last == {"result": json.loads((out / "summary.json").read_text())}
    assert [(report["done"], report["remaining"]) for report in reports if report["done"]] == [
        (2, 4),
        (4, 2),
        (6, 0),
    ]
    assert files(out) == FILES
    found = numbers(out)
    for name, values in numbers(whole).items():
        np.testing.assert_array_equal(found[name], values)
    log = (out / "log.txt").read_text().splitlines()
    assert [line.split(" ", 1)[1] for line in log] == ["begins", "interrupted", "goes on", "ends"]
    # A run that has ended is not run again.
    monkeypatch.setattr(drive.Loop, "run", None)
    assert cli.main(["resume", str(out)]) == 0
    assert cli.main(["run", path, "--out", str(out)]) == 2


def test_an_unfinished_run_is_not_mixed_with_another(path, out, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        stop_at(patch, 2, signal.SIGINT)
        assert cli.main(["run", path, "--out", str(out)]) == 130
    capsys.readouterr()
    other = ["run", path, "--out", str(out), "--set", "run.seed=7"]
    with monkeypatch.context() as patch:
        patch.setattr(drive.Loop, "run", None)  # nothing is computed
        assert cli.main(other) == 2
    assert "holds an unfinished run of another config; allowed" in capsys.readouterr().err
    assert cli.main([*other, "--force"]) == 0
    assert files(out) == FILES


def test_a_directory_without_a_run_is_not_resumed(tmp_path, path, out, capsys):
    assert cli.main(["resume", str(tmp_path)]) == 2
    assert "has no run.json; allowed: the directory of a hdjax run" in capsys.readouterr().err
    assert cli.main(["run", path, "--out", str(out), "--checkpoint-every", "soon"]) == 2
    assert "--checkpoint-every: 'soon'; allowed: a time such as 30s" in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.slow
def test_a_result_is_replaced_only_by_force_and_never_by_less(path, out, monkeypatch, capsys):
    def run(*words, at=None):
        with monkeypatch.context() as patch:
            if at is not None:
                stop_at(patch, at, signal.SIGINT)
            return cli.main(["run", path, "--out", str(out), *words]), capsys.readouterr().err

    def runs(folder):
        kept = json.loads((folder / "summary.json").read_text())["runs"]
        assert store.load(folder / "result.nc")["runs"].sizes["run"] == kept
        return kept

    assert run(at=3)[0] == 130
    shutil.rmtree(out / "checkpoint")
    with monkeypatch.context() as patch:
        patch.setattr(drive.Loop, "run", None)  # nothing is computed
        code, errors = run()
    (line,) = errors.splitlines()
    assert code == 2
    assert f"directory: {str(out)!r} holds" in line
    assert "--force" in line
    code, errors = run("--force", at=2)
    assert code == 130
    assert "holds a result of 4 runs, this interrupted one 2" in errors
    assert (runs(out), runs(out / "other-1")) == (4, 2)
    assert run("--force", at=3)[0] == 130  # as many
    assert run("--force")[0] == 0
    assert (runs(out), runs(out / "other-1")) == (6, 2)
    assert run("--force", at=3)[0] == 130
    assert (runs(out), runs(out / "other-2")) == (6, 4)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("variables", "redirection", "code", "told"),
    [
        ({"MPLBACKEND": "foo"}, "", 2, "error: Key backend: 'foo' is not a valid value"),
        ({"JAX_PLATFORMS": "foo"}, "", 2, "error: JAX_PLATFORMS: 'foo': "),
        ({}, "2>&-", 0, ""),
    ],
)
def test_no_environment_ends_in_the_code_of_a_failed_expectation(
    path, out, variables, redirection, code, told
):
    command = f"{sys.executable} -m hdjax run {path} --set run.runs=2 --out {out} {redirection}"
    environment = {**os.environ, **variables}
    done = subprocess.run(
        command, shell=True, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == code
    assert done.stderr.startswith(told)
    assert len(done.stderr.splitlines()) == bool(told)


def test_a_fault_of_the_package_has_a_code_of_its_own(path, out, monkeypatch, capsys):
    monkeypatch.setattr(drive.Loop, "run", lambda self: 1 // self.nothing)
    monkeypatch.setattr(sys, "argv", ["hdjax", "run", path, "--out", str(out)])
    with pytest.raises(SystemExit) as ended:
        cli.command()
    assert ended.value.code == 70
    assert "AttributeError" in capsys.readouterr().err


def test_a_closed_standard_output_is_no_error(path, out, monkeypatch, capsys):
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as closed:
        monkeypatch.setattr(sys, "stdout", closed)
        assert cli.main(["run", path, "--out", str(out)]) == 0
        assert cli.main(["plot", str(out)]) == 0
        assert cli.main(["schema"]) == 0
    assert files(out) == FILES
    monkeypatch.setattr(sys, "stdout", None)
    assert cli.main(["plot", str(out)]) == 0
    assert capsys.readouterr().err == ""


def test_no_room_is_one_line_and_the_old_file_stays_whole(path, out, capsys):
    assert cli.main(["run", path, "--out", str(out)]) == 0
    before = (out / "result.nc").read_bytes()
    printed, _ = capsys.readouterr()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        assert cli.main(["run", path, "--out", str(out), "--force"]) == 2
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    again, errors = capsys.readouterr()
    warned, line = errors.splitlines()
    assert warned.startswith("warning: checkpoint: not written (")
    assert line.startswith("error: ")
    assert str(out / "result.nc") in line
    assert (out / "result.nc").read_bytes() == before
    assert files(out) == ["checkpoint", *FILES]
    # What was computed is told at least.
    assert again.splitlines()[:3] == printed.splitlines()[:3]


def test_a_figure_that_fails_is_a_warning(path, out, monkeypatch, capsys):
    def broken(*_):
        raise RuntimeError("no fonts")

    monkeypatch.setattr(plots, "plot_all", broken)
    assert cli.main(["run", path, "--out", str(out)]) == 0
    assert capsys.readouterr().err == "warning: no figure: no fonts\n"
    assert files(out) == [name for name in FILES if name != "figure.png"]


@pytest.mark.slow
def test_warnings_are_one_line(path, out, capsys):
    words = ["run", path, "--out", str(out), "--set", "system.loss=phase_retrieval"]
    words += ["--set", "run.start=law", "--set", "system.learning_rate=0.02"]
    cli.main(words)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("warning: start: an overlap")


@pytest.mark.slow
def test_scaling_and_sweep(path, out, capsys):
    words = ["scaling", path, "--out", str(out), "--set", "scaling.dims=[8, 16]"]
    rules = "expect.rules=['sup_error(risk, dimension=8) > 0', 'exponent(risk) < 5']"
    assert cli.main([*words, "--set", rules]) == 0
    printed = capsys.readouterr().out
    assert "exponent" in printed
    assert json.loads((out / "summary.json").read_text())["dimensions"] == [8, 16]

    words = ["run", path, "--out", str(out), "--set", "sweep.system.loss.sigma=[0.1, 0.5]"]
    words.append("--force")
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


def test_plot_refuses_files_of_other_programs(tmp_path, capsys):
    xr.Dataset({"t2m": ("time", [280.0])}).to_netcdf(tmp_path / "other.nc", engine="h5netcdf")
    (tmp_path / "cut.nc").write_bytes((tmp_path / "other.nc").read_bytes()[:3000])
    (tmp_path / "classic.nc").write_bytes(b"CDF\1" + bytes(100))
    for name, message in (
        ("other.nc", "no attribute 'kind'; allowed: a result of hdjax"),
        ("cut.nc", "is no NetCDF file"),
        ("classic.nc", "is no NetCDF file"),
    ):
        assert cli.main(["plot", str(tmp_path / name)]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert message in line


@pytest.mark.slow
def test_a_reader_that_leaves_is_no_error():
    words = [sys.executable, "-m", "hdjax", "schema"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"{\n"
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 75), (signal.SIGINT, 130)])
def test_a_signal_while_the_package_is_imported(number, code):
    words = [sys.executable, "-X", "importtime", "-m", "hdjax", "schema"]
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        for line in process.stderr:
            if b" numpy" in line:
                break
        process.send_signal(number)
        *_, last = process.stderr.read().splitlines()
    assert last == b"interrupted: nothing was finished"
    assert process.returncode == code


def test_python_m_hdjax(tmp_path):
    words = [sys.executable, "-m", "hdjax", "run", "none.toml"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == "error: config: no file 'none.toml'; allowed: a TOML file\n"
