"""Tables of configs: derived from constructors, strict, and with a line for each mistake."""

from hdjax.schema.arrays import ArrayField
from hdjax.schema.derived import Parameter, Table, built, parameters, slot_type, slots_in
from hdjax.schema.docstrings import arguments, summary
from hdjax.schema.files import FileField
from hdjax.schema.tables import (
    ConfigError,
    Integer,
    Kind,
    NonNegativeInteger,
    PositiveInteger,
    Strict,
    brief,
    read,
)

__all__ = [
    "ArrayField",
    "ConfigError",
    "FileField",
    "Integer",
    "Kind",
    "NonNegativeInteger",
    "Parameter",
    "PositiveInteger",
    "Strict",
    "Table",
    "arguments",
    "brief",
    "built",
    "parameters",
    "read",
    "slot_type",
    "slots_in",
    "summary",
]
