"""What the config schemas of families share: strict tables, arrays from files, spectra, rates."""

from hdjax.schema.arrays import ArrayField
from hdjax.schema.files import FileField
from hdjax.schema.schedules import AnySchedule, Critical, ScheduleConfig
from hdjax.schema.spectra import SpectrumConfig
from hdjax.schema.tables import (
    Call,
    ConfigError,
    Integer,
    Kind,
    NonNegative,
    NonNegativeInteger,
    Positive,
    PositiveInteger,
    Strict,
    brief,
    read,
    suggest,
)

__all__ = [
    "AnySchedule",
    "ArrayField",
    "Call",
    "ConfigError",
    "Critical",
    "FileField",
    "Integer",
    "Kind",
    "NonNegative",
    "NonNegativeInteger",
    "Positive",
    "PositiveInteger",
    "ScheduleConfig",
    "SpectrumConfig",
    "Strict",
    "brief",
    "read",
    "suggest",
]
