"""Directories of runs: what they record, and what they refuse."""

import json

import pytest

from hdjax import rundir

ASKED = {"config": {"system": {"rate": 0.5}}, "directory": "configs", "kind": "compare"}


def test_a_directory_says_what_is_run_and_keeps_checkpoints_until_the_end(tmp_path):
    with rundir.opened(tmp_path / "a", ASKED) as directory:
        directory.checkpoint.mkdir()
    assert rundir.unfinished(tmp_path / "a")
    record = json.loads((tmp_path / "a" / "run.json").read_text())
    assert {"versions", "device", "precision"} < set(record)
    assert rundir.read(tmp_path / "a") == ASKED
    with rundir.opened(tmp_path / "a", ASKED) as directory:
        assert directory.replaces
        assert directory.checkpoint.is_dir()
        (directory.path / "result.nc").touch()
        directory.end()
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


@pytest.mark.parametrize("content", ["{", "[]", '{"config": {}}'])
def test_a_damaged_record_is_refused(tmp_path, content):
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(ValueError, match=r"run.json' is damaged; allowed: what hdjax run wrote"):
        rundir.read(tmp_path)
