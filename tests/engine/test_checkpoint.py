"""Checkpoints: what a killed process finds again, and directories that it must not touch."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hdjax as hd
from hdjax.engine import checkpoint, drive
from hdjax.engine.checkpoint import opened
from hdjax.engine.chunks import ChunkSize
from hdjax.store import write
from tests.engine.problems import compare, ctrl_c, interrupt, isotropic

TIMES = [0.0, 0.5, 1.0]
OPTIONS = {"key": jax.random.key(3), "runs": 6, "chunk": 2, "progress": False}
OPTIONS |= {"probes": {"first": lambda simulator, state, key: jax.random.normal(key)}}
OPTIONS |= {"paths": {"end": hd.paths.value_at("risk", 1.0)}, "statistics": ["risk", "overlaps"]}


def same(found, expected):
    """All numbers of two results are equal bit for bit."""
    for node in expected.tree.subtree:
        for name, variable in node.data_vars.items():
            np.testing.assert_array_equal(found.tree[node.path][name], variable, err_msg=name)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("start", ["law", "realised"])
def test_an_interrupted_experiment_goes_on(tmp_path, monkeypatch, start):
    whole = compare(isotropic(), TIMES, start=start, **OPTIONS)
    with monkeypatch.context() as patch:
        interrupt(patch, 3)
        part = compare(isotropic(), TIMES, start=start, checkpoint=tmp_path, **OPTIONS)
    assert part.tree.attrs["runs"] == 4
    computed = []
    chunk = drive.Loop._chunk
    monkeypatch.setattr(drive.Loop, "_chunk", lambda *args: computed.append(1) or chunk(*args))
    same(compare(isotropic(), TIMES, start=start, checkpoint=tmp_path, **OPTIONS), whole)
    assert len(computed) == 1
    same(compare(isotropic(), TIMES, start=start, checkpoint=tmp_path, **OPTIONS), whole)
    assert len(computed) == 1


def test_an_interrupt_within_a_chunk_keeps_its_segment(tmp_path, monkeypatch):
    """The first interrupt waits for the segment, and a second process begins behind it."""
    whole = compare(isotropic(), TIMES, **OPTIONS)
    update = drive.Loop._pace

    def interrupted(self, seconds):
        update(self, 1e9)  # a segment is one stop
        ctrl_c()

    with monkeypatch.context() as patch:
        patch.setattr(drive.Loop, "_pace", interrupted)
        for _ in range(3):
            with pytest.raises(KeyboardInterrupt):
                compare(isotropic(), TIMES, checkpoint=tmp_path, **OPTIONS)
    with np.load(tmp_path / "running.npz") as running:
        assert int(running["position"]) == 3
    same(compare(isotropic(), TIMES, checkpoint=tmp_path, **OPTIONS), whole)
    assert "running.npz" not in names(tmp_path)


@pytest.mark.slow
def test_sweeps_and_scalings_have_a_part_for_each_program(tmp_path, monkeypatch):
    options = {"key": jax.random.key(3), "runs": 4, "progress": False, "statistics": ["risk"]}

    def swept(**more):
        return hd.sweep(isotropic, {"d": [8, 9], "rate": [0.2, 0.5]}, TIMES, **options, **more)

    def scaled(**more):
        return hd.scaling(lambda d: isotropic(d=d), [8, 9], TIMES, **options, **more)

    for run, part in ((swept, "program-1"), (scaled, "dimension-1")):
        folder, whole = tmp_path / part, run()
        with monkeypatch.context() as patch:
            interrupt(patch, 2)
            if run is swept:
                assert run(checkpoint=folder).tree.attrs["interrupted"] == 1
            else:
                with pytest.raises(KeyboardInterrupt):
                    run(checkpoint=folder)
        same(run(checkpoint=folder), whole)
        assert part in names(folder)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"system": isotropic(rate=0.4)}, "systems"),
        ({"key": jax.random.key(4)}, "key"),
        ({"runs": 7}, "runs"),
        ({"ts": [0.0, 1.0]}, "plans"),
        ({"keep": "summary"}, "keep"),
    ],
)
def test_another_experiment_is_refused(tmp_path, change, what):
    arguments = {"system": isotropic(), "ts": TIMES, "paths": None, "checkpoint": tmp_path}
    arguments = OPTIONS | arguments
    compare(**arguments)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(
        ValueError, match=rf"begun by an experiment that differs in {what}; allowed"
    ):
        compare(**(arguments | change))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_other_versions_and_damaged_or_foreign_files_are_refused(tmp_path):
    options = OPTIONS | {"checkpoint": tmp_path}
    (tmp_path / "mine.txt").write_text("mine")
    (tmp_path / ".mine.part").write_text("mine")
    with pytest.raises(ValueError, match=r"holds 'mine.txt' and no checkpoint; allowed: a new"):
        compare(isotropic(), TIMES, **options)
    assert names(tmp_path) == [".mine.part", "mine.txt"]
    with pytest.raises(ValueError, match=r"holds 'mine.txt' and no checkpoint; allowed: a new"):
        hd.sweep(isotropic, {"d": [8, 9]}, TIMES, **(options | {"paths": None}))
    with pytest.raises(OSError, match=r"checkpoint: .*mine.txt' is a file; allowed: a directory"):
        compare(isotropic(), TIMES, **(options | {"checkpoint": tmp_path / "mine.txt"}))
    (tmp_path / "mine.txt").unlink()
    compare(isotropic(), TIMES, **options)
    file = tmp_path / "experiment.json"
    kept = file.read_text()
    found = json.loads(kept)
    found["versions"]["jax"] = "0.1"
    file.write_text(json.dumps(found))
    with pytest.raises(ValueError, match=r"differs in jax \(0.1, now .*\); allowed: the same"):
        compare(isotropic(), TIMES, **options)
    file.write_text(kept[:40])
    with pytest.raises(ValueError, match=r"experiment.json' is damaged; allowed"):
        compare(isotropic(), TIMES, **options)


def test_a_damaged_chunk_is_computed_again(tmp_path):
    whole = compare(isotropic(), TIMES, checkpoint=tmp_path, **OPTIONS)
    file = tmp_path / "chunk-0-2.npz"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 255
    file.write_bytes(content)
    (tmp_path / "chunk-0-4.npz").write_bytes(b"PK")
    np.savez(tmp_path / "running.npz", a=1)
    np.savez(tmp_path / "chunk-0-0.npz", a=1)
    with pytest.warns(UserWarning, match=r"chunk-0-.*is damaged .*; it is computed again"):
        same(compare(isotropic(), TIMES, checkpoint=tmp_path, **OPTIONS), whole)


def test_two_writers_are_refused_and_leftovers_are_removed(tmp_path):
    kept = hd.Checkpoint(tmp_path)
    (tmp_path / ".left.part").write_text("half a file")
    with opened(kept, {"a": "b"}) as journal:
        assert journal.size is None
        journal.choose(ChunkSize(3, 2))
        assert names(tmp_path) == ["experiment.json", "lock"]
        with pytest.raises(OSError, match=r"checkpoint: another process writes into"):
            compare(isotropic(), TIMES, checkpoint=tmp_path, **OPTIONS)
    with opened(kept, {"a": "b"}) as journal:
        assert journal.size == ChunkSize(3, 2)


def test_a_full_disk_loses_nothing(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device", "chunk")

    whole = compare(isotropic(), TIMES, **OPTIONS)
    monkeypatch.setattr(checkpoint, "write", full)
    with (
        pytest.raises(OSError, match="No space left"),
        opened(hd.Checkpoint(tmp_path), {}),
    ):
        pass
    monkeypatch.setattr(
        checkpoint,
        "write",
        lambda path, content: (write if path.suffix == ".json" else full)(path, content),
    )
    with pytest.warns(UserWarning, match=r"checkpoint: not written \(.*No space left"):
        same(compare(isotropic(), TIMES, checkpoint=tmp_path, **OPTIONS), whole)


def test_states_of_any_dtype_are_kept(tmp_path):
    state = {
        "key": jax.random.split(jax.random.key(5), 3),
        "half": jnp.arange(3, dtype=jnp.bfloat16),
        "none": np.zeros((0, 2)),
        "number": np.array(2.5),
        "flag": np.array([True, False]),
    }
    with opened(hd.Checkpoint(tmp_path), {}) as journal:
        journal.save_running((0, 2, 3, 4), state, 7, now=True)
        found, position = journal.load_running((0, 2, 3, 4), jax.tree.map(jnp.zeros_like, state))
        assert journal.load_running((0, 2, 3, 6), state) is None
    assert position == 7
    for name, value in state.items():
        assert found[name].dtype == value.dtype
        np.testing.assert_array_equal(found[name] == value, True)


@pytest.mark.parametrize("every", [0, -1.0, float("nan"), "5min"])
def test_wrong_arguments_are_refused(tmp_path, every):
    with pytest.raises(
        (ValueError, TypeError), match=r"every: .*; allowed: a finite number, above 0"
    ):
        hd.Checkpoint(tmp_path, every)
    with pytest.raises(TypeError, match=r"directory: 3; allowed: text; or an instance of PathLike"):
        hd.Checkpoint(3)
    with pytest.raises(TypeError, match=r"checkpoint: 3; allowed: .*instance of Checkpoint"):
        compare(isotropic(), TIMES, checkpoint=3, **OPTIONS)


def test_memory_that_runs_out_halves_a_chunk(tmp_path, monkeypatch):
    """The numbers stay, and the steps that are made again are counted once."""
    told, options = [], OPTIONS | {"chunk": 4}
    whole = compare(isotropic(), TIMES, **options)
    advanced, calls = drive.Loop._advanced, []

    def exhausted(self, points, run):
        found = advanced(self, points, run)
        calls.append(self.width)
        if len(calls) == 2:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory")
        return found

    monkeypatch.setattr(drive.Loop, "_advanced", exhausted)
    options |= {"progress": told.append, "checkpoint": tmp_path}
    with pytest.warns(UserWarning, match=r"chunk: the memory .* from here on a chunk has 2 runs"):
        halved = compare(isotropic(), TIMES, **options)
    assert calls == [4, 4, 2]
    np.testing.assert_allclose(halved.runs["risk"], whole.runs["risk"], rtol=2e-5)
    assert told[-1]["steps_remaining"] == 0
    same(compare(isotropic(), TIMES, **options), halved)


@pytest.mark.parametrize("runs", [3, 5])
def test_a_smaller_last_chunk_has_its_paths(runs):
    options = OPTIONS | {"runs": runs}
    found = compare(isotropic(), TIMES, **options)
    np.testing.assert_array_equal(found.paths["end"], found.runs["risk"][:, -1])
    assert found.paths.sizes["run"] == runs


def test_probes_and_paths_of_a_chunk_are_kept(tmp_path):
    """The arrays of a chunk come back under their names, those with odd signs too."""
    odd = {"a b": lambda simulator, state, key: jnp.ones(2), "%2F": lambda *_: jnp.zeros(())}
    options = {"key": jax.random.key(0), "runs": 2, "progress": False, "probes": odd}
    first = hd.simulate(isotropic(), TIMES, checkpoint=tmp_path, **options)
    again = hd.simulate(isotropic(), TIMES, checkpoint=tmp_path, **options)
    same(again, first)
    assert set(again.probes.data_vars) == set(odd)
