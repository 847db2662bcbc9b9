"""Data sets: files in the layouts of MNIST and CIFAR-5m, groups of classes, and splits."""

import gzip
import struct

import numpy as np
import pytest

from hdjax.multipass.data import Labelled, binary, load_idx, load_npz, split


def idx(array):
    header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
    return header + array.astype(np.uint8).tobytes()


def test_npz_archives(tmp_path, images):
    path = tmp_path / "part.npz"
    np.savez(path, X=images[0], Y=images[1])
    data = load_npz(path)
    assert data.inputs.shape == (60, 48)
    np.testing.assert_allclose(data.inputs, images[0].reshape(60, 48) / 255)
    two = binary(data, [0], [1])
    assert len(two.labels) == 24
    np.testing.assert_array_equal(two.inputs[two.labels > 0], data.inputs[images[1] == 1])
    for names, message in ((("Z", "Y"), "key: 'Z' for"), (("Y", "X"), "shapes")):
        with pytest.raises(ValueError, match=message):
            load_npz(path, *names)
    with pytest.raises(ValueError, match="no file"):
        load_npz(tmp_path / "other.npz")
    np.save(tmp_path / "single.npy", images[0])
    with pytest.raises(ValueError, match="single array"):
        load_npz(tmp_path / "single.npy")
    (tmp_path / "text.npz").write_text("no archive")
    with pytest.raises(ValueError, match="no array file"):
        load_npz(tmp_path / "text.npz")


@pytest.mark.parametrize("zipped", [False, True])
def test_idx_files(tmp_path, images, zipped):
    paths = []
    for name, array in (("images", images[0][..., 0]), ("labels", images[1])):
        path = tmp_path / (f"{name}.gz" if zipped else name)
        path.write_bytes(gzip.compress(idx(array)) if zipped else idx(array))
        paths.append(path)
    data = load_idx(*paths)
    np.testing.assert_allclose(data.inputs, images[0][..., 0].reshape(60, 16) / 255)
    np.testing.assert_array_equal(data.labels, images[1])
    broken = tmp_path / "broken"
    for content, message in (
        (b"\1\2\3\4", "no IDX file"),
        (idx(images[1])[:-1], "cut off"),
        (b"\0\0\x08\3\0", "cut off"),
    ):
        broken.write_bytes(content)
        with pytest.raises(ValueError, match=message):
            load_idx(broken, paths[1])


def test_wrong_groups_and_splits_are_refused():
    data = Labelled(np.eye(6), np.arange(6.0))
    for groups in (([], [1]), ([1], [1, 2]), ([0], [9])):
        with pytest.raises(ValueError, match="classes"):
            binary(data, *groups)
    for sizes in ((0, 1), (6, None), (5, 2)):
        with pytest.raises(ValueError, match=r"^samples.*; allowed"):
            split(data, *sizes, seed=0)
    parts = split(data, 4, 2, seed=0)
    both = np.concatenate([parts.train.labels, parts.test.labels])
    np.testing.assert_array_equal(np.sort(both), np.arange(6.0))
