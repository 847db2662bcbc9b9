"""The constructors that a config may name, and what their parameters look like in TOML.

A table of a config stands for a call: its keys are parameters of a constructor, with the types and
the defaults of the constructor's own signature.  A *slot* is a place in a config that takes one of
several constructors, chosen by `kind`; a line beside a class or a function puts it into a slot:

    @register("streaming.loss", "hinge")
    class Hinge(Loss):
        def __init__(self, flip: Probability | None = None): ...

Another package does the same by an entry point, whose group is the slot and whose name the kind:

    [project.entry-points."hdjax.streaming.loss"]
    triangle = "my_package:Triangle"

Nothing is imported here: what reads a config derives its tables from these lines (`hdjax.schema`).
"""

import dataclasses
import difflib
import functools
import importlib.metadata
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, TypeVar


class NotGivenError(TypeError):
    """A table needs what the table around it does not have."""


Make = TypeVar("Make", bound=Callable[..., Any])


@dataclasses.dataclass(frozen=True)
class Bounds:
    """Which numbers a parameter takes: more or less than a bound, or as much."""

    above: float | int | None = None
    least: float | int | None = None
    below: float | int | None = None
    most: float | int | None = None

    def hold(self, value: Any) -> bool:
        """Whether a concrete number is finite and within the bounds; True of what is no number."""
        try:
            number = float(value)
        except (TypeError, ValueError):
            return True
        return (
            math.isfinite(number)
            and (self.above is None or number > self.above)
            and (self.least is None or number >= self.least)
            and (self.below is None or number < self.below)
            and (self.most is None or number <= self.most)
        )

    def __str__(self) -> str:
        """The rule in words, for messages."""
        rules = {
            "above": self.above,
            "at least": self.least,
            "below": self.below,
            "at most": self.most,
        }
        told = [f"{words} {bound:g}" for words, bound in rules.items() if bound is not None]
        return " and ".join(["finite", *told])


@dataclasses.dataclass(frozen=True)
class Each:
    """A parameter that is a list of numbers, or one number where one may stand alone."""

    bounds: Bounds
    alone: bool = False
    shortest: int = 0


@dataclasses.dataclass(frozen=True, init=False)
class OneOf:
    """Which words a parameter takes."""

    words: tuple[Any, ...]

    def __init__(self, *words: Any):
        object.__setattr__(self, "words", words)


@dataclasses.dataclass(frozen=True)
class FromFile:
    """A parameter that is an array or the name of a file, which a config names relative to it."""

    array: bool


@dataclasses.dataclass(frozen=True)
class In:
    """A parameter that is a table of a slot."""

    slot: str


# Numbers may be traced or stacked, so that Python's `float` is not their type.
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
Size = Annotated[int, Bounds(least=1)]
Count = Annotated[int, Bounds(least=0)]
Values = Annotated[Any, FromFile(array=True)]
File = Annotated[Any, FromFile(array=False)]
PositiveFloat = Annotated[float, Bounds(above=0)]
NonNegativeFloat = Annotated[float, Bounds(least=0)]
Precision = Annotated[str, OneOf("float32", "float64")]


@dataclasses.dataclass(frozen=True)
class Slot:
    """How a table of a slot is written.

    Attributes:
        default: the kind of a table that does not say.
        array: the kind that holds an array in its key `values`, for which the array itself stands.
        number: the kind that holds a number in its key `value`, for which the number itself stands.
        given: parameters that the surrounding table gives and TOML does not hold, by name.
        includes: slots whose kinds may stand here as well.
        named: whether a table has a key `name` besides, which is how results call it.
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
        slot: where it may stand.
        kind: its name there; nothing in a slot of one constructor, whose tables have no `kind`.
        constructor: whose parameters are the keys.
        make: what is called instead.  Its own parameters come first and replace those of the
            constructor, of which it takes the others by `**options`, if it takes them.
        without: parameters of the constructor that TOML does not hold.
    """

    slot: str
    kind: str
    constructor: Callable[..., Any]
    make: Callable[..., Any]
    without: tuple[str, ...] = ()


_SLOTS: dict[str, Slot] = {}
_ENTRIES: dict[str, dict[str, Entry]] = {}


def declare(name: str, slot: Slot) -> None:
    """Declare how tables of a slot are written; a slot that is not declared is a plain `Slot()`.

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
        slot: the place, such as "streaming.loss".
        kind: the name in it; nothing where there is no choice (see `Entry`).
        make: what is called instead, where TOML differs from the constructor (see `Entry`).
        without: parameters that TOML does not hold.

    Raises:
        ValueError: the slot has another constructor of that name.

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
    """The names of all slots that have a constructor of this package."""
    return sorted(_ENTRIES)


def version() -> int:
    """The number of constructors, which grows when something is registered."""
    return sum(map(len, _ENTRIES.values()))


def slot(name: str) -> Slot:
    """How tables of a slot are written."""
    return _SLOTS.get(name, Slot())


def entries(name: str) -> Mapping[str, Entry]:
    """The constructors of a slot by kind, in alphabetical order, with those of included slots.

    Example:
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
    """Take in what other packages have for a slot."""
    for point in entry_points(name):
        constructor = load(point)
        known = _ENTRIES.get(name, {}).get(point.name)
        if known is None or known.constructor is not constructor:
            register(name, point.name)(constructor)


def load(point: importlib.metadata.EntryPoint) -> Any:
    """What an entry point names.

    Raises:
        ImportError: it cannot be imported; the message says whose it is.
    """
    try:
        return point.load()
    except Exception as error:
        told = f"{type(error).__name__}: {error}"
        raise ImportError(f"entry point {point.name!r} of {point.group}: {told}") from error


def entry_points(name: str) -> list[importlib.metadata.EntryPoint]:
    """The entry points of the group "hdjax.<name>", in the order of their names."""
    return _entry_points().get(f"hdjax.{name}", [])


@functools.cache
def _entry_points() -> dict[str, list[importlib.metadata.EntryPoint]]:
    # Reading all metadata takes some milliseconds: it is read once.
    every = importlib.metadata.entry_points()
    return {
        group: sorted(every.select(group=group), key=lambda point: (point.name, point.value))
        for group in every.groups
        if group.startswith("hdjax.")
    }


def suggest(name: Any, allowed: Iterable[str]) -> str:
    """The remedy for a wrong name: the nearest valid one, and all of them.

    Example:
        >>> suggest("rsik", ["risk", "distance"])
        "did you mean 'risk'? allowed: risk, distance"
    """
    names = [str(valid) for valid in allowed]
    # The beginning of a long name tells enough, and the whole of it would take minutes.
    near = difflib.get_close_matches(str(name)[:60], names, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return f"{hint}allowed: {', '.join(names) or 'none'}"
