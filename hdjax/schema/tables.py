"""Validation of the tables of a config, with a message of one line for each mistake.

Every table is a `Strict` pydantic model, which refuses unknown keys.  `Kind` marks unions of tables
that are chosen by the key `kind`.  `read` validates a table and translates the errors of pydantic
into lines `key: value; allowed: rule`.
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

# The largest number of characters of a value, and of lines, in a message.
_LONGEST, _MOST_LINES = 60, 20


class ConfigError(ValueError):
    """Mistakes in a config; each line of the message names the key, its value and the remedy.

    Args:
        told: the value and the remedy, or several lines of complete messages.
        where: the key, which is put in front; empty if `told` names the keys.
    """

    def __init__(self, told: str, where: str = ""):
        super().__init__(f"{where}: {told}" if where else told)
        self.told, self.where = told, where

    def within(self, table: str) -> "ConfigError":
        """The same mistake, with the name of the table that holds the key in front of the key."""
        return ConfigError(self.told, f"{table}.{self.where}" if self.where else table)


class Strict(BaseModel):
    """A table of a config, which refuses unknown keys and values of wrong types."""

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
    """An annotation of a union of tables that are chosen by `kind`, which adds short forms.

    A bare string stands for `{ kind = ... }`.

    Args:
        default: the kind of a table without the key `kind`.
        array: a kind with the field `values`: a list, the name of an array file or a table with
            `file` stands for a table of this kind.
        number: a kind with the field `value`: a bare number stands for a table of this kind.
    """

    def __init__(
        self, default: str | None = None, array: str | None = None, number: str | None = None
    ):
        self.default, self.array, self.number = default, array, number

    def expand(self, value: Any) -> Any:
        """The table with a `kind` for which a short form stands; other values are unchanged."""
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
    """The integer that a floating-point number such as 1e6 stands for; other values unchanged."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


# Integers fit in 64 bits; sizes are exact as floats, and XLA can count the bytes of an array.
LARGEST, LARGEST_SIZE = 2**63 - 1, 2**53
Integer = Annotated[int, Field(ge=-LARGEST, le=LARGEST), BeforeValidator(_integral)]
PositiveInteger = Annotated[int, Field(ge=1, le=LARGEST_SIZE), BeforeValidator(_integral)]
NonNegativeInteger = Annotated[int, Field(ge=0, le=LARGEST), BeforeValidator(_integral)]
Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]


def read(model: Any, data: Mapping[str, Any], directory: Path | str = ".", prefix: str = "") -> Any:
    """Validate a table.

    Args:
        model: the model of the table, or a union of models.
        data: the table.
        directory: the directory to which the names of files are relative.
        prefix: the dotted key of the table in the config, for messages.

    Returns:
        An instance of the model.

    Raises:
        ConfigError: the table has mistakes; the message has a line for each of them, 20 at most.

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
        # The first mistakes are enough, and suggestions for thousands of them would take minutes.
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
            return "missing; allowed: a value, since the key has no default"
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
    """A value as text in a message: one line of at most 60 characters.

    Example:
        >>> brief([0.5, "a"]), len(brief("x" * 1000))
        ("[0.5, 'a']", 60)
    """
    text = repr(value)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."


def _bare(key: str) -> str:
    """A key as text in a message, in quotes if it is not a short printable word."""
    return key if key and len(key) <= _LONGEST and key.isprintable() else brief(key)


def _path(error: Any, data: Any) -> list[str]:
    """The keys that lead to a mistake: the path of pydantic without the tags of unions."""
    path: list[str] = []
    tag = None
    for part in error["loc"]:
        keys = (
            data if isinstance(data, dict) else range(len(data)) if isinstance(data, list) else ()
        )
        # A kind comes before the keys of its table, one of which may have the same name.
        tagged = isinstance(data, dict) and data is not tag and data.get("kind") == part
        if tagged:
            tag = data
            continue
        if part in keys:
            data = data[part]
        elif not (error["type"] == "missing" and part == error["loc"][-1]):
            continue
        path.append(str(part))
    return path
