"""The models of tables of a config, derived from the constructors in `hdjax.registry`.

The model of a table has a field for each parameter of a constructor: its default is the default of
the parameter, its type follows from the annotation, and its description is the text of the
docstring.  `Table.build` calls the constructor, and names the key in the message if the constructor
refuses a value.
"""

import functools
import inspect
import types
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal, Union, get_args, get_origin

from pydantic import AfterValidator, Field, create_model

from hdjax import registry
from hdjax.registry import Bounds, Each, Entry, FromFile, In, NotGivenError, OneOf
from hdjax.schema.arrays import ArrayField
from hdjax.schema.docstrings import arguments, summary
from hdjax.schema.files import FileField
from hdjax.schema.tables import LARGEST, LARGEST_SIZE, ConfigError, Integer, Kind, Strict

_TYPES = (
    "bool, int, str, Literal, list, dict, None, unions of these, and the annotations of "
    "hdjax.registry"
)


class Table(Strict):
    """A table that stands for a call of a registered constructor.

    Attributes:
        entry: the constructor.
        keys: the fields that are parameters, without `kind` and `name`.
        slots: for each key that holds tables of slots, the parameters that these slots are given by
            the surrounding table (`hdjax.registry.Slot.given`).
    """

    entry: ClassVar[Entry]
    keys: ClassVar[frozenset[str]]
    slots: ClassVar[Mapping[str, tuple[str, ...]]]

    def build(self, **given: Any) -> Any:
        """Call the constructor with the keys of the table.

        Args:
            **given: values from surrounding tables, for parameters that are not in TOML.

        Raises:
            ConfigError: the constructor refuses a value; the message names the key.
            NotGivenError: the constructor needs a value that is not given.
        """
        cls = type(self)
        fields = {name: self._built(name, given) for name in cls.model_fields if self._says(name)}
        own = {name: given[name] for name in given_to(cls.entry) if name in given}
        _check_given(cls.entry, own)
        try:
            return cls.entry.make(**own, **fields)
        except (ConfigError, NotGivenError):
            raise
        except (TypeError, ValueError) as error:
            raise _refusal(error, list(cls.model_fields)) from error

    def _says(self, name: str) -> bool:
        """Whether a key is passed to the constructor: it was written, or its default is a table."""
        if name not in type(self).keys:
            return False
        return name in self.model_fields_set or isinstance(getattr(self, name), Table)

    def _built(self, name: str, given: Mapping[str, Any]) -> Any:
        value = getattr(self, name)
        if name not in type(self).slots or not _holds_tables(value):
            return value
        build = functools.partial(built, value, name)
        # A table whose given values are not known yet becomes a function of the missing values.
        waits = set(type(self).slots[name]) - set(given)
        return functools.partial(build, **given) if waits else build(**given)


def _holds_tables(value: Any) -> bool:
    inner = value.values() if isinstance(value, dict) else value
    return isinstance(value, Table) or (
        isinstance(value, list | dict) and any(isinstance(entry, Table) for entry in inner)
    )


def built(value: Any, where: str, **given: Any) -> Any:
    """The objects that the tables under a key stand for.

    Args:
        value: a table, or a list or dictionary of tables.
        where: the key, which is put in front of the message of a mistake.
        **given: values from surrounding tables, as for `Table.build`.

    Raises:
        ConfigError: a constructor refuses a value.
    """
    if isinstance(value, list):
        return [built(entry, f"{where}.{i}", **given) for i, entry in enumerate(value)]
    if isinstance(value, dict):
        return {name: built(own, f"{where}.{name}", **given) for name, own in value.items()}
    try:
        return value.build(**given)
    except ConfigError as error:
        raise error.within(where) from error


def _refusal(error: Exception, keys: Sequence[str]) -> ConfigError:
    """The error of a constructor as a `ConfigError`, at the key that the message names, if any."""
    told = " ".join(str(error).split())
    name, colon, rest = told.partition(": ")
    found = colon and name.split(".")[0] in keys
    return ConfigError(rest, name) if found else ConfigError(told)


def _check_given(entry: Entry, own: Mapping[str, Any]) -> None:
    for name, parameter in inspect.signature(entry.make).parameters.items():
        needed = name in given_to(entry) and parameter.default is parameter.empty
        if needed and name not in own:
            raise NotGivenError(f"{name}: missing; allowed with {entry.kind}: given")


class Parameter:
    """A key of a table.

    Attributes:
        name: the key.
        annotation: the annotation of the parameter.
        default: the default of the parameter; `inspect.Parameter.empty` if there is none.
        text: the description of the parameter in the docstring.
    """

    def __init__(self, name: str, annotation: Any, default: Any, text: str):
        self.name, self.annotation, self.default, self.text = name, annotation, default, text

    @property
    def required(self) -> bool:
        """Whether the key is required in a table."""
        return self.default is inspect.Parameter.empty


def given_to(entry: Entry) -> list[str]:
    """The parameters of a constructor whose values come from the surrounding table."""
    given, own = registry.slot(entry.slot).given, inspect.signature(entry.make).parameters
    takes_all = any(parameter.kind is parameter.VAR_KEYWORD for parameter in own.values())
    return [name for name in given if takes_all or name in own]


def parameters(entry: Entry) -> Iterator[Parameter]:
    """The keys of the table of a constructor.

    A parameter whose annotation is no type of TOML is left out if it has a default.

    Raises:
        TypeError: a parameter without a default has an annotation that is no type of TOML.
    """
    own = inspect.signature(entry.make).parameters
    found = dict(own)
    if entry.make is not entry.constructor and any(p.kind is p.VAR_KEYWORD for p in own.values()):
        rest = inspect.signature(entry.constructor).parameters
        found |= {name: parameter for name, parameter in rest.items() if name not in own}
    texts = arguments(entry.constructor) | arguments(entry.make)
    hidden = {*registry.slot(entry.slot).given, *entry.without}
    for name, parameter in found.items():
        if name in hidden or parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
            continue
        annotation = parameter.annotation
        if not _is_toml(annotation):
            if parameter.default is not parameter.empty and annotation is not Any:
                continue
            where = f"{entry.constructor.__module__}.{entry.constructor.__qualname__}"
            raise TypeError(f"{where}.{name}: {annotation}; allowed in a table: {_TYPES}")
        yield Parameter(name, annotation, parameter.default, texts.get(name, ""))


def _is_toml(annotation: Any) -> bool:
    if get_origin(annotation) is Annotated:
        inner, *marks = get_args(annotation)
        known = any(isinstance(mark, Bounds | Each | OneOf | FromFile | In) for mark in marks)
        return known or _is_toml(inner)
    if get_origin(annotation) is Literal or annotation in (bool, int, float, str, types.NoneType):
        return True
    if get_origin(annotation) in (list, dict, Union, types.UnionType, Sequence):
        return all(_is_toml(inner) for inner in get_args(annotation))
    return False


def slots_in(annotation: Any) -> Iterator[str]:
    """The slots whose tables a parameter may hold, from its annotation.

    Example:
        >>> list(slots_in(list[Annotated[Any, In("streaming.loss")]] | None))
        ['streaming.loss']
    """
    for part in get_args(annotation) if get_origin(annotation) is not Literal else ():
        if isinstance(part, In):
            yield part.slot
        yield from slots_in(part)


class _Deriver:
    """Derives the types of slots, some of which contain tables of the same slot.

    Attributes:
        types: the finished type of each slot.
        models: the model of each constructor, by slot and kind.
        open: the slots that are being derived; inside them their own name is a forward reference.
        waiting: the models whose forward references are resolved when no slot is open.
    """

    def __init__(self) -> None:
        self.types: dict[str, Any] = {}
        self.models: dict[tuple[str, str], type[Table]] = {}
        self.open: set[str] = set()
        self.waiting: list[type[Table]] = []

    def slot(self, name: str) -> Any:
        if name in self.open:
            return _reference(name)
        if name not in self.types:
            self.open.add(name)
            try:
                self.types[name] = self._union(name)
            finally:
                self.open.remove(name)
            if not self.open:
                space = {_reference(slot): own for slot, own in self.types.items()}
                for model in self.waiting:
                    model.model_rebuild(_types_namespace=space)
                self.waiting.clear()
        return self.types[name]

    def _union(self, name: str) -> Any:
        found, slot = registry.entries(name), registry.slot(name)
        if not found:
            return _OwnName
        models = tuple(self.model(entry) for entry in found.values())
        # These types are known at run time only, and `_any` hides them from the type checker.
        known, union = _any(Annotated), _any(Union)
        kind = Kind(slot.default, slot.array, slot.number)
        if len(models) == 1:
            return known[models[0], kind] if "" not in found else models[0]
        return known[union[models], Field(discriminator="kind"), kind]

    def model(self, entry: Entry) -> type[Table]:
        key = entry.slot, entry.kind
        if key not in self.models:
            self.models[key] = self._made(entry)
        return self.models[key]

    def _made(self, entry: Entry) -> type[Table]:
        fields: dict[str, Any] = {}
        if entry.kind:
            fields["kind"] = (_any(Literal)[entry.kind], entry.kind)
        if registry.slot(entry.slot).named:
            fields["name"] = (str, entry.kind)
        slots: dict[str, tuple[str, ...]] = {}
        found = list(parameters(entry))
        for own in found:
            inner = list(slots_in(own.annotation))
            if inner:
                slots[own.name] = tuple(g for slot in inner for g in registry.slot(slot).given)
            options: dict[str, Any] = {"description": own.text or None}
            if not own.required:
                options |= _default(own.default, tables=bool(inner))
            kind = self.type(own.annotation)
            kind = _any(Union)[kind, None] if own.default is None else kind
            fields[own.name] = (kind, Field(**options))
        name = f"{entry.slot}.{entry.kind}".rstrip(".")
        model = create_model(name, __base__=Table, __doc__=summary(entry), **fields)
        model.entry, model.slots = entry, slots
        model.keys = frozenset(own.name for own in found)
        self.waiting.append(model)
        return model

    def type(self, annotation: Any) -> Any:
        """The type of a field for a parameter's annotation."""
        known, origin, inner = _any(Annotated), get_origin(annotation), get_args(annotation)
        if origin is Annotated:
            for mark in inner[1:]:
                match mark:
                    case In(name):
                        return self.slot(name)
                    case OneOf(words):
                        return _any(Literal)[words]
                    case FromFile(array):
                        return ArrayField if array else FileField
                    case Each(bounds, alone, shortest):
                        each = known[float, _within(bounds, False)]
                        several = known[_any(list)[each], Field(min_length=shortest)]
                        return each | several if alone else several
                    case Bounds():
                        whole = inner[0] is int
                        return known[Integer if whole else float, _within(mark, whole)]
            return self.type(inner[0])
        if origin in (Union, types.UnionType):
            return _any(Union)[tuple(self.type(part) for part in inner)]
        if origin in (list, Sequence):
            return _any(list)[self.type(inner[0])]
        if origin is dict:
            return _any(dict)[self.type(inner[0]), self.type(inner[1])]
        return Integer if annotation is int else annotation


def _any(value: Any) -> Any:
    return value


def _reference(slot: str) -> str:
    return f"slot_{slot.replace('.', '_')}"


def _within(bounds: Bounds, whole: bool) -> Any:
    least, most = bounds.least, bounds.most
    if whole:
        most = LARGEST_SIZE if most is None and least == 1 else LARGEST if most is None else most
    return Field(gt=bounds.above, ge=least, lt=bounds.below, le=most)


def _default(value: Any, tables: bool) -> dict[str, Any]:
    """The default of a field, as a factory where JSON, and so the JSON schema, cannot hold it."""
    if tables and isinstance(value, str | dict | list):
        return {"default": value, "validate_default": True}
    if value is None or isinstance(value, bool | str | int):
        return {"default": value}
    if isinstance(value, float) and abs(value) < float("inf"):
        return {"default": value}
    if isinstance(value, tuple):
        return {"default": list(value)}
    return {"default_factory": lambda: value}


class _Named(Strict):
    """A statistic of the system, which has no options."""

    name: str


# The type of the tables of an empty slot: a table with a name stands for that name.
_OwnName = Annotated[_Named, AfterValidator(lambda table: table.name)]


def slot_type(name: str) -> Any:
    """The type of the tables of a slot, for `hdjax.schema.read` and for fields of models.

    Args:
        name: the name of the slot.

    Example:
        >>> from hdjax import schedules
        >>> from hdjax.schema import read
        >>> table = read(slot_type("schedule"), {"kind": "constant", "value": 0.5})
        >>> float(table.build()(0.0))
        0.5
    """
    return _slot_type(name, registry.version())


@functools.cache
def _slot_type(name: str, version: int) -> Any:
    return _deriver(version).slot(name)


@functools.lru_cache(maxsize=1)
def _deriver(version: int) -> _Deriver:
    return _Deriver()
