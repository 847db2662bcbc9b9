"""How a one-pass SGD experiment is written in a config with `family = "streaming"`.

    [system]
    dimension = 1000
    loss = "phase_retrieval"                            # { kind = "least_squares", sigma = 0.5 }
    spectrum = { kind = "power_law", exponent = 0.5 }   # "identity" if nothing is said
    learning_rate = 0.03                                # { kind = "critical", factor = 0.5 }
    start = { overlap = 0.2 }                           # "start.npy", [[...], ...]
    target = {}

What is here is what TOML says differently from the constructors; the rest of each table is its
constructor's signature, registered beside it.
"""

from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np

from hdjax import schedules, streaming
from hdjax.registry import (
    Count,
    In,
    NonNegative,
    NotGivenError,
    OneOrMoreNonNegative,
    Positives,
    Size,
    Slot,
    Values,
    declare,
    register,
)
from hdjax.spectra import Spectrum

declare("streaming.system", Slot(default="projected"))
declare("streaming.method", Slot(default="direct"))
declare("streaming.statistic", Slot(default="resolvent", named=True))
declare("streaming.columns", Slot(default="gaussian", array="array", given=("spectrum",)))
declare(
    "streaming.start",
    Slot(default="gaussian", array="array", given=("spectrum",), includes=("streaming.columns",)),
)
declare("streaming.means", Slot(array="array", given=("spectrum", "components")))
declare("streaming.mixture", Slot(given=("spectrum",)))


@register("streaming.columns", "array")
def _given(values: Values) -> Any:
    """Columns (d, m) as an array.

    Args:
        values: (d, m) or (d,) in the coordinates of the spectrum.
    """
    return jnp.asarray(values, jnp.result_type(float))


@register("streaming.columns", "axis")
def _axis(spectrum: Spectrum, index: Count = 0, scale: NonNegative = 1.0) -> Any:
    """`scale` times a vector of the standard basis: a column as little spread as there is.

    Args:
        spectrum: the covariance's.
        index: which one, from 0 on.
        scale: the norm.
    """
    d = spectrum.size
    if d is None or index >= d:
        raise ValueError(f"index: {index} in dimension {d}; allowed: 0 to the dimension - 1")
    return jnp.zeros((d, 1), jnp.result_type(float)).at[index].set(scale)


def _gram(spectrum: Spectrum, blocks: Values, students: Size = 1) -> streaming.GramStart:
    """Gram blocks (g, q, q) of students and teachers; one (q, q) is spread over the spectrum."""
    if blocks.ndim == 2:
        blocks = np.asarray(spectrum.weights)[:, None, None] * blocks[None]
    return streaming.GramStart(blocks, students)


register("streaming.start", "gram", _gram)(streaming.GramStart)


@register("streaming.means", "orthonormal")
def _orthonormal(spectrum: Spectrum, components: int, scale: NonNegative = 1.0) -> Any:
    """`scale` times orthonormal means, one a component, spread evenly over the eigenbasis.

    Args:
        spectrum: the covariance's.
        components: how many.
        scale: their norm.
    """
    return scale * _cosines(spectrum, components)


@register("streaming.means", "opposite")
def _opposite(spectrum: Spectrum, components: int, scale: NonNegative = 1.0) -> Any:
    """Two means, +mu and -mu with |mu| = `scale`, spread evenly over the eigenbasis.

    Args:
        spectrum: the covariance's.
        components: how many.
        scale: their norm.
    """
    if components != 2:
        raise ValueError(f"means: 'opposite' with {components} components; allowed: 2")
    return scale * _cosines(spectrum, 1) * jnp.array([[1.0, -1.0]])


@register("streaming.means", "gaussian")
def _gaussian_means(components: int, scale: OneOrMoreNonNegative = 1.0) -> Any:
    """Independent Gaussian means of norm `scale`, drawn anew in each run.

    Args:
        components: how many.
        scale: their norm, or that of each.
    """
    return streaming.GaussianStart(scale, columns=components)


register("streaming.means", "array")(_given)


def _mixture(
    spectrum: Spectrum,
    probabilities: Positives,
    means: Annotated[Any, In("streaming.means")] = None,
    eigenvalues: Values | None = None,
) -> streaming.Mixture:
    if means is not None:
        means = means(components=len(probabilities))
    return streaming.Mixture(np.asarray(probabilities), means, eigenvalues)


register("streaming.mixture", "", _mixture)(streaming.Mixture)


def _projected(
    dimension: Size | None = None,
    *,
    loss: Annotated[Any, In("streaming.loss")],
    spectrum: Annotated[Any, In("spectrum")] = "identity",
    learning_rate: Annotated[Any, In("streaming.rate")],
    start: Annotated[Any, In("streaming.start")] = "gaussian",
    target: Annotated[Any, In("streaming.columns")] = None,
    mixture: Annotated[Any, In("streaming.mixture")] = None,
    **options: Any,
) -> streaming.OnePassSGD:
    """One-pass SGD on a model that sees its inputs through projections.

    Args:
        dimension: d; none where the spectrum fixes it.
        loss: what is minimised.
        spectrum: eigenvalues of the covariance K.
        learning_rate: gamma = O(1); the step applied is gamma/d.
        start: law of X_0.
        target: law of X*, `{}` is a column N(0, I/d); none: no teacher, or that of the `gram`.
        mixture: the mixture that data come from; none: N(0, K).
        **options: of `hdjax.streaming.OnePassSGD`.
    """
    try:
        spectrum = spectrum() if dimension is None else spectrum(d=dimension)
    except NotGivenError:
        raise ValueError("dimension: missing; allowed: a positive integer") from None

    def system(rate: Any) -> streaming.OnePassSGD:
        return streaming.OnePassSGD(
            loss,
            spectrum,
            rate,
            start(spectrum=spectrum),
            None if target is None else target(spectrum=spectrum),
            mixture=None if mixture is None else mixture(spectrum=spectrum),
            **options,
        )

    if not isinstance(learning_rate, schedules.Critical):
        return system(learning_rate)
    unit = system(schedules.Constant(1.0))
    return system(learning_rate.factor * streaming.critical_learning_rate(unit))


register("streaming.system", "projected", _projected)(streaming.OnePassSGD)


def _power_law_features(
    dimension: Size,
    draw: Count = 0,
    batch_size: Size = 1,
    optimiser: Annotated[Any, In("streaming.optimiser")] = None,
    integrator: Annotated[Any, In("integrator")] = None,
    **options: Any,
) -> streaming.OnePassSGD:
    """Least squares on random features of power-law inputs; `dimension` is the number of them.

    Args:
        dimension: d, the number of features.
        draw: seed of the features.
        batch_size: samples averaged in each step.
        optimiser: as for "projected".
        integrator: how the limit is integrated.
        **options: of `hdjax.streaming.power_law_features`.
    """
    options |= {"batch_size": batch_size, "optimiser": optimiser, "integrator": integrator}
    return streaming.power_law_features(jax.random.key(draw), dimension, **options)


register(
    "streaming.system", "power_law_features", _power_law_features, without=("key", "features")
)(streaming.power_law_features)


def _cosines(spectrum: Spectrum, columns: int) -> Any:
    """The first columns of the discrete cosine basis: orthonormal and spread over coordinates."""
    d = spectrum.size
    if d is None or d <= columns:
        raise ValueError(f"means: {columns} in dimension {d}; allowed: fewer than the dimension")
    angle = np.pi * (np.arange(d)[:, None] + 0.5) * np.arange(1, columns + 1)[None] / d
    return jnp.asarray(np.sqrt(2 / d) * np.cos(angle), jnp.result_type(float))
