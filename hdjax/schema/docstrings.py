"""What docstrings in Google's style say of a constructor and of its parameters."""

import inspect
import re
from collections.abc import Callable
from typing import Any

from hdjax.registry import Entry


def summary(entry: Entry) -> str:
    """The first paragraph of what is said of an entry.

    The words of a function that is called instead of the constructor go first.
    """
    text = entry.make.__doc__ or entry.constructor.__doc__ or ""
    return " ".join(inspect.cleandoc(text).split("\n\n")[0].split())


def arguments(function: Callable[..., Any]) -> dict[str, str]:
    """What "Args:" says of each parameter, in one line each.

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
