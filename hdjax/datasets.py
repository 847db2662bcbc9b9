"""Images with classes: scikit-learn's digits, and files.

Files are `.npz` archives with an array of inputs and one of classes (CIFAR-5m has uint8 images "X"
and classes "Y") and pairs of IDX files, gzipped or not (MNIST).  Integers are divided by the
largest value of their type's range that images use, 255.
"""

import gzip
import struct
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Num, PyTree

# What the third byte of an IDX file says of its entries.
_IDX_TYPES = {8: ">u1", 9: ">i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}


class Classified(NamedTuple):
    """Inputs of any shape, with the numbers of their classes."""

    inputs: Float[np.ndarray, "samples ..."]
    classes: Num[np.ndarray, " samples"]


def as_arrays(name: str, data: Any) -> PyTree[Array]:
    """Samples as arrays: an array, nested lists of numbers, or a pytree of these.

    Args:
        name: of the argument, for messages.
        data: the samples.

    Raises:
        ValueError: lists of different lengths.
        TypeError: what is no number.

    Example:
        >>> as_arrays("inputs", {"a": [[1.0, 2.0], [3.0, 4.0]]})["a"].shape
        (2, 2)
    """

    def array(leaf: Any) -> Array:
        try:
            return jnp.asarray(np.asarray(leaf) if _is_nested(leaf) else leaf)
        except ValueError as error:
            raise ValueError(f"{name}: {error}; allowed: lists of equal lengths") from error
        except TypeError as error:
            raise TypeError(f"{name}: {error}; allowed: numbers") from error

    return jax.tree.map(array, data, is_leaf=_is_nested)


def _is_nested(data: Any) -> bool:
    """Whether it is a list of numbers, of lists of numbers and so on."""
    if not isinstance(data, list | tuple):
        return False
    leaves = jax.tree.leaves(data, is_leaf=lambda x: not isinstance(x, list | tuple))
    return bool(leaves) and all(isinstance(x, int | float | np.number) for x in leaves)


def digits() -> Classified:
    """Scikit-learn's 1797 images of digits, 8 x 8 pixels in [0, 1].

    Raises:
        ModuleNotFoundError: without scikit-learn (`pip install hdjax[data]`).

    Example:
        >>> digits().inputs.shape
        (1797, 8, 8)
    """
    try:
        from sklearn.datasets import load_digits
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "digits: scikit-learn is not installed; allowed after pip install 'hdjax[data]'"
        ) from error

    images, classes = load_digits(return_X_y=True)
    return Classified(np.asarray(images).reshape(-1, 8, 8) / 16.0, np.asarray(classes))


def load_npz(path: str | Path, inputs: str = "X", classes: str = "Y") -> Classified:
    """The images of an `.npz` archive with the numbers of their classes.

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
        return _classified(archive[inputs], archive[classes])


def load_idx(inputs: str | Path, classes: str | Path) -> Classified:
    """The images of a pair of IDX files (as MNIST comes) with their classes.

    Args:
        inputs: the file of images, gzipped if its name ends in ".gz".
        classes: the file of classes.

    Raises:
        ValueError: no such file, files of another format, arrays that do not match.
    """
    return _classified(_read_idx(inputs), _read_idx(classes))


def _classified(inputs: np.ndarray, classes: np.ndarray) -> Classified:
    for name, array in (("inputs", inputs), ("classes", classes)):
        if array.dtype.kind not in "iuf":
            raise ValueError(f"{name}: entries of type {array.dtype}; allowed: numbers")
    if classes.ndim != 1 or inputs.ndim < 2 or len(inputs) != len(classes):
        raise ValueError(
            f"inputs, classes: shapes {inputs.shape}, {classes.shape}; allowed: (samples, ...), "
            "(samples,)"
        )
    scale = 255.0 if inputs.dtype.kind in "iu" else 1.0
    return Classified(inputs.astype(np.float64) / scale, classes)


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
