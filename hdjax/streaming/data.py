"""Samples that are not Gaussian, for direct simulation.

The limits see the data through their covariance alone, as d grows (universality), where columns
are spread over the coordinates and the entries of K^{-1/2} a are independent enough.  Simulated on
other data and compared with the Gaussian limit, SGD shows where that holds and where it does not.

Source: arXiv 2308.08977 states its theorem for Gaussian data; what is here checks it beyond.
"""

import abc
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from hdjax import random
from hdjax.spectra import Spectrum
from hdjax.system import is_concrete


class Data(eqx.Module):
    """Where samples come from."""

    def order(self, key: Key[Array, ""]) -> Any:
        """What a run decides at its start, from its key: the order of a data set, say."""
        del key

    @abc.abstractmethod
    def rows(
        self,
        key: Key[Array, ""],
        tick: Int[Array, ""],
        order: Any,
        scale: Float[Array, "b d"],
        spectrum: Spectrum,
    ) -> Float[Array, "b d"]:
        """The b samples of a step in the eigenbasis, without their component's mean.

        `scale` are the square roots of the eigenvalues, `key` is that of the step.
        """

    def check(self, system: Any) -> None:
        """Raise ValueError for a system that these data cannot serve."""

    def steps(self, batch_size: int) -> float:
        """How many steps there are samples for."""
        del batch_size
        return np.inf


class ProductLaw(Data):
    """a = mean + K^{1/2} z with independent entries of z, of mean 0 and variance 1."""

    @abc.abstractmethod
    def entries(
        self, key: Key[Array, ""], shape: tuple[int, ...], dtype: Any
    ) -> Float[Array, "b d"]:
        """Independent draws of an entry."""

    def rows(
        self,
        key: Key[Array, ""],
        tick: Int[Array, ""],
        order: Any,
        scale: Float[Array, "b d"],
        spectrum: Spectrum,
    ) -> Float[Array, "b d"]:
        z = self.entries(key, scale.shape, scale.dtype)
        if spectrum.basis is not None:
            z = jnp.dot(z, spectrum.basis.astype(z.dtype), precision="highest")
        return scale * z


class Rademacher(ProductLaw):
    """Entries +1 or -1 with probability 1/2.

    Example:
        >>> method = hd.streaming.Direct(data=hd.streaming.Rademacher())
    """

    def entries(
        self, key: Key[Array, ""], shape: tuple[int, ...], dtype: Any
    ) -> Float[Array, "b d"]:
        return jax.random.rademacher(key, shape, dtype)


class UniformEntries(ProductLaw):
    """Entries uniform on [-sqrt 3, sqrt 3].

    Example:
        >>> method = hd.streaming.Direct(data=hd.streaming.UniformEntries())
    """

    def entries(
        self, key: Key[Array, ""], shape: tuple[int, ...], dtype: Any
    ) -> Float[Array, "b d"]:
        return jax.random.uniform(key, shape, dtype, -(3**0.5), 3**0.5)


class StudentT(ProductLaw):
    """Entries of Student's law, scaled to variance 1; heavy tails.

    With 4 degrees of freedom or fewer the fourth moment is infinite, and |a|^2/d has fluctuations
    that fall more slowly than d^-1/2.

    Args:
        dof: degrees of freedom, above 2.

    Raises:
        ValueError: 2 or fewer.

    Example:
        >>> method = hd.streaming.Direct(data=hd.streaming.StudentT(dof=5.0))
    """

    dof: float = eqx.field(static=True)

    def __check_init__(self) -> None:
        if not self.dof > 2:
            raise ValueError(f"dof: {self.dof}; allowed: above 2, where the variance is finite")

    def entries(
        self, key: Key[Array, ""], shape: tuple[int, ...], dtype: Any
    ) -> Float[Array, "b d"]:
        z = jax.random.t(key, jnp.asarray(self.dof, dtype), shape, dtype)
        return z * ((self.dof - 2) / self.dof) ** 0.5


class _Given(Data):
    """Samples whose law is the user's: one component, no mean of the system's own."""

    def check(self, system: Any) -> None:
        if system.probabilities.size > 1 or system.layout.means:
            raise ValueError(
                f"data: {type(self).__name__} with a mixture; allowed: product laws, or a system "
                "without a mixture"
            )


class Sampler(_Given):
    """The user's own law of samples.

    Args:
        function: key to one sample (d,), in the coordinates that the system's columns are in; its
            covariance should be the system's K, its mean zero.

    Example:
        >>> def sparse(key):
        ...     spikes, signs = jax.random.split(key)
        ...     on = jax.random.bernoulli(spikes, 0.1, (100,))
        ...     return on * jax.random.normal(signs, (100,)) / 0.1**0.5
        >>> method = hd.streaming.Direct(data=hd.streaming.Sampler(sparse))
    """

    function: Callable = eqx.field(static=True)

    def rows(
        self,
        key: Key[Array, ""],
        tick: Int[Array, ""],
        order: Any,
        scale: Float[Array, "b d"],
        spectrum: Spectrum,
    ) -> Float[Array, "b d"]:
        rows = jax.vmap(self.function)(random.at(key, jnp.arange(scale.shape[0])))
        if rows.shape != scale.shape:
            raise ValueError(
                f"function: samples of shape {rows.shape[1:]}; allowed: {scale.shape[1:]}"
            )
        return _in_eigenbasis(rows.astype(scale.dtype), spectrum)


class Rows(_Given):
    """A data set, each of whose rows is used once, in a random order of each run's own.

    Its covariance makes the Gaussian limit: `hd.spectra.from_covariance(rows.T @ rows / n)`.

    Args:
        rows: (n, d), of mean zero, in the coordinates that the system's columns are in.

    Raises:
        ValueError: another shape, or entries that are not finite.

    Example:
        >>> rows = np.random.default_rng(0).standard_normal((500, 100))
        >>> method = hd.streaming.Direct(data=hd.streaming.Rows(rows))
    """

    array: Float[Array, "n d"]

    def __init__(self, rows: Any):
        self.array = jnp.asarray(rows, jnp.result_type(float))
        if self.array.ndim != 2:
            raise ValueError(f"rows: shape {self.array.shape}; allowed: (n, d)")
        if is_concrete(self.array) and not np.isfinite(np.asarray(self.array)).all():
            raise ValueError("rows: NaN or infinite entries; allowed: finite numbers")

    def order(self, key: Key[Array, ""]) -> Int[Array, " n"]:
        return jax.random.permutation(key, self.array.shape[0])

    def rows(
        self,
        key: Key[Array, ""],
        tick: Int[Array, ""],
        order: Any,
        scale: Float[Array, "b d"],
        spectrum: Spectrum,
    ) -> Float[Array, "b d"]:
        b = scale.shape[0]
        chosen = jax.lax.dynamic_slice_in_dim(order, tick * b, b)
        return _in_eigenbasis(self.array[chosen].astype(scale.dtype), spectrum)

    def check(self, system: Any) -> None:
        super().check(system)
        if self.array.shape[1] != system.spectrum.size:
            raise ValueError(
                f"rows: {self.array.shape[1]} columns; allowed: d = {system.spectrum.size} of the "
                "spectrum"
            )

    def steps(self, batch_size: int) -> float:
        return float(self.array.shape[0] // batch_size)


def _in_eigenbasis(rows: Float[Array, "b d"], spectrum: Spectrum) -> Float[Array, "b d"]:
    if spectrum.basis is None:
        return rows
    return jnp.dot(rows, spectrum.basis.astype(rows.dtype), precision="highest")
