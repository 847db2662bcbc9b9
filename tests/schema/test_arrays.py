"""Arrays of configs, from lists and from files that may be damaged."""

import zipfile

import numpy as np
import pytest
from pydantic import TypeAdapter

from hdjax import config
from hdjax.schema.arrays import ArrayField
from tests.experiments import told


def test_archives_that_are_damaged(write, tmp_path):
    np.savez(tmp_path / "whole.npz", a=np.arange(1000.0))
    whole = (tmp_path / "whole.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(whole[: len(whole) // 2])
    np.savez(tmp_path / "objects.npz", a=np.array([{}], object))
    with zipfile.ZipFile(tmp_path / "text.npz", "w") as archive:
        archive.writestr("a", "no array")
    # A bit within the numbers, which the checksum covers.
    middle = len(whole) // 2
    flipped = whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]
    (tmp_path / "flipped.npz").write_bytes(flipped)
    np.save(tmp_path / "whole.npy", np.arange(1000.0))
    (tmp_path / "cut.npy").write_bytes((tmp_path / "whole.npy").read_bytes()[:500])
    np.save(tmp_path / "nan.npy", np.array([0.0, np.nan]))
    (tmp_path / "folder.npy").mkdir()
    for name, message in (
        ("cut.npz", "is no array file"),
        ("flipped.npz", "Bad CRC-32"),
        ("objects.npz", "Object arrays cannot be loaded"),
        ("text.npz", "is no array"),
        ("cut.npy", "is no array file"),
        ("nan.npy", "not finite"),
        ("folder.npy", "no file"),
    ):
        with pytest.raises(config.ConfigError) as caught:
            config.load(write(), [f"run.times={name}"])
        (line,) = str(caught.value).splitlines()
        assert line.startswith("run.times: ")
        assert message in line


def test_times_of_a_file_keep_their_precision(write, tmp_path):
    np.save(tmp_path / "times.npy", np.array([0.0, 0.2, 0.6], np.float32))
    experiment = config.load(write(), ["run.times='times.npy'"])
    assert experiment.times.dtype == np.float32


def test_arrays_come_from_files_beside_the_config(write, tmp_path):
    start = np.linspace(0, 1, 10)
    np.save(tmp_path / "start.npy", start)
    np.savez(tmp_path / "both.npz", a=start, b=2 * start)
    np.savez(tmp_path / "one.npz", a=start)
    path = write()
    for name in ("start.npy", "one.npz"):
        system = config.load(path, [f"system.start={name}"]).system()
        np.testing.assert_array_equal(system.columns.given[:, 0], start)
    entry = 'system.start={ file = "both.npz", key = "b" }'
    np.testing.assert_array_equal(
        config.load(path, [entry]).system().columns.given[:, 0], 2 * start
    )
    for wrong, message in (
        ("both.npz", "key: None for 'both.npz'; allowed: a, b"),
        ('{ file = "both.npz", key = "c" }', "key: 'c' for 'both.npz'; allowed: a, b"),
        ('{ file = "start.npy", key = "a" }', "allowed: none with .npy files"),
        ('{ file = "start.npy", kye = "a" }', "with key for .npz files"),
    ):
        with pytest.raises(config.ConfigError) as caught:
            config.load(path, [f"system.start={wrong}"])
        assert message in str(caught.value)
    (tmp_path / "bad.npy").write_text("no array")
    np.save(tmp_path / "objects.npy", np.array([{}]), allow_pickle=True)
    for name in ("bad.npy", "objects.npy"):
        with pytest.raises(config.ConfigError, match="is no array file"):
            config.load(path, [f"system.start={name}"])


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("system.start=[[1.0], [2.0, 3.0]]", "system.start: rows of unequal length"),
        ("system.start=['a']", "allowed: real numbers"),
        ("run.times=[0.0, inf]", "run.times: holds entries that are not finite"),
        ("run.times=[1, true]", "run.times: holds true or false"),
    ],
)
def test_mistakes_name_the_key_the_value_and_the_remedy(write, override, message):
    assert message in told(write(), override)


def test_lists_become_arrays_of_their_own_kind():
    field = TypeAdapter(ArrayField)
    numbers = field.validate_python([[1, 2], [3, 4]])
    assert (numbers.shape, numbers.dtype.kind) == ((2, 2), "i")
    assert field.validate_python([1, 2.5]).dtype == np.float64
    with pytest.raises(ValueError, match=r"key: 3; allowed: the name of an array"):
        field.validate_python({"file": "a.npz", "key": 3})
    with pytest.raises(ValueError, match="entries of type complex128; allowed: real numbers"):
        field.validate_python([1j])
