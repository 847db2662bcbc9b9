"""Data sets for least squares with labels -1 and 1: scikit-learn's digits, and files.

Files are `.npz` archives with an array of inputs and one of classes (CIFAR-5m has uint8 images "X"
and classes "Y") and pairs of IDX files, gzipped or not (MNIST).  Two groups of classes become the
labels; integers are divided by the largest value of their type's range that images use, 255.
"""

import gzip
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

# What the third byte of an IDX file says of its entries.
_IDX_TYPES = {8: ">u1", 9: ">i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}


class Labelled(NamedTuple):
    """Inputs with labels, or with the numbers of their classes."""

    inputs: Float[np.ndarray, "samples inputs"]
    labels: Float[np.ndarray, " samples"]


class Split(NamedTuple):
    """Samples to train on, and samples to test with."""

    train: Labelled
    test: Labelled


def digits() -> Labelled:
    """Scikit-learn's 1797 images of digits (64 pixels in [0, 1]), with labels 1 for even ones.

    Raises:
        ModuleNotFoundError: without scikit-learn (`pip install hdjax[data]`).

    Example:
        >>> digits().inputs.shape
        (1797, 64)
    """
    from sklearn.datasets import load_digits

    images, digit = load_digits(return_X_y=True)
    return Labelled(np.asarray(images) / 16.0, np.where(np.asarray(digit) % 2 == 0, 1.0, -1.0))


def load_npz(path: str | Path, inputs: str = "X", classes: str = "Y") -> Labelled:
    """The images of an `.npz` archive, flattened, with the numbers of their classes.

    Args:
        path: the archive.
        inputs: name of the array (samples, ...) of inputs.
        classes: name of the array (samples,) of classes.

    Raises:
        ValueError: no such file or array, arrays that do not match.
    """
    path = _existing(path)
    try:
        archive = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise ValueError(f"{str(path)!r} is no array file: {error}") from None
    if isinstance(archive, np.ndarray):
        raise ValueError(f"{str(path)!r} holds a single array; allowed: an .npz archive of two")
    with archive:
        for name in (inputs, classes):
            if name not in archive.files:
                raise ValueError(f"{name!r} in {str(path)!r}; allowed: {', '.join(archive.files)}")
        return _labelled(archive[inputs], archive[classes])


def load_idx(inputs: str | Path, classes: str | Path) -> Labelled:
    """The images of a pair of IDX files (as MNIST comes), flattened, with their classes.

    Args:
        inputs: the file of images, gzipped if its name ends in ".gz".
        classes: the file of classes.

    Raises:
        ValueError: no such file, files of another format, arrays that do not match.
    """
    return _labelled(_read_idx(inputs), _read_idx(classes))


def binary(data: Labelled, negative: Sequence[int], positive: Sequence[int]) -> Labelled:
    """The samples of two groups of classes, with labels -1 and 1.

    Raises:
        ValueError: groups that are empty, share a class, or have no sample.

    Example:
        >>> binary(Labelled(np.eye(3), np.array([0.0, 1.0, 2.0])), [0], [2]).labels.tolist()
        [-1.0, 1.0]
    """
    if not negative or not positive or set(negative) & set(positive):
        raise ValueError(f"classes: {negative}, {positive}; allowed: two groups without a common")
    members = [np.isin(data.labels, group) for group in (negative, positive)]
    for group, member in zip((negative, positive), members, strict=True):
        if not member.any():
            present = ", ".join(f"{c:g}" for c in np.unique(data.labels)[:20])
            raise ValueError(f"classes: none of {list(group)} in the data; allowed: {present}")
    chosen = members[0] | members[1]
    return Labelled(data.inputs[chosen], np.where(members[1][chosen], 1.0, -1.0))


def split(data: Labelled, samples: int, test: int | None, seed: int) -> Split:
    """A random split into `samples` to train on, and `test` others (None: all others).

    Raises:
        ValueError: more samples than there are.

    Example:
        >>> parts = split(Labelled(np.eye(5), np.ones(5)), 3, None, seed=0)
        >>> len(parts.train.labels), len(parts.test.labels)
        (3, 2)
    """
    total = len(data.labels)
    test = total - samples if test is None else test
    if samples < 1 or test < 1 or samples + test > total:
        raise ValueError(
            f"samples, test: {samples}, {test}; allowed: at least 1 each, {total} in all"
        )
    order: Int[np.ndarray, " samples"] = np.random.default_rng(seed).permutation(total)
    parts = order[:samples], order[samples : samples + test]
    return Split(*(Labelled(data.inputs[part], data.labels[part]) for part in parts))


def _labelled(inputs: np.ndarray, classes: np.ndarray) -> Labelled:
    for name, array in (("inputs", inputs), ("classes", classes)):
        if array.dtype.kind not in "iuf":
            raise ValueError(f"{name}: entries of type {array.dtype}; allowed: numbers")
    if classes.ndim != 1 or inputs.ndim < 2 or len(inputs) != len(classes):
        raise ValueError(
            f"inputs, classes: shapes {inputs.shape}, {classes.shape}; allowed: (samples, ...), "
            "(samples,)"
        )
    flat = inputs.reshape(len(inputs), -1)
    scale = 255.0 if inputs.dtype.kind in "iu" else 1.0
    return Labelled(flat.astype(np.float64) / scale, classes.astype(np.float64))


def _read_idx(path: str | Path) -> np.ndarray:
    path = _existing(path)
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rb") as file:
        try:
            content = file.read()
        except (OSError, EOFError) as error:
            raise ValueError(f"{str(path)!r} is no gzip file: {error}") from None
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] not in _IDX_TYPES:
        raise ValueError(f"{str(path)!r} is no IDX file: it starts with {content[:4]!r}")
    axes = content[3]
    shape = struct.unpack_from(f">{axes}I", content, 4) if len(content) >= 4 + 4 * axes else (-1,)
    dtype = np.dtype(_IDX_TYPES[content[2]])
    if len(content) != 4 + 4 * axes + dtype.itemsize * int(np.prod(shape)):
        raise ValueError(f"{str(path)!r} is cut off: {len(content)} bytes for shape {shape}")
    return np.frombuffer(content, dtype, offset=4 + 4 * axes).reshape(shape)


def _existing(path: str | Path) -> Path:
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"no file {str(path)!r}; allowed: an existing file")
    return path
