"""Tables of features with labels: from arrays, data frames, files, and data sets of scikit-learn.

A file is an `.npz` archive, a pair of `.npy` files, a `.csv` file, a pair of IDX files (MNIST), or
an archive of CIFAR-10 or CIFAR-100 in its binary version (`.tar.gz`, `.bin`).  Labels may be
numbers, or names of classes.  Every mistake in a table is refused with the name of its column, or
the number of its row from 0 on.
"""

import math
import tarfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float, Shaped

from hdjax import datasets

__all__ = ["SHIPPED", "Table", "as_table", "read"]

# Data sets that come with scikit-learn, with the task that they are used for.
SHIPPED = {
    "digits": "1797 images of 8 x 8 pixels, 10 classes",
    "breast_cancer": "569 samples of 30 measurements, 2 classes",
    "diabetes": "442 samples of 10 measurements, a number",
    "wine": "178 samples of 13 measurements, 3 classes",
    "iris": "150 samples of 4 measurements, 3 classes",
}
# The bytes of labels before the 3072 bytes of an image, by the name of a CIFAR archive.
_CIFAR_LABELS = {"cifar-10": 1, "cifar-100": 2}
_PIXELS = 3072
_FILES = ".npz, .npy, .csv, IDX files, CIFAR archives (binary version)"


class Table(NamedTuple):
    """Samples of features with labels.

    Attributes:
        features: (n, p) finite numbers.
        labels: (n,) numbers, or names of classes.
        columns: the names of the p features.
        source: where the table comes from, for messages and reports.
    """

    features: Float[np.ndarray, "n p"]
    labels: Shaped[np.ndarray, " n"]
    columns: tuple[str, ...]
    source: str


def as_table(features: Any, labels: Any = None) -> Table:
    """A checked table from arrays, a data frame, a file, or the name of a shipped data set.

    Args:
        features: an array (n, ...); a data frame of pandas, or a table of PyArrow; a path; a name
            of `SHIPPED`.
        labels: an array (n,) of numbers or names; for a data frame or a `.csv` file the name of the
            column of labels; for an `.npz` archive the name of the array of labels; for `.npy` and
            IDX files the path of the file of labels; None for data with one choice only.

    Raises:
        ValueError, TypeError: what is wrong, with its column or row.

    Example:
        >>> as_table([[1.0, 2.0], [3.0, 5.0]], [0, 1]).columns
        ('0', '1')
    """
    if isinstance(features, str | Path):
        return read(features, labels)
    if hasattr(features, "to_pandas"):
        features = features.to_pandas()
    if isinstance(features, pd.DataFrame):
        return _of_frame(features, labels, "a data frame")
    if isinstance(labels, str):
        raise TypeError(f"labels: {labels!r} with an array; allowed: an array (n,)")
    return _of_arrays(_array("features", features), labels, "arrays")


def read(path: str | Path, target: Any = None) -> Table:
    """The table of a file, or of a shipped data set.

    Args:
        path: a file, or a name of `SHIPPED`.
        target: where the labels are, as `labels` of `as_table`.

    Raises:
        ValueError: the file is missing, damaged or no table, or `target` is not in it.

    Example:
        >>> read("diabetes").features.shape
        (442, 10)
    """
    name, file = str(path), Path(path)
    if name in SHIPPED and not file.exists():
        return _shipped(name)
    if not file.is_file():
        raise ValueError(
            f"data: no file {name!r}; allowed: a file ({_FILES}), or one of {', '.join(SHIPPED)}"
        )
    lower = file.name.lower()
    if lower.endswith(".csv"):
        return _of_csv(file, target)
    if lower.endswith(".npz"):
        return _of_archive(file, target)
    if lower.endswith(".npy"):
        labels = datasets.load_array(_second(file, target))
        return _of_arrays(_scaled(datasets.load_array(file)), labels, name)
    if "cifar" in lower or lower.endswith(".bin"):
        return _of_cifar(file)
    if "idx" in lower or "ubyte" in lower:
        data = datasets.load_idx(file, _second(file, target))
        return _of_arrays(data.inputs, data.classes, name)
    raise ValueError(f"data: {name!r} is no table; allowed: {_FILES}")


def _second(file: Path, target: Any) -> Path:
    if target is None:
        raise ValueError(f"target: None with {file.name!r}; allowed: the path of the labels")
    return Path(target)


def _shipped(name: str) -> Table:
    try:
        from sklearn import datasets as shipped
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"data: {name!r} comes with scikit-learn, which is not installed; allowed after "
            "pip install 'hdjax[data]'"
        ) from error
    data = getattr(shipped, f"load_{name}")()
    columns = tuple(str(column) for column in data.feature_names)
    names = getattr(data, "target_names", None)
    labels = np.asarray(data.target)
    if names is not None:
        labels = np.asarray(names)[labels].astype(str)
    return _checked(Table(np.asarray(data.data, float), labels, columns, name))


def _of_csv(file: Path, target: Any) -> Table:
    try:
        frame = pd.read_csv(file)
    except (ValueError, OSError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"data: {str(file)!r} is no table ({reason}); allowed: {_FILES}") from None
    return _of_frame(frame, target, str(file))


def _of_frame(frame: pd.DataFrame, target: Any, source: str) -> Table:
    names = [str(name) for name in frame.columns]
    if target is None or isinstance(target, str):
        if str(target) not in names:
            raise ValueError(f"target: {target!r}; allowed: a column, {_some(names)}")
        labels = frame.iloc[:, names.index(str(target))]
        frame = frame.drop(columns=frame.columns[names.index(str(target))])
    else:
        labels = pd.Series(np.asarray(target))
    for name, column in frame.items():
        if not (pd.api.types.is_numeric_dtype(column) or pd.api.types.is_bool_dtype(column)):
            example = next((value for value in column if isinstance(value, str)), column.iloc[0])
            raise ValueError(
                f"column {name!r}: text such as {example!r}; allowed: numbers (encode or drop the "
                "column)"
            )
    missing = np.flatnonzero(pd.isna(labels))
    if missing.size:
        raise ValueError(f"target {target!r}: row {missing[0]} has no value; allowed: a value each")
    columns = tuple(str(name) for name in frame.columns)
    values = frame.to_numpy(dtype=float, na_value=np.nan)
    return _checked(Table(values, labels.to_numpy(), columns, source))


def _of_archive(file: Path, target: Any) -> Table:
    try:
        with np.load(file, allow_pickle=False) as content:
            shapes = {name: content[name].shape for name in content.files}
    except Exception as error:
        # NumPy passes on the exceptions of zipfile, zlib and its own parser.
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"data: {str(file)!r} is no table ({reason}); allowed: {_FILES}") from None
    flat = [name for name, shape in shapes.items() if len(shape) == 1]
    target = flat[0] if target is None and len(flat) == 1 else target
    if target not in shapes:
        raise ValueError(f"target: {target!r}; allowed: an array of the file, {_some(shapes)}")
    rows = [name for name, s in shapes.items() if len(s) > 1 and s[0] == shapes[target][0]]
    if len(rows) != 1:
        raise ValueError(
            f"data: {file.name!r} has arrays {shapes}; allowed: one array (n, ...) of features "
            f"besides the labels {target!r} (n,)"
        )
    features, labels = (datasets.load_array(file, name) for name in (rows[0], target))
    return _of_arrays(_scaled(features), labels, str(file))


def _of_cifar(file: Path) -> Table:
    """All training images of an archive of CIFAR, or those of one of its binary files."""
    kind = "cifar-100" if "100" in file.name or file.stem == "train" else "cifar-10"
    skip = _CIFAR_LABELS[kind]
    try:
        if file.name.endswith(".bin"):
            parts = [file.read_bytes()]
        else:
            with tarfile.open(file) as archive:
                names = sorted(name for name in archive.getnames() if name.endswith(".bin"))
                names = [name for name in names if "test" not in name]
                found = [archive.extractfile(name) for name in names]
                parts = [part.read() for part in found if part is not None]
    except (tarfile.TarError, OSError, EOFError) as error:
        raise ValueError(f"data: {str(file)!r} is no CIFAR archive ({error})") from None
    content = b"".join(parts)
    if not content or len(content) % (skip + _PIXELS):
        raise ValueError(
            f"data: {str(file)!r} has {len(content)} bytes of images; allowed: the binary version "
            f"of {kind}, {skip + _PIXELS} bytes an image"
        )
    records = np.frombuffer(content, np.uint8).reshape(-1, skip + _PIXELS)
    return _of_arrays(records[:, skip:] / 255.0, records[:, skip - 1], str(file))


def _of_arrays(features: np.ndarray, labels: Any, source: str) -> Table:
    if labels is None:
        raise ValueError("labels: None; allowed with arrays: an array (n,)")
    labels = np.asarray(labels)
    if features.ndim < 2 or labels.ndim != 1 or len(features) != len(labels):
        raise ValueError(
            f"features, labels: shapes {features.shape}, {labels.shape}; allowed: (n, ...), (n,)"
        )
    flat = features.reshape(len(features), -1).astype(np.float64)
    return _checked(Table(flat, labels, tuple(map(str, range(flat.shape[1]))), source))


def _array(name: str, values: Any) -> np.ndarray:
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise ValueError(f"{name}: {error}; allowed: rows of equal lengths") from None
    if array.dtype.kind not in "iufb":
        raise TypeError(f"{name}: entries of type {array.dtype}; allowed: numbers")
    return array


def _scaled(array: np.ndarray) -> np.ndarray:
    """Pixels in [0, 1]: arrays of bytes are divided by 255."""
    return array / 255.0 if array.dtype == np.uint8 else array


def _checked(table: Table) -> Table:
    """The table itself.

    Raises:
        ValueError: no samples or features, entries that are not finite.
    """
    features, labels = table.features, table.labels
    if features.shape[0] < 2 or features.shape[1] < 1:
        raise ValueError(f"data: shape {features.shape}; allowed: two rows, a column of features")
    bad = ~np.isfinite(features)
    if bad.any():
        row, column = np.argwhere(bad)[0]
        raise ValueError(
            f"column {table.columns[column]!r}: {features[row, column]} in row {row}; allowed: "
            "finite numbers"
        )
    if labels.dtype.kind == "f" and not np.isfinite(labels).all():
        row = int(np.argmin(np.isfinite(labels)))
        raise ValueError(f"labels: {labels[row]} in row {row}; allowed: finite numbers")
    if math.prod(features.shape) and not features.any():
        raise ValueError("features: all zero; allowed: features that differ")
    return table


def _some(names: Any) -> str:
    names = [str(name) for name in names]
    return ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")
