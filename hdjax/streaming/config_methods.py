"""How one-pass SGD is simulated, and what is recorded of it, as tables of a config.

method = { kind = "direct", data = "rademacher" }
statistics = ["risk", { kind = "steady", name = "floor", statistic = "risk" }]
"""

from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from hdjax import streaming
from hdjax.schema import ArrayField, Call, Kind, Positive, PositiveInteger


class Rademacher(Call):
    """Signs for entries of K^(-1/2) a."""

    make = streaming.Rademacher
    kind: Literal["rademacher"] = "rademacher"


class UniformEntries(Call):
    """Uniform entries of K^(-1/2) a."""

    make = streaming.UniformEntries
    kind: Literal["uniform"] = "uniform"


class StudentT(Call):
    """Entries of K^(-1/2) a of Student's law, of variance 1."""

    make = streaming.StudentT
    kind: Literal["student_t"] = "student_t"
    dof: Annotated[float, Field(gt=2)]


def _rows(values: np.ndarray) -> streaming.Rows:
    return streaming.Rows(values)


class Rows(Call):
    """The rows of an array, each used once."""

    make = _rows
    kind: Literal["array"] = "array"
    values: ArrayField


DataConfig = Annotated[
    Rademacher | UniformEntries | StudentT | Rows,
    Field(discriminator="kind"),
    Kind(array="array"),
]


def _direct(data: Any, **options: Any) -> streaming.Direct:
    return streaming.Direct(data=None if data is None else data.build(), **options)


class Direct(Call):
    """Plain SGD on explicit columns, on Gaussian samples unless `data` says otherwise."""

    make = _direct
    kind: Literal["direct"] = "direct"
    dtype: Literal["float32", "float64"] = "float32"
    block: PositiveInteger | None = None
    data: DataConfig | None = None


class GramSampler(Call):
    """SGD exactly in law by its Gram blocks; without `dtype`, the precision follows d."""

    make = streaming.GramSampler
    kind: Literal["gram_sampler"] = "gram_sampler"
    dtype: Literal["float32", "float64"] | None = None


class Homogenised(Call):
    """Homogenised SGD: SGD's means, not its fluctuations."""

    make = streaming.Homogenised
    kind: Literal["homogenised"] = "homogenised"
    dt: Positive = 0.01


class CorrectedDiffusion(Call):
    """The diffusion of the Gram blocks with SGD's own fluctuations."""

    make = streaming.CorrectedDiffusion
    kind: Literal["corrected_diffusion"] = "corrected_diffusion"
    dt: Positive = 0.01


def _resolvent(low: float, high: float, nodes: int, name: str) -> streaming.resolvent:
    points = streaming.contour(low, high, nodes)
    return streaming.resolvent(tuple(complex(z) for z in points))


class Resolvent(Call):
    """S(t, z) at `nodes` points of an ellipse round [low, high], which holds the spectrum."""

    make = _resolvent
    kind: Literal["resolvent"] = "resolvent"
    name: str = "resolvent"
    low: float = 0.0
    high: float
    nodes: PositiveInteger = 16


def _steady(statistic: str, name: str) -> streaming.steady:
    del name
    return streaming.steady(statistic)


class Steady(Call):
    """A statistic at the steady state nearest to where the state is; or "growth", its stability."""

    make = _steady
    kind: Literal["steady"] = "steady"
    name: str = "steady"
    statistic: Literal["risk", "distance", "gradient_norm", "overlaps", "growth"] = "risk"


MethodConfig = Annotated[
    Direct | GramSampler | Homogenised | CorrectedDiffusion,
    Field(discriminator="kind"),
    Kind(default="direct"),
]
StatisticConfig = Annotated[
    Resolvent | Steady, Field(discriminator="kind"), Kind(default="resolvent")
]
