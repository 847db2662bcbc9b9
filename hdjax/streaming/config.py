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
import jax
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
    NonNegativeInteger,
    Positive,
    PositiveInteger,
    SpectrumConfig,
    Strict,
)
from hdjax.schema.spectra import Identity
from hdjax.streaming.config_methods import MethodConfig, StatisticConfig
from hdjax.streaming.config_optimisers import SGD, OptimiserConfig
from hdjax.streaming.losses.config import Loss

__all__ = ["MethodConfig", "StatisticConfig", "SystemConfig"]


def _given(spectrum: spectra.Spectrum, values: np.ndarray) -> Any:
    return jnp.asarray(values, jnp.result_type(float))


def _gaussian(spectrum: spectra.Spectrum, **options: Any) -> streaming.GaussianStart:
    return streaming.GaussianStart(**{name: _listed(value) for name, value in options.items()})


def _axis(spectrum: spectra.Spectrum, index: int, scale: float) -> Any:
    d = spectrum.size
    if d is None or index >= d:
        raise ValueError(f"index: {index} in dimension {d}; allowed: 0 to the dimension - 1")
    return jnp.zeros((d, 1), jnp.result_type(float)).at[index].set(scale)


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


class Axis(Call):
    """`scale` times a vector of the standard basis: a column as little spread as there is."""

    make = _axis
    kind: Literal["axis"] = "axis"
    index: NonNegativeInteger = 0
    scale: NonNegative = 1.0


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
    rtol: Positive | None = None
    atol: Positive | None = None
    steps: PositiveInteger | None = None
    max_steps: PositiveInteger = 16**4


Start = Annotated[
    Gaussian | Given | Axis | Gram,
    Field(discriminator="kind"),
    Kind(default="gaussian", array="array"),
]
Target = Annotated[
    Gaussian | Given | Axis, Field(discriminator="kind"), Kind(default="gaussian", array="array")
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


class Projected(Strict):
    """The arguments of `hdjax.streaming.OnePassSGD`, and the dimension."""

    kind: Literal["projected"] = "projected"
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
    compression: Positive | None = None
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


class PowerLawFeatures(Strict):
    """Least squares on random features of power-law inputs; `dimension` is the number of them."""

    kind: Literal["power_law_features"] = "power_law_features"
    dimension: PositiveInteger
    inputs: PositiveInteger
    alpha: float
    beta: float
    step: Positive
    draw: NonNegativeInteger = 0
    batch_size: PositiveInteger = 1
    optimiser: OptimiserConfig = SGD()
    integrator: Integrator = Integrator()

    def build(self) -> streaming.OnePassSGD:
        """The system on the features drawn from the seed `draw`."""
        return streaming.power_law_features(
            jax.random.key(self.draw),
            self.dimension,
            self.inputs,
            alpha=self.alpha,
            beta=self.beta,
            step=self.step,
            batch_size=self.batch_size,
            optimiser=self.optimiser.build(),
            integrator=self.integrator.build(),
        )


SystemConfig = Annotated[
    Projected | PowerLawFeatures, Field(discriminator="kind"), Kind(default="projected")
]


def _listed(value: Any) -> Any:
    return np.asarray(value, np.float64) if isinstance(value, list) else value


def _cosines(spectrum: spectra.Spectrum, columns: int) -> Any:
    """The first columns of the discrete cosine basis: orthonormal and spread over coordinates."""
    d = spectrum.size
    if d is None or d <= columns:
        raise ValueError(f"means: {columns} in dimension {d}; allowed: fewer than the dimension")
    angle = np.pi * (np.arange(d)[:, None] + 0.5) * np.arange(1, columns + 1)[None] / d
    return jnp.asarray(np.sqrt(2 / d) * np.cos(angle), jnp.result_type(float))
