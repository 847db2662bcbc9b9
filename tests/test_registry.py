"""Tables of configs are their constructors: what a table may hold, the constructor checks."""

import importlib
import inspect
from typing import Annotated, get_args, get_origin

import pytest

from hdjax import registry
from hdjax.config.tables import families, load_family
from hdjax.registry import Bounds, Each, In, OneOf

for family in families():
    load_family(family)
ENTRIES = [entry for name in registry.slots() for entry in registry.entries(name).values()]
ENTRIES = list({(entry.slot, entry.kind): entry for entry in ENTRIES}.values())


def marks(annotation):
    """What annotations say of numbers or words, each with the type beside it."""
    for part in (annotation, *get_args(annotation)):
        if get_origin(part) is Annotated:
            inner, mark, *_ = get_args(part)
            yield mark, inner


def numbers(bounds, kind):
    """One number that bounds allow, and some that they do not."""
    low = bounds.least if bounds.above is None else bounds.above
    high = bounds.most if bounds.below is None else bounds.below
    inside = low + 1 if low is not None and low >= 1 else 1 if kind is int else 0.5
    wrong = [None if low is None else low - 1, None if high is None else high + 1]
    wrong += [bounds.above, bounds.below]
    convert = int if kind is int else float
    return convert(inside), [convert(value) for value in wrong if value is not None]


def examples(annotation):
    """A value that an annotation allows and some that it does not; none where it says nothing."""
    for mark, kind in marks(annotation):
        match mark:
            case Bounds():
                return numbers(mark, kind)
            case Each(bounds, _, _):
                inside, wrong = numbers(bounds, float)
                return [inside], [[value] for value in wrong]
            case OneOf(words):
                return words[0], ["none of them" if kind is str else max(words) + 1]
            case In("schedule" | "landscapes.rate"):
                return 0.5, []
    plain = {str: "risk", float: 1.0, int: 1}
    return (plain[annotation], []) if annotation in plain else None


def cases():
    """Calls with one argument that the table refuses."""
    for entry in ENTRIES:
        constructor = entry.constructor
        # A function of a config alone is checked by its table.
        if constructor.__name__.startswith("_") or constructor.__name__ not in dir(
            importlib.import_module(constructor.__module__)
        ):
            continue
        own = inspect.signature(constructor).parameters.values()
        required = [parameter for parameter in own if parameter.default is parameter.empty]
        given = {parameter.name: examples(parameter.annotation) for parameter in required}
        if None in given.values():
            continue
        given = {name: value for name, (value, _) in given.items()}
        for parameter in own:
            for wrong in (examples(parameter.annotation) or (0, []))[1]:
                name = parameter.name
                arguments = given | {name: wrong}
                label = f"{entry.slot}.{entry.kind}.{name}={wrong}"
                yield pytest.param(constructor, name, arguments, id=label)


@pytest.mark.parametrize(("constructor", "name", "arguments"), list(cases()))
def test_constructors_refuse_what_their_tables_refuse(constructor, name, arguments):
    with pytest.raises(ValueError, match=name):
        constructor(**arguments)
