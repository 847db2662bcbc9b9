"""The tables of a config with `family = "streaming"`, which describe a one-pass SGD experiment.

    [system]
    dimension = 1000
    loss = "phase_retrieval"                            # { kind = "least_squares", sigma = 0.5 }
    spectrum = { kind = "power_law", exponent = 0.5 }   # "identity" by default
    learning_rate = 0.03                                # { kind = "critical", factor = 0.5 }
    start = { overlap = 0.2 }                           # "start.npy", [[...], ...]
    target = {}

This module has the tables whose keys differ from the arguments of a constructor.  The keys of every
other table are the arguments of the class that is registered beside its definition.
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
    """A column that is `scale` times a vector of the standard basis: all in one coordinate.

    Args:
        spectrum: the spectrum of the covariance.
        index: index of the basis vector, from 0 on.
        scale: the norm of the column.
    """
    d = spectrum.size
    if d is None or index >= d:
        raise ValueError(f"index: {index} in dimension {d}; allowed: 0 to the dimension - 1")
    return jnp.zeros((d, 1), jnp.result_type(float)).at[index].set(scale)


def _gram(
    spectrum: Spectrum, blocks: Values, students: Size | None = None, memories: Count = 0
) -> streaming.GramStart:
    """Gram blocks (g, q, q) of students and teachers; one (q, q) is spread over all groups."""
    if blocks.ndim == 2:
        blocks = np.asarray(spectrum.weights)[:, None, None] * blocks[None]
    return streaming.GramStart(blocks, students, memories)


register("streaming.start", "gram", _gram)(streaming.GramStart)


@register("streaming.means", "orthonormal")
def _orthonormal(spectrum: Spectrum, components: int, scale: NonNegative = 1.0) -> Any:
    """Orthogonal means of norm `scale`, one for each component, spread over the eigenbasis.

    Args:
        spectrum: the spectrum of the covariance.
        components: number of components.
        scale: norm of the means.
    """
    return scale * _cosines(spectrum, components)


@register("streaming.means", "opposite")
def _opposite(spectrum: Spectrum, components: int, scale: NonNegative = 1.0) -> Any:
    """Two means, +mu and -mu with |mu| = `scale`, spread over the eigenbasis.

    Args:
        spectrum: the spectrum of the covariance.
        components: number of components, which must be 2.
        scale: norm of the means.
    """
    if components != 2:
        raise ValueError(
            f"means: 'opposite' with {components} components; allowed: 'opposite' with 2"
        )
    return scale * _cosines(spectrum, 1) * jnp.array([[1.0, -1.0]])


@register("streaming.means", "gaussian")
def _gaussian_means(components: int, scale: OneOrMoreNonNegative = 1.0) -> Any:
    """Independent Gaussian means of norm `scale`, drawn anew in each run.

    Args:
        components: number of components.
        scale: norm of the means, a number or one for each component.
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
    """One-pass SGD on a model that depends on its inputs through a few projections.

    Args:
        dimension: d; left out if the spectrum fixes it.
        loss: the loss whose mean, the risk, is minimised.
        spectrum: eigenvalues of the covariance K.
        learning_rate: gamma = O(1); the step applied is gamma/d.
        start: law of X_0.
        target: law of X*, `{}` is a column N(0, I/d); left out: no teachers, or those of `gram`.
        mixture: the Gaussian mixture that samples come from; left out: N(0, K).
        **options: further arguments of `hdjax.streaming.OnePassSGD`.
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

    if not isinstance(learning_rate, streaming.learning_rates.Critical):
        return system(learning_rate)
    unit = system(schedules.Constant(1.0))
    return system(learning_rate.factor * streaming.learning_rates.critical_learning_rate(unit))


register("streaming.system", "projected", _projected)(streaming.OnePassSGD)


def _power_law_features(
    dimension: Size,
    draw: Count = 0,
    batch_size: Size = 1,
    optimiser: Annotated[Any, In("streaming.optimiser")] = None,
    integrator: Annotated[Any, In("integrator")] = None,
    **options: Any,
) -> streaming.OnePassSGD:
    """Least squares on `dimension` random features of power-law inputs.

    Args:
        dimension: d, the number of features.
        draw: seed of the features.
        batch_size: number of samples averaged in each step.
        optimiser: as for "projected".
        integrator: the solver of the limit and its tolerances.
        **options: further arguments of `hdjax.streaming.features.power_law_features`.
    """
    options |= {"batch_size": batch_size, "optimiser": optimiser, "integrator": integrator}
    return streaming.features.power_law_features(jax.random.key(draw), dimension, **options)


register(
    "streaming.system", "power_law_features", _power_law_features, without=("key", "features")
)(streaming.features.power_law_features)


def _cosines(spectrum: Spectrum, columns: int) -> Any:
    """Orthonormal columns of the discrete cosine basis, spread over the coordinates."""
    d = spectrum.size
    if d is None or d <= columns:
        raise ValueError(f"means: {columns} in dimension {d}; allowed: fewer than the dimension")
    angle = np.pi * (np.arange(d)[:, None] + 0.5) * np.arange(1, columns + 1)[None] / d
    return jnp.asarray(np.sqrt(2 / d) * np.cos(angle), jnp.result_type(float))
