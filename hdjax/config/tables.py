"""The tables of a config other than `[system]`, and the families whose `[system]` it may hold."""

import functools
import importlib
from types import ModuleType
from typing import Annotated, Any, Literal, Union

import numpy as np
from pydantic import Discriminator, Field, Tag, TypeAdapter, create_model, model_validator

from hdjax.engine import paths
from hdjax.schema import (
    ArrayField,
    Call,
    ConfigError,
    Kind,
    NonNegativeInteger,
    PositiveInteger,
    Strict,
    brief,
    suggest,
)

# Where each family's schema is: a module with SystemConfig, MethodConfig and StatisticConfig, and
# PathConfig if it has path statistics of its own (a union of tables).
FAMILIES = {
    "curvature": "hdjax.curvature.config",
    "landscapes": "hdjax.landscapes.config",
    "multiindex": "hdjax.multiindex.config",
    "multipass": "hdjax.multipass.config",
    "networks": "hdjax.networks.config",
    "streaming": "hdjax.streaming.config",
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


class HittingTime(Call):
    """The first time at which a statistic reaches `level`."""

    make = paths.hitting_time
    kind: Literal["hitting_time"] = "hitting_time"
    statistic: str
    level: float


class ValueAt(Call):
    """The value of a statistic at time `t`."""

    make = paths.value_at
    kind: Literal["value_at"] = "value_at"
    statistic: str
    t: float


class FirstBadTime(Call):
    """The first time at which a statistic is not finite."""

    make = paths.first_bad_time
    kind: Literal["first_bad_time"] = "first_bad_time"
    statistic: str


_PATHS = HittingTime | ValueAt | FirstBadTime
PathConfig = Annotated[_PATHS, Field(discriminator="kind"), Kind()]


class Run(Strict):
    """What is run and recorded; the options of `hdjax.compare`.

    `runs = 0` is the limit alone; `limit = false` is the simulation alone.
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
    paths: dict[str, PathConfig] = Field(default={})

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


def family_module(name: Any) -> ModuleType:
    """The module that holds a family's schema.

    Raises:
        ConfigError: there is no such family.
    """
    if not isinstance(name, str) or name not in FAMILIES:
        raise ConfigError(f"family: {brief(name)}; {suggest(name, FAMILIES)}")
    return importlib.import_module(FAMILIES[name])


@functools.cache
def model_of(family: str) -> type[Config]:
    """The schema of configs of a family.

    Raises:
        ConfigError: there is no such family.

    Example:
        >>> sorted(model_of("streaming").model_fields)
        ['expect', 'family', 'run', 'scaling', 'sweep', 'system']
    """
    module = family_module(family)
    # Types that are known at run time alone: a type checker is told nothing of them.
    known: Any = Annotated
    literal: Any = Literal
    kind = Discriminator(lambda value: "name" if isinstance(value, str) else "table")
    statistic = known[known[str, Tag("name")] | known[module.StatisticConfig, Tag("table")], kind]
    own = getattr(module, "PathConfig", None)
    paths = PathConfig if own is None else known[_PATHS | own, Field(discriminator="kind"), Kind()]
    fields: dict[str, Any] = {
        "paths": (dict[str, paths], Field(default={})),
        "method": (module.MethodConfig | None, None),
        "statistics": (known[list[statistic], Field(min_length=1)] | None, None),
    }
    run = create_model("Run", __base__=Run, __doc__=Run.__doc__, **fields)
    fields = {
        "family": (literal[family], ...),
        "system": (module.SystemConfig, ...),
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
    if len(FAMILIES) == 1:
        return json_schema(*FAMILIES)
    known: Any = Union
    models = known[tuple(model_of(name) for name in FAMILIES)]
    return TypeAdapter(models).json_schema()
