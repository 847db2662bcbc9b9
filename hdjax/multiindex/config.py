"""How a multi-index experiment is written in a config with `family = "multiindex"`.

    [system]
    dimension = 1e12
    link = { kind = "coefficients", values = [0.8, 0.6], degrees = [[1, 0], [0, 2]] }
    directions = 2                                      # q; r if nothing is said
    start = [[0.1, 0.0], [0.0, 0.1]]                    # M = W^T W*; Haar if nothing is said
    algorithm = "saddle_to_saddle"                      # { kind = "sgd", learning_rate = 0.1 }

A table with a `kind` calls the public constructor of that name with the table's other keys; a bare
string is a table with nothing else.
"""

from typing import Annotated, Any, Literal

import diffrax
from pydantic import Field

from hdjax import multiindex
from hdjax.multiindex.link_config import Link
from hdjax.schema import (
    ArrayField,
    Call,
    Kind,
    NonNegative,
    Positive,
    PositiveInteger,
    Strict,
)


class Profiled(Call):
    """The best link at every time."""

    make = multiindex.Profiled
    kind: Literal["profiled"] = "profiled"
    ridge: NonNegative | None = None


def _planted(link: Any) -> multiindex.Planted:
    return multiindex.Planted(None if link is None else link.build())


class Planted(Call):
    """A fixed link; the target's own if none is given."""

    make = _planted
    kind: Literal["planted"] = "planted"
    link: Link | None = None


def _joint(target: multiindex.Link, ratio: float, start: str) -> Any:
    if ratio == 0:
        return multiindex.Profiled()
    return multiindex.Joint(ratio, target if start == "planted" else None)


class Joint(Call):
    """A link that moves 1/ratio times faster; ratio 0 is the best link at every time."""

    make = _joint
    kind: Literal["joint"] = "joint"
    ratio: NonNegative
    start: Literal["best", "planted"] = "best"


Student = Annotated[Profiled | Planted | Joint, Field(discriminator="kind"), Kind()]


def _integrator(solver: str, **options: Any) -> multiindex.Integrator:
    solvers = {
        "tsit5": diffrax.Tsit5,
        "dopri8": diffrax.Dopri8,
        "kvaerno5": diffrax.Kvaerno5,
    }
    return multiindex.Integrator(solvers[solver](), **options)


class Integrator(Call):
    """How flows are integrated."""

    make = _integrator
    solver: Literal["tsit5", "dopri8", "kvaerno5"] = "dopri8"
    rtol: Positive = 1e-8
    atol: Positive | None = None
    form: Literal["overlap", "odds"] = "overlap"
    max_steps: PositiveInteger = 16**4


class HermiteRidge(Call):
    """Ridge regression on Hermite features up to `degree`."""

    make = multiindex.HermiteRidge
    kind: Literal["hermite_ridge"] = "hermite_ridge"
    degree: PositiveInteger = 3
    ridge: Positive = 1e-3


class KernelRidge(Call):
    """Kernel ridge regression with Mehler's kernel."""

    make = multiindex.KernelRidge
    kind: Literal["kernel_ridge"] = "kernel_ridge"
    rho: Annotated[float, Field(gt=0, lt=1)] = 0.5
    ridge: Positive = 1e-3


class RandomFeatures(Call):
    """Ridge regression on Hermite polynomials of random projections."""

    make = multiindex.RandomFeatures
    kind: Literal["random_features"] = "random_features"
    count: PositiveInteger = 16
    degree: PositiveInteger = 3
    ridge: Positive = 1e-3


def _fixed(link: Any) -> multiindex.Fixed:
    return multiindex.Fixed(link.build())


class Fixed(Call):
    """A link that is not fitted."""

    make = _fixed
    kind: Literal["fixed"] = "fixed"
    link: Link


class Network(Call):
    """A multi-layer perceptron trained by Adam, `updates` times for each step of W."""

    make = multiindex.Network
    kind: Literal["network"] = "network"
    width: PositiveInteger = 32
    depth: PositiveInteger = 1
    updates: PositiveInteger = 20
    learning_rate: Positive = 1e-2


Readout = Annotated[
    HermiteRidge | KernelRidge | RandomFeatures | Fixed | Network,
    Field(discriminator="kind"),
    Kind(),
]


class ConstantStep(Call):
    """The step eta."""

    make = multiindex.Constant
    kind: Literal["constant"] = "constant"
    value: Positive


class Adaptive(Call):
    """The step factor / lambda_max of the covariance of the student's gradient."""

    make = multiindex.Adaptive
    kind: Literal["adaptive"] = "adaptive"
    factor: Positive = 0.5


Step = Annotated[
    ConstantStep | Adaptive,
    Field(discriminator="kind"),
    Kind(default="adaptive", number="constant"),
]


class GradientFlow(Strict):
    """Gradient flow."""

    kind: Literal["gradient_flow"] = "gradient_flow"
    student: Student = Profiled()
    metric: Literal["embedded", "canonical", "horizontal"] = "embedded"
    integrator: Integrator = Integrator()

    def system(self, link: multiindex.Link, dimension: int, **common: Any) -> Any:
        """The system."""
        student = _student(self.student, link)
        integrator = self.integrator.build()
        return multiindex.GradientFlow(
            link, dimension, student, metric=self.metric, integrator=integrator, **common
        )


class GradientDescent(Strict):
    """Gradient descent on the population loss."""

    kind: Literal["gradient_descent"] = "gradient_descent"
    step: Step
    student: Student = Profiled()
    retraction: Literal["polar", "exponential"] = "polar"

    def system(self, link: multiindex.Link, dimension: int, **common: Any) -> Any:
        """The system."""
        step, student = self.step.build(), _student(self.student, link)
        return multiindex.GradientDescent(
            link, dimension, step, student, retraction=self.retraction, **common
        )


class FiniteSamples(Strict):
    """Two-timescale descent on samples."""

    kind: Literal["finite_samples"] = "finite_samples"
    samples: PositiveInteger
    readout: Readout | None = None
    step: Step = Adaptive()
    fresh: bool = False
    noise: NonNegative = 0.0
    inputs: Literal["gaussian", "rademacher", "student"] = "gaussian"
    target: Literal["spread", "axis"] = "spread"

    def system(self, link: multiindex.Link, dimension: int, **common: Any) -> Any:
        """The system."""
        return multiindex.FiniteSamples(
            link,
            dimension,
            self.samples,
            None if self.readout is None else self.readout.build(),
            step=self.step.build(),
            fresh=self.fresh,
            noise=self.noise,
            inputs=self.inputs,
            target=self.target,
            **common,
        )


class SGD(Strict):
    """One-pass SGD on the Stiefel manifold."""

    kind: Literal["sgd"] = "sgd"
    learning_rate: Positive
    student: Student = Planted()
    noise: NonNegative = 0.0
    projection: Literal["horizontal", "embedded"] = "horizontal"
    reuse: float | None = None

    def system(self, link: multiindex.Link, dimension: int, **common: Any) -> Any:
        """The system."""
        return multiindex.StiefelSGD(
            link,
            dimension,
            self.learning_rate,
            _student(self.student, link),
            noise=self.noise,
            projection=self.projection,
            reuse=self.reuse,
            **common,
        )


class SaddleToSaddle(Strict):
    """The profiled flow over all time scales; time is log10 t."""

    kind: Literal["saddle_to_saddle"] = "saddle_to_saddle"
    level: Positive = 0.5
    step: Positive = 0.02

    def system(self, link: multiindex.Link, dimension: int, **common: Any) -> Any:
        """The system."""
        return multiindex.SaddleToSaddle(
            link, dimension, level=self.level, step=self.step, **common
        )


Algorithm = Annotated[
    GradientFlow | GradientDescent | FiniteSamples | SGD | SaddleToSaddle,
    Field(discriminator="kind"),
    Kind(),
]


class SystemConfig(Strict):
    """A link, a dimension, a start and what is run."""

    link: Link
    dimension: PositiveInteger
    directions: PositiveInteger | None = None
    start: ArrayField | None = None
    algorithm: Algorithm = GradientFlow()

    def build(self) -> Any:
        """The system.

        Raises:
            ValueError, TypeError: naming the argument, its value and what is allowed.
        """
        return self.algorithm.system(
            self.link.build(), self.dimension, directions=self.directions, start=self.start
        )


def _method(make: Any) -> Any:
    def build(integrator: Any, dtype: str | None) -> Any:
        return make(None if integrator is None else integrator.build(), dtype)

    return build


class FullFlow(Call):
    """The flow in R^d."""

    make = _method(multiindex.FullFlow)
    kind: Literal["full_flow"] = "full_flow"
    integrator: Integrator | None = None
    dtype: Literal["float32", "float64"] | None = None


class Reduced(Call):
    """The reduced flow from exactly drawn starts, at any d."""

    make = _method(multiindex.Reduced)
    kind: Literal["reduced"] = "reduced"
    integrator: Integrator | None = None
    dtype: Literal["float32", "float64"] | None = None


class Anisotropic(Call):
    """The flow in R^d on inputs of covariance diag(eigenvalues)."""

    make = multiindex.Anisotropic
    kind: Literal["anisotropic"] = "anisotropic"
    eigenvalues: ArrayField
    preconditioned: bool = True


MethodConfig = Annotated[
    FullFlow | Reduced | Anisotropic, Field(discriminator="kind"), Kind(default="full_flow")
]


def _conditioning(degrees: list[int], name: str) -> multiindex.conditioning:
    return multiindex.conditioning(tuple(degrees))


class Conditioning(Call):
    """log10 of lambda_min(M)^{-k}."""

    make = _conditioning
    kind: Literal["conditioning"] = "conditioning"
    name: str = "conditioning"
    degrees: list[PositiveInteger] = Field(default=[1, 2, 4])


def _generative(degree: int, name: str) -> multiindex.generative:
    return multiindex.generative(degree)


class Generative(Call):
    """zeta_1, ..., zeta_degree of the link, of which the first positive one counts."""

    make = _generative
    kind: Literal["generative"] = "generative"
    name: str = "generative"
    degree: PositiveInteger = 4


StatisticConfig = Annotated[
    Conditioning | Generative, Field(discriminator="kind"), Kind(default="conditioning")
]


class SlowGrowth(Call):
    """The longest share of the path that a statistic waits at a saddle."""

    make = multiindex.slow_growth
    kind: Literal["slow_growth"] = "slow_growth"
    statistic: str = "loss"
    tolerance: Positive = 0.02


class Oscillation(Call):
    """The largest fall of what should grow."""

    make = multiindex.oscillation
    kind: Literal["oscillation"] = "oscillation"
    statistic: str = "cosines"


class Trapped(Call):
    """Whether the loss rests above `level` at the end."""

    make = multiindex.trapped
    kind: Literal["trapped"] = "trapped"
    level: NonNegative
    statistic: str = "loss"


PathConfig = SlowGrowth | Oscillation | Trapped


def _student(config: Any, link: multiindex.Link) -> Any:
    return config.build(link) if isinstance(config, Joint) else config.build()
