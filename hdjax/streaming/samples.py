"""The samples of a run, drawn again: those that training saw, or fresh ones.

Every draw of direct SGD is a function of the run's key and of the tick alone, so that nothing needs
to be stored: the same key gives the training samples, any other key fresh ones of the same law.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int, Key

from hdjax import random
from hdjax.random import Stream
from hdjax.streaming import _kernel
from hdjax.streaming.columns import coordinates


class Samples(NamedTuple):
    """Rows (n, d) in the eigenbasis, their mixture components (n,), their label noise (n, k)."""

    rows: Float[Array, "n d"]
    component: Int[Array, " n"]
    noise: Float[Array, "n k"]


def draw_samples(
    system: Any,
    key: Key[Array, ""],
    first: int | Int[Array, ""],
    count: int,
    means: Float[Array, "d c"] | None = None,
    dtype: DTypeLike = jnp.float32,
) -> Samples:
    """The samples of the ticks first, ..., first + count - 1 of a run with `key`.

    Args:
        system: a `OnePassSGD` with batches of one and Gaussian data.
        key: the run's key for what `Direct` trains on; any other key for fresh samples.
        first: the first tick, traced or not.
        count: how many (static).
        means: the run's mean columns (d, components); None where the mixture has none.
        dtype: float32 or float64, as the run's.

    Raises:
        ValueError: batches of more than one.

    Example:
        >>> samples = draw_samples(system, jax.random.key(0), first=0, count=5)
        >>> samples.rows.shape
        (5, 32)
    """
    if system.batch_size != 1:
        raise ValueError(f"batch_size: {system.batch_size}; allowed: 1")
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
    # The numbers of a run, in another way: where they are not drawn within a loop over blocks, XLA
    # would repeat the generator in each of the run's two writes.
    rows = random.normals(steps, first, count, d, dtype) * scale
    noise = jax.vmap(system.loss.noise)(extras[:, : system.loss.noise.dim])
    return Samples(rows if means is None else rows + means, component, noise)
