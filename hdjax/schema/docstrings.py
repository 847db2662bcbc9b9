"""Descriptions of a constructor and of its parameters, read from docstrings in Google's style.

`hdjax.schema.derived` puts them into the JSON schema, `hdjax.config.reference` into the pages.
"""

import inspect
import re
from collections.abc import Callable
from typing import Any

from hdjax.registry import Entry


def summary(entry: Entry) -> str:
    """The first paragraph of the docstring of `entry.make`, or else of the constructor."""
    text = entry.make.__doc__ or entry.constructor.__doc__ or ""
    return " ".join(inspect.cleandoc(text).split("\n\n")[0].split())


def arguments(function: Callable[..., Any]) -> dict[str, str]:
    """The description of each parameter in the section "Args:" of a docstring, as one line.

    Example:
        >>> arguments(arguments)
        {'function': 'a class or a function.'}

    Args:
        function: a class or a function.
    """
    found: dict[str, str] = {}
    name = indent = None
    inside = False
    for line in inspect.cleandoc(function.__doc__ or "").splitlines():
        if not line.startswith(" "):
            inside = line.startswith("Args:") or (inside and not line)
            continue
        if not inside:
            continue
        depth = len(line) - len(line.lstrip())
        indent = depth if indent is None else indent
        start = re.match(r" *\*{0,2}(\w+):\s*(.*)", line)
        if start and depth == indent:
            name = start[1]
            found[name] = start[2]
        elif name:
            found[name] += " " + line.strip()
    return found
