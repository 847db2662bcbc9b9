"""The registry of the constructors that a config may name, and the types of their parameters.

A table of a config stands for a call of a constructor: the keys of the table are parameters of the
constructor, with the types and defaults of its signature.  A *slot* is a place in a config that
takes one of several constructors, chosen by the key `kind`.  A decorator above a class or a
function puts it into a slot:

    @register("streaming.loss", "hinge")
    class Hinge(Loss):
        def __init__(self, flip: Probability | None = None): ...

Another package does the same by an entry point, whose group is "hdjax." and the slot, and whose
name is the kind:

    [project.entry-points."hdjax.streaming.loss"]
    triangle = "my_package:Triangle"

This module imports no other module of the package.  `hdjax.schema` derives the tables of configs
from the registered constructors, and `hdjax.config.reference` the tables of the documentation.
"""

import dataclasses
import difflib
import functools
import importlib.metadata
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, TypeVar

import numpy as np


class NotGivenError(TypeError):
    """A table needs a value from the table around it, which does not have that value."""


Make = TypeVar("Make", bound=Callable[..., Any])


@dataclasses.dataclass(frozen=True)
class Bounds:
    """The rule that a parameter is a finite number, and on the right side of some bounds.

    Attributes:
        above: the number is larger than this.
        least: the number is at least this.
        below: the number is smaller than this.
        most: the number is at most this.
        whole: whether the number is an integer, of any type.
        infinite: whether the number may be infinite.
    """

    above: float | int | None = None
    least: float | int | None = None
    below: float | int | None = None
    most: float | int | None = None
    whole: bool = False
    infinite: bool = False

    def hold(self, values: Any) -> bool:
        """Whether all numbers of a concrete array are finite and within the bounds."""
        values = np.asarray(values, float)
        return bool(
            (np.isfinite(values) | (self.infinite & ~np.isnan(values))).all()
            and (not self.whole or (values == np.floor(values)).all())
            and (self.above is None or (values > self.above).all())
            and (self.least is None or (values >= self.least).all())
            and (self.below is None or (values < self.below).all())
            and (self.most is None or (values <= self.most).all())
        )

    def __str__(self) -> str:
        """The rule in words, for messages, such as "a finite number, above 0"."""
        rules = {
            "above": self.above,
            "at least": self.least,
            "below": self.below,
            "at most": self.most,
        }
        told = [
            f"{words} {bound if isinstance(bound, int) else f'{bound:g}'}"
            for words, bound in rules.items()
            if bound is not None
        ]
        noun = "an integer" if self.whole else "a number"
        kind = f"{noun} or infinity" if self.infinite else noun
        return ", ".join([kind if self.whole or self.infinite else "a finite number", *told])


@dataclasses.dataclass(frozen=True)
class Each:
    """The rule that a parameter is a list of numbers.

    Attributes:
        bounds: the rule for each number.
        alone: whether a single number may stand for a list of it.
        shortest: the smallest length of the list.
    """

    bounds: Bounds
    alone: bool = False
    shortest: int = 0


@dataclasses.dataclass(frozen=True, init=False)
class OneOf:
    """The rule that a parameter is one of some words."""

    words: tuple[Any, ...]

    def __init__(self, *words: Any):
        object.__setattr__(self, "words", words)


@dataclasses.dataclass(frozen=True)
class FromFile:
    """The rule that a parameter comes from a file, whose name is relative to the config.

    Attributes:
        array: whether the parameter is an array, which a config may also hold as nested lists;
            otherwise the parameter is the path of the file.
    """

    array: bool


@dataclasses.dataclass(frozen=True)
class In:
    """The rule that a parameter is what a constructor of a slot returns: a table in a config.

    Attributes:
        slot: the name of the slot.
    """

    slot: str


# The type of these numbers is not `float`, because they may be traced or stacked arrays.
Real = Annotated[Any, Bounds()]
Positive = Annotated[Any, Bounds(above=0)]
NonNegative = Annotated[Any, Bounds(least=0)]
Share = Annotated[Any, Bounds(least=0, below=1)]
Probability = Annotated[Any, Bounds(least=0, most=1)]
Reals = Annotated[Any, Each(Bounds())]
OneOrMoreReal = Annotated[Any, Each(Bounds(), alone=True)]
Positives = Annotated[Any, Each(Bounds(above=0))]
NonNegatives = Annotated[Any, Each(Bounds(least=0))]
OneOrMoreNonNegative = Annotated[Any, Each(Bounds(least=0), alone=True)]
# A dimension may be a number of any type, because it may be traced or stacked.
Dimension = Annotated[Any, Bounds(least=1, whole=True)]
AnyDimension = Annotated[Any, Bounds(least=1, whole=True, infinite=True)]
Size = Annotated[int, Bounds(least=1)]
# A key is folded with 32 bits of the number of a run.
Runs = Annotated[int, Bounds(least=1, most=2**31 - 1)]
Count = Annotated[int, Bounds(least=0)]
Values = Annotated[Any, FromFile(array=True)]
File = Annotated[Any, FromFile(array=False)]
PositiveFloat = Annotated[float, Bounds(above=0)]
NonNegativeFloat = Annotated[float, Bounds(least=0)]
Precision = Annotated[str, OneOf("float32", "float64")]


@dataclasses.dataclass(frozen=True)
class Slot:
    """The short forms in which tables of a slot may be written, and what surrounds them.

    Attributes:
        default: the kind of a table without the key `kind`.
        array: a kind with the key `values`: an array may be written in place of its table.
        number: a kind with the key `value`: a number may be written in place of its table.
        given: names of parameters whose values come from the surrounding table and not from TOML.
        includes: other slots, whose kinds are allowed here too.
        named: whether tables have the additional key `name`, the name in results.
    """

    default: str | None = None
    array: str | None = None
    number: str | None = None
    given: tuple[str, ...] = ()
    includes: tuple[str, ...] = ()
    named: bool = False


@dataclasses.dataclass(frozen=True)
class Entry:
    """A constructor in a slot.

    Attributes:
        slot: the name of the slot.
        kind: the name of the constructor in the slot; empty where the slot has one constructor
            only, whose tables have no key `kind`.
        constructor: the class or function whose parameters are the keys of the table.
        make: the function that is called with the keys; `constructor`, unless TOML differs from the
            constructor.  The parameters of `make` come first and replace those of the constructor.
            The other parameters of the constructor are keys if `make` takes `**options`.
        without: parameters of the constructor that are no keys.
    """

    slot: str
    kind: str
    constructor: Callable[..., Any]
    make: Callable[..., Any]
    without: tuple[str, ...] = ()


_SLOTS: dict[str, Slot] = {}
_ENTRIES: dict[str, dict[str, Entry]] = {}


def declare(name: str, slot: Slot) -> None:
    """Declare the short forms of a slot; a slot that is not declared has those of `Slot()`.

    Args:
        name: the name of the slot.
        slot: its short forms.

    Example:
        >>> declare("toy.shape", Slot(default="ball"))
        >>> slot("toy.shape").default
        'ball'
    """
    _SLOTS[name] = slot


def register(
    slot: str,
    kind: str,
    make: Callable[..., Any] | None = None,
    *,
    without: tuple[str, ...] = (),
) -> Callable[[Make], Make]:
    """A decorator that puts a class or a function into a slot.

    Args:
        slot: the name of the slot, such as "streaming.loss".
        kind: the name of the constructor in the slot; empty where there is no choice (see `Entry`).
        make: the function that is called instead of the constructor (see `Entry`).
        without: parameters of the constructor that are no keys of its table.

    Raises:
        ValueError: the slot already has another constructor of that kind.

    Example:
        >>> @register("toy.shape", "ball")
        ... class Ball:
        ...     def __init__(self, radius: Positive = 1.0): ...
        >>> entries("toy.shape")["ball"].constructor is Ball
        True
    """

    def add(constructor: Make) -> Make:
        own = _ENTRIES.setdefault(slot, {})
        entry = Entry(slot, kind, constructor, make or constructor, without)
        known = own.setdefault(kind, entry)
        if _origin(known) != _origin(entry):
            raise ValueError(
                f"kind: {kind!r} of {_origin(entry)}; allowed in {slot}: a name that "
                f"{_origin(known)} does not have"
            )
        own[kind] = entry
        return constructor

    return add


def _origin(entry: Entry) -> str:
    constructor = entry.constructor
    return f"{constructor.__module__}.{getattr(constructor, '__qualname__', constructor)}"


def slots() -> list[str]:
    """The names of all slots for which a constructor has been registered."""
    return sorted(_ENTRIES)


def version() -> int:
    """The number of registered constructors, by which types derived from them are cached."""
    return sum(map(len, _ENTRIES.values()))


def slot(name: str) -> Slot:
    """The short forms of a slot, as declared, or those of a plain `Slot()`."""
    return _SLOTS.get(name, Slot())


def entries(name: str) -> Mapping[str, Entry]:
    """The constructors of a slot by kind, in alphabetical order.

    The constructors of included slots, and those that other packages name in entry points, are
    among them.

    Raises:
        ImportError: an entry point that cannot be imported.

    Example:
        >>> @register("toy.shape", "ball")
        ... class Ball:
        ...     def __init__(self, radius: Positive = 1.0): ...
        >>> list(entries("toy.shape"))
        ['ball']
    """
    found: dict[str, Entry] = {}
    for other in slot(name).includes:
        found |= entries(other)
    _load(name)
    return dict(sorted((found | _ENTRIES.get(name, {})).items()))


@functools.cache
def _load(name: str) -> None:
    """Register the constructors that other packages name for a slot in entry points."""
    for point in entry_points(name):
        constructor = load(point)
        known = _ENTRIES.get(name, {}).get(point.name)
        if known is None or known.constructor is not constructor:
            register(name, point.name)(constructor)


def load(point: importlib.metadata.EntryPoint) -> Any:
    """The object that an entry point names.

    Raises:
        ImportError: the object cannot be imported; the message names the entry point.
    """
    try:
        return point.load()
    except Exception as error:
        told = f"{type(error).__name__}: {error}"
        raise ImportError(
            f"entry point: {point.name!r} of {point.group} raises {told}; allowed: a module or an "
            "object that can be imported"
        ) from error


def entry_points(name: str) -> list[importlib.metadata.EntryPoint]:
    """The entry points of the group "hdjax.<name>", in the order of their names."""
    return _entry_points().get(f"hdjax.{name}", [])


@functools.cache
def _entry_points() -> dict[str, list[importlib.metadata.EntryPoint]]:
    # The metadata of all packages is read once, because reading it takes some milliseconds.
    every = importlib.metadata.entry_points()
    return {
        group: sorted(every.select(group=group), key=lambda point: (point.name, point.value))
        for group in every.groups
        if group.startswith("hdjax.")
    }


def suggest(name: Any, allowed: Iterable[str]) -> str:
    """The end of a message about a wrong name: the nearest valid name, and all valid names.

    Args:
        name: the wrong name.
        allowed: the valid names.

    Example:
        >>> suggest("rsik", ["risk", "distance"])
        "did you mean 'risk'? allowed: risk, distance"
    """
    names = [str(valid) for valid in allowed]
    # The beginning of a name is enough; the comparison of a very long name would take minutes.
    near = difflib.get_close_matches(str(name)[:60], names, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return f"{hint}allowed: {', '.join(names) or 'none'}"
