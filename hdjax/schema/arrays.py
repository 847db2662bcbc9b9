"""Fields of a config that hold arrays: nested lists, or the names of `.npy` and `.npz` files."""

from typing import Annotated, Any

import numpy as np
from pydantic import PlainValidator, WithJsonSchema

from hdjax import datasets
from hdjax.schema.files import existing_file

_FILE_SCHEMA = {
    "type": "object",
    "properties": {"file": {"type": "string"}, "key": {"type": "string"}},
    "required": ["file"],
    "additionalProperties": False,
}
ARRAY_SCHEMA: dict[str, Any] = {
    "anyOf": [
        {"type": "array"},
        {"type": "string", "pattern": r"\.np[yz]$", "description": "relative to the config"},
        _FILE_SCHEMA,
    ]
}


def load_array(value: Any, info: Any) -> np.ndarray:
    """The array that a field of a config holds or names.

    Args:
        value: nested lists, the name of a file, or a table with `file` and `key`.
        info: pydantic's context, whose `directory` is that of the config.

    Raises:
        ValueError: there is no such file or key, entries are no finite real numbers, or rows have
            unequal lengths.
    """
    if isinstance(value, str):
        value = {"file": value}
    if isinstance(value, dict):
        return _from_file(value, info)
    try:
        array = np.asarray(value)
        truths = np.asarray(value, object)
    except ValueError:
        raise ValueError("rows of unequal length; allowed: a rectangular array") from None
    # NumPy takes true and false among numbers for 1 and 0.
    if any(isinstance(entry, bool) for entry in truths.flat):
        raise ValueError("holds true or false; allowed: real numbers")
    return _numbers(array, "")


def _from_file(table: dict[str, Any], info: Any) -> np.ndarray:
    if set(table) - {"file", "key"} or not isinstance(table.get("file"), str):
        raise ValueError(f'{table}; allowed: {{ file = "name.npy" }}, with key for .npz files')
    key = table.get("key")
    if not isinstance(key, str | None):
        raise ValueError(f"key: {key!r}; allowed: the name of an array")
    array = datasets.load_array(existing_file(table["file"], info), key)
    return _numbers(array, f"{table['file']!r} ")


def _numbers(array: np.ndarray, where: str) -> np.ndarray:
    if array.dtype.kind not in "iuf":
        raise ValueError(f"{where}holds entries of type {array.dtype}; allowed: real numbers")
    if not np.isfinite(array).all():
        raise ValueError(f"{where}holds entries that are not finite; allowed: finite numbers")
    return array


# The type of a field: nested lists, "file.npy" or { file = "file.npz", key = "a" }.
ArrayField = Annotated[np.ndarray, PlainValidator(load_array), WithJsonSchema(ARRAY_SCHEMA)]
