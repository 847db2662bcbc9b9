"""Docstrings as mkdocstrings shall read them: plain text with code, and signatures of modules.

Docstrings are written for `help()`: `*`, `_`, `<` and `[` stand for themselves in formulas such as
`x* = X*^T a`, and in Markdown they would not.  Equinox modules are dataclasses by inheritance, of
which griffe knows nothing.
"""

import re

import griffe

SECTIONS = ("Args:", "Returns:", "Raises:", "Example:", "Examples:", "Attributes:", "Yields:")
# What Markdown would take for its own, outside of `code` and of the name that begins an entry.
SPECIAL = re.compile(r"[*_\[\]]")
KEPT = re.compile(r"(`[^`]*`)")
# Bases whose fields are arguments: modules of Equinox, and models of Pydantic.
FIELDS = re.compile(r"\b(eqx\.Module|Module|BaseModel|Table)$")
NAME = re.compile(r"\s*\*{0,2}\w+(?:, \w+)*:(?=\s|$)")

ITEM = re.compile(r"\s*[*-] ")


def escaped(text):
    """Text without code, with characters escaped that Markdown or HTML would take for its own."""
    text = SPECIAL.sub(r"\\\g<0>", text)
    return text.replace("<", "&lt;").replace(">", "&gt;")


def readable(text):
    """The text of a docstring, with characters escaped that Markdown would take for its own."""
    lines, margin, kind, last = [], 0, "", "blank"
    for line in text.splitlines():
        indent, content = len(line) - len(line.lstrip()), line.strip()
        if content in SECTIONS:
            margin, kind, last = indent + 4, content, "blank"
            # griffe knows the plural alone as a section of examples.
            lines.append(line.replace("Example:", "Examples:"))
            continue
        if content and indent < margin:
            margin, kind = indent, ""
        if not content:
            last = "formula" if last == "formula" else "blank"
        elif kind.startswith("Example"):
            last = "text"
        elif indent >= margin + 4 and last in ("blank", "formula"):
            last = "formula"  # indented below a blank line: Markdown shows it as code
        else:
            item = ITEM.match(line)
            if item and last == "text":
                lines.append("")  # without which Markdown goes on with the paragraph
            last = "item" if item or last == "item" else "text"
            name = NAME.match(line) if kind and indent == margin else None
            start = max(match.end() if match else 0 for match in (item, name))
            parts = KEPT.split(line[start:])
            parts = [part if part.startswith("`") else escaped(part) for part in parts]
            line = line[:start] + "".join(parts)
        lines.append(line)
    return "\n".join(lines)


def plain(annotation):
    """An annotation without what only configs read: `Annotated[X, ...]` is X."""
    if isinstance(annotation, griffe.ExprSubscript) and str(annotation.left) == "Annotated":
        inner = annotation.slice
        return plain(inner.elements[0] if isinstance(inner, griffe.ExprTuple) else inner)
    if isinstance(annotation, griffe.ExprBinOp):
        annotation.left, annotation.right = plain(annotation.left), plain(annotation.right)
    return annotation


def default(value):
    """The default of a field: its value, or what `eqx.field` is given as `default`."""
    if not isinstance(value, griffe.ExprCall):
        return value
    given = [a for a in value.arguments if isinstance(a, griffe.ExprKeyword)]
    return next((a.value for a in given if a.name == "default"), None)


def constructor(cls):
    """The constructor that an Equinox module has from its fields, those of its bases first."""
    found = {"self": griffe.Parameter("self")}
    for base in [*reversed(cls.mro()), cls]:
        for name, member in base.members.items():
            if member.is_attribute and "instance-attribute" in member.labels and member.annotation:
                annotation = plain(member.annotation)
                found[name] = griffe.Parameter(
                    name, annotation=annotation, default=default(member.value)
                )
    for parameter in found.values():
        parameter.kind = griffe.ParameterKind.positional_or_keyword
    return griffe.Function("__init__", parameters=griffe.Parameters(*found.values()))


def everything(obj):
    """An object and all that is defined in it."""
    yield obj
    for member in obj.members.values():
        if not member.is_alias:
            yield from everything(member)


class Docstrings(griffe.Extension):
    """Prepares every object of a package when griffe has loaded all of it."""

    def on_package(self, *, pkg, loader, **kwargs):
        """Escape docstrings, simplify annotations, and give modules their constructors."""
        classes = []
        for obj in everything(pkg):
            if obj.docstring:
                obj.docstring.value = readable(obj.docstring.value)
            if obj.is_function:
                for parameter in obj.parameters:
                    parameter.annotation = plain(parameter.annotation)
            if obj.is_class:
                classes.append(obj)
        made = {
            cls: constructor(cls)
            for cls in classes
            if not any("__init__" in base.members for base in [cls, *cls.mro()])
            and any(FIELDS.search(str(n)) for base in [cls, *cls.mro()] for n in base.bases)
        }
        for cls, init in made.items():
            cls.set_member("__init__", init)
