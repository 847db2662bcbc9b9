"""Methods that run an algorithm on vectors of R^d: `Explicit`, `Function` and `Ambient`.

`Explicit` draws a random function of the landscape in each run (`functions.py`), `Function` takes a
function of the user, and `Ambient` draws each observation from its law given all earlier ones, in
all d + 1 components.  `VectorSimulator` is the simulator of all three.

Each run draws an x_0 of uniform direction; with a spectrum, the direction is uniform in each
eigenspace.
"""

import abc
from collections.abc import Callable, Sequence
from typing import Annotated, Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key, PyTree

from hdjax import precise, random
from hdjax.arrays import cast
from hdjax.checks import check_dtype
from hdjax.clocks import Steps
from hdjax.landscapes._arguments import as_tree
from hdjax.landscapes.frame import conditional_law
from hdjax.landscapes.functions import Added, Cosines, Modulated, Scaled, Tensors, parts_of
from hdjax.landscapes.kernels.base import Amplitude, Kernel, Product, SpinGlass, Sum
from hdjax.landscapes.kernels.stationary import Stationary
from hdjax.landscapes.landscape import CLOCK, Horizon, Landscape, LandscapeMethod
from hdjax.landscapes.order import OrderParameters, from_vectors
from hdjax.random import Stream
from hdjax.registry import Bounds, Each, OneOf, Precision, Size, register
from hdjax.system import Simulator

_COUPLINGS = ("gaussian", "rademacher")


class Vectors(eqx.Module):
    """The state of a run in R^d; rows of steps that were not made yet are 0.

    Attributes:
        points: x_k.
        values: f(x_k).
        gradients: g_k.
        ahead: the point of the next observation.
        memory: the state of the algorithm.
        seen: the number of observations made so far.
        function: the random function of the run, or None.
    """

    points: Float[Array, "n d"]
    values: Float[Array, " n"]
    gradients: Float[Array, "n d"]
    ahead: Float[Array, " d"]
    memory: PyTree
    seen: Int[Array, ""]
    function: PyTree


class OnVectors(LandscapeMethod):
    """A method that holds vectors of R^d.

    Attributes:
        dtype: precision of the run, "float32" or "float64".
    """

    in_space: ClassVar[bool] = True
    dtype: eqx.AbstractVar[str]

    def simulator(self, system: Landscape, horizon: Horizon) -> "VectorSimulator":
        """The simulator of `system`.

        Raises:
            ValueError, TypeError: d is infinite, or the method cannot run the system.
        """
        if horizon.dimension is None:
            raise ValueError("dimension: infinite; allowed with vectors in R^d: an integer")
        self.check(system)
        return VectorSimulator(system, self, horizon.evaluations, horizon.dimension)

    @abc.abstractmethod
    def check(self, system: Landscape) -> None:
        """Raise ValueError or TypeError if the method cannot run `system`."""

    @abc.abstractmethod
    def sample(self, system: Landscape, d: int, key: Key[Array, ""]) -> PyTree:
        """The random function of a run, or None if it is not drawn beforehand.

        Args:
            system: the landscape.
            d: the dimension.
            key: key of the run.
        """

    @abc.abstractmethod
    def observe(
        self,
        system: Landscape,
        run: Vectors,
        k: Int[Array, ""],
        key: Key[Array, ""],
    ) -> tuple[Float[Array, ""], Float[Array, " d"]]:
        """The value and the gradient at `run.ahead`.

        Args:
            system: the landscape.
            run: the run up to the choice of this point.
            k: the step.
            key: key of the run.
        """

    @abc.abstractmethod
    def numbers_held(self, system: Landscape, d: int) -> int:
        """The number of floats that a function of the landscape takes."""


def _floats(
    values: Annotated[Sequence[float], Each(Bounds(above=0), shortest=1)],
) -> tuple[float, ...]:
    return tuple(float(value) for value in values)


@register("landscapes.method", "explicit")
class Explicit(OnVectors):
    """The random function of the landscape, drawn as tensors or cosine features.

    Args:
        features: the number m of cosine features; needed with stationary kernels, and refused
            otherwise.  The function is nearly Gaussian for m >> d.
        couplings: the law of the couplings of p-spins, "gaussian" or "rademacher" (random signs).
        variances: the values of T^2, equally likely and of mean 1, where the function of a run is
            multiplied with a random T.  For several values the function has covariance kappa/d,
            but is not Gaussian: given T, runs follow the limit of the kernel T^2 kappa, so that
            they stay random as d grows.
        dtype: precision of the run, "float32" or "float64" (which needs `jax_enable_x64`).

    Raises:
        ValueError: an argument is not allowed.

    Example:
        >>> method = Explicit(features=20_000)
    """

    features: Size | None = eqx.field(static=True, default=None)
    couplings: Annotated[str, OneOf(*_COUPLINGS)] = eqx.field(static=True, default="gaussian")
    variances: tuple[float, ...] = eqx.field(static=True, default=(1.0,), converter=_floats)
    dtype: Precision = eqx.field(static=True, default="float32")

    def __check_init__(self) -> None:
        check_dtype(self.dtype)
        if self.couplings not in _COUPLINGS:
            raise ValueError(f"couplings: {self.couplings!r}; allowed: {', '.join(_COUPLINGS)}")
        if self.features is not None and self.features < 1:
            raise ValueError(f"features: {self.features}; allowed: None or at least 1")
        held = self.variances
        if not held or min(held) <= 0 or abs(sum(held) / len(held) - 1) > 1e-6:
            raise ValueError(f"variances: {list(held)}; allowed: positive, of mean 1")

    def check(self, system: Landscape) -> None:
        parts = parts_of(system.kernel)
        if system.noise is not None:
            parts = parts + parts_of(system.noise)
        stationary = any(isinstance(part, Stationary) for part in parts)
        if stationary and self.features is None:
            raise ValueError("features: None; allowed with a stationary kernel: at least 1")
        if not stationary and self.features is not None:
            raise ValueError(
                f"features: {self.features}; allowed without a stationary kernel: None"
            )

    def sample(self, system: Landscape, d: int, key: Key[Array, ""]) -> Callable:
        function = self._sample(system.kernel, d, random.stream(key, Stream.FUNCTION))
        if len(self.variances) == 1:
            return function
        variances = jnp.asarray(self.variances, self.dtype)
        return Scaled(
            jnp.sqrt(jax.random.choice(random.stream(key, Stream.SCALE), variances)),
            function,
        )

    def observe(
        self, system: Landscape, run: Vectors, k: Int[Array, ""], key: Key[Array, ""]
    ) -> tuple[Float[Array, ""], Float[Array, " d"]]:
        noise = None
        if system.noise is not None:
            own = random.at(random.stream(key, Stream.NOISE), k)
            noise = self._sample(system.noise, run.ahead.shape[0], own)

        def value(x: Array) -> Array:
            z = x
            if system.spectrum is not None:
                z = jnp.sqrt(system.spectrum.eigenvalues)[system.spectrum.groups] * x
            clean = system.mean(jnp.vdot(z, z) / 2) + run.function(z)
            return clean if noise is None else clean + noise(z)

        return jax.value_and_grad(value)(run.ahead)

    def numbers_held(self, system: Landscape, d: int) -> int:
        held = 0
        for part in parts_of(system.kernel):
            if isinstance(part, SpinGlass):
                held += sum(d**p for p in range(part.coefficients.shape[0]))
            elif isinstance(part, Stationary) and self.features is not None:
                held += (d + 1) * self.features
        return held

    def _sample(self, kernel: Kernel, d: int, key: Key[Array, ""]) -> Callable:
        left, right = random.at(key, 0), random.at(key, 1)
        match kernel:
            case SpinGlass():
                return Tensors(kernel, d, key, self.couplings, self.dtype)
            case Stationary() if self.features is not None:
                return Cosines(kernel, d, key, self.features, self.dtype)
            case Sum():
                return Added(
                    self._sample(kernel.left, d, left), self._sample(kernel.right, d, right)
                )
            case Product(left=Amplitude() as amplitude, right=other):
                return Modulated(amplitude, self._sample(other, d, key))
            case Product(left=other, right=Amplitude() as amplitude):
                return Modulated(amplitude, self._sample(other, d, key))
        raise TypeError(
            f"kernel: {type(kernel).__name__}; allowed with Explicit: a kernel that `check` accepts"
        )


class Function(OnVectors):
    """A function of the user on R^d; kernel and mean of the system then serve the limit alone.

    Args:
        fn: a differentiable function of x (d,), with x = O(1) and values and gradients scaled as in
            `model.py`.
        dtype: precision of the run, "float32" or "float64" (which needs `jax_enable_x64`).

    Raises:
        TypeError, ValueError: `fn` cannot be called, or another dtype.

    Example:
        >>> method = Function(lambda x: (x**4).sum())
    """

    fn: Callable
    dtype: str = eqx.field(static=True)

    def __init__(self, fn: Callable, dtype: Precision = "float32"):
        check_dtype(dtype)
        self.fn, self.dtype = as_tree("fn", fn), dtype

    def check(self, system: Landscape) -> None:
        if system.noise is not None:
            raise ValueError("noise: a kernel; allowed with Function: None")

    def sample(self, system: Landscape, d: int, key: Key[Array, ""]) -> None:
        return None

    def observe(
        self, system: Landscape, run: Vectors, k: Int[Array, ""], key: Key[Array, ""]
    ) -> tuple[Float[Array, ""], Float[Array, " d"]]:
        return jax.value_and_grad(self.fn)(run.ahead)

    def numbers_held(self, system: Landscape, d: int) -> int:
        return 0


@register("landscapes.method", "ambient")
class Ambient(OnVectors):
    """The exact law of a run, by conditioning all d + 1 components on all earlier observations.

    A step costs O((n d)^3).  The method does not use the previsible frame, which makes it a check
    of `Previsible` at small d and n.

    Args:
        dtype: precision of the run, "float64".

    Raises:
        ValueError: another dtype, or float64 is not enabled.

    Example:
        >>> method = Ambient()
    """

    dtype: Precision = eqx.field(static=True, default="float64")

    def __check_init__(self) -> None:
        if self.dtype != "float64":
            raise ValueError(f"dtype: {self.dtype!r}; allowed: 'float64'")
        check_dtype(self.dtype)

    def check(self, system: Landscape) -> None:
        if system.noise is not None:
            raise ValueError("noise: a kernel; allowed with Ambient: None")
        if system.spectrum is not None:
            raise ValueError(
                "method: Ambient; allowed with a spectrum: Explicit(...), Function(...) (Ambient "
                "needs rotation invariance)"
            )

    def sample(self, system: Landscape, d: int, key: Key[Array, ""]) -> None:
        return None

    def observe(
        self, system: Landscape, run: Vectors, k: Int[Array, ""], key: Key[Array, ""]
    ) -> tuple[Float[Array, ""], Float[Array, " d"]]:
        d = run.ahead.shape[0]
        law = conditional_law(
            system.kernel,
            system.mean,
            run.points,
            run.values,
            run.gradients,
            run.ahead,
            seen=jnp.arange(run.values.shape[0]) < k,
        )
        normals = jax.random.normal(random.at(random.stream(key, Stream.FUNCTION), k), (d + 1,))
        values, vectors = jnp.linalg.eigh(law.covariance)
        spread = vectors @ (jnp.sqrt(jnp.maximum(values, 0.0)) * normals.astype(values.dtype))
        drawn = law.mean + spread / jnp.sqrt(jnp.asarray(d, values.dtype))
        return drawn[0], drawn[1:]

    def numbers_held(self, system: Landscape, d: int) -> int:
        return 0


class VectorSimulator(Simulator):
    """One realisation in R^d; the clock is the step k.

    The observation at x_0 is made at tick 0.

    Attributes:
        system: the landscape and the algorithm.
        method: the method, which makes observations.
        evaluations: the number of observations.
        dimension: d.
    """

    system: Landscape
    method: OnVectors
    evaluations: int = eqx.field(static=True)
    dimension: int = eqx.field(static=True)

    @property
    def clock(self) -> Steps:
        """The clock whose time is the step k."""
        return CLOCK

    def init(self, key: Key[Array, ""]) -> Vectors:
        """The start and the function of a run; the first `advance` makes the first observation."""
        system: Any = cast(self.system, self.method.dtype)
        n, d = self.evaluations, self.dimension
        x = _uniform(system, d, random.stream(key, Stream.START))
        empty = jnp.zeros((n, d), x.dtype)
        function = self.method.sample(system, d, key)
        memory = system.algorithm.init(x)
        return Vectors(empty, empty[:, 0], empty, x, memory, jnp.zeros((), int), function)

    def advance(
        self, state: Vectors, k0: Int[Array, ""], k1: Int[Array, ""], key: Key[Array, ""]
    ) -> Vectors:
        system: Any = cast(self.system, self.method.dtype)

        def step(k: Array, run: Vectors) -> Vectors:
            f, g = self.method.observe(system, run, k, key)
            x = run.ahead
            ahead, memory = system.algorithm.step(run.memory, k, x, f, g, precise.vdot)
            return Vectors(
                run.points.at[k].set(x),
                run.values.at[k].set(f),
                run.gradients.at[k].set(g),
                ahead,
                memory,
                k + 1,
                run.function,
            )

        return jax.lax.fori_loop(state.seen, k1 + 1, step, state)

    def iterate(self, state: Vectors) -> Float[Array, " d"]:
        """The point x_k of a run."""
        return state.points[state.seen - 1]

    def summary(self, state: Vectors) -> OrderParameters:
        k, dtype = state.seen - 1, self.system.radius.dtype
        points, gradients = state.points.astype(dtype), state.gradients.astype(dtype)
        return from_vectors(k, state.values[k].astype(dtype), points, gradients)

    def _bytes(self) -> int:
        """The bytes on which a step of one run works."""
        n, d = self.evaluations, self.dimension
        held = self.method.numbers_held(self.system, d)
        past = (n * (d + 1)) ** 2 if isinstance(self.method, Ambient) else 0
        return np.dtype(self.method.dtype).itemsize * (2 * held + 8 * n * d + 4 * past)

    def side_by_side(self) -> int | None:
        # On a CPU large functions are slower side by side than one by one.
        large = self._bytes() > 2**20
        return 1 if large and jax.default_backend() == "cpu" else None


def _uniform(system: Any, d: int, key: Key[Array, ""]) -> Float[Array, " d"]:
    """A random x_0 of norm |x_0| with a uniform direction, in each eigenspace of a spectrum."""
    normals = jax.random.normal(key, (d,), system.radius.dtype)
    if system.spectrum is None:
        return system.radius / jnp.sqrt(precise.vdot(normals, normals)) * normals
    masses, groups = system.problem.masses, system.spectrum.groups
    squares = jnp.zeros_like(masses).at[groups].add(normals**2)
    return jnp.sqrt(masses / squares)[groups] * normals
