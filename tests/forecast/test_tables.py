"""Tables from every kind of file, and what is said of wrong ones."""

import io
import struct
import tarfile

import numpy as np
import pandas as pd
import pytest

from hdjax.forecast.tables import as_table, read

FEATURES = np.array([[1.0, 2.0], [3.0, 5.0], [0.0, 1.0]])
LABELS = np.array([0, 1, 0])


def idx(array):
    """The bytes of an array of bytes in the IDX format."""
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


def test_files_of_all_kinds_hold_the_same_table(tmp_path):
    frame = pd.DataFrame(FEATURES, columns=["a", "b"]).assign(y=LABELS)
    frame.to_csv(tmp_path / "t.csv", index=False)
    np.savez(tmp_path / "t.npz", X=FEATURES, y=LABELS)
    np.save(tmp_path / "x.npy", FEATURES)
    np.save(tmp_path / "y.npy", LABELS)
    tables = [
        read(tmp_path / "t.csv", "y"),
        read(tmp_path / "t.npz"),
        read(tmp_path / "t.npz", "y"),
        read(tmp_path / "x.npy", tmp_path / "y.npy"),
        as_table(frame, "y"),
        as_table(FEATURES, LABELS),
    ]
    for table in tables:
        np.testing.assert_array_equal(table.features, FEATURES)
        np.testing.assert_array_equal(table.labels, LABELS)
    assert tables[0].columns == ("a", "b")


def test_images_are_divided_by_255(tmp_path):
    images = np.full((3, 2, 2), 51, np.uint8)
    (tmp_path / "images-idx3-ubyte").write_bytes(idx(images))
    (tmp_path / "labels-idx1-ubyte").write_bytes(idx(LABELS.astype(np.uint8)))
    table = read(tmp_path / "images-idx3-ubyte", tmp_path / "labels-idx1-ubyte")
    np.testing.assert_allclose(table.features, np.full((3, 4), 0.2))
    np.savez(tmp_path / "t.npz", X=images, y=LABELS)
    np.testing.assert_allclose(read(tmp_path / "t.npz").features, table.features)


@pytest.mark.parametrize("kind", ["cifar-10", "cifar-100"])
def test_archives_of_cifar(tmp_path, kind):
    before = 1 if kind == "cifar-10" else 2
    records = np.full((3, before + 3072), 102, np.uint8)
    records[:, before - 1] = LABELS
    with tarfile.open(tmp_path / f"{kind}-binary.tar.gz", "w:gz") as archive:
        for name in ("data_batch_1.bin", "test_batch.bin"):
            info = tarfile.TarInfo(name)
            info.size = records.size
            archive.addfile(info, io.BytesIO(records.tobytes()))
    table = read(tmp_path / f"{kind}-binary.tar.gz")
    assert table.features.shape == (3, 3072)
    np.testing.assert_allclose(table.features, 0.4)
    np.testing.assert_array_equal(table.labels, LABELS)


def test_a_table_of_another_library_is_converted():
    class Arrow:
        def to_pandas(self):
            return pd.DataFrame({"a": [1.0, 2.0], "y": ["u", "v"]})

    assert as_table(Arrow(), "y").labels.tolist() == ["u", "v"]


def bad_frame(**columns):
    return pd.DataFrame({"a": [1.0, 2.0, 4.0], "y": [0, 1, 0], **columns})


@pytest.mark.parametrize(
    ("data", "target", "message"),
    [
        (bad_frame(b=[1.0, np.nan, 2.0]), "y", r"column 'b': nan in row 1"),
        (bad_frame(b=["u", "v", "w"]), "y", r"column 'b': text such as 'u'"),
        (bad_frame(), "z", r"target: 'z'; allowed: a column, a, y"),
        (bad_frame(y=[0.0, np.nan, 1.0]), "y", r"target 'y': row 1 has no value"),
        ([[1.0, np.inf], [1.0, 2.0]], [0, 1], r"column '1': inf in row 0"),
        ([[1.0], [2.0]], [0.0, np.nan], r"labels: nan in row 1"),
        ([[1.0], [2.0]], [0, 1, 2], r"shapes \(2, 1\), \(3,\)"),
        ([[1.0], [2.0, 3.0]], [0, 1], r"features: .*rows of equal lengths"),
        ([[0.0], [0.0]], [0, 1], "features: all zero"),
        ([[1.0], [2.0]], None, "labels: None"),
        ("missing.csv", None, r"data: no file 'missing.csv'"),
    ],
)
def test_mistakes_name_the_column_or_the_row(data, target, message):
    with pytest.raises(ValueError, match=message):
        as_table(data, target)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv", b"", "is no table"),
        ("t.npz", b"nothing", "t.npz' is no table"),
        ("t.txt", b"words", "t.txt' is no table"),
        ("cifar-10-binary.tar.gz", b"words", "is no CIFAR archive"),
        ("data_batch_1.bin", b"words", "has 5 bytes of images"),
    ],
)
def test_a_file_that_is_no_table(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read(tmp_path / name, "y")
