"""How a gradient span experiment is written in a config with `family = "landscapes"`.

    [system]
    dimension = 1e6
    kernel = { kind = "matern52", scale = 0.8 }     # "squared_exponential" if nothing is said
    algorithm = { kind = "heavy_ball", rate = 0.3, momentum = 0.5 }
    mean = [0.0, 0.2]                               # coefficients in |x|^2/2
    radius = 1.0

A table with a `kind` calls the public constructor of that name with the table's other keys; a bare
string is a table with nothing else.
"""

from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from hdjax import landscapes
from hdjax.schema import (
    ArrayField,
    Call,
    Kind,
    NonNegative,
    NonNegativeInteger,
    Positive,
    PositiveInteger,
    SpectrumConfig,
)
from hdjax.schema.schedules import Constant, Cosine, PiecewiseConstant, PowerDecay, Table
from hdjax.schema.tables import Strict
from hdjax.system import System


class SquaredExponential(Call):
    """C(h) = var exp(-h/scale^2)."""

    make = landscapes.SquaredExponential
    kind: Literal["squared_exponential"] = "squared_exponential"
    var: Positive = 1.0
    scale: Positive = 1.0


class RationalQuadratic(Call):
    """C(h) = var (1 + 2h/(beta scale^2))^(-beta/2)."""

    make = landscapes.RationalQuadratic
    kind: Literal["rational_quadratic"] = "rational_quadratic"
    var: Positive = 1.0
    scale: Positive = 1.0
    beta: Positive = 2.0


class Matern32(Call):
    """Once differentiable."""

    make = landscapes.Matern32
    kind: Literal["matern32"] = "matern32"
    var: Positive = 1.0
    scale: Positive = 1.0


class Matern52(Call):
    """Twice differentiable."""

    make = landscapes.Matern52
    kind: Literal["matern52"] = "matern52"
    var: Positive = 1.0
    scale: Positive = 1.0


class SpinGlass(Call):
    """A power series in <x, y>: c_0, c_1, c_2, ..."""

    make = landscapes.SpinGlass
    kind: Literal["spin_glass"] = "spin_glass"
    coefficients: Annotated[list[NonNegative], Field(min_length=1)]


def _sum(terms: list[Any]) -> landscapes.Kernel:
    first, *others = [term.build() for term in terms]
    for other in others:
        first = first + other
    return first


def _modulated(amplitude: list[float], kernel: Any) -> landscapes.Kernel:
    return landscapes.Amplitude(np.asarray(amplitude)) * kernel.build()


class Sum(Call):
    """A sum of kernels."""

    make = _sum
    kind: Literal["sum"] = "sum"
    terms: Annotated[list["KernelConfig"], Field(min_length=1)]


class Modulated(Call):
    """s(a) s(b) times a kernel, s a polynomial in |x|^2/2 with these coefficients."""

    make = _modulated
    kind: Literal["modulated"] = "modulated"
    amplitude: Annotated[list[float], Field(min_length=1)]
    kernel: "KernelConfig"


KernelConfig = Annotated[
    SquaredExponential | RationalQuadratic | Matern32 | Matern52 | SpinGlass | Sum | Modulated,
    Field(discriminator="kind"),
    Kind(),
]
Sum.model_rebuild()
Modulated.model_rebuild()


class Steps(Call):
    """One step size for each step."""

    make = landscapes.Steps
    kind: Literal["steps"] = "steps"
    values: ArrayField


class Normalised(Call):
    """Steps of one length."""

    make = landscapes.Normalised
    kind: Literal["normalised"] = "normalised"
    length: Positive


class Clipped(Call):
    """A rate times min(1, threshold/|g|)."""

    make = landscapes.Clipped
    kind: Literal["clipped"] = "clipped"
    rate: Positive
    threshold: Positive


class Polyak(Call):
    """The factor times (f - lowest)/|g|^2."""

    make = landscapes.Polyak
    kind: Literal["polyak"] = "polyak"
    lowest: float
    factor: Positive = 1.0


def _descent(kernel: landscapes.Kernel, mean: float) -> landscapes.RandomFunctionDescent:
    return landscapes.RandomFunctionDescent(kernel, mean)


class RandomFunctionDescent(Call):
    """The step that is best on average for the landscape's own kernel."""

    make = _descent
    kind: Literal["random_function_descent"] = "random_function_descent"
    mean: float = 0.0


RateConfig = Annotated[
    Constant
    | PiecewiseConstant
    | PowerDecay
    | Cosine
    | Table
    | Steps
    | Normalised
    | Clipped
    | Polyak
    | RandomFunctionDescent,
    Field(discriminator="kind"),
    Kind(number="constant"),
]
ScheduleConfig = Annotated[
    Constant | PiecewiseConstant | PowerDecay | Cosine | Table,
    Field(discriminator="kind"),
    Kind(number="constant"),
]


class _WithRate(Call):
    """An algorithm with a rate, which may ask for the landscape's kernel."""

    rate: RateConfig

    def build(self, *arguments: Any) -> Any:
        """The algorithm on a landscape with kernel `arguments[0]`."""
        fields = {name: getattr(self, name) for name in type(self).model_fields if name != "kind"}
        known = arguments if isinstance(self.rate, RandomFunctionDescent) else ()
        fields["rate"] = self.rate.build(*known)
        if isinstance(fields.get("momentum"), Call):
            fields["momentum"] = fields["momentum"].build()
        return type(self).make(**fields)


class GradientDescent(_WithRate):
    """Gradient descent."""

    make = landscapes.GradientDescent
    kind: Literal["gradient_descent"] = "gradient_descent"


class HeavyBall(_WithRate):
    """Polyak's momentum."""

    make = landscapes.HeavyBall
    kind: Literal["heavy_ball"] = "heavy_ball"
    momentum: ScheduleConfig


class Nesterov(_WithRate):
    """Nesterov's momentum."""

    make = landscapes.Nesterov
    kind: Literal["nesterov"] = "nesterov"
    momentum: ScheduleConfig


class ConjugateGradient(_WithRate):
    """Nonlinear conjugate gradients."""

    make = landscapes.ConjugateGradient
    kind: Literal["conjugate_gradient"] = "conjugate_gradient"
    formula: Literal["FR", "PR", "PR+", "HS"] = "PR+"


class SphereDescent(_WithRate):
    """Gradient descent on a sphere."""

    make = landscapes.SphereDescent
    kind: Literal["sphere_descent"] = "sphere_descent"


def _barzilai_borwein(high: float | None, **options: Any) -> landscapes.BarzilaiBorwein:
    return landscapes.BarzilaiBorwein(high=np.inf if high is None else high, **options)


class BarzilaiBorwein(Call):
    """The rates of Barzilai and Borwein, within [low, high]; without `high`, unbounded."""

    make = _barzilai_borwein
    kind: Literal["barzilai_borwein"] = "barzilai_borwein"
    initial: Positive
    variant: Literal[1, 2] = 1
    low: NonNegative = 0.0
    high: Positive | None = None


class LowerTriangular(Call):
    """Fixed prefactors of all gradients."""

    make = landscapes.LowerTriangular
    kind: Literal["lower_triangular"] = "lower_triangular"
    matrix: ArrayField


class Optimised(Strict):
    """The local optimum of a family of algorithms after `steps` steps, found through the limit."""

    kind: Literal["optimised"] = "optimised"
    family: Literal["constant", "schedule", "heavy_ball", "lower_triangular"]
    steps: PositiveInteger

    def build(self, **landscape: Any) -> Any:
        """The best algorithm of the family on a landscape with these arguments."""
        make, start = landscapes.algorithm_family(self.family, self.steps)

        def system(parameters: Any) -> landscapes.GradientSpan:
            return landscapes.GradientSpan(
                algorithm=make(parameters), dimension=np.inf, **landscape
            )

        return make(landscapes.optimise(system, start, self.steps).parameters)


class _ComponentWise(Call):
    """An optimiser that moves each coordinate by itself; its rate is that of d^(1/2) x."""

    rate: ScheduleConfig

    def build(self, *arguments: Any) -> Any:
        """The optimiser."""
        fields = {name: getattr(self, name) for name in type(self).model_fields if name != "kind"}
        return type(self).make(**fields | {"rate": self.rate.build()})


class Adam(_ComponentWise):
    """Adam."""

    make = landscapes.Adam
    kind: Literal["adam"] = "adam"
    beta1: NonNegative = 0.9
    beta2: NonNegative = 0.999
    epsilon: NonNegative = 1e-8


class RMSProp(_ComponentWise):
    """RMSProp."""

    make = landscapes.RMSProp
    kind: Literal["rmsprop"] = "rmsprop"
    decay: NonNegative = 0.9
    epsilon: NonNegative = 1e-8


class SignDescent(_ComponentWise):
    """A step of one length in each coordinate."""

    make = landscapes.SignDescent
    kind: Literal["sign_descent"] = "sign_descent"


AlgorithmConfig = Annotated[
    GradientDescent
    | HeavyBall
    | Nesterov
    | ConjugateGradient
    | SphereDescent
    | BarzilaiBorwein
    | LowerTriangular
    | Optimised
    | Adam
    | RMSProp
    | SignDescent,
    Field(discriminator="kind"),
    Kind(),
]


class SystemConfig(Strict):
    """The arguments of `hdjax.landscapes.GradientSpan` or `ComponentWise`.

    `kind = "next_observation"` records what is known of each observation before it is made.
    """

    kind: Literal["trajectory", "next_observation"] = "trajectory"
    dimension: PositiveInteger
    kernel: KernelConfig = SquaredExponential()
    algorithm: AlgorithmConfig
    mean: float | list[float] = 0.0
    radius: NonNegative = 1.0
    noise: KernelConfig | None = None
    spectrum: SpectrumConfig | None = None
    shares: list[NonNegative] | None = None

    def build(self) -> System:
        """The system.

        Raises:
            ValueError, TypeError: naming the argument, its value and what is allowed.
        """
        algorithm = self.algorithm
        landscape: dict[str, Any] = {
            "kernel": self.kernel.build(),
            "mean": np.asarray(self.mean, np.float64),
            "radius": self.radius,
            "noise": None if self.noise is None else self.noise.build(),
        }
        if isinstance(algorithm, _ComponentWise):
            given = {"spectrum": self.spectrum, "shares": self.shares}
            given |= {"kind": None if self.kind == "trajectory" else self.kind}
            for name, value in given.items():
                if value is not None:
                    raise ValueError(f"{name}: given; allowed with {algorithm.kind}: its default")
            return landscapes.ComponentWise(
                optimiser=algorithm.build(), dimension=self.dimension, **landscape
            )
        if isinstance(algorithm, Optimised):
            built = algorithm.build(**landscape)
        elif isinstance(algorithm, _WithRate):
            built = algorithm.build(landscape["kernel"])
        else:
            built = algorithm.build()
        system = landscapes.GradientSpan(
            algorithm=built,
            dimension=self.dimension,
            spectrum=None if self.spectrum is None else self.spectrum.build(self.dimension),
            shares=None if self.shares is None else np.asarray(self.shares),
            **landscape,
        )
        return system if self.kind == "trajectory" else landscapes.NextObservation(system)


class Previsible(Call):
    """The exact law in previsible coordinates."""

    make = landscapes.Previsible
    kind: Literal["previsible"] = "previsible"
    nugget: NonNegative = 1e-10


class Explicit(Call):
    """Tensors or cosine features in R^d."""

    make = landscapes.Explicit
    kind: Literal["explicit"] = "explicit"
    features: PositiveInteger | None = None
    couplings: Literal["gaussian", "rademacher"] = "gaussian"
    variances: Annotated[list[Positive], Field(min_length=1)] = Field(default=[1.0])
    dtype: Literal["float32", "float64"] = "float32"


class Ambient(Call):
    """The exact law by conditioning all coordinates."""

    make = landscapes.Ambient
    kind: Literal["ambient"] = "ambient"


class Overlap(Call):
    """The inner product of x_k with x_step, or of g_k with g_step."""

    make = landscapes.Overlap
    kind: Literal["overlap"] = "overlap"
    step: NonNegativeInteger
    of: Literal["points", "gradients"] = "points"
    name: str = "overlap"

    def build(self, *arguments: Any) -> Any:
        """The statistic; its name stands beside it."""
        return landscapes.Overlap(self.step, self.of)


MethodConfig = Annotated[
    Previsible | Explicit | Ambient, Field(discriminator="kind"), Kind(default="previsible")
]
StatisticConfig = Annotated[Overlap, Kind(default="overlap")]
