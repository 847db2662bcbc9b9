"""Base classes of losses and of label noise, and `FunctionLoss`, which users write losses with.

A loss is a function f(x, teacher, component, noise, theta) of one sample, with the law of its label
noise.  x (m,) are the student projections, teacher (s,) the teacher projections, component is the
index of the sample's mixture component, noise the label noise, and theta any pytree of side
parameters (second layers, biases).  Derivatives come from autodiff.  SGD descends f as it is
written, without a hidden factor of 1/2.

Source: the slides "Hitting the High-D(imensional) Notes", slide "Set-up", for f(a^T X; a^T X*,
epsilon) (paper: arXiv 2308.08977).
"""

import abc
import inspect
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from jaxtyping import Array, Float, Int, PyTree

from hdjax.checks import Checked, is_concrete
from hdjax.gaussian import Rule
from hdjax.registry import NonNegative, NonNegatives, OneOrMoreNonNegative, Size, Values
from hdjax.streaming.projections import Moments, Projections

# A scalar leaf, which is a NumPy array until a system casts it to its precision; see `leaf`.
Number = Any
_FORM = "f(x, teacher, component, noise, theta) -> scalar"


class Noise(Checked):
    """A law of label noise, as a function of `dim` independent standard normals."""

    @property
    @abc.abstractmethod
    def dim(self) -> int:
        """The number of standard normals that a draw takes."""

    @abc.abstractmethod
    def __call__(self, z: Float[Array, " dim"]) -> Float[Array, " k"]:
        """The label noise (k,) of one sample, from standard normals."""

    def branches(self) -> "list[tuple[Any, Noise]]":
        """The parts (probability, law) of this law, over which expectations are summed."""
        return [(1.0, self)]


class NoNoise(Noise):
    """No label noise: the argument `noise` of a loss is an empty vector."""

    @property
    def dim(self) -> int:
        return 0

    def __call__(self, z: Float[Array, " dim"]) -> Float[Array, " k"]:
        return z


class GaussianNoise(Noise):
    """Independent Gaussian label noise N(0, sigma^2), sigma >= 0, in each of `entries` entries."""

    sigma: NonNegative
    entries: Size = eqx.field(static=True, default=1)

    @property
    def dim(self) -> int:
        return self.entries

    def __call__(self, z: Float[Array, " dim"]) -> Float[Array, " k"]:
        return self.sigma * z


class GaussianMixtureNoise(Noise):
    """Label noise N(0, sigma_c^2) with probability p_c, a model of heavy tails and outliers.

    Args:
        sigma: (c,) standard deviations, at least 0; a number counts as an array of length 1.
        probabilities: (c,) positive numbers that sum to 1.

    Raises:
        ValueError: negative standard deviations, other probabilities, or different lengths.

    Example:
        >>> noise = GaussianMixtureNoise(sigma=[0.3, 3.0], probabilities=[0.8, 0.2])
    """

    sigma: Number
    probabilities: Number

    def __init__(self, sigma: OneOrMoreNonNegative, probabilities: NonNegatives):
        self.sigma, self.probabilities = leaf(sigma), leaf(probabilities)
        self.sigma = self.sigma if self.sigma.ndim else self.sigma[None]
        if self.sigma.ndim != 1 or self.sigma.shape != self.probabilities.shape:
            raise ValueError(
                f"sigma, probabilities: shapes {self.sigma.shape} and {self.probabilities.shape}; "
                "allowed: (c,) and (c,)"
            )
        _check_total(self.probabilities)

    @property
    def dim(self) -> int:
        return 2

    def __call__(self, z: Float[Array, " dim"]) -> Float[Array, " k"]:
        return jnp.asarray(self.sigma)[_chosen(self.probabilities, z[0])] * z[1:]

    def branches(self) -> list[tuple[Any, Noise]]:
        indices = range(self.sigma.shape[0])
        return [(self.probabilities[c], GaussianNoise(self.sigma[c])) for c in indices]


class DiscreteNoise(Noise):
    """Label noise with the value `values[c]` with probability `probabilities[c]`.

    It models flipped labels and outliers.  Expectations are exact sums over the values.

    Args:
        values: (c,) numbers, or (c, k) vectors; the argument `noise` of a loss is one of these
            vectors (k = 1 for numbers).
        probabilities: (c,) numbers of at least 0 that sum to 1.

    Raises:
        ValueError: values that are not finite, other probabilities, or different lengths.

    Example:
        >>> flips = DiscreteNoise(values=[1.0, -1.0], probabilities=[0.9, 0.1])
    """

    values: Number
    probabilities: Number

    def __init__(self, values: Values, probabilities: NonNegatives):
        values, self.probabilities = leaf(values), leaf(probabilities)
        shape, given = values.shape, self.probabilities.shape
        if len(shape) not in (1, 2) or len(given) != 1 or shape[:1] != given or not given[0]:
            raise ValueError(
                f"values, probabilities: shapes {shape} and {given}; allowed: (c,) or (c, k), and "
                "(c,), with c at least 1"
            )
        _check_total(self.probabilities)
        self.values = values.reshape(shape[0], -1)

    @property
    def dim(self) -> int:
        return 1

    def __call__(self, z: Float[Array, " dim"]) -> Float[Array, " k"]:
        return jnp.asarray(self.values)[_chosen(self.probabilities, z[0])]

    def branches(self) -> list[tuple[Any, Noise]]:
        indices = range(self.values.shape[0])
        return [(self.probabilities[c], FixedNoise(self.values[c])) for c in indices]


class FixedNoise(Noise):
    """Label noise with a single value (k,), which is a part of `DiscreteNoise`."""

    value: Number

    @property
    def dim(self) -> int:
        return 0

    def __call__(self, z: Float[Array, " dim"]) -> Float[Array, " k"]:
        return jnp.asarray(self.value, z.dtype)


class UniformNoise(Noise):
    """One uniform draw in (0, 1), with which a loss samples a label of a given probability."""

    @property
    def dim(self) -> int:
        return 1

    def __call__(self, z: Float[Array, " dim"]) -> Float[Array, " k"]:
        return jax.scipy.special.ndtr(z)


class Loss(Checked):
    """The loss of one sample, with the law of its label noise.

    Attributes:
        noise: the law of the label noise.
        smooth: True declares that the gradient in x is differentiable in the projections and the
            noise: the H of the limit is then a mean of second derivatives.  False: H comes from
            Gaussian integration by parts, which is correct for every loss.
        rule: the quadrature rule for expectations; None: a system takes
            `hdjax.gaussian.default_rule`, or quasi-Monte Carlo if that is not accurate enough.
    """

    noise: eqx.AbstractVar[Noise]
    smooth: eqx.AbstractVar[bool]
    rule: eqx.AbstractVar[Rule | None]

    @abc.abstractmethod
    def __call__(
        self,
        x: Float[Array, " m"],
        teacher: Float[Array, " s"],
        component: Any,
        noise: Float[Array, " k"],
        theta: PyTree,
    ) -> Float[Array, ""]:
        """The loss of one sample."""

    def check(self, students: int, teachers: int, theta: PyTree) -> None:
        """Raise ValueError if the loss does not take these numbers of columns, or `theta`."""

    def gradient(
        self,
        x: Float[Array, " m"],
        teacher: Float[Array, " s"],
        component: Any,
        noise: Float[Array, " k"],
        theta: PyTree,
    ) -> tuple[Float[Array, " m"], PyTree]:
        """The gradients in x (m,) and in theta (a pytree) of the loss of one sample."""
        return jax.grad(self.__call__, argnums=(0, 4))(x, teacher, component, noise, theta)


class ClosedFormLoss(Loss):
    """A loss whose moments are known in closed form for centred Gaussian projections."""

    @abc.abstractmethod
    def closed_form(self, law: Projections, theta: PyTree) -> Moments:
        """The moments under a law of mean zero, with H in natural coordinates (x, x*)."""


class MomentsLoss(Loss):
    """A loss that computes its moments itself, under Gaussian laws of any mean."""

    @abc.abstractmethod
    def moments(self, law: Projections, component: Any, theta: PyTree) -> Moments | None:
        """The moments, with H in the frame of `law`; None: the general quadrature is used."""


class FunctionLoss(Loss):
    """A loss given by any function; its gradients come from autodiff, its moments from quadrature.

    Args:
        function: `f(x, teacher, component, noise, theta) -> scalar`.  Use a module-level function
            or an `eqx.Module` with array leaves: each new lambda is compiled anew.
        noise: the law of the label noise; None: no label noise.
        smooth: True declares that the gradient in x is differentiable: H is then a mean of second
            derivatives.  A system refuses this if the two forms of H differ.
        rule: the quadrature rule; None: a rule that is accurate enough is chosen when a system is
            made.

    Raises:
        TypeError: `function` is not callable with five arguments.
        ValueError: (when a system is made) the function fails on the system's projections and
            noise, or its value is not a scalar.

    Example:
        >>> def cauchy(x, teacher, component, noise, theta):
        ...     return jnp.log1p((x[0] - teacher[0]) ** 2)
        >>> loss = FunctionLoss(cauchy)
    """

    function: Any
    noise: Noise
    smooth: bool = eqx.field(static=True)
    rule: Rule | None = eqx.field(static=True)

    def __init__(
        self,
        function: Callable,
        *,
        noise: Noise | None = None,
        smooth: bool = False,
        rule: Rule | None = None,
    ):
        _check_signature(function)
        # A module or a Partial keeps its array leaves, which can be swept; a function is static.
        is_tree = isinstance(function, eqx.Module | Partial)
        self.function = function if is_tree else Partial(function)
        self.noise = NoNoise() if noise is None else noise
        self.smooth = smooth
        self.rule = rule

    def check(self, students: int, teachers: int, theta: PyTree) -> None:
        def value(z: Float[Array, " n"], normals: Float[Array, " k"], theta: PyTree) -> Any:
            x, teacher = z[:students], z[students:]
            return self.function(x, teacher, jnp.asarray(0), self.noise(normals), theta)

        dims, dtype = (students + teachers, self.noise.dim), jnp.result_type(float)
        z, normals = (jax.ShapeDtypeStruct((dim,), dtype) for dim in dims)
        try:
            leaves = jax.tree.leaves(jax.eval_shape(value, z, normals, theta))
            shapes = [leaf.shape for leaf in leaves]
            self._check_indices(np.zeros(z.shape), normals, students, theta)
        except Exception as error:
            noise = jax.eval_shape(self.noise, normals).shape
            raise ValueError(
                f"function: {_name(self.function)} raises {type(error).__name__} ({error}) with x "
                f"of shape ({students},), teacher ({teachers},), noise {noise} of "
                f"{type(self.noise).__name__} and theta {theta}; allowed: {_FORM}"
            ) from error
        if shapes != [()]:
            raise ValueError(
                f"function: {_name(self.function)} returns shapes {shapes}; allowed: {_FORM}"
            )
        if not jnp.issubdtype(leaves[0].dtype, jnp.floating):
            raise ValueError(
                f"function: {_name(self.function)} returns {leaves[0].dtype}; allowed: {_FORM}, "
                "a floating number"
            )

    def _check_indices(
        self, z: Float[np.ndarray, " n"], normals: Any, students: int, theta: PyTree
    ) -> None:
        """Raise IndexError for an index out of range, at which JAX silently takes the last entry.

        The function is called with NumPy arrays, which refuse `teacher[1]` of a single teacher.
        """
        noise = np.zeros(jax.eval_shape(self.noise, normals).shape)
        try:
            self.function(z[:students], z[students:], jnp.asarray(0), noise, theta)
        except IndexError:
            raise
        except Exception:
            # A function that needs JAX arrays (`.at`, tracers) cannot be checked with NumPy.
            return

    def __call__(
        self,
        x: Float[Array, " m"],
        teacher: Float[Array, " s"],
        component: Any,
        noise: Float[Array, " k"],
        theta: PyTree,
    ) -> Float[Array, ""]:
        return self.function(x, teacher, component, noise, theta)


def _name(function: Any) -> str:
    function = getattr(function, "func", function)
    return getattr(function, "__name__", type(function).__name__)


def _check_signature(function: Any) -> None:
    """Raise TypeError unless the function can be called with five arguments."""
    if not callable(function):
        raise TypeError(f"function: {function!r}; allowed: {_FORM}")
    try:
        signature = inspect.signature(function)
    except ValueError:
        # Some built-in callables have no signature.
        return
    try:
        signature.bind(*range(5))
    except TypeError:
        raise TypeError(f"function: {_name(function)}{signature}; allowed: {_FORM}") from None


def _check_total(probabilities: Any) -> None:
    if is_concrete(probabilities):
        total = float(np.sum(np.asarray(probabilities)))
        if abs(total - 1) > 1e-5:
            raise ValueError(f"probabilities: sum {total:.6g}; allowed: 1")


def _chosen(probabilities: Any, z: Float[Array, ""]) -> Int[Array, ""]:
    """The index that a standard normal chooses, with these probabilities of the indices."""
    # A normal above the quantile of an index's cumulative probability chooses a later index.
    edges = jax.scipy.special.ndtri(jnp.cumsum(jnp.asarray(probabilities))[:-1])
    return (z > edges).sum(dtype=jnp.int32)


def leaf(value: Any) -> Any:
    """A number as an array leaf that a system casts to its precision.

    The leaf is a NumPy array, so a loss made at import time does not depend on the precision of JAX
    at that time.
    """
    return value if isinstance(value, jax.Array) else np.asarray(value, dtype=np.float64)


def probability(name: str, value: Any) -> Any:
    """The leaf of a probability, or None; ValueError if it is concrete and not in [0, 1]."""
    if value is None:
        return None
    if is_concrete(value):
        try:
            inside = np.ndim(value) == 0 and 0 <= float(value) <= 1
        except (TypeError, ValueError):
            inside = False
        if not inside:
            raise ValueError(f"{name}: {value}; allowed: 0 to 1, or None")
    return leaf(value)


def flips(flip: Any) -> Noise:
    """The law of a label's factor: -1 with probability `flip`, else 1; None: no label noise."""
    if flip is None:
        return NoNoise()
    share = jnp.asarray(flip)
    return DiscreteNoise(jnp.asarray([1.0, -1.0], share.dtype), jnp.stack([1 - share, share]))


def check_columns(loss: str, students: int, teachers: int, expected: tuple[int, int]) -> None:
    """Raise ValueError unless (students, teachers) are the `expected` numbers of a loss."""
    if (students, teachers) != expected:
        raise ValueError(
            f"start, target: {students} student and {teachers} teacher columns; "
            f"allowed with {loss}: {expected[0]} and {expected[1]}"
        )


def scalar_moments(
    law: Projections, risk: Array, student: Array, teacher: Array, noise: Array
) -> Moments:
    """The `Moments` for one student and one teacher from R, H = (H_1, H_2) and C."""
    stein = jnp.stack([student, teacher])[:, None]
    return Moments(risk, zero_gradient(law), stein, noise[None, None])


def zero_gradient(law: Projections) -> Float[Array, " m"]:
    """The mean gradient under a law of mean zero, set to 0: the limit does not need it."""
    return jnp.zeros(law.students, law.covariance.dtype)
