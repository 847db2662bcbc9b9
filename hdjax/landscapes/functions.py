"""Random functions that are drawn as explicit functions on R^d, for the method `Explicit`.

* `Tensors`: mixed p-spins, by tensors that are not symmetrised.  With J of variance 1,
  f = sum_p (c_p/d)^(1/2) sum J_{i_1..i_p} x_{i_1} ... x_{i_p}, which takes d^p numbers for each p.
* `Cosines`: stationary kernels, by m random cosine features,
  f = (2 var/(d m))^(1/2) sum_j cos(<w_j, x> + b_j).  The covariance is exact for every m; the law
  is nearly Gaussian for m >> d only.
* `Added`, `Modulated`, `Scaled`: sums of functions, amplitudes times functions, and multiples.
"""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from hdjax import precise, random
from hdjax.landscapes.kernels.base import Amplitude, Kernel, Product, SpinGlass, Sum
from hdjax.landscapes.kernels.stationary import Stationary

__all__ = [
    "Added",
    "Cosines",
    "Modulated",
    "Scaled",
    "Tensors",
]


class Tensors(eqx.Module):
    """A mixed p-spin function f(x) = sum_p J_p[x, ..., x].

    Attributes:
        tensors: J_p of shape (d,) * p, scaled by (c_p/d)^(1/2), for p = 0, 1, ...
    """

    tensors: list[Array]

    def __init__(self, kernel: SpinGlass, d: int, key: Key[Array, ""], couplings: str, dtype: str):
        draw = jax.random.normal if couplings == "gaussian" else jax.random.rademacher
        scale = jnp.sqrt(kernel.coefficients / d)
        self.tensors = [
            scale[p].astype(dtype) * draw(random.at(key, p), (d,) * p, dtype)
            for p in range(kernel.coefficients.shape[0])
        ]

    def __call__(self, x: Array) -> Array:
        total = jnp.zeros((), x.dtype)
        for tensor in self.tensors:
            while tensor.ndim:
                tensor = precise.tensordot(tensor, x, axes=1)
            total = total + tensor
        return total


class Cosines(eqx.Module):
    """A function of cosine features, f(x) = (2 var/(d m))^(1/2) sum_j cos(<w_j, x> + b_j).

    Attributes:
        frequencies: w_j.
        phases: b_j, uniform on [0, 2 pi).
        scale: (2 var/(d m))^(1/2).
    """

    frequencies: Float[Array, "m d"]
    phases: Float[Array, " m"]
    scale: Float[Array, ""]

    def __init__(self, kernel: Stationary, d: int, key: Key[Array, ""], features: int, dtype: str):
        widths = kernel.frequency_scales(random.at(key, 0), features).astype(dtype)
        normals = jax.random.normal(random.at(key, 1), (features, d), dtype)
        self.frequencies = widths[:, None] * normals
        self.phases = jax.random.uniform(random.at(key, 2), (features,), dtype, 0.0, 2 * np.pi)
        at_zero = kernel.derivatives(jnp.zeros((), dtype))[0]
        self.scale = jnp.sqrt(2 * at_zero / (d * features)).astype(dtype)

    def __call__(self, x: Array) -> Array:
        angles = precise.dot(self.frequencies, x) + self.phases
        return self.scale * jnp.cos(angles).sum()


class Added(eqx.Module):
    """The sum of two functions."""

    left: Callable
    right: Callable

    def __call__(self, x: Array) -> Array:
        return self.left(x) + self.right(x)


class Modulated(eqx.Module):
    """The function s(|x|^2/2) f(x), with an amplitude s."""

    amplitude: Amplitude
    function: Callable

    def __call__(self, x: Array) -> Array:
        return self.amplitude.s(jnp.vdot(x, x) / 2) * self.function(x)


class Scaled(eqx.Module):
    """A multiple of a function."""

    factor: Float[Array, ""]
    function: Callable

    def __call__(self, x: Array) -> Array:
        return self.factor * self.function(x)


def parts_of(kernel: Kernel) -> list[Kernel]:
    """The spin glass and stationary kernels of which a function with this kernel is made.

    Raises:
        TypeError: no explicit function is known for a kernel.
    """
    match kernel:
        case SpinGlass() | Stationary():
            return [kernel]
        case Sum():
            return parts_of(kernel.left) + parts_of(kernel.right)
        case Product(left=Amplitude(), right=other) | Product(left=other, right=Amplitude()):
            return parts_of(other)
    raise TypeError(
        f"kernel: {type(kernel).__name__}; allowed with Explicit: spin glasses, stationary "
        "kernels, their sums, and amplitudes times these"
    )
