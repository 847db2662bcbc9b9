"""Arrays in a config: nested lists, or `.npy` and `.npz` files named relative to the config."""

from typing import Annotated, Any

import numpy as np
from pydantic import PlainValidator, WithJsonSchema

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
    """The array that `value` holds or names; its file is looked for in the context's directory.

    Raises:
        ValueError: no such file or key, entries that are no real numbers, rows of unequal length.
    """
    if isinstance(value, str):
        value = {"file": value}
    if isinstance(value, dict):
        return _from_file(value, info)
    try:
        array = np.asarray(value)
    except ValueError:
        raise ValueError("rows of unequal length; allowed: a rectangular array") from None
    return _numbers(array, "")


def _from_file(table: dict[str, Any], info: Any) -> np.ndarray:
    if set(table) - {"file", "key"} or not isinstance(table.get("file"), str):
        raise ValueError(f'{table}; allowed: {{ file = "name.npy" }}, with key for .npz files')
    path, key = existing_file(table["file"], info), table.get("key")
    try:
        content = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise ValueError(f"{str(path)!r} is no array file: {error}") from None
    if isinstance(content, np.ndarray):
        if key is not None:
            raise ValueError(f"key {key!r} for {table['file']!r}; allowed: none with .npy files")
        return _numbers(content, f"{table['file']!r} ")
    with content:
        if key is None and len(content.files) == 1:
            key = content.files[0]
        if key not in content.files:
            names = ", ".join(content.files)
            raise ValueError(f"key {key!r} for {table['file']!r}; allowed: {names}")
        return _numbers(content[key], f"{table['file']!r} ")


def _numbers(array: np.ndarray, where: str) -> np.ndarray:
    if array.dtype.kind not in "iuf":
        raise ValueError(f"{where}holds entries of type {array.dtype}; allowed: real numbers")
    return array


# Nested lists, "file.npy" or { file = "file.npz", key = "a" }.
ArrayField = Annotated[np.ndarray, PlainValidator(load_array), WithJsonSchema(ARRAY_SCHEMA)]
