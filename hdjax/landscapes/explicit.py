"""An algorithm run on the gradients of functions on R^d: drawn ones, a user's own, or none.

`Explicit` draws a random function (`functions.py`), `Function` is given one, and `Ambient` draws
each observation from its law given all earlier ones, in all d + 1 components.

x_0 has a uniform direction (in each eigenspace, with a spectrum), drawn in each run.
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
from hdjax.landscapes.kernels import Amplitude, Kernel, Product, SpinGlass, Sum
from hdjax.landscapes.landscape import CLOCK, Horizon, Landscape, LandscapeMethod
from hdjax.landscapes.order import OrderParameters, from_vectors
from hdjax.landscapes.stationary import Stationary
from hdjax.random import Stream
from hdjax.registry import Bounds, Each, OneOf, Precision, Size, register
from hdjax.system import Simulator

_COUPLINGS = ("gaussian", "rademacher")


class Vectors(eqx.Module):
    """A trajectory in R^d; rows that were not seen yet are 0."""

    points: Float[Array, "n d"]
    values: Float[Array, " n"]
    gradients: Float[Array, "n d"]
    ahead: Float[Array, " d"]
    memory: PyTree
    seen: Int[Array, ""]
    function: PyTree


class OnVectors(LandscapeMethod):
    """A method that holds vectors of R^d."""

    in_space: ClassVar[bool] = True
    dtype: eqx.AbstractVar[str]

    def simulator(self, system: Landscape, horizon: Horizon) -> "VectorSimulator":
        """The simulator of `system`."""
        if horizon.dimension is None:
            raise ValueError("dimension: infinite; allowed with vectors in R^d: an integer")
        self.check(system)
        return VectorSimulator(system, self, horizon.evaluations, horizon.dimension)

    @abc.abstractmethod
    def check(self, system: Landscape) -> None:
        """Raise ValueError or TypeError if the method cannot run `system`."""

    @abc.abstractmethod
    def sample(self, system: Landscape, d: int, key: Key[Array, ""]) -> PyTree:
        """The random function, or what is drawn of it beforehand, from the run's key."""

    @abc.abstractmethod
    def observe(
        self,
        system: Landscape,
        run: Vectors,
        k: Int[Array, ""],
        key: Key[Array, ""],
    ) -> tuple[Float[Array, ""], Float[Array, " d"]]:
        """Value and gradient at `run.ahead`; `key` is the run's."""

    @abc.abstractmethod
    def numbers_held(self, system: Landscape, d: int) -> int:
        """How many numbers a sampled function takes."""


def _floats(
    values: Annotated[Sequence[float], Each(Bounds(above=0), shortest=1)],
) -> tuple[float, ...]:
    return tuple(float(value) for value in values)


@register("landscapes.method", "explicit")
class Explicit(OnVectors):
    """The system's own random function, by tensors or cosine features.

    Args:
        features: m, for stationary kernels (needed there, refused otherwise); m >> d for a function
            that is nearly Gaussian.
        couplings: law of a p-spin's couplings, "gaussian" or "rademacher" (random signs).
        variances: the function of a run is multiplied with T, T^2 one of these, equally likely;
            their mean is 1.  The covariance is kappa/d and the law no Gaussian one: given T, runs
            go where the limit of T^2 kappa goes, and stay random as d grows.
        dtype: "float32" or "float64" (which needs `jax_enable_x64`).

    Raises:
        ValueError: other values.

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
            raise ValueError(f"features: {self.features}; allowed without one: None")

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
        raise TypeError(f"kernel: {type(kernel).__name__}")


class Function(OnVectors):
    """A function of one's own on R^d; kernel and mean of the system then serve its limit alone.

    Args:
        fn: differentiable function of x (d,).
        dtype: "float32" or "float64" (which needs `jax_enable_x64`).

    Raises:
        TypeError, ValueError: no function, another dtype.

    Example:
        >>> method = Function(lambda x: (x**4).sum())
    """

    fn: Callable
    dtype: str = eqx.field(static=True)

    def __init__(self, fn: Any, dtype: str = "float32"):
        check_dtype(dtype)
        self.fn, self.dtype = as_tree("fn", fn), dtype

    def check(self, system: Landscape) -> None:
        if system.noise is not None:
            raise ValueError("noise: a kernel; allowed with a function of one's own: None")

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
    """The exact law by conditioning all d + 1 components on everything seen: O((n d)^3) a step.

    It knows nothing of the previsible frame, which makes it a check of `Previsible`.

    Args:
        dtype: "float64".

    Raises:
        ValueError: another dtype, or float64 not enabled.

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
                "method: Ambient; allowed with a spectrum: Explicit(...), Function(...) (rotation "
                "invariance is lost)"
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
    """One realisation in R^d; the clock is the step k, and x_0 is seen at tick 0."""

    system: Landscape
    method: OnVectors
    evaluations: int = eqx.field(static=True)
    dimension: int = eqx.field(static=True)

    @property
    def clock(self) -> Steps:
        """Time is the step."""
        return CLOCK

    def init(self, key: Key[Array, ""]) -> Vectors:
        """The start and the function; nothing is seen before the first `advance`."""
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

    def summary(self, state: Vectors) -> OrderParameters:
        k, dtype = state.seen - 1, self.system.radius.dtype
        points, gradients = state.points.astype(dtype), state.gradients.astype(dtype)
        return from_vectors(k, state.values[k].astype(dtype), points, gradients)

    def bytes_per_run(self) -> int:
        n, d = self.evaluations, self.dimension
        held = self.method.numbers_held(self.system, d)
        past = (n * (d + 1)) ** 2 if isinstance(self.method, Ambient) else 0
        return np.dtype(self.method.dtype).itemsize * (2 * held + 8 * n * d + 4 * past)

    def side_by_side(self) -> int | None:
        # On a CPU large functions are slower side by side than one by one.
        large = self.bytes_per_run() > 2**20
        return 1 if large and jax.default_backend() == "cpu" else None


def _uniform(system: Any, d: int, key: Key[Array, ""]) -> Float[Array, " d"]:
    """A start with a uniform direction in each eigenspace."""
    normals = jax.random.normal(key, (d,), system.radius.dtype)
    if system.spectrum is None:
        return system.radius / jnp.sqrt(precise.vdot(normals, normals)) * normals
    masses, groups = system.problem.masses, system.spectrum.groups
    squares = jnp.zeros_like(masses).at[groups].add(normals**2)
    return jnp.sqrt(masses / squares)[groups] * normals
