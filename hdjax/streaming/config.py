"""How a one-pass SGD experiment is written in a config with `family = "streaming"`.

    [system]
    dimension = 1000
    loss = "phase_retrieval"                            # { kind = "least_squares", sigma = 0.5 }
    spectrum = { kind = "power_law", exponent = 0.5 }   # "identity" if nothing is said
    learning_rate = 0.03                                # { kind = "critical", factor = 0.5 }
    start = { overlap = 0.2 }                           # "start.npy", [[...], ...]
    target = {}

A table with a `kind` calls the public constructor of that name with the table's other keys; a bare
string is a table with nothing else.
"""

from typing import Annotated, Any, Literal

import diffrax
import jax.numpy as jnp
import numpy as np
from pydantic import Field

from hdjax import schedules, spectra, streaming
from hdjax.schema import (
    AnySchedule,
    ArrayField,
    Call,
    Critical,
    Kind,
    NonNegative,
    Positive,
    PositiveInteger,
    SpectrumConfig,
    Strict,
)
from hdjax.schema.spectra import Identity
from hdjax.streaming.config_optimisers import SGD, OptimiserConfig
from hdjax.streaming.losses.config import Loss


def _given(spectrum: spectra.Spectrum, values: np.ndarray) -> Any:
    return jnp.asarray(values, jnp.result_type(float))


def _gaussian(spectrum: spectra.Spectrum, **options: Any) -> streaming.GaussianStart:
    return streaming.GaussianStart(**{name: _listed(value) for name, value in options.items()})


def _gram(spectrum: spectra.Spectrum, blocks: np.ndarray, students: int) -> streaming.GramStart:
    if blocks.ndim == 2:
        blocks = np.asarray(spectrum.weights)[:, None, None] * blocks[None]
    return streaming.GramStart(blocks, students)


class Gaussian(Call):
    """Independent Gaussian columns; students may overlap with the target."""

    make = _gaussian
    kind: Literal["gaussian"] = "gaussian"
    scale: NonNegative | list[NonNegative] = 1.0
    overlap: float | list[float] = 0.0
    columns: PositiveInteger | None = None


class Given(Call):
    """Columns (d, m) as an array."""

    make = _given
    kind: Literal["array"] = "array"
    values: ArrayField


class Gram(Call):
    """Gram blocks (g, q, q) of students and teachers; one (q, q) is spread over the spectrum."""

    make = _gram
    kind: Literal["gram"] = "gram"
    blocks: ArrayField
    students: PositiveInteger = 1


def _orthonormal(spectrum: spectra.Spectrum, components: int, scale: float) -> Any:
    return scale * _cosines(spectrum, components)


def _opposite(spectrum: spectra.Spectrum, components: int, scale: float) -> Any:
    if components != 2:
        raise ValueError(f"means: 'opposite' with {components} components; allowed: 2")
    return scale * _cosines(spectrum, 1) * jnp.array([[1.0, -1.0]])


def _gaussian_means(spectrum: spectra.Spectrum, components: int, scale: Any) -> Any:
    return streaming.GaussianStart(_listed(scale), columns=components)


def _given_means(spectrum: spectra.Spectrum, components: int, values: np.ndarray) -> Any:
    return _given(spectrum, values)


class Orthonormal(Call):
    """`scale` times orthonormal means, one a component, spread evenly over the eigenbasis."""

    make = _orthonormal
    kind: Literal["orthonormal"] = "orthonormal"
    scale: NonNegative = 1.0


class Opposite(Call):
    """Two means, +mu and -mu with |mu| = `scale`, spread evenly over the eigenbasis."""

    make = _opposite
    kind: Literal["opposite"] = "opposite"
    scale: NonNegative = 1.0


class GaussianMeans(Call):
    """Independent Gaussian means of norm `scale`, drawn anew in each run."""

    make = _gaussian_means
    kind: Literal["gaussian"] = "gaussian"
    scale: NonNegative | list[NonNegative] = 1.0


class GivenMeans(Call):
    """Means (d, components) as an array."""

    make = _given_means
    kind: Literal["array"] = "array"
    values: ArrayField


Means = Annotated[
    Orthonormal | Opposite | GaussianMeans | GivenMeans,
    Field(discriminator="kind"),
    Kind(array="array"),
]


class Mixture(Strict):
    """Gaussian mixture data; without `means` the components differ in `eigenvalues` alone."""

    probabilities: list[Positive]
    means: Means | None = None
    eigenvalues: ArrayField | None = None

    def build(self, spectrum: spectra.Spectrum) -> streaming.Mixture:
        """The mixture in the coordinates of `spectrum`."""
        means = None
        if self.means is not None:
            means = self.means.build(spectrum, len(self.probabilities))
        return streaming.Mixture(np.asarray(self.probabilities), means, self.eigenvalues)


def _integrator(solver: str, **options: Any) -> streaming.Integrator:
    solvers = {
        "tsit5": diffrax.Tsit5,
        "dopri8": diffrax.Dopri8,
        "kvaerno5": diffrax.Kvaerno5,
        "exponential_midpoint": streaming.ExponentialMidpoint,
    }
    return streaming.Integrator(solvers[solver](), **options)


class Integrator(Call):
    """How the limit is integrated; `steps` for equal steps instead of tolerances."""

    make = _integrator
    solver: Literal["tsit5", "dopri8", "kvaerno5", "exponential_midpoint"] = "tsit5"
    rtol: Positive = 1e-5
    atol: Positive = 1e-8
    steps: PositiveInteger | None = None
    max_steps: PositiveInteger = 16**4


Start = Annotated[
    Gaussian | Given | Gram, Field(discriminator="kind"), Kind(default="gaussian", array="array")
]
Target = Annotated[
    Gaussian | Given, Field(discriminator="kind"), Kind(default="gaussian", array="array")
]


class Polyak(Call):
    """The rate at which |X - X*|^2 falls fastest, times `factor`; it follows the state."""

    make = streaming.Polyak
    kind: Literal["polyak"] = "polyak"
    factor: Positive = 1.0


class Greedy(Call):
    """The rate at which the risk falls fastest, at most `largest`; it follows the state."""

    make = streaming.Greedy
    kind: Literal["greedy"] = "greedy"
    largest: Positive = 100.0


class AdaGradNorm(Call):
    """scale / sqrt(offset^2 + sum of |gradient|^2/d^2 along the way)."""

    make = streaming.AdaGradNorm
    kind: Literal["adagrad_norm"] = "adagrad_norm"
    scale: Positive = 1.0
    offset: Positive = 1.0


RateConfig = Annotated[
    AnySchedule | Polyak | Greedy | AdaGradNorm,
    Field(discriminator="kind"),
    Kind(number="constant"),
]


class SystemConfig(Strict):
    """The arguments of `hdjax.streaming.OnePassSGD`, and the dimension."""

    dimension: PositiveInteger | None = None
    loss: Loss
    spectrum: SpectrumConfig = Identity()
    learning_rate: RateConfig
    start: Start = Gaussian()
    target: Target | None = None
    mixture: Mixture | None = None
    ridge: NonNegative = 0.0
    batch_size: PositiveInteger = 1
    theta: ArrayField | None = None
    optimiser: OptimiserConfig = SGD()
    compression: PositiveInteger | None = None
    integrator: Integrator = Integrator()

    def build(self) -> streaming.OnePassSGD:
        """The system.

        Raises:
            ValueError, TypeError: naming the argument, its value and what is allowed.
        """
        rate = self.learning_rate
        if not isinstance(rate, Critical):
            return self._system(rate.build())
        unit = self._system(schedules.Constant(1.0))
        return self._system(rate.factor * streaming.critical_learning_rate(unit))

    def _system(self, rate: Any) -> streaming.OnePassSGD:
        spectrum = self.spectrum.build(self.dimension)
        return streaming.OnePassSGD(
            self.loss.build(),
            spectrum,
            rate,
            self.start.build(spectrum),
            None if self.target is None else self.target.build(spectrum),
            mixture=None if self.mixture is None else self.mixture.build(spectrum),
            ridge=self.ridge,
            batch_size=self.batch_size,
            theta=self.theta,
            optimiser=self.optimiser.build(),
            compression=self.compression,
            integrator=self.integrator.build(),
        )


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


MethodConfig = Annotated[
    Direct | GramSampler | Homogenised | CorrectedDiffusion,
    Field(discriminator="kind"),
    Kind(default="direct"),
]
StatisticConfig = Annotated[Resolvent, Kind(default="resolvent")]


def _listed(value: Any) -> Any:
    return np.asarray(value, np.float64) if isinstance(value, list) else value


def _cosines(spectrum: spectra.Spectrum, columns: int) -> Any:
    """The first columns of the discrete cosine basis: orthonormal and spread over coordinates."""
    d = spectrum.size
    if d is None or d <= columns:
        raise ValueError(f"means: {columns} in dimension {d}; allowed: fewer than the dimension")
    angle = np.pi * (np.arange(d)[:, None] + 0.5) * np.arange(1, columns + 1)[None] / d
    return jnp.asarray(np.sqrt(2 / d) * np.cos(angle), jnp.result_type(float))
