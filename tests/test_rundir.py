"""Directories of runs: what they record, and what they refuse."""

import json

import pytest

from hdjax import rundir

ASKED = {"config": {"system": {"rate": 0.5}}, "directory": "configs", "kind": "compare"}


def test_a_directory_says_what_is_run_and_keeps_checkpoints_until_the_end(tmp_path):
    with rundir.opened(tmp_path / "a", ASKED) as directory:
        directory.checkpoint.mkdir()
    assert rundir.unfinished(tmp_path / "a")
    assert rundir.read(tmp_path / "a") == ASKED
    with rundir.opened(tmp_path / "a", ASKED) as directory:
        assert directory.replaces
        assert directory.checkpoint.is_dir()
        (directory.path / "result.nc").touch()
        directory.sign()
        directory.end()
    record = json.loads((tmp_path / "a" / "run.json").read_text())
    assert {"versions", "device", "precision"} < set(record)
    assert rundir.read(tmp_path / "a") == ASKED
    assert not rundir.unfinished(tmp_path / "a")
    with pytest.raises(FileExistsError, match=r"holds result.nc; allowed: another directory"):
        rundir.opened(tmp_path / "a", ASKED).__enter__()


def test_only_one_process_writes(tmp_path):
    with rundir.opened(tmp_path, ASKED):  # noqa: SIM117
        with pytest.raises(OSError, match="another process writes into"):
            rundir.opened(tmp_path, ASKED).__enter__()


def test_force_begins_anew(tmp_path):
    with rundir.opened(tmp_path, ASKED) as directory:
        directory.checkpoint.mkdir()
        (directory.checkpoint / "chunk-0-0.npz").touch()
    other = ASKED | {"kind": "sweep"}
    with pytest.raises(FileExistsError, match="unfinished run of another config"):
        rundir.opened(tmp_path, other).__enter__()
    with rundir.opened(tmp_path, other, force=True) as directory:
        assert not directory.checkpoint.exists()


def test_a_result_keeps_its_record_when_a_later_run_does_not_begin(tmp_path):
    with rundir.opened(tmp_path, ASKED) as directory:
        (tmp_path / "result.nc").touch()
        directory.sign()
        directory.end()
    with rundir.opened(tmp_path, ASKED | {"kind": "sweep"}, force=True):
        pass  # refused before anything was computed
    assert rundir.read(tmp_path) == ASKED
    assert not rundir.unfinished(tmp_path)


def test_a_run_that_was_killed_before_it_was_recorded_begins_again(tmp_path):
    (tmp_path / "checkpoint").mkdir()
    with pytest.raises(FileNotFoundError, match=r"has no run.json; allowed"):
        rundir.read(tmp_path)
    with rundir.opened(tmp_path, ASKED):
        assert rundir.read(tmp_path) == ASKED


@pytest.mark.parametrize("content", ["{", "[]", '{"config": {}}'])
def test_a_damaged_record_is_refused(tmp_path, content):
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(ValueError, match=r"run.json' is damaged; allowed: what hdjax run wrote"):
        rundir.read(tmp_path)
