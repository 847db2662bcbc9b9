"""Optimisers that transform the gradient: clipping, signs, RMSprop, Adam, and any other of Optax.

A user gives one as the `optimiser` of a `OnePassSGD`.  Direct simulation runs the exact algorithm,
X_{k+1} = X_k - gamma(k/d)/d T_k(G_k), with G_k the mini-batch gradient plus tau X_k.  An optimiser
that has a limit defines how T acts on Gram blocks as d grows:

* Clipping the norm of the gradient at c sqrt(d) clips |g| at delta = c / sqrt(tr K/d), because
  |a g^T| is sqrt(tr K) |g| to leading order.
* The sign, and Adam with a window of a few steps, are odd functions of each coordinate of a, so the
  mean step is linear in Cov(a_j, r): lambda_i W_i H becomes lambda_i^(1/2) W_i h.  The noise of a
  step is white.
* Adam with a window of order d steps divides by second moments that are deterministic as d grows.

The last two are not invariant under rotations: their limits are for diagonal K and for columns that
are spread over the coordinates.

Sources: arXiv 2308.08977 for the model; the limits of the optimisers are derived here.
"""

import abc
import math
from typing import Annotated, Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from hdjax import gaussian, precise
from hdjax.checks import is_concrete
from hdjax.registry import Bounds, Positive, Size, register
from hdjax.spectra import Spectrum
from hdjax.streaming.forces import Field, Forces
from hdjax.streaming.limit import BlockState
from hdjax.streaming.losses import Loss
from hdjax.streaming.losses.altered import clipped, signed
from hdjax.streaming.losses.base import Number, leaf
from hdjax.streaming.optimisers.linear import SGD, Optimiser
from hdjax.streaming.projections import Moments, Projections
from hdjax.system import NoLimitError

_LARGEST_SHARE = 0.5  # the largest share of a column's norm in one coordinate without a warning
_WITH_LIMIT = "SGD, Momentum, HeavyBall, Dana, Averaging, Clipped, SignSGD, Adam, RMSProp"


class Transformed(Optimiser):
    """An optimiser that transforms gradients in R^d; `Direct` alone simulates it."""

    @abc.abstractmethod
    def transformation(self, system: Any) -> optax.GradientTransformation:
        """The transformation of Optax for pairs (gradient (d, m), gradient in theta).

        A step subtracts gamma/d times the transformed pair.
        """

    def accumulated(self, state: Any, spectrum: Spectrum) -> Any:
        """The part of the transformation's state that the limit has too, like `accumulator`."""
        del state, spectrum


class Optax(Transformed):
    """Any gradient transformation of Optax as an optimiser; it has no limit.

    The transformation must not include the learning rate and the sign, which SGD applies.  A system
    also takes the transformation itself: `optimiser=optax.scale_by_lion()`.

    Args:
        chain: the gradient transformation.

    Example:
        >>> import optax
        >>> optimiser = hd.streaming.optimisers.Optax(optax.scale_by_lion())
    """

    chain: optax.GradientTransformation = eqx.field(static=True)

    def transformation(self, system: Any) -> optax.GradientTransformation:
        return self.chain

    def forces(self, field: Field, state: BlockState) -> Forces:
        raise NoLimitError(
            f"optimiser: {self!r}, whose limit is not known; allowed with one: {_WITH_LIMIT}"
        )


def as_optimiser(value: Any) -> Optimiser:
    """The optimiser that `value` stands for: an `Optimiser`, an Optax transformation, or None.

    Raises:
        TypeError: another value.
    """
    if value is None:
        return SGD()
    if isinstance(value, Optimiser):
        return value
    if isinstance(value, optax.GradientTransformation):
        return Optax(value)
    raise TypeError(
        f"optimiser: {value!r}; allowed: an optimiser of hdjax.streaming, a gradient "
        "transformation of Optax, or None"
    )


@register("streaming.optimiser", "clipped")
class Clipped(Transformed):
    """SGD on gradients a g^T whose norm is clipped at c sqrt(d).

    Args:
        level: c = O(1), positive.

    Raises:
        ValueError: a level that is not positive; a system with mini-batches (the norm of their
            gradient is not a function of one sample), a ridge or side parameters.

    Example:
        >>> optimiser = hd.streaming.optimisers.Clipped(level=1.0)
    """

    level: Number

    def __init__(self, level: Positive):
        self.level = leaf(level)

    def transformation(self, system: Any) -> optax.GradientTransformation:
        return optax.clip_by_global_norm(self.level * jnp.sqrt(system.spectrum.dimension))

    def forces(self, field: Field, state: BlockState) -> Forces:
        traces = (field.eigenvalues * field.weights[None]).sum(1)
        loss = clipped(field.loss, self.level / jnp.sqrt(traces))
        return _with(field, loss=loss).forces(state)

    def check(self, system: Any) -> None:
        _check(self, system, batch=True, ridge=True)


@register("streaming.optimiser", "sign_sgd")
class SignSGD(Transformed):
    """Sign descent, X_{k+1} = X_k - gamma/d sign(a) sign(g)^T, for diagonal K.

    The limit is for columns that are spread over the coordinates.

    Raises:
        ValueError: a system with mini-batches, a ridge, a mixture or side parameters, or a
            spectrum with a basis.

    Example:
        >>> optimiser = hd.streaming.optimisers.SignSGD()
    """

    def transformation(self, system: Any) -> optax.GradientTransformation:
        return optax.stateless(lambda gradients, _: jax.tree.map(jnp.sign, gradients))

    def forces(self, field: Field, state: BlockState) -> Forces:
        parts = _with(field, loss=signed(field.loss)).component_moments(state)
        # E[sign(a_j) ...] = sqrt(2/pi) Cov(a_j, ...) / sqrt(K_jj), and E[sign^2] = 1.
        drift = _with(field, eigenvalues=jnp.sqrt(2 / math.pi * field.eigenvalues))
        noise = _with(field, eigenvalues=jnp.ones_like(field.eigenvalues))
        return Forces(drift.direction(parts), noise.noise(parts), None, None)

    def check(self, system: Any) -> None:
        _check(self, system, batch=True, ridge=True, mixture=True, basis=True)

    def doubt(self, system: Any) -> str | None:
        return _spread(self, system)


@register("streaming.optimiser", "rmsprop")
class RMSProp(Transformed):
    """RMSprop, or Adam, with windows of a number of steps that does not depend on d; diagonal K.

    The step is X_{k+1} = X_k - gamma/d u with, in each coordinate, u = M / sqrt(N), where M is the
    moving average of the gradient G with weight 1 - beta1, and N that of G^2 with weight 1 - beta2
    (epsilon is zero, and there is no bias correction).  The Gram blocks do not change over a
    window, so the limit needs, at each state, means over independent (r_l, z_l) of

        U = sum_l beta1^l (1 - beta1) g(r_l) z_l / sqrt((1 - beta2) sum_l beta2^l g(r_l)^2 z_l^2).

    They are taken over a fixed number of random windows, so the limit has a relative error of about
    1/sqrt(draws), which is the same in each call.

    Args:
        beta2: decay of the average of the squared gradient, in [0, 1).
        beta1: decay of the average of the gradient, 0 or below the square root of beta2.
        draws: number of random windows over which the means of the limit are taken.

    Raises:
        ValueError: other betas, fewer than 1 draw; a system with mini-batches, a ridge, a mixture
            or side parameters, or a spectrum with a basis.

    Example:
        >>> optimiser = hd.streaming.optimisers.RMSProp(beta2=0.9)
    """

    beta2: Annotated[float, Bounds(least=0, below=1)] = eqx.field(static=True)
    beta1: Annotated[float, Bounds(least=0, below=1)] = eqx.field(static=True, default=0.0)
    draws: Size = eqx.field(static=True, default=4096)

    def __check_init__(self) -> None:
        if self.beta1 and self.beta1 >= self.beta2**0.5:
            raise ValueError(f"beta1: {self.beta1}; allowed: 0, or below the square root of beta2")

    def transformation(self, system: Any) -> optax.GradientTransformation:
        return _moving_moments(self.beta1, self.beta2, 0.0)

    def forces(self, field: Field, state: BlockState) -> Forces:
        law = field.law(state[0], jnp.asarray(0))
        h, noise = self._window(field.loss, law)
        zero = jnp.zeros((field.layout.students,) * 2, h.dtype)
        parts = Moments(jnp.zeros((), h.dtype), zero[0], h, noise)
        parts = jax.tree.map(lambda x: x[None], parts)
        drift = _with(field, eigenvalues=jnp.sqrt(field.eigenvalues))
        white = _with(field, eigenvalues=jnp.ones_like(field.eigenvalues))
        return Forces(drift.direction(parts), white.noise(parts), None, None)

    def check(self, system: Any) -> None:
        _check(self, system, batch=True, ridge=True, mixture=True, basis=True)

    def doubt(self, system: Any) -> str | None:
        return _spread(self, system)

    def _window(self, loss: Loss, law: Projections) -> tuple[Array, Array]:
        """H (n, m) in frame coordinates, and the covariance (m, m) of the sum of U over steps."""
        dtype, n = law.covariance.dtype, law.dim
        # The number of earlier samples in a window, and of later steps that a sample affects.
        before, after = (_memory(beta) for beta in (self.beta2, self.beta1))
        shape = (self.draws, before + after - 1, n + loss.noise.dim + 1)
        draws = jax.random.normal(jax.random.key(0), shape, dtype)
        age = np.arange(before - 1, before + after - 1)[:, None] - np.arange(shape[1])[None]
        weigh = [(1 - b) * np.where(age >= 0, float(b) ** np.abs(age), 0) for b in self._betas]
        first, second = (jnp.asarray(weight, dtype) for weight in weigh)

        def one(draw: Float[Array, "l v"]) -> tuple[Array, Array]:
            seen, z = draw[:, :n], draw[:, -1]

            def gradient(seen: Array, noise: Array) -> Array:
                x, teacher = law.at(seen)
                return loss.gradient(x, teacher, jnp.asarray(0), loss.noise(noise), None)[0]

            g = jax.vmap(gradient)(seen, draw[:, n:-1])

            def scales(z: Float[Array, " l"]) -> Float[Array, "after m"]:
                squares = (g * z[:, None]) ** 2
                return gaussian.safe_sqrt(precise.dot(second, squares))

            def step(z: Float[Array, " l"]) -> Float[Array, " m"]:
                return precise.dot(first[0], g * z[:, None]) / scales(z)[0]

            # Integration by parts gives Cov(U, r_l) from the derivative of U along z_l.
            h = jax.vmap(lambda along: jax.jvp(step, (z,), (along,))[1])(seen.T)
            # This is the sum of all contributions of one sample, to its own and to later steps; its
            # sign is independent of the signs of the other samples.
            share = first[:, before - 1][:, None] / scales(z)
            total = g[before - 1] * z[before - 1] * share.sum(0)
            return h, jnp.outer(total, total)

        h, noise = jax.tree.map(lambda x: x.mean(0), jax.vmap(one)(draws))
        return gaussian.solve_transpose(law.factor, h), noise

    @property
    def _betas(self) -> tuple[float, float]:
        return self.beta1, self.beta2


@register("streaming.optimiser", "adam")
class Adam(Transformed):
    """Adam whose second moments remember order d steps, 1 - beta2 = forgetting/d, for diagonal K.

    Epsilon is zero and there is no bias correction.  The second moments nu_ij of eigenvalue i and
    column j start at `initial`; in the limit d nu_ij/dt = forgetting (lambda_i C_jj / b - nu_ij),
    and a step divides by sqrt(nu_ij).  The limit does not depend on a fixed beta1.

    Args:
        forgetting: O(1), positive.
        initial: the second moments at the start, positive.
        beta1: decay of the average of the gradient, in [0, 1).

    Raises:
        ValueError: numbers that are not allowed; a system with side parameters, or a spectrum with
            a basis.

    Example:
        >>> optimiser = hd.streaming.optimisers.Adam(forgetting=5.0, initial=0.3)
    """

    forgetting: Number
    initial: Number
    beta1: float = eqx.field(static=True)

    def __init__(
        self,
        forgetting: Positive,
        initial: Positive = 1.0,
        beta1: Annotated[float, Bounds(least=0, below=1)] = 0.9,
    ):
        self.forgetting, self.initial, self.beta1 = leaf(forgetting), leaf(initial), beta1

    def transformation(self, system: Any) -> optax.GradientTransformation:
        beta2 = 1 - self.forgetting / system.spectrum.dimension
        return _moving_moments(self.beta1, beta2, self.initial)

    def accumulator(self, groups: int, students: int) -> Any:
        return jnp.full((groups, students), self.initial)

    def accumulated(self, state: Any, spectrum: Spectrum) -> Float[Array, "g m"]:
        second, counts = state[1][0], spectrum.multiplicities.astype(state[1][0].dtype)
        total = jax.ops.segment_sum(second, spectrum.groups, counts.shape[0])
        return total / counts[:, None]

    def forces(self, field: Field, state: BlockState) -> Forces:
        plain, second = field.forces(state), state[1].accumulated
        fresh = _with(field, weights=jnp.ones_like(field.weights))
        fresh = jnp.diagonal(fresh.noise(field.component_moments(state)), axis1=1, axis2=2)
        scale = gaussian.safe_sqrt(second)
        return Forces(
            plain.direction / scale[:, None],
            plain.noise / (scale[:, None] * scale[:, :, None]),
            None,
            self.forgetting * (fresh - second),
        )

    def check(self, system: Any) -> None:
        _check(self, system, basis=True)

    def doubt(self, system: Any) -> str | None:
        return _spread(self, system)


def _moving_moments(beta1: Any, beta2: Any, initial: Any) -> optax.GradientTransformation:
    """The transformation of Adam without bias correction and epsilon (Optax's Adam has both).

    The second moments start at `initial`.
    """

    def init(params: Any) -> Any:
        first = jax.tree.map(jnp.zeros_like, params)
        return first, jax.tree.map(lambda x: jnp.full_like(x, initial), params)

    def update(updates: Any, state: Any, params: Any = None) -> Any:
        del params
        first, second = state
        first = jax.tree.map(lambda m, g: beta1 * m + (1 - beta1) * g, first, updates)
        second = jax.tree.map(lambda v, g: beta2 * v + (1 - beta2) * g**2, second, updates)
        return jax.tree.map(lambda m, v: m / jnp.sqrt(v), first, second), (first, second)

    return optax.GradientTransformation(init, update)


def _spread(optimiser: Transformed, system: Any) -> str | None:
    """A warning if a given column has a large share of its norm in one coordinate; or None."""
    given = getattr(system.columns, "given", None)
    if given is None or not is_concrete(given):
        return None
    norms = np.maximum(np.linalg.norm(np.asarray(given), axis=0), np.finfo(float).tiny)
    share = float(np.max(np.abs(np.asarray(given)) / norms[None]))
    if share < _LARGEST_SHARE:
        return None
    return (
        f"start, target, mixture.means: a coordinate has {share:.2g} of a column's norm; allowed: "
        f"below {_LARGEST_SHARE}, because the limit of {type(optimiser).__name__} is for columns "
        "spread over the coordinates"
    )


def _with(field: Field, **changes: Any) -> Field:
    return eqx.tree_at(
        lambda field: [getattr(field, name) for name in changes], field, list(changes.values())
    )


def _memory(beta: float) -> int:
    """The number of steps until a weight of an average has decreased to a ten-thousandth."""
    return 1 if beta == 0 else 1 + math.ceil(math.log(1e-4) / math.log(beta))


def _check(
    optimiser: Transformed,
    system: Any,
    *,
    batch: bool = False,
    ridge: bool = False,
    mixture: bool = False,
    basis: bool = False,
) -> None:
    """Raise ValueError for features of a system with which the limit of `optimiser` is invalid."""
    name = f"with {type(optimiser).__name__}"
    if system.theta is not None:
        raise ValueError(f"theta: given; allowed {name}: None")
    if batch and system.batch_size > 1:
        raise ValueError(f"batch_size: {system.batch_size}; allowed {name}: 1")
    if ridge and is_concrete(system.ridge) and np.any(np.asarray(system.ridge) > 0):
        raise ValueError(f"ridge: {np.max(system.ridge)}; allowed {name}: 0")
    if mixture and (system.probabilities.size > 1 or system.layout.means):
        raise ValueError(f"mixture: several components or means; allowed {name}: None")
    if basis and system.spectrum.basis is not None:
        raise ValueError(f"spectrum: with a basis; allowed {name}: a diagonal covariance")
