"""Samples that are not Gaussian, for direct simulation: given as the `data` of `Direct`.

As d grows the limit depends on the data through their covariance alone (universality), if the
columns are spread over the coordinates and the entries of K^{-1/2} a are nearly independent.  A
user who simulates SGD on other data, and compares it with the Gaussian limit, sees whether this
holds.

The theorems of arXiv 2308.08977 are for Gaussian data: the slides "Hitting the High-D(imensional)
Notes", slide "Set-up".
"""

import abc
from collections.abc import Callable
from typing import Annotated, Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import scipy
from jaxtyping import Array, Float, Int, Key

from hdjax import precise, random
from hdjax.checks import Checked, is_concrete
from hdjax.random import Stream
from hdjax.registry import Bounds, Slot, Values, declare, register
from hdjax.spectra import Spectrum

__all__ = [
    "Data",
    "Rademacher",
    "Rows",
    "Sampler",
    "StudentT",
    "UniformEntries",
]

# The level of the tests by which data of another covariance than the system's are refused; and the
# share of the sampling error within which a covariance is a multiple of the system's.
_LEVEL, _MULTIPLE = 1e-7, 1e-6
_DRAWS = 256
_REMEDY = (
    "the spectrum of rows is hd.spectra.from_covariance(rows.T @ rows / n) with normalise=False"
)


declare("streaming.data", Slot(array="array"))


class Data(Checked):
    """The base class of sources of samples that replace the Gaussian law of a system."""

    def order(self, key: Key[Array, ""]) -> Any:
        """What a run draws at its start with its key, such as the order of a data set."""
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
        """The b samples of a step in the eigenbasis, without the means of their components.

        Args:
            key: the key of the step.
            tick: the number of the step.
            order: what `order` returned at the start of the run.
            scale: square roots of the eigenvalues of each sample's covariance.
            spectrum: the spectrum of the system.
        """

    def check(self, system: Any) -> None:
        """Raise ValueError for a system that cannot be simulated on these data."""

    def steps(self, batch_size: int) -> int | None:
        """The number of steps for which there are samples; None: any number."""
        del batch_size
        return None


class ProductLaw(Data):
    """Samples a = mean + K^{1/2} z with independent entries of z, of mean 0 and variance 1."""

    @abc.abstractmethod
    def entries(
        self, key: Key[Array, ""], shape: tuple[int, ...], dtype: Any
    ) -> Float[Array, "b d"]:
        """Independent draws of the entries of z."""

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
            z = precise.dot(z, spectrum.basis.astype(z.dtype))
        return scale * z


@register("streaming.data", "rademacher")
class Rademacher(ProductLaw):
    """Samples a = mean + K^{1/2} z with entries of z that are +1 or -1 with probability 1/2.

    Example:
        >>> method = hd.streaming.Direct(data=hd.streaming.data.Rademacher())
    """

    def entries(
        self, key: Key[Array, ""], shape: tuple[int, ...], dtype: Any
    ) -> Float[Array, "b d"]:
        return jax.random.rademacher(key, shape, dtype)


@register("streaming.data", "uniform")
class UniformEntries(ProductLaw):
    """Samples a = mean + K^{1/2} z with entries of z that are uniform on [-sqrt 3, sqrt 3].

    Example:
        >>> method = hd.streaming.Direct(data=hd.streaming.data.UniformEntries())
    """

    def entries(
        self, key: Key[Array, ""], shape: tuple[int, ...], dtype: Any
    ) -> Float[Array, "b d"]:
        return jax.random.uniform(key, shape, dtype, -(3**0.5), 3**0.5)


@register("streaming.data", "student_t")
class StudentT(ProductLaw):
    """Samples a = mean + K^{1/2} z whose z has entries of Student's law, scaled to variance 1.

    The law has heavy tails.  With 4 degrees of freedom or fewer the fourth moment is infinite, and
    the fluctuations of |a|^2/d decrease more slowly than d^-1/2.

    Args:
        dof: degrees of freedom, above 2.

    Raises:
        ValueError: 2 or fewer degrees of freedom.

    Example:
        >>> method = hd.streaming.Direct(data=hd.streaming.data.StudentT(dof=5.0))
    """

    dof: Annotated[float, Bounds(above=2)] = eqx.field(static=True)

    def __check_init__(self) -> None:
        if not self.dof > 2:
            raise ValueError(f"dof: {self.dof}; allowed: above 2, where the variance is finite")

    def entries(
        self, key: Key[Array, ""], shape: tuple[int, ...], dtype: Any
    ) -> Float[Array, "b d"]:
        z = jax.random.t(key, jnp.asarray(self.dof, dtype), shape, dtype)
        return z * ((self.dof - 2) / self.dof) ** 0.5


class _Given(Data):
    """Samples whose law the user gives, for systems of one mixture component without a mean."""

    def check(self, system: Any) -> None:
        if system.probabilities.size > 1 or system.layout.means:
            raise ValueError(
                f"data: {type(self).__name__} with a mixture; allowed: product laws, or a system "
                "without a mixture"
            )


class Sampler(_Given):
    """Samples drawn by a function of the user.

    Args:
        function: a function from a key to one sample (d,), in the coordinates in which the arrays
            of the system are given.  The samples must have mean zero and the covariance K of the
            system; 256 samples are compared with K when a simulation starts.

    Raises:
        ValueError: samples of another shape, or of another covariance than the system's (by the
            tests that `Rows` describes).

    Example:
        >>> def sparse(key):
        ...     spikes, signs = jax.random.split(key)
        ...     on = jax.random.bernoulli(spikes, 0.1, (100,))
        ...     return on * jax.random.normal(signs, (100,)) / 0.1**0.5
        >>> method = hd.streaming.Direct(data=hd.streaming.data.Sampler(sparse))
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

    def check(self, system: Any) -> None:
        super().check(system)
        keys = random.at(random.stream(jax.random.key(0), Stream.THEORY), jnp.arange(_DRAWS))
        samples = eqx.filter_jit(jax.vmap(self.function))(keys)
        if samples.shape[1:] == (system.spectrum.size,):
            _check_covariance("function", samples, system.spectrum)


def _rows(values: Values, shuffled: bool = True) -> "Rows":
    """The rows of an array as samples, each used once.

    Args:
        values: (n, d) the samples.
        shuffled: whether each run draws an order of its own; otherwise the order is as given.
    """
    return Rows(values, shuffled)


@register("streaming.data", "array", _rows)
class Rows(_Given):
    """A data set as samples: each run uses each row once, in an order drawn with its key.

    The Gaussian limit for a data set is that of its covariance C = rows^T rows/n, whose spectrum is
    `hd.spectra.from_covariance(rows.T @ rows / n)`.  The system's K must agree with C in tr C, in
    tr K^-1 C and in the diagonal of C along the eigenvectors of K, up to the error of n samples of
    covariance K (t-tests at level 1e-7).  Rows that have a component where K vanishes, and rows
    whose C is another multiple of K, are refused.

    Args:
        rows: (n, d), of mean zero, in the coordinates in which the arrays of the system are given.
        shuffled: whether each run draws an order of its own; False: the order is as given, the same
            for all runs.

    Raises:
        ValueError: another shape, entries that are not finite, a system of another covariance.
        TypeError: a `shuffled` that is neither True nor False.

    Example:
        >>> rows = np.random.default_rng(0).standard_normal((500, 100))
        >>> method = hd.streaming.Direct(data=hd.streaming.data.Rows(rows))
    """

    array: Float[Array, "n d"]
    shuffled: bool = eqx.field(static=True)

    def __init__(self, rows: Values, shuffled: bool = True):
        self.shuffled = bool(shuffled)
        self.array = jnp.asarray(rows, jnp.result_type(float))
        if self.array.ndim != 2:
            raise ValueError(f"rows: shape {self.array.shape}; allowed: (n, d)")

    def order(self, key: Key[Array, ""]) -> Int[Array, " n"]:
        n = self.array.shape[0]
        return jax.random.permutation(key, n) if self.shuffled else jnp.arange(n)

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
        _check_covariance("rows", self.array, system.spectrum)

    def steps(self, batch_size: int) -> int:
        return self.array.shape[0] // batch_size


def _in_eigenbasis(rows: Float[Array, "b d"], spectrum: Spectrum) -> Float[Array, "b d"]:
    if spectrum.basis is None:
        return rows
    return precise.dot(rows, spectrum.basis.astype(rows.dtype))


def _check_covariance(name: str, rows: Float[Array, "n d"], spectrum: Spectrum) -> None:
    """Raise ValueError if the covariance of samples is not that of `spectrum`, up to sampling."""
    if not is_concrete(rows, spectrum):
        return
    # A system may be built while a program is traced that does not depend on it.
    with jax.ensure_compile_time_eval():
        squares = np.asarray(_in_eigenbasis(rows, spectrum), np.float64) ** 2
        eigenvalues = np.asarray(spectrum.expand(spectrum.eigenvalues), np.float64)
    (n, d), found = squares.shape, squares.mean(0)
    rounding = 4 * float(jnp.finfo(rows.dtype).eps) * d
    seen = eigenvalues > rounding * eigenvalues.max()
    outside = found[~seen].sum()
    if outside > rounding**0.5 * found.sum():
        raise ValueError(f"{name}: mean square {outside:.3g} where K = 0; allowed: 0")
    # The standard error of a mean over n samples is at least that of Gaussian samples.
    error = np.maximum(squares.std(0), 2**0.5 * eigenvalues) / n**0.5
    misses = (found - found.sum() / eigenvalues.sum() * eigenvalues)[seen] / error[seen]
    # Sampling errors differ from eigenvalue to eigenvalue: if all are off by the same factor, C is
    # a multiple of K and not a sample covariance of K.
    multiple = d > 1 and found.any() and np.mean(misses**2) < _MULTIPLE
    spread = 0.0 if multiple else scipy.stats.t.ppf(1 - _LEVEL / 2, n - 1) if n > 1 else np.inf
    inverse = np.divide(1, eigenvalues, out=np.zeros(d), where=seen)
    for size, weight in (("tr C/d", np.full(d, 1 / d)), ("tr K^-1 C/d", inverse / d)):
        sizes, expected = squares @ weight, float(eigenvalues @ weight)
        gaussian = 2**0.5 * float(np.linalg.norm(eigenvalues * weight))
        slack = rounding**0.5 * expected + spread * max(sizes.std(), gaussian) / n**0.5
        if abs(sizes.mean() - expected) > slack:
            raise ValueError(
                f"{name}: {size} = {sizes.mean():.6g} for their covariance C; allowed: "
                f"{expected:.6g}, the value for the spectrum's K, to within {slack:.2g}; {_REMEDY}"
            )
    if np.abs(found - eigenvalues).sum() > spread * error.sum() + rounding**0.5 * found.sum():
        worst = int(np.argmax(np.abs(found - eigenvalues) / error))
        raise ValueError(
            f"{name}: mean square {found[worst]:.6g} along eigenvector {worst} of the spectrum's "
            f"K; allowed: its eigenvalue, {eigenvalues[worst]:.6g}, up to sampling; {_REMEDY}"
        )
