"""Fields of a config that hold the name of a file, relative to the directory of the config."""

from pathlib import Path
from typing import Annotated, Any

from pydantic import PlainValidator, WithJsonSchema


def existing_file(value: Any, info: Any) -> Path:
    """The path of the file that a field of a config names.

    Args:
        value: the name of the file.
        info: pydantic's context, whose `directory` is that of the config.

    Raises:
        ValueError: the value is no text, or there is no such file.
    """
    if not isinstance(value, str):
        raise ValueError(f"{value!r}; allowed: the name of a file, relative to the config")
    path = Path((info.context or {}).get("directory", ".")) / value
    if not path.is_file():
        raise ValueError(f"no file {str(path)!r}; allowed: a path relative to the config")
    return path


FileField = Annotated[Path, PlainValidator(existing_file), WithJsonSchema({"type": "string"})]
