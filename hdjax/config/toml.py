"""TOML for configs: parsing a file, and setting single keys from the command line.

Tables may be nested up to a fixed depth.  Without that limit Python's parser takes minutes for a
dotted key of thousands of parts, and functions on nested tables end in a RecursionError.
"""

import re
import tomllib
from typing import Any

from hdjax.schema import ConfigError, brief

DEEPEST = 32
# A dotted key of too many parts.  Possessive quantifiers make the search linear in the text.
_PART = r"""(?:[\w-]++|"[^"\n]*+"|'[^'\n]*+')"""
_LONG_KEY = re.compile(rf"(?<![\w-]){_PART}(?:[ \t]*+\.[ \t]*+{_PART}){{{DEEPEST}}}")


def parse(content: bytes | str, name: str) -> dict[str, Any]:
    """Parse TOML into nested tables.

    Args:
        content: the text, or its UTF-8 bytes.
        name: the name of the text in messages.

    Raises:
        ConfigError: the text is not TOML, or its tables are nested too deeply.

    Example:
        >>> parse("a.b = 1", "example")
        {'a': {'b': 1}}
    """
    try:
        text = content.decode() if isinstance(content, bytes) else content
        if _LONG_KEY.search(text):
            raise ConfigError(f"a key of more than {DEEPEST} parts; allowed: fewer")
        return check_depth(tomllib.loads(text))
    except RecursionError:
        rule = f"at most {DEEPEST} tables or lists within each other"
        raise ConfigError(f"{name}: nested too deeply; allowed: {rule}") from None
    except ConfigError as error:
        raise ConfigError(f"{name}: {error}") from None
    except ValueError as error:
        told = f"not TOML: {_shortened(str(error))}"
        raise ConfigError(f"{name}: {told}; allowed: TOML in UTF-8") from None


def check_depth(raw: dict[str, Any]) -> dict[str, Any]:
    """Check that tables and lists are not nested deeper than `DEEPEST`, and return them.

    Raises:
        ConfigError: the nesting is deeper.

    Example:
        >>> check_depth({"a": [{"b": 1}]})
        {'a': [{'b': 1}]}
    """
    level: list[Any] = [raw]
    for _ in range(DEEPEST):
        nodes = [node.values() if isinstance(node, dict) else node for node in level]
        level = [below for node in nodes for below in node if isinstance(below, dict | list)]
        if not level:
            return raw
    raise ConfigError(f"nested deeper than {DEEPEST} tables or lists; allowed: less deep")


def parse_override(text: str) -> tuple[str, Any]:
    """The key and the value of an override "key=value".

    Args:
        text: the override; its value is TOML, or a bare word, which is text.

    Raises:
        ConfigError: the text has no "=", or its value is neither TOML nor a bare word.

    Example:
        >>> parse_override("run.times=[0, 1.5]"), parse_override("system.loss=logistic")
        (('run.times', [0, 1.5]), ('system.loss', 'logistic'))
    """
    key, separator, value = (part.strip() for part in text.partition("="))
    told = f"--set {_shortened(text)}"
    if not separator or not key:
        rule = "key=value, such as system.learning_rate=0.1"
        raise ConfigError(f"{told}: no key or no value; allowed: {rule}")
    try:
        ((_, parsed),) = parse(f"value = {value}", told).items()
        return key, parsed
    except ValueError:
        if re.fullmatch(r"[A-Za-z_./][\w./-]*", value):
            return key, value
        raise ConfigError(f"{told}: {brief(value)}; allowed: a value as in TOML") from None


def set_key(raw: dict[str, Any], key: str, value: Any) -> None:
    """Set the value of a dotted key in nested tables, in place.

    A text in place of an inner table is replaced by the table that it stands for, and missing
    inner tables are made.

    Args:
        raw: the tables.
        key: the dotted key.
        value: the new value.

    Raises:
        ConfigError: an inner part of the key is neither a table nor text, or there are too many
            parts.

    Example:
        >>> raw = {"system": {"loss": "least_squares"}}
        >>> set_key(raw, "system.loss.sigma", 0.5)
        >>> raw
        {'system': {'loss': {'kind': 'least_squares', 'sigma': 0.5}}}
    """
    if key.count(".") >= DEEPEST:
        raise ConfigError(f"{_shortened(key)}: deeper than {DEEPEST} tables; allowed: less deep")
    *way, last = key.split(".")
    table: dict[str, Any] = raw
    for depth, part in enumerate(way):
        below: Any = table.setdefault(part, {})
        if isinstance(below, str):
            below = table[part] = {"kind": below}
        if not isinstance(below, dict):
            where = ".".join(way[: depth + 1])
            raise ConfigError(f"{key}: {where} is {brief(below)}; allowed: a table")
        table = below
    table[last] = value


def _shortened(text: str) -> str:
    """The text if it is one short line, and otherwise its beginning."""
    return text if len(text) <= 120 and text.isprintable() else brief(text)
