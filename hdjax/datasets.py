"""Data sets: images with classes from scikit-learn or from files, and arrays that a user gives.

The files are `.npz` archives with an array of inputs and an array of classes (CIFAR-5m has uint8
images "X" and classes "Y"), or pairs of IDX files, gzipped or not (MNIST).  Inputs that are
integers are divided by 255, the largest value of a pixel.

`hdjax.multipass.data` makes least-squares problems of these data, `hdjax.networks` trains networks
on them, and `hdjax.schema` reads the arrays of configs by `load_array`.
"""

import gzip
import math
import struct
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Num, PyTree

_SAVED = "arrays of numbers, as np.savez writes them"
# The type of the entries of an IDX file, by its third byte.
_IDX_TYPES = {8: ">u1", 9: ">i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}


class Classified(NamedTuple):
    """Samples with classes.

    Attributes:
        inputs: (samples, ...) inputs of any shape.
        classes: (samples,) the number of the class of each sample.
    """

    inputs: Float[np.ndarray, "samples ..."]
    classes: Num[np.ndarray, " samples"]


def as_arrays(name: str, data: Any) -> PyTree[Array]:
    """Samples as JAX arrays, from arrays or nested lists of numbers.

    Args:
        name: the name of the argument, for messages.
        data: an array, nested lists of numbers, or a pytree of these.

    Returns:
        An array, or a pytree of arrays.

    Raises:
        ValueError: nested lists of different lengths.
        TypeError: entries that are no numbers.

    Example:
        >>> as_arrays("inputs", {"a": [[1.0, 2.0], [3.0, 4.0]]})["a"].shape
        (2, 2)
    """

    def array(leaf: Any) -> Array:
        try:
            found = jnp.asarray(np.asarray(leaf) if _is_nested(leaf) else leaf)
        except ValueError as error:
            raise ValueError(f"{name}: {error}; allowed: lists of equal lengths") from error
        except TypeError as error:
            raise TypeError(f"{name}: {error}; allowed: numbers") from error
        if jnp.iscomplexobj(found):
            raise TypeError(f"{name}: complex numbers; allowed: real numbers")
        return found

    found = jax.tree.map(array, data, is_leaf=_is_nested)
    if not jax.tree.leaves(found):
        raise TypeError(f"{name}: {data!r}; allowed: an array, or a pytree of arrays")
    return found


def _is_nested(data: Any) -> bool:
    """Whether `data` is a nested list of numbers, and not a pytree of arrays."""
    if not isinstance(data, list | tuple):
        return False
    leaves = jax.tree.leaves(data, is_leaf=lambda x: not isinstance(x, list | tuple))
    return bool(leaves) and all(isinstance(x, int | float | np.number) for x in leaves)


def digits() -> Classified:
    """The 1797 images of digits in scikit-learn, with 8 x 8 pixels in [0, 1].

    Raises:
        ModuleNotFoundError: scikit-learn is not installed (`pip install hdjax[data]`).

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
    """The images of an `.npz` archive with their classes.

    Args:
        path: the archive.
        inputs: the name of the array (samples, ...) of inputs.
        classes: the name of the array (samples,) of classes.

    Returns:
        The inputs in float64, divided by 255 if the file has integers, and the classes.

    Raises:
        ValueError: there is no such file or array, or the arrays do not have the same samples.

    Example:
        >>> np.savez("images.npz", X=np.full((2, 3, 3), 255, np.uint8), Y=np.array([7, 1]))
        >>> load_npz("images.npz").inputs[0, 0].tolist()
        [1.0, 1.0, 1.0]
    """
    return _classified(*(load_array(path, name) for name in (inputs, classes)))


def load_array(path: str | Path, key: str | None = None) -> np.ndarray:
    """The array in an `.npy` file, or one of the arrays in an `.npz` archive.

    Args:
        path: the file.
        key: the name of the array in an archive; None for an `.npy` file, and for an archive with
            one array.

    Raises:
        ValueError: the file is missing, damaged or no array file, or has no array of that name.

    Example:
        >>> np.save("three.npy", np.arange(3))
        >>> load_array("three.npy")
        array([0, 1, 2])
    """
    path = _existing(path)
    # For a damaged file NumPy passes on the exceptions of zipfile, zlib and its own parser, and
    # leaves the file open.
    with open(path, "rb") as file:
        try:
            content = np.load(file, allow_pickle=False)
        except Exception as error:
            rule = "a .npy or .npz file"
            raise ValueError(_no("array file", path, _reason(error), rule)) from None
        if isinstance(content, np.ndarray):
            if key is not None:
                rule = "none with .npy files, which hold a single array"
                raise ValueError(f"key: {key!r} for {path.name!r}; allowed: {rule}")
            return content
        names = content.files
        key = names[0] if key is None and len(names) == 1 else key
        if key not in names:
            raise ValueError(f"key: {key!r} for {path.name!r}; allowed: {', '.join(names)}")
        try:
            array = content[key]
        except Exception as error:
            raise ValueError(_no("array", path, f"{key!r}: {_reason(error)}", _SAVED)) from None
    if not isinstance(array, np.ndarray):
        raise ValueError(_no("array", path, repr(key), _SAVED))
    return array


def load_idx(inputs: str | Path, classes: str | Path) -> Classified:
    """The images of a pair of IDX files (the format of MNIST) with their classes.

    Args:
        inputs: the file of images, gzipped if its name ends in ".gz".
        classes: the file of classes, likewise.

    Returns:
        The inputs in float64, divided by 255 if the file has integers, and the classes.

    Raises:
        ValueError: a file is missing, damaged or no IDX file, or the arrays do not have the same
            samples.
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
        except (OSError, EOFError, zlib.error) as error:
            raise ValueError(_no("gzip file", path, error, "gzipped if named .gz")) from None
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] not in _IDX_TYPES:
        raise ValueError(_no("IDX file", path, f"it starts with {content[:4]!r}", "an IDX file"))
    axes = content[3]
    shape = struct.unpack_from(f">{axes}I", content, 4) if len(content) >= 4 + 4 * axes else (-1,)
    dtype = np.dtype(_IDX_TYPES[content[2]])
    if len(content) != 4 + 4 * axes + dtype.itemsize * math.prod(shape):
        told = f"{len(content)} bytes for shape {shape}"
        raise ValueError(_no("whole IDX file", path, told, "a file that is not cut off"))
    return np.frombuffer(content, dtype, offset=4 + 4 * axes).reshape(shape)


def _no(kind: str, path: Path, reason: Any, allowed: str) -> str:
    """The message that a file is not of a kind."""
    return f"path: {str(path)!r} is no {kind} ({reason}); allowed: {allowed}"


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def _existing(path: str | Path) -> Path:
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"path: no file {str(path)!r}; allowed: an existing file")
    return path
