"""How spectral alignment is written in a config with `family = "curvature"`.

[system]
dimension = 400
model = { kind = "softmax", classes = 3, snr = 4.0 }    # "xor", "three_layers"
learning_rate = 1.0
ridge = 0.01
alpha = 4.0                                             # samples of a matrix: n = alpha d
blocks = [{ index = 0, kind = "hessian", rank = 3 }]    # index = "theta": side parameters

This module holds the tables that differ from the signatures of their constructors.  Every other
table is derived from the signature of a constructor that is registered where it is defined.
"""

import dataclasses
from typing import Annotated, Any, Literal

import diffrax
import jax
import jax.numpy as jnp
import numpy as np

from hdjax import curvature, gaussian, streaming
from hdjax.integrate import Integrator
from hdjax.registry import (
    Bounds,
    Count,
    In,
    NonNegative,
    OneOf,
    Positive,
    Positives,
    Size,
    Slot,
    Values,
    declare,
    register,
)

_GIVEN = ("d", "start", "options")
declare("curvature.method", Slot(default="direct"))
declare("curvature.statistic", Slot(default="outlier_count", named=True))
declare("curvature.start", Slot(default="gaussian"))
declare("curvature.model", Slot(given=_GIVEN))

register("curvature.method", "direct")(streaming.Direct)
register("curvature.method", "gram_sampler")(streaming.GramSampler)

# A signal-to-noise ratio.
Ratio = Positive | Literal["infinite"]
Activation = Annotated[str, OneOf("relu", "tanh", "softplus")]


@register("curvature.start", "gaussian")
@dataclasses.dataclass(frozen=True)
class _GaussianColumns:
    """Independent columns N(0, I/d) times `scale`, as many as the model has.

    Args:
        scale: norm of each column, as d grows.
    """

    scale: NonNegative = 1.0


@register("curvature.start", "gram")
@dataclasses.dataclass(frozen=True)
class _FixedGram:
    """Columns [X | means] with a given Gram matrix, the same at every dimension.

    Args:
        gram: (q, q) the Gram matrix of [X | means].
        students: m, the number of columns X.
    """

    gram: Values
    students: Size


@register("curvature.start", "leaning")
@dataclasses.dataclass(frozen=True)
class _Leaning:
    """XOR units that lean, in turn, towards the first `classes` of +mu, +nu, -mu, -nu.

    Args:
        units: the number of units.
        classes: the number of means that they lean to, up to 4.
        overlap: overlap of each unit with its mean.
        theta_size: size of the entries of the second layer.
        seed: seed of the random part of each unit.
    """

    units: Size
    classes: Annotated[int, Bounds(least=1, most=4)] = 4
    overlap: Positive = 0.3
    theta_size: Positive = 1.0
    seed: Count = 0


def _columns(start: Any, d: int, means: Any, count: int) -> tuple[Any, Any, Any]:
    """The start, the means and the second layer that a table `start` stands for."""
    if isinstance(start, _FixedGram):
        columns = streaming.mixtures.columns_with_gram(d, np.asarray(start.gram))
        m = start.students
        return columns[:, :m], columns[:, m:], None
    if isinstance(start, _Leaning):
        key = jax.random.key(start.seed)
        order = [0, 2, 1, 3][: start.classes]
        targets = [order[i % start.classes] for i in range(start.units)]
        given, theta = streaming.mixtures.xor_start(key, means, targets, start.overlap)
        return given, means, start.theta_size * theta
    return streaming.GaussianStart(start.scale, columns=count), means, None


def _xor_means(d: int, angle: float) -> Any:
    """The means [mu, -mu, nu, -nu] with an angle in degrees between mu and nu."""
    means, turn = streaming.mixtures.xor_means(d), np.deg2rad(angle)
    if angle == 90:
        return means
    nu = np.cos(turn) * means[:, 0] + np.sin(turn) * means[:, 2]
    return jnp.stack([means[:, 0], means[:, 1], nu, -nu], axis=1)


def _axes(d: int, count: int) -> Any:
    """Means on the first coordinate axes, so that each is seen by one coordinate."""
    return jnp.eye(d, count, dtype=jnp.result_type(float))


# The means that a name in a model's `means` stands for.
_MEANS = {
    "orthonormal": streaming.mixtures.orthonormal_means,
    "simplex": streaming.mixtures.simplex_means,
    "axes": _axes,
}


@register("curvature.model", "softmax")
def _softmax(
    d: int,
    start: Any,
    options: dict[str, Any],
    *,
    classes: Size,
    snr: Ratio,
    means: Literal["orthonormal", "simplex", "axes"] | Values = "orthonormal",
    probabilities: Positives | None = None,
    labels: list[int] | None = None,
) -> streaming.OnePassSGD:
    """Softmax regression of a mixture's classes; with `labels`, components may share a class.

    Args:
        d: the dimension.
        start: the start of X.
        options: options of `hdjax.streaming.OnePassSGD`.
        classes: the number of classes, which are the columns of X.
        snr: lambda, or "infinite" for no noise.
        means: means of the components, (d, components) or a name.
        probabilities: probabilities of the components; None: equal ones.
        labels: the class of each component; None: one component for each class.
    """
    if isinstance(start, _Leaning):
        raise ValueError("start: leaning with softmax; allowed: gaussian, gram")
    if isinstance(means, str):
        means = _MEANS[means](d, classes if labels is None else len(labels))
    given, means, _ = _columns(start, d, jnp.asarray(means, jnp.result_type(float)), classes)
    return streaming.mixtures.mixture_softmax(
        d,
        classes,
        snr=_snr(snr),
        means=means,
        probabilities=None if probabilities is None else np.asarray(probabilities),
        labels=labels,
        start=given,
        **options,
    )


@register("curvature.model", "xor")
def _xor(
    d: int,
    start: Any,
    options: dict[str, Any],
    *,
    snr: Ratio,
    angle: Annotated[Any, Bounds(above=0, most=90)] = 90.0,
    activation: Activation = "relu",
    theta: Values | None = None,
    log2_nodes: Size | None = None,
) -> streaming.OnePassSGD:
    """XOR learnt by two layers; `theta` is the second, and `angle` lies between mu and nu.

    Args:
        d: the dimension.
        start: the start of the first layer.
        options: options of `hdjax.streaming.OnePassSGD`.
        snr: lambda, or "infinite" for no noise.
        angle: degrees between mu and nu.
        activation: activation of the units.
        theta: (K,) start of the second layer; None with a leaning start, which has its own.
        log2_nodes: the limit's expectations have 2^`log2_nodes` points; None: the default rule.
    """
    if (theta is None) != isinstance(start, _Leaning):
        found = "neither theta nor" if theta is None else "both theta and"
        raise ValueError(
            f"theta, start: {found} a leaning start (which has its own theta); allowed: one of them"
        )
    head = None if theta is None else jnp.asarray(theta, jnp.result_type(float))
    return _network(d, start, options, head, snr, angle, activation, log2_nodes)


@register("curvature.model", "three_layers")
def _three_layers(
    d: int,
    start: Any,
    options: dict[str, Any],
    *,
    snr: Ratio,
    angle: Annotated[Any, Bounds(above=0, most=90)] = 90.0,
    activation: Activation = "relu",
    theta: Values | None = None,
    log2_nodes: Size | None = None,
    second: Values,
) -> streaming.OnePassSGD:
    """XOR learnt by three layers: `second` (K_2, K) and `theta` (K_2,) are the upper two.

    Args:
        d: the dimension.
        start: the start of the first layer.
        options: options of `hdjax.streaming.OnePassSGD`.
        snr: lambda, or "infinite" for no noise.
        angle: degrees between mu and nu.
        activation: activation of the units.
        theta: (K_2,) start of the last layer.
        log2_nodes: the limit's expectations have 2^`log2_nodes` points; None: the default rule.
        second: (K_2, K) start of the second layer.
    """
    if isinstance(start, _Leaning) or theta is None:
        raise ValueError(
            "theta, start: no theta, or a leaning start; allowed: theta and a gaussian start"
        )
    dtype = jnp.result_type(float)
    head = jnp.asarray(second, dtype), jnp.asarray(theta, dtype)
    return _network(d, start, options, head, snr, angle, activation, log2_nodes)


def _network(
    d: int,
    start: Any,
    options: dict[str, Any],
    head: Any,
    snr: Any,
    angle: float,
    activation: str,
    log2_nodes: int | None,
) -> streaming.OnePassSGD:
    """The training of a network on XOR, with `head` the start of its upper layers."""
    if isinstance(start, _FixedGram):
        raise ValueError("start: gram with a network on XOR; allowed: gaussian, leaning")
    if log2_nodes is not None:
        options = options | {"rule": gaussian.QMC(log2_nodes)}
    count = 0 if head is None else (head[0] if isinstance(head, tuple) else head).shape[-1]
    given, means, second = _columns(start, d, _xor_means(d, angle), count)
    return streaming.mixtures.xor(
        d,
        theta=head if second is None else second,
        snr=_snr(snr),
        activation=activation,
        means=means,
        start=given,
        **options,
    )


def _system(  # noqa: D417 (the others are the constructor's)
    *,
    dimension: Size,
    model: Annotated[Any, In("curvature.model")],
    learning_rate: Annotated[Any, In("schedule")],
    ridge: NonNegative = 0.0,
    start: Annotated[Any, In("curvature.start")] = "gaussian",
    optimiser: Annotated[Any, In("streaming.optimiser")] = "sgd",
    blocks: list[Annotated[Any, In("curvature.block")]] = [],  # noqa: B006 (as in TOML)
    threshold: NonNegative | Literal["half"] = 0.0,
    steps: Size | None = None,
    **options: Any,
) -> curvature.Alignment:
    """A training of a model, and the blocks of its curvature that are measured.

    Args:
        dimension: d.
        model: the model that is trained.
        learning_rate: gamma, a number or a schedule.
        ridge: the ridge of the penalty ridge/2 (|X|^2 + |theta|^2).
        start: the start of X.
        optimiser: as for streaming.
        blocks: the blocks, and the matrices that they are of.
        threshold: the output at which a mean counts as learned; "half" of the fixed point's.
        steps: the limit is integrated in so many equal steps; None: in adaptive steps.
    """
    training: dict[str, Any] = {
        "learning_rate": learning_rate,
        "ridge": ridge,
        "optimiser": optimiser,
    }
    if steps is not None:
        training["integrator"] = Integrator(diffrax.Tsit5(), steps=steps)
    if threshold == "half":
        threshold = curvature.classifiers.fixed_point_output(ridge) / 2
    trained = model(d=dimension, start=start, options=training)
    return curvature.Alignment(trained, blocks, threshold=threshold, **options)


register("curvature.system", "", _system, without=("training", "rule"))(curvature.Alignment)


def _snr(value: Any) -> float:
    return float("inf") if value == "infinite" else value
