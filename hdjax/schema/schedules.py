"""Learning rates in a config: a number, or a table for a class of `hdjax.schedules`."""

from typing import Annotated, Literal

from pydantic import Field

from hdjax import schedules
from hdjax.schema.arrays import ArrayField
from hdjax.schema.tables import Call, Kind, NonNegative, Positive, Strict


class Constant(Call):
    """gamma(t) = value; a bare number is the same."""

    make = schedules.Constant
    kind: Literal["constant"] = "constant"
    value: NonNegative


class PiecewiseConstant(Call):
    """gamma(t) = values[i] up to boundaries[i]."""

    make = schedules.PiecewiseConstant
    kind: Literal["piecewise_constant"] = "piecewise_constant"
    boundaries: ArrayField
    values: ArrayField


class PowerDecay(Call):
    """gamma(t) = initial (1 + t/timescale)^-exponent."""

    make = schedules.PowerDecay
    kind: Literal["power_decay"] = "power_decay"
    initial: NonNegative
    exponent: NonNegative
    timescale: Positive = 1.0


class Cosine(Call):
    """Half a cosine from `initial` to `final` over `horizon`."""

    make = schedules.Cosine
    kind: Literal["cosine"] = "cosine"
    initial: NonNegative
    horizon: Positive
    final: NonNegative = 0.0


class Table(Call):
    """Linear interpolation of `values` at `times`."""

    make = schedules.Table
    kind: Literal["table"] = "table"
    times: ArrayField
    values: ArrayField


class Critical(Strict):
    """A constant: `factor` times the critical learning rate of the start (the family knows it)."""

    kind: Literal["critical"] = "critical"
    factor: NonNegative


FixedSchedule = Constant | PiecewiseConstant | PowerDecay | Cosine | Table
AnySchedule = FixedSchedule | Critical

# A function of t that is no learning rate: a damping, say.
ScheduleConfig = Annotated[FixedSchedule, Field(discriminator="kind"), Kind(number="constant")]
