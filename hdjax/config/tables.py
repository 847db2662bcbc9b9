"""The schema of a config: its tables other than `[system]`, and the families that it may name.

`model_of` combines both into the pydantic model of the configs of a family, with which
`hdjax.config.experiment` validates a config.
"""

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

# The module of each family of this package, whose import registers the constructors of the family.
# Other packages name their families in entry points of the group "hdjax.families".
FAMILIES = {
    name: f"hdjax.{name}.config"
    for name in ("curvature", "landscapes", "multiindex", "multipass", "networks", "streaming")
}


# The largest number of numbers in a range, and of points of a sweep: more would fill the memory
# before anything is run.
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
        """(num,) the numbers of the range."""
        space = np.linspace if self.spacing == "linear" else np.geomspace
        return space(self.start, self.stop, self.num)


def _range_or_list(value: Any) -> str:
    return "range" if isinstance(value, dict) and "file" not in value else "list"


Times = Annotated[
    Annotated[Range, Tag("range")] | Annotated[ArrayField, Tag("list")],
    Discriminator(_range_or_list),
]


class Run(Strict):
    """The table `[run]`: what is run and recorded, with the options of `hdjax.compare`.

    Args:
        times: the times of the records, in the family's unit of time: a list, or
            `{ start = 0, stop, num, spacing = "linear" or "log" }`.
        runs: number of realisations; 0: the limit alone.
        seed: seed of the random numbers.
        start: where the limit starts: from the law of the start ("law"), or from the realised start
            of each run ("realised").
        limit: whether the limit is computed; false: the simulation alone.
        fluctuations: whether to predict standard deviations; none: if the theory covers the system.
        mean_correction: whether to predict means to order 1/d.
        method: how runs are simulated, a table of the family's slot `method`; none: its default.
        keep: "runs" keeps all curves; "summary" streams moments and keeps the curves of 1024 runs.
        chunk: number of runs side by side; none: as many as memory allows.
        statistics: names, or tables of the family's slot `statistic`; none: all of the system.
        paths: path statistics by name, tables of [path](#path) such as
            `{ kind = "hitting_time", statistic, level }`.
    """

    times: Times
    runs: NonNegativeInteger
    seed: NonNegativeInteger = 0
    start: Literal["law", "realised"] = "law"
    limit: bool = True
    fluctuations: bool | None = None
    mean_correction: bool = False
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
    """The table `[scaling]`: the dimensions at which the distance to the limit is measured.

    With `devices`, the runs at the last dimension are repeated on each of these numbers of devices.
    """

    dims: Annotated[list[PositiveInteger], Field(min_length=2)]
    devices: list[PositiveInteger] = Field(default=[])


class Expect(Strict):
    """The table `[expect]`: rules that the result has to obey (`hdjax.expect`)."""

    rules: list[str] = Field(default=[])


class Config(Strict):
    """A whole config; `model_of` derives from it the model of each family."""

    family: str
    system: Any
    run: Run
    sweep: dict[str, Any] | None = None
    scaling: Scaling | None = None
    expect: Expect = Expect()


def families() -> list[str]:
    """The names of all families, with those of other packages at the end.

    Example:
        >>> families()[:2]
        ['curvature', 'landscapes']
    """
    return list(dict.fromkeys([*FAMILIES, *(point.name for point in entry_points("families"))]))


def slot(family: Any, part: str) -> Any:
    """The type of the tables in a slot of a family.

    Args:
        family: the name of the family.
        part: "system", "method", "statistic" or "path".

    Raises:
        ConfigError: there is no such family.
    """
    load_family(family)
    return slot_type(path_slot(family) if part == "path" else f"{family}.{part}")


def path_slot(family: str) -> str:
    """The slot of a family's path statistics: a slot of the family, or else the shared one."""
    own = f"{family}.path"
    return own if entries(own) else "path"


def load_family(family: Any) -> None:
    """Import a family, so that its constructors are registered.

    Raises:
        ConfigError: there is no such family, or it registers no system.
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
    """The pydantic model of the configs of a family.

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
    # These types are known at run time only, and `Any` hides them from the type checker.
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
    """The JSON schema of the configs of one family, or for None of all families.

    Example:
        >>> json_schema("streaming")["properties"]["family"]["const"]
        'streaming'
    """
    if family is not None:
        return model_of(family).model_json_schema()
    known: Any = Union
    models = known[tuple(model_of(name) for name in families())]
    return TypeAdapter(models).json_schema()
