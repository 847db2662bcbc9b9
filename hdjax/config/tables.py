"""The tables of a config other than `[system]`, and the families whose `[system]` it may hold."""

import functools
import importlib
from typing import Annotated, Any, Literal, Union

import numpy as np
from pydantic import Discriminator, Field, Tag, TypeAdapter, create_model, model_validator

from hdjax.registry import entries, entry_points, load, suggest, version
from hdjax.schema import (
    ArrayField,
    ConfigError,
    NonNegativeInteger,
    PositiveInteger,
    Strict,
    brief,
    slot_type,
)

# The module of each family that comes with this package; importing it fills the family's slots.
# Other packages name theirs in the entry points of the group "hdjax.families".
FAMILIES = {
    name: f"hdjax.{name}.config"
    for name in ("curvature", "landscapes", "multiindex", "multipass", "networks", "streaming")
}


# Numbers in a range, and points of a sweep: more would fill the memory before anything is run.
MOST = 10**6


class Range(Strict):
    """`num` numbers from `start` to `stop`, spaced evenly or (start > 0) geometrically."""

    start: float = 0.0
    stop: float
    num: Annotated[PositiveInteger, Field(le=MOST)]
    spacing: Literal["linear", "log"] = "linear"

    @model_validator(mode="after")
    def _positive_start(self) -> "Range":
        if self.spacing == "log" and not (self.start > 0 and self.stop > 0):
            raise ValueError(f"start: {self.start:g}; allowed with spacing 'log': positive")
        return self

    @property
    def values(self) -> np.ndarray:
        """The numbers."""
        space = np.linspace if self.spacing == "linear" else np.geomspace
        return space(self.start, self.stop, self.num)


def _range_or_list(value: Any) -> str:
    return "range" if isinstance(value, dict) and "file" not in value else "list"


Times = Annotated[
    Annotated[Range, Tag("range")] | Annotated[ArrayField, Tag("list")],
    Discriminator(_range_or_list),
]


class Run(Strict):
    """What is run and recorded; the options of `hdjax.compare`.

    Args:
        times: a list, or `{ start = 0, stop, num, spacing = "linear" or "log" }`, in the family's
            time.
        runs: realisations; 0 is the limit alone.
        seed: that of the random numbers.
        start: where the limit starts: from the law of the start ("law"), or from each run's own
            ("realised").
        limit: false is the simulation alone.
        fluctuations: whether to predict standard deviations; none: where they are known.
        method: how runs are simulated, a table of the family's slot `method`; none: its default.
        keep: "summary" streams moments and keeps the curves of 1024 runs.
        chunk: runs side by side; none: by memory.
        statistics: names, or tables of the family's slot `statistic`; none: all names.
        paths: named tables of [path](#path), such as `{ kind = "hitting_time", statistic, level }`.
    """

    times: Times
    runs: NonNegativeInteger
    seed: NonNegativeInteger = 0
    start: Literal["law", "realised"] = "law"
    limit: bool = True
    fluctuations: bool | None = None
    method: Any = None
    keep: Literal["runs", "summary"] = "runs"
    chunk: PositiveInteger | None = None
    statistics: Annotated[list[Any], Field(min_length=1)] | None = None
    paths: dict[str, Any] = Field(default={})

    @model_validator(mode="after")
    def _something_to_do(self) -> "Run":
        if self.runs == 0 and (not self.limit or self.start == "realised"):
            raise ValueError(
                "runs: 0; allowed without a limit or with start = 'realised': 1 or more"
            )
        return self


class Scaling(Strict):
    """The dimensions at which the error is measured."""

    dims: Annotated[list[PositiveInteger], Field(min_length=2)]


class Expect(Strict):
    """Rules that the result has to obey."""

    rules: list[str] = Field(default=[])


class Config(Strict):
    """A whole config; `model_of` gives the one of a family."""

    family: str
    system: Any
    run: Run
    sweep: dict[str, Any] | None = None
    scaling: Scaling | None = None
    expect: Expect = Expect()


def families() -> list[str]:
    """The names of all families, those of other packages last.

    Example:
        >>> families()[:2]
        ['curvature', 'landscapes']
    """
    return list(dict.fromkeys([*FAMILIES, *(point.name for point in entry_points("families"))]))


def slot(family: Any, part: str) -> Any:
    """The type of a family's tables: "system", "method", "statistic" or "path".

    Raises:
        ConfigError: there is no such family.
    """
    load_family(family)
    return slot_type(path_slot(family) if part == "path" else f"{family}.{part}")


def path_slot(family: str) -> str:
    """The slot of a family's path statistics: its own, if it has one."""
    own = f"{family}.path"
    return own if entries(own) else "path"


def load_family(family: Any) -> None:
    """Import what a family consists of.

    Raises:
        ConfigError: there is no such family.
    """
    names = families()
    if not isinstance(family, str) or family not in names:
        raise ConfigError(f"family: {brief(family)}; {suggest(family, names)}")
    if family in FAMILIES:
        importlib.import_module(FAMILIES[family])
    for point in entry_points("families"):
        if point.name == family:
            load(point)
    if not entries(f"{family}.system"):
        rule = f"a family that registers a constructor in {family}.system"
        raise ConfigError(f"family: {brief(family)}; allowed: {rule}")


def model_of(family: str) -> type[Config]:
    """The schema of configs of a family.

    Raises:
        ConfigError: there is no such family.

    Example:
        >>> sorted(model_of("streaming").model_fields)
        ['expect', 'family', 'run', 'scaling', 'sweep', 'system']
    """
    load_family(family)
    return _model_of(family, version())


@functools.cache
def _model_of(family: str, version: int) -> type[Config]:
    # Types that are known at run time alone: a type checker is told nothing of them.
    known: Any = Annotated
    literal: Any = Literal
    kind = Discriminator(lambda value: "name" if isinstance(value, str) else "table")
    table = known[slot(family, "statistic"), Tag("table")]
    statistic = known[known[str, Tag("name")] | table, kind]
    fields: dict[str, Any] = {
        "paths": (dict[str, slot(family, "path")], Field(default={})),
        "method": (slot(family, "method") | None if entries(f"{family}.method") else None, None),
        "statistics": (known[list[statistic], Field(min_length=1)] | None, None),
    }
    run = create_model("Run", __base__=Run, __doc__=Run.__doc__, **fields)
    fields = {
        "family": (literal[family], ...),
        "system": (slot(family, "system"), ...),
        "run": (run, ...),
    }
    title = f"An experiment of the family {family!r}."
    return create_model("Config", __base__=Config, __doc__=title, **fields)


def json_schema(family: str | None = None) -> dict[str, Any]:
    """The JSON schema of configs, of one family or of all.

    Example:
        >>> json_schema("streaming")["properties"]["family"]["const"]
        'streaming'
    """
    if family is not None:
        return model_of(family).model_json_schema()
    known: Any = Union
    models = known[tuple(model_of(name) for name in families())]
    return TypeAdapter(models).json_schema()
