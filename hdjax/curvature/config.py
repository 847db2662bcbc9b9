"""How spectral alignment is written in a config with `family = "curvature"`.

[system]
dimension = 400
model = { kind = "softmax", classes = 3, snr = 4.0 }    # "xor", "three_layers"
learning_rate = 1.0
ridge = 0.01
alpha = 4.0                                             # samples of a matrix: n = alpha d
blocks = [{ index = 0, kind = "hessian", rank = 3 }]    # index = "theta": side parameters
"""

from typing import Annotated, Any, Literal

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
from pydantic import Field

from hdjax import curvature, gaussian, streaming
from hdjax.schema import (
    AnySchedule,
    ArrayField,
    Call,
    Critical,
    Integer,
    Kind,
    NonNegative,
    NonNegativeInteger,
    Positive,
    PositiveInteger,
    Strict,
)
from hdjax.streaming.config_methods import Direct, GramSampler
from hdjax.streaming.config_optimisers import SGD, OptimiserConfig

__all__ = ["MethodConfig", "StatisticConfig", "SystemConfig"]


def _columns(start: Any, d: int, means: Any) -> tuple[Any, Any, Any]:
    """Start, means and second layer that a start's table stands for."""
    if isinstance(start, FixedGram):
        gram = np.asarray(start.gram)
        columns = streaming.columns_with_gram(d, gram)
        m = start.students
        return columns[:, :m], columns[:, m:], None
    if isinstance(start, Leaning):
        key = jax.random.key(start.seed)
        order = [0, 2, 1, 3][: start.classes]
        targets = [order[i % start.classes] for i in range(start.units)]
        given, theta = streaming.xor_start(key, means, targets, start.overlap)
        return given, means, start.theta_size * theta
    return streaming.GaussianStart(start.scale, columns=start.columns), means, None


def _xor_means(d: int, angle: float) -> Any:
    """[mu, -mu, nu, -nu] with an angle in degrees between mu and nu."""
    means, turn = streaming.xor_means(d), np.deg2rad(angle)
    if angle == 90:
        return means
    nu = np.cos(turn) * means[:, 0] + np.sin(turn) * means[:, 2]
    return jnp.stack([means[:, 0], means[:, 1], nu, -nu], axis=1)


def _axes(d: int, count: int) -> Any:
    """Means on the first coordinate axes, seen by one coordinate each."""
    return jnp.eye(d, count, dtype=jnp.result_type(float))


class GaussianColumns(Strict):
    """Independent columns N(0, I/d) times `scale`; as many as the model has."""

    kind: Literal["gaussian"] = "gaussian"
    scale: NonNegative = 1.0
    columns: PositiveInteger | None = None


class FixedGram(Strict):
    """Columns [X | means] of a given Gram matrix, the same at every dimension."""

    kind: Literal["gram"] = "gram"
    gram: ArrayField
    students: PositiveInteger


class Leaning(Strict):
    """XOR units that lean, in turn, towards the first `classes` of +mu, +nu, -mu, -nu."""

    kind: Literal["leaning"] = "leaning"
    units: PositiveInteger
    classes: Annotated[Integer, Field(ge=1, le=4)] = 4
    overlap: Positive = 0.3
    theta_size: Positive = 1.0
    seed: NonNegativeInteger = 0


Start = Annotated[
    GaussianColumns | FixedGram | Leaning, Field(discriminator="kind"), Kind(default="gaussian")
]


# The means that a model's `means` names.
_MEANS = {
    "orthonormal": streaming.orthonormal_means,
    "simplex": streaming.simplex_means,
    "axes": _axes,
}


class Softmax(Strict):
    """Softmax regression of a mixture's class; `labels` where several components share one."""

    kind: Literal["softmax"] = "softmax"
    classes: PositiveInteger
    snr: Positive | Literal["infinite"]
    means: Literal["orthonormal", "simplex", "axes"] | ArrayField = "orthonormal"
    probabilities: list[Positive] | None = None
    labels: list[Integer] | None = None

    def build(self, d: int, start: Any, options: dict[str, Any]) -> streaming.OnePassSGD:
        """The training."""
        if isinstance(start, Leaning):
            raise ValueError("start: leaning; allowed with softmax: gaussian, gram")
        components = self.classes if self.labels is None else len(self.labels)
        means = self.means
        if isinstance(means, str):
            means = _MEANS[means](d, components)
        if isinstance(start, GaussianColumns):
            start = start.model_copy(update={"columns": self.classes})
        given, means, _ = _columns(start, d, jnp.asarray(means, jnp.result_type(float)))
        return streaming.mixture_softmax(
            d,
            self.classes,
            snr=_snr(self.snr),
            means=means,
            probabilities=None if self.probabilities is None else np.asarray(self.probabilities),
            labels=self.labels,
            start=given,
            **options,
        )


class Xor(Strict):
    """XOR by two layers, `theta` the second, with `angle` degrees between mu and nu.

    The limit's expectations have 2^`log2_nodes` points.
    """

    kind: Literal["xor"] = "xor"
    snr: Positive | Literal["infinite"]
    angle: Annotated[float, Field(gt=0, le=90)] = 90.0
    activation: Literal["relu", "tanh", "softplus"] = "relu"
    theta: ArrayField | None = None
    log2_nodes: PositiveInteger | None = None

    def build(self, d: int, start: Any, options: dict[str, Any]) -> streaming.OnePassSGD:
        """The training."""
        if (self.theta is None) != isinstance(start, Leaning):
            raise ValueError("theta, start: allowed: theta, or a leaning start (which has its own)")
        theta = None if self.theta is None else jnp.asarray(self.theta, jnp.result_type(float))
        return self._build(d, start, theta, options)

    def _build(
        self, d: int, start: Any, theta: Any, options: dict[str, Any]
    ) -> streaming.OnePassSGD:
        if isinstance(start, FixedGram):
            raise ValueError("start: gram; allowed with xor: gaussian, leaning")
        if isinstance(start, GaussianColumns):
            columns = (theta[0] if isinstance(theta, tuple) else theta).shape[-1]
            start = start.model_copy(update={"columns": columns})
        if self.log2_nodes is not None:
            options["rule"] = gaussian.QMC(self.log2_nodes)
        given, means, second = _columns(start, d, _xor_means(d, self.angle))
        if second is not None:
            theta = second
        return streaming.xor(
            d,
            theta=theta,
            snr=_snr(self.snr),
            activation=self.activation,
            means=means,
            start=given,
            **options,
        )


class ThreeLayers(Xor):
    """XOR by three layers: `second` (K_2, K) and `theta` (K_2,) are the upper two."""

    kind: Literal["three_layers"] = "three_layers"  # pyright: ignore[reportIncompatibleVariableOverride]
    second: ArrayField

    def build(self, d: int, start: Any, options: dict[str, Any]) -> streaming.OnePassSGD:
        dtype = jnp.result_type(float)
        if isinstance(start, Leaning) or self.theta is None:
            raise ValueError("theta, start: allowed with three_layers: theta, a gaussian start")
        theta = jnp.asarray(self.second, dtype), jnp.asarray(self.theta, dtype)
        return self._build(d, start, theta, options)


Model = Annotated[Softmax | Xor | ThreeLayers, Field(discriminator="kind"), Kind()]


class BlockConfig(Call):
    """A block: of the column `index`, or of the side parameters ("theta")."""

    make = curvature.Block
    index: NonNegativeInteger | Literal["theta"] = 0
    kind: Literal["hessian", "gradient"] = "hessian"
    rank: PositiveInteger = 2

    def build(self, *arguments: Any) -> curvature.Block:
        return curvature.Block(self.index, self.kind, self.rank)


class SystemConfig(Strict):
    """The arguments of `hdjax.curvature.Alignment`, and of the training that it looks at.

    `threshold` is "half" of the fixed point's output, or a number; `steps` integrates the limit in
    so many equal steps.
    """

    dimension: PositiveInteger
    model: Model
    learning_rate: Annotated[AnySchedule, Field(discriminator="kind"), Kind(number="constant")]
    ridge: NonNegative = 0.0
    start: Start = GaussianColumns()
    optimiser: OptimiserConfig = SGD()
    blocks: list[BlockConfig] = Field(default=[])
    alpha: Positive = 4.0
    train: bool = False
    theta_scale: NonNegative = 0.0
    threshold: NonNegative | Literal["half"] = 0.0
    steps: PositiveInteger | None = None

    def build(self) -> curvature.Alignment:
        """The system.

        Raises:
            ValueError, TypeError: naming the argument, its value and what is allowed.
        """
        rate = self.learning_rate
        if isinstance(rate, Critical):
            raise ValueError("learning_rate: 'critical'; allowed without a teacher: other kinds")
        options: dict[str, Any] = {
            "learning_rate": rate.build(),
            "ridge": self.ridge,
            "optimiser": self.optimiser.build(),
        }
        if self.steps is not None:
            options["integrator"] = streaming.Integrator(diffrax.Tsit5(), steps=self.steps)
        training = self.model.build(self.dimension, self.start, options)
        threshold = self.threshold
        if threshold == "half":
            threshold = curvature.fixed_point_output(self.ridge) / 2
        return curvature.Alignment(
            training,
            [block.build() for block in self.blocks],
            alpha=self.alpha,
            train=self.train,
            theta_scale=self.theta_scale,
            threshold=threshold,
        )


def _projected(matrix: str, **options: Any) -> curvature.ProjectedSGD:
    return curvature.ProjectedSGD(kind=matrix, **options)


class Projected(Call):
    """SGD with gradients projected on the top spaces of the columns' blocks, or off them."""

    make = _projected
    kind: Literal["projected"] = "projected"
    space: Literal["top", "complement"] = "top"
    rank: PositiveInteger = 3
    matrix: Literal["hessian", "gradient"] = "hessian"
    refresh: PositiveInteger = 50
    samples: PositiveInteger = 1000


class Emergence(Call):
    """How many outliers a block has, from the limit alone (`hdjax.curvature.OutlierCount`)."""

    make = curvature.OutlierCount
    kind: Literal["outlier_count"] = "outlier_count"
    name: str = "outliers"
    index: NonNegativeInteger | Literal["theta"] = 0
    matrix: Literal["hessian", "gradient"] = "hessian"


MethodConfig = Annotated[
    Direct | GramSampler | Projected, Field(discriminator="kind"), Kind(default="direct")
]
StatisticConfig = Annotated[Emergence, Kind(default="outlier_count")]


def _snr(value: Any) -> float:
    return float("inf") if value == "infinite" else value
