"""Files in a config, named relative to it."""

from pathlib import Path
from typing import Annotated, Any

from pydantic import PlainValidator, WithJsonSchema


def existing_file(value: Any, info: Any) -> Path:
    """The path of a file, which is looked for in the context's directory.

    Raises:
        ValueError: no name, or no such file.
    """
    if not isinstance(value, str):
        raise ValueError(f"{value!r}; allowed: the name of a file, relative to the config")
    path = Path((info.context or {}).get("directory", ".")) / value
    if not path.is_file():
        raise ValueError(f"no file {str(path)!r}; allowed: a path relative to the config")
    return path


FileField = Annotated[Path, PlainValidator(existing_file), WithJsonSchema({"type": "string"})]
