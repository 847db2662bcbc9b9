"""Strict tables of a config, tables chosen by `kind`, and mistakes told one line each.

Every table of a config is a `Strict` pydantic model: its unknown keys are refused, with the nearest
valid name in the message.  `read` validates and says what is wrong in the user's terms.
"""

import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import pydantic
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

from hdjax.registry import suggest
from hdjax.schema.arrays import ARRAY_SCHEMA

# Characters of a value, and lines, in a message.
_LONGEST, _MOST_LINES = 60, 20


class ConfigError(ValueError):
    """Mistakes in a config; each line of the message names the key, its value and the remedy.

    Args:
        told: the value and the remedy, or several lines.
        where: the key in front of it; nothing, if the lines say that.
    """

    def __init__(self, told: str, where: str = ""):
        super().__init__(f"{where}: {told}" if where else told)
        self.told, self.where = told, where

    def within(self, table: str) -> "ConfigError":
        """The same mistake, as the table that holds the key's table tells it."""
        return ConfigError(self.told, f"{table}.{self.where}" if self.where else table)


class Strict(BaseModel):
    """A table of a config: keys that it does not know and values of other types are refused."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, arbitrary_types_allowed=True
    )

    @pydantic.model_validator(mode="before")
    @classmethod
    def _known_keys(cls, data: Any) -> Any:
        allowed = list(cls.model_fields)
        unknown = [key for key in data if key not in allowed] if isinstance(data, dict) else []
        if unknown:
            context = {"keys": unknown, "allowed": allowed}
            raise PydanticCustomError("unknown_keys", "unknown", context)
        return data


class Kind:
    """Marks a union of tables that is chosen by `kind`: a bare string stands for `{ kind = ... }`.

    Args:
        default: the kind of a table that does not say.
        array: the kind that holds an array in its field `values`: taken for a list, the name of an
            array file, or a table with `file`.
        number: the kind that holds a number in its field `value`: taken for a bare number.
    """

    def __init__(
        self, default: str | None = None, array: str | None = None, number: str | None = None
    ):
        self.default, self.array, self.number = default, array, number

    def expand(self, value: Any) -> Any:
        """The value as a table with a `kind`."""
        is_file = isinstance(value, str) and value.endswith((".npy", ".npz"))
        is_file |= isinstance(value, dict) and "file" in value and "kind" not in value
        if self.array and (is_file or isinstance(value, list)):
            return {"kind": self.array, "values": value}
        if self.number and isinstance(value, int | float):
            return {"kind": self.number, "value": value}
        if isinstance(value, str):
            return {"kind": value}
        if self.default and isinstance(value, dict) and "kind" not in value:
            return {"kind": self.default, **value}
        return value

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        return BeforeValidator(self.expand).__get_pydantic_core_schema__(source, handler)

    def __get_pydantic_json_schema__(self, schema: Any, handler: Any) -> Any:
        table = handler(schema)
        kinds = list(table.get("discriminator", {}).get("mapping", {})) or [self.default]
        other: list[Any] = [{"type": "string", "enum": kinds}]
        if self.array:
            other.append(ARRAY_SCHEMA)
        if self.number:
            other.append({"type": "number"})
        return {"anyOf": [table, *other]}


def _integral(value: Any) -> Any:
    """1e6 is an integer."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


# Integers fit in 64 bits; sizes are exact as floats, and XLA can count the bytes of an array.
LARGEST, LARGEST_SIZE = 2**63 - 1, 2**53
Integer = Annotated[int, Field(ge=-LARGEST, le=LARGEST), BeforeValidator(_integral)]
PositiveInteger = Annotated[int, Field(ge=1, le=LARGEST_SIZE), BeforeValidator(_integral)]
NonNegativeInteger = Annotated[int, Field(ge=0, le=LARGEST), BeforeValidator(_integral)]
Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]


def read(model: Any, data: Mapping[str, Any], directory: Path | str = ".", prefix: str = "") -> Any:
    """Validate `data`; array files are named relative to `directory`.

    Args:
        model: the table's schema, or a union of such.
        data: the table.
        directory: where array files are looked for.
        prefix: where the table stands in the config, for the messages.

    Raises:
        ConfigError: one line for each mistake.

    Example:
        >>> class Point(Strict):
        ...     x: float
        >>> read(Point, {"x": 1.0}).x
        1.0
    """
    try:
        return pydantic.TypeAdapter(model).validate_python(data, context={"directory": directory})
    except pydantic.ValidationError as error:
        found = (line for each in error.errors() for line in _lines(each, data, prefix))
        # The first are enough to begin with, and a suggestion for each of thousands takes minutes.
        lines = list(dict.fromkeys(itertools.islice(found, _MOST_LINES)))
        raise ConfigError("\n".join(lines)) from None


def _lines(error: Any, data: Any, prefix: str) -> Iterator[str]:
    path = [part for part in [prefix] if part] + [_bare(part) for part in _path(error, data)]
    kind, context = error["type"], error.get("ctx", {})
    if kind == "unknown_keys":
        for key in context["keys"]:
            where, hint = ".".join([*path, _bare(key)]), suggest(key, context["allowed"])
            yield f"{where}: unknown key; {hint}"
        return
    yield f"{'.'.join(path) or 'config'}: {_mistake(kind, context, error)}"


def _mistake(kind: str, context: Any, error: Any) -> str:
    value = brief(error["input"])
    match kind:
        case "missing":
            return "missing"
        case "union_tag_not_found":
            return f"{value}; allowed: a table with `kind`"
        case "union_tag_invalid":
            tags = [tag.strip().strip("'") for tag in context["expected_tags"].split(",")]
            return f"{brief(context['tag'])}; {suggest(context['tag'], tags)}"
        case "literal_error":
            words = context["expected"].replace(" or ", ", ").replace("'", "").split(", ")
            return f"{value}; {suggest(error['input'], words)}"
        case "value_error":
            return " ".join(str(context["error"]).split())
        case "model_type" | "model_attributes_type" | "dict_type":
            return f"{value}; allowed: a table"
    rule = error["msg"].removeprefix("Input should be ").removeprefix("a valid ")
    return f"{value}; allowed: {rule}"


def brief(value: Any) -> str:
    """A value in a message: one line of at most 60 characters.

    Example:
        >>> brief([0.5, "a"]), len(brief("x" * 1000))
        ("[0.5, 'a']", 60)
    """
    text = repr(value)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."


def _bare(key: str) -> str:
    """A key in a message: as it is, if it is a word, and otherwise in quotes."""
    return key if key and len(key) <= _LONGEST and key.isprintable() else brief(key)


def _path(error: Any, data: Any) -> list[str]:
    """Where the mistake is, in the user's terms: pydantic's path without the tags of unions."""
    path: list[str] = []
    for part in error["loc"]:
        keys = (
            data if isinstance(data, dict) else range(len(data)) if isinstance(data, list) else ()
        )
        if part in keys:
            data = data[part]
        elif not (error["type"] == "missing" and part == error["loc"][-1]):
            continue
        path.append(str(part))
    return path
