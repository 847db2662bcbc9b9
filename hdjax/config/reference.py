"""The tables of keys in docs/configs.md, derived from the constructors that configs may name.

`markdown` returns the tables of a family; `updated` writes them between the marks of a document:

    <!-- tables: streaming -->
    <!-- end -->

    python -m hdjax.config.reference docs/configs.md      # updates the tables of this page
"""

import re
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from hdjax import registry
from hdjax.config.tables import Run, load_family, path_slot
from hdjax.registry import Bounds, Each, Entry, FromFile, In, OneOf
from hdjax.schema import Parameter, arguments, parameters, slots_in, summary

# Slots that several families share, whose tables are written once.
SHARED = ("integrator", "path", "schedule", "solver", "spectrum")
_MARKS = re.compile(r"(<!-- tables: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def updated(text: str) -> str:
    r"""The text of a document, with the current tables between its marks.

    Args:
        text: the text of the document.

    Example:
        >>> len(updated("<!-- tables: shared -->\n<!-- end -->").splitlines()) > 10
        True
    """
    return _MARKS.sub(lambda found: f"{found[1]}\n{markdown(found[2])}\n{found[3]}", text)


def markdown(family: str) -> str:
    """The tables of a family as Markdown.

    Args:
        family: the name of a family; "shared" for the slots that several families share; "run" for
            the table `[run]`.

    Raises:
        ConfigError: there is no such family.

    Example:
        >>> print(markdown("streaming").splitlines()[0])
        #### `streaming.system`
    """
    if family == "run":
        return "\n".join(["| key | default | |", "|---|---|---|", *_run(), ""])
    if family == "shared":
        # Path statistics that belong to one family are described with this family.
        load_family("streaming")
        return "\n".join(_slot(name) for name in SHARED)
    load_family(family)
    names = [f"{family}.{part}" for part in ("system", "method", "statistic")]
    names += [name for name in [path_slot(family)] if name not in SHARED]
    for name in names:
        # Slots of other families are described with those families.
        within = [other for other in _within(name) if other.startswith(f"{family}.")]
        names += [other for other in within if other not in names]
    return "\n".join(_slot(name) for name in names if registry.entries(name))


def _run() -> Iterator[str]:
    """The rows of the table of [run], one for each key."""
    texts = arguments(Run)
    for name, field in Run.model_fields.items():
        default = "required" if field.is_required() else _told(field.default)
        yield f"| `{name}` | {default} | {texts[name].replace('|', chr(92) + '|')} |"


def _within(slot: str) -> Iterator[str]:
    """The slots whose tables may stand inside the tables of a slot."""
    found: dict[str, None] = dict.fromkeys(registry.slot(slot).includes)
    for entry in registry.entries(slot).values():
        for parameter in parameters(entry):
            found |= dict.fromkeys(slots_in(parameter.annotation))
    yield from found


def _slot(name: str) -> str:
    """The section of a slot: its heading, its short forms, and its kinds or keys."""
    slot, own = registry.slot(name), registry.entries(name)
    lines = [f"#### `{name}`", ""]
    ways = []
    if slot.number:
        ways.append(f"a number is `{slot.number}`")
    if slot.array:
        ways.append(f"an array is `{slot.array}`")
    if slot.default:
        ways.append(f"a table without `kind` is `{slot.default}`")
    if slot.named:
        ways.append("a table has a `name` besides, its kind unless given")
    ways += [f"the kinds of {_link(other)} stand here too" for other in slot.includes]
    if ways:
        told = "; ".join(ways)
        lines += [f"{told[0].upper()}{told[1:]}.", ""]
    entries = [entry for entry in own.values() if entry.slot == name]
    if len(entries) == 1 or name.endswith(".system"):
        for entry in entries:
            lines += [*_keys(entry), ""]
    else:
        lines += ["| kind | keys | |", "|---|---|---|", *map(_kind, entries), ""]
    return "\n".join(lines)


def _keys(entry: Entry) -> list[str]:
    """The summary of an entry, and a table with a row for each key."""
    head = f"`{entry.kind}`: {_escaped(summary(entry))}" if entry.kind else _escaped(summary(entry))
    rows = [
        f"| `{own.name}` | {_words(own.annotation)} | {_default(own)} | {_escaped(own.text)} |"
        for own in parameters(entry)
    ]
    return [head, "", *(["| key | | default | |", "|---|---|---|---|", *rows] if rows else [])]


def _kind(entry: Entry) -> str:
    keys = ", ".join(map(_key, parameters(entry)))
    return f"| `{entry.kind}` | {keys} | {_escaped(summary(entry))} |"


def _key(parameter: Parameter) -> str:
    """A key with its default, the other words that are allowed, and a link to the slot it holds."""
    slots, words = list(slots_in(parameter.annotation)), _choice(parameter.annotation)
    name = f"[`{parameter.name}`](#{_anchor(slots[0])})" if slots else f"`{parameter.name}`"
    if parameter.required:
        return name if not words else f"{name} ({', '.join(words)})"
    others = [word for word in words if word != f"`{parameter.default}`"]
    return f"{name} = {_default(parameter)}" + (f" ({', '.join(others)})" if others else "")


def _choice(annotation: Any) -> list[str]:
    """The words that are allowed for a parameter, in backticks."""
    inner = get_args(annotation)
    if get_origin(annotation) is Literal:
        return [f"`{word}`" for word in inner]
    found = [f"`{word}`" for mark in inner if isinstance(mark, OneOf) for word in mark.words]
    parts = [part for part in inner if get_origin(part) in (Annotated, Literal)]
    return found + [word for part in parts for word in _choice(part)]


def _default(parameter: Parameter) -> str:
    return "required" if parameter.required else _told(parameter.default)


def _told(value: Any) -> str:
    """A default value in the form of TOML."""
    if value is None or value == {}:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return f"{list(value)}"
    return f"`{value}`" if isinstance(value, str) else f"{value:g}"


def _words(annotation: Any) -> str:
    """The type of a key in words: "number > 0", "text", a link to a slot, and so on."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        for mark in inner[1:]:
            match mark:
                case In(name):
                    return _link(name)
                case OneOf(words):
                    return ", ".join(f"`{word}`" for word in words)
                case FromFile(array):
                    return "array" if array else "file"
                case Each(bounds, alone, _):
                    several = f"numbers{_bounds(bounds)}"
                    return f"number or {several}" if alone else several
                case Bounds():
                    return f"{'integer' if inner[0] is int else 'number'}{_bounds(mark)}"
        return _words(inner[0])
    if origin in (Union, types.UnionType):
        return " or ".join(_words(part) for part in inner if part is not types.NoneType)
    if origin is Literal:
        return ", ".join(f"`{word}`" for word in inner)
    if origin is list:
        return f"list of {_words(inner[0])}"
    if origin is dict:
        return f"table of {_words(inner[1])}"
    names = {bool: "true, false", int: "integer", float: "number", str: "text"}
    return names.get(annotation, "numbers")


def _bounds(bounds: Bounds) -> str:
    signs = {">": bounds.above, "≥": bounds.least, "<": bounds.below, "≤": bounds.most}
    told = [f"{sign} {value:g}" for sign, value in signs.items() if value is not None]
    return f" {', '.join(told)}" if told else ""


def _link(slot: str) -> str:
    return f"[{slot}](#{_anchor(slot)})"


def _anchor(slot: str) -> str:
    return slot.replace(".", "")


def _escaped(text: str) -> str:
    """The text with Markdown's special characters escaped, except within backticks."""
    parts = text.split("`")
    parts[::2] = [re.sub(r"([\\*_<>\[\]])", r"\\\1", part) for part in parts[::2]]
    return "`".join(parts).replace("|", r"\|")


def main(paths: list[str]) -> None:
    """Update the tables between the marks of documents."""
    for path in map(Path, paths):
        path.write_text(updated(path.read_text()))


if __name__ == "__main__":
    main(sys.argv[1:])
