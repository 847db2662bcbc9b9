"""The samples of a run of direct SGD: its training samples drawn again, or fresh samples.

Empirical matrices of a run (`hdjax.curvature`) are computed from them.  Every draw of direct SGD is
a function of the run's key and of the tick alone, so samples need not be stored: the key of the run
gives its training samples again, and any other key gives fresh samples of the same law.
"""

from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int, Key

from hdjax import random
from hdjax.checks import checked
from hdjax.random import Stream
from hdjax.registry import Bounds, Size
from hdjax.streaming import _kernel
from hdjax.streaming.columns import coordinates
from hdjax.streaming.onepass import OnePass

__all__ = [
    "Samples",
    "draw_samples",
]


class Samples(NamedTuple):
    """Samples of a system.

    Attributes:
        rows: (n, d) samples a in the eigenbasis of K.
        component: (n,) mixture component of each sample.
        noise: (n, k) label noise of each sample.
    """

    rows: Float[Array, "n d"]
    component: Int[Array, " n"]
    noise: Float[Array, "n k"]


@checked
def draw_samples(
    system: OnePass,
    key: Key[Array, ""],
    first: Annotated[Any, Bounds(least=0, whole=True)],
    count: Size,
    means: Float[Array, "d c"] | None = None,
    dtype: DTypeLike = jnp.float32,
) -> Samples:
    """The samples of the ticks first, ..., first + count - 1 of a run with `key`.

    Args:
        system: a `OnePassSGD` with batches of one and Gaussian data.
        key: the run's key, for the samples on which `Direct` trains; any other key, for fresh
            samples.
        first: the first tick, traced or not.
        count: number of samples (static).
        means: the mean columns (d, components) of the run; None if the mixture has no means.
        dtype: float32 or float64, the dtype of the run.

    Raises:
        ValueError: batches of more than one sample, a spectrum without coordinates.

    Example:
        >>> samples = draw_samples(system, jax.random.key(0), first=0, count=5)
        >>> samples.rows.shape
        (5, 32)
    """
    if system.batch_size != 1:
        raise ValueError(f"batch_size: {system.batch_size}; allowed for draw_samples: 1")
    d = coordinates(system.spectrum)
    scale = jnp.sqrt(system.eigenvalues).astype(dtype)
    if scale.shape[-1] != d:
        scale = scale[:, system.spectrum.groups]
    data = _kernel._Data(
        scale,
        None if means is None else means.astype(dtype).T,
        system.probabilities.astype(dtype),
        jnp.zeros((0, d), dtype),
        system.loss.noise,
        1,
    )
    steps = random.stream(key, Stream.STEPS)
    labels = random.stream(key, Stream.LABELS)
    extras = random.normals(labels, first, count, data.extras, dtype)
    component, scale, means = _kernel._chosen(data, extras)
    # These are the numbers that a run draws, by another call: outside a loop over blocks XLA would
    # repeat the generator in each of the two writes of `_kernel._samples`.
    rows = random.normals(steps, first, count, d, dtype) * scale
    noise = jax.vmap(system.loss.noise)(extras[:, : system.loss.noise.dim])
    return Samples(rows if means is None else rows + means, component, noise)
