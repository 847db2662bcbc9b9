"""Data sets: arrays of any nesting, archives and IDX files, whole and damaged."""

import gzip
import struct

import jax.numpy as jnp
import numpy as np
import pytest
import sklearn.datasets

from hdjax import datasets


def test_digits_are_the_images_of_scikit_learn():
    inputs, classes = datasets.digits()
    given = sklearn.datasets.load_digits()
    np.testing.assert_array_equal(16 * inputs, given.images)
    np.testing.assert_array_equal(classes, given.target)
    assert inputs.max() == 1


def test_nested_lists_and_trees_become_arrays():
    tree = {"a": [[1, 2], [3, 4]], "b": (np.ones(3, np.float32), [0.5, 1.5]), "c": [[[True]]]}
    found = datasets.as_arrays("inputs", tree)
    assert found["a"].shape == (2, 2)
    assert found["b"][0].dtype == jnp.float32
    np.testing.assert_array_equal(found["b"][1], [0.5, 1.5])
    assert found["c"].shape == (1, 1, 1)
    with pytest.raises(ValueError, match=r"^inputs: .*; allowed: lists of equal lengths$"):
        datasets.as_arrays("inputs", {"a": [[1.0, 2.0], [3.0]]})
    with pytest.raises(TypeError, match=r"^inputs: .*; allowed: numbers$"):
        datasets.as_arrays("inputs", {"a": "text"})


def test_whole_numbers_of_archives_are_pixels(tmp_path):
    path = tmp_path / "images.npz"
    pixels = np.arange(0, 256, 15, dtype=np.uint8).reshape(2, 3, 3)
    np.savez(path, X=pixels, Y=np.array([7, 1]), real=pixels / 10, text=np.array(["a", "b"]))
    inputs, classes = datasets.load_npz(path)
    np.testing.assert_allclose(inputs, pixels / 255.0, rtol=1e-15)
    assert inputs.dtype == np.float64
    assert classes.tolist() == [7, 1]
    np.testing.assert_array_equal(datasets.load_npz(path, "real").inputs, pixels / 10)
    for names, message in (
        (("X", "Z"), "key: 'Z' for 'images.npz'; allowed: X, Y, real, text"),
        (("Y", "Y"), r"inputs, classes: shapes \(2,\), \(2,\); allowed: \(samples, ...\)"),
        (("X", "X"), r"shapes \(2, 3, 3\), \(2, 3, 3\)"),
        (("text", "Y"), "inputs: entries of type <U1; allowed: numbers"),
    ):
        with pytest.raises(ValueError, match=message):
            datasets.load_npz(path, *names)


def test_arrays_are_found_by_name(tmp_path):
    array = np.arange(6.0).reshape(2, 3)
    np.save(tmp_path / "one.npy", array)
    np.savez(tmp_path / "one.npz", a=array)
    np.savez(tmp_path / "two.npz", a=array, b=-array)
    for path, key, sign in (("one.npy", None, 1), ("one.npz", None, 1), ("two.npz", "b", -1)):
        np.testing.assert_array_equal(datasets.load_array(tmp_path / path, key), sign * array)
    (tmp_path / "text.npy").write_text("no array")
    for path, key, message in (
        ("one.npy", "a", "key: 'a' for 'one.npy'; allowed: none with .npy files"),
        ("two.npz", None, "key: None for 'two.npz'; allowed: a, b"),
        ("two.npz", "c", "key: 'c' for 'two.npz'; allowed: a, b"),
        ("text.npy", None, r"path: .*text.npy' is no array file \(.*\); allowed: a .npy or .npz"),
        ("none.npy", None, "path: no file .*none.npy'; allowed: an existing file"),
    ):
        with pytest.raises(ValueError, match=message):
            datasets.load_array(tmp_path / path, key)


def idx(array, kind):
    """An IDX file: two zeros, the type, the number of axes, their lengths, the entries."""
    head = struct.pack(f">BBBB{array.ndim}I", 0, 0, kind, array.ndim, *array.shape)
    return head + array.astype(array.dtype.newbyteorder(">")).tobytes()


@pytest.mark.parametrize(
    ("kind", "dtype", "scale"),
    [
        (8, "u1", 255),
        (9, "i1", 255),
        (11, "i2", 255),
        (12, "i4", 255),
        (13, "f4", 1),
        (14, "f8", 1),
    ],
)
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_idx_files_of_every_type(tmp_path, kind, dtype, scale, suffix):
    images = np.arange(24).reshape(2, 3, 4).astype(dtype)
    pack = gzip.compress if suffix else bytes
    first, second = tmp_path / f"images{suffix}", tmp_path / f"labels{suffix}"
    first.write_bytes(pack(idx(images, kind)))
    second.write_bytes(pack(idx(np.array([9, 4], np.uint8), 8)))
    inputs, classes = datasets.load_idx(first, second)
    np.testing.assert_allclose(inputs, images / scale, rtol=1e-15)
    assert inputs.dtype == np.float64
    assert classes.tolist() == [9, 4]


def test_idx_files_that_are_damaged(tmp_path):
    whole = idx(np.zeros((2, 3), np.uint8), 8)
    for name, content, message in (
        ("cut", whole[:-1], r"is no whole IDX file \(17 bytes for shape \(2, 3\)\)"),
        ("head", whole[:6], "is no whole IDX file"),
        ("long", whole + b"\0", r"is no whole IDX file \(19 bytes"),
        ("text", b"text", r"is no IDX file \(it starts with b'text'\)"),
        ("type", whole[:2] + b"\7" + whole[3:], "is no IDX file"),
        ("empty", b"", "is no IDX file"),
        ("plain.gz", whole, "is no gzip file .*; allowed: gzipped if named .gz"),
        ("cut.gz", gzip.compress(whole)[:-9], "is no gzip file"),
    ):
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(ValueError, match=message):
            datasets.load_idx(path, path)
