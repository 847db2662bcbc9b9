"""Committee machines: f = (sum_j v_j phi(x_j) - sum_n v*_n phi(x*_n) - noise)^2 / 2.

A student network of two layers with m hidden units learns a teacher network with s units.  The
second layer v is fixed, or trained as the side parameters theta.  For phi(u) = erf(u / sqrt 2) the
moments have closed forms (`ErfCommittee`); for any other phi they are computed by quadrature
(`Committee`).  With w = (v, -v*), e_i = 1 + B_ii, L_il = e_i e_l - B_il^2,

    R = (w^T A w + sigma^2)/2,  A_il = 2/pi arcsin(B_il / sqrt(e_i e_l)),
    H_bj = v_j (w_b D_jb + delta_bj sum_l G_jl w_l),
    D_il = E phi'(r_i) phi'(r_l) = 2/(pi sqrt(L_il)),
    G_il = E phi''(r_i) phi(r_l) = -2 B_il / (pi e_i sqrt(L_il)),
    C_ij = v_i v_j (sum_ab w_a w_b I_4(i, j, a, b) + sigma^2 D_ij),

with I_4 = E phi'(r_i) phi'(r_j) phi(r_a) phi(r_b) (see `_fourth`).

Source: D. Saad and S. Solla, "On-line learning in soft committee machines" (Phys. Rev. E 52, 1995);
H and C are written here for any second layer.
"""

import math
from collections.abc import Callable
from typing import Annotated, Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from hdjax import precise
from hdjax.gaussian import Rule
from hdjax.registry import NonNegative, OneOf, Values, register
from hdjax.streaming.losses.base import (
    ClosedFormLoss,
    GaussianNoise,
    Loss,
    Noise,
    Number,
    leaf,
    zero_gradient,
)
from hdjax.streaming.projections import Moments, Projections

# The activations that a config names, besides erf.
_NAMED = {"relu": jax.nn.relu, "tanh": jax.nn.tanh, "softplus": jax.nn.softplus}


def _committee(activation: Annotated[str, OneOf("erf", *_NAMED)] = "erf", **options: Any) -> Loss:
    """The loss of a committee, (sum_j v_j phi(x_j) - sum_n v*_n phi(x*_n) - noise)^2 / 2.

    Without `weights` the second layer v is trained, from its start theta.

    Args:
        activation: name of phi.
        **options: further arguments of `Committee`.
    """
    if activation == "erf":
        return ErfCommittee(**options)
    return Committee(_NAMED[activation], smooth=activation != "relu", **options)


@register("streaming.loss", "committee", _committee, without=("smooth",))
class Committee(Loss):
    """The loss of a committee of hidden units with any activation, by quadrature.

    Args:
        activation: phi, an elementwise function of an array; use a module-level function, because
            each new lambda is compiled anew.
        teacher_weights: second layer v* (s,) of the teacher.
        weights: second layer v (m,) of the student; None: it is trained, and `OnePassSGD(theta=v0)`
            gives its start.
        sigma: standard deviation of the label noise, at least 0.
        smooth: True declares that phi' is differentiable, as for `FunctionLoss`.
        rule: the quadrature rule for the m + s projections and the noise; None: one that is
            accurate enough.

    Raises:
        TypeError: an activation that is not callable.
        ValueError: weights that are not a vector of finite numbers, or a negative sigma.

    Example:
        >>> loss = Committee(jax.nn.relu, [1.0, 1.0], [0.5, 0.5])
    """

    activation: Any
    teacher_weights: Number
    weights: Number | None
    sigma: Number
    smooth: bool = eqx.field(static=True)
    rule: Rule | None = eqx.field(static=True)

    def __init__(
        self,
        activation: Callable,
        teacher_weights: Values,
        weights: Values | None = None,
        sigma: NonNegative = 0.0,
        *,
        smooth: bool = False,
        rule: Rule | None = None,
    ):
        if not callable(activation):
            raise TypeError(f"activation: {activation!r}; allowed: a function of an array")
        is_module = isinstance(activation, eqx.Module)
        self.activation = activation if is_module else jax.tree_util.Partial(activation)
        self.teacher_weights, self.weights = _layers(teacher_weights, weights)
        self.sigma, self.smooth, self.rule = leaf(sigma), smooth, rule

    @property
    def noise(self) -> Noise:
        return GaussianNoise(self.sigma)

    def check(self, students: int, teachers: int, theta: PyTree) -> None:
        _check_layers(self, students, teachers, theta)

    def __call__(
        self,
        x: Float[Array, " m"],
        teacher: Float[Array, " s"],
        component: Any,
        noise: Float[Array, " k"],
        theta: PyTree,
    ) -> Float[Array, ""]:
        return _squared_error(self, self.activation, x, teacher, noise, theta)


class ErfCommittee(ClosedFormLoss):
    """The loss of a committee of hidden units phi(u) = erf(u / sqrt 2), in closed form.

    Args:
        teacher_weights: second layer v* (s,) of the teacher.
        weights: second layer v (m,) of the student; None: it is trained, and `OnePassSGD(theta=v0)`
            gives its start.
        sigma: standard deviation of the label noise, at least 0.

    Raises:
        ValueError: weights that are not a vector of finite numbers, or a negative sigma.

    Example:
        >>> loss = ErfCommittee(teacher_weights=[0.7, 1.2], weights=[1.0, -0.5], sigma=0.2)
    """

    teacher_weights: Number
    weights: Number | None
    sigma: Number
    rule: Rule | None = eqx.field(static=True, default=None)

    def __init__(
        self, teacher_weights: Values, weights: Values | None = None, sigma: NonNegative = 0.0
    ):
        self.teacher_weights, self.weights = _layers(teacher_weights, weights)
        self.sigma = leaf(sigma)
        self.rule = None

    @property
    def smooth(self) -> bool:
        return True

    @property
    def noise(self) -> Noise:
        return GaussianNoise(self.sigma)

    def check(self, students: int, teachers: int, theta: PyTree) -> None:
        _check_layers(self, students, teachers, theta)

    def __call__(
        self,
        x: Float[Array, " m"],
        teacher: Float[Array, " s"],
        component: Any,
        noise: Float[Array, " k"],
        theta: PyTree,
    ) -> Float[Array, ""]:
        return _squared_error(self, _erf, x, teacher, noise, theta)

    def closed_form(self, law: Projections, theta: PyTree) -> Moments:
        b, m = law.gram, law.students
        v = theta if self.weights is None else self.weights
        w = jnp.concatenate([v, -self.teacher_weights])
        e = 1 + jnp.diagonal(b)
        ee = e[:, None] * e[None]
        root = jnp.sqrt(ee - b**2)
        overlaps = 2 / math.pi * jnp.arcsin(b / jnp.sqrt(ee))
        slopes = 2 / (math.pi * root)
        bends = -2 * b / (math.pi * e[:, None] * root)
        field = precise.dot(overlaps, w)
        stein = w[:, None] * slopes[:, :m]
        stein = stein.at[jnp.arange(m), jnp.arange(m)].add(jnp.dot(bends, w)[:m])
        noise = precise.einsum("a,b,ijab->ij", w, w, _fourth(b, m))
        noise = noise + self.sigma**2 * slopes[:m, :m]
        return Moments(
            risk=(precise.dot(w, field) + self.sigma**2) / 2,
            gradient=zero_gradient(law),
            stein=stein * v[None],
            noise=noise * v[:, None] * v[None],
            theta_gradient=field[:m] if self.weights is None else None,
        )


def _layers(teacher_weights: Any, weights: Any) -> tuple[Any, Any]:
    layers = {"teacher_weights": leaf(teacher_weights)}
    if weights is not None:
        layers["weights"] = leaf(weights)
    for name, layer in layers.items():
        if layer.ndim != 1:
            raise ValueError(f"{name}: shape {layer.shape}; allowed: one number for each unit")
    return layers["teacher_weights"], layers.get("weights")


def _check_layers(loss: Any, students: int, teachers: int, theta: PyTree) -> None:
    trained = loss.weights is None
    if trained and (theta is None or jnp.shape(theta) != (students,)):
        raise ValueError(
            f"theta: {theta}; allowed if the second layer is trained: its start, an array of "
            f"{students} numbers"
        )
    units = (students if trained else loss.weights.shape[0], loss.teacher_weights.shape[0])
    if (students, teachers) != units:
        raise ValueError(
            f"start, target: {students} student and {teachers} teacher columns; allowed with "
            f"these second layers: {units[0]} and {units[1]}"
        )


def _squared_error(
    loss: Any, activation: Callable, x: Array, teacher: Array, noise: Array, theta: PyTree
) -> Float[Array, ""]:
    v = theta if loss.weights is None else loss.weights
    output = precise.dot(v, activation(x))
    target = precise.dot(loss.teacher_weights, activation(teacher))
    return (output - target - noise[0]) ** 2 / 2


def _erf(u: Float[Array, " n"]) -> Float[Array, " n"]:
    return jax.scipy.special.erf(u / math.sqrt(2))


def _fourth(b: Float[Array, "n n"], m: int) -> Float[Array, "m m n n"]:
    """The means I_4(i, j, a, b) = E phi'(r_i) phi'(r_j) phi(r_a) phi(r_b), for students i, j."""
    e = 1 + jnp.diagonal(b)
    ei, ej = e[:m, None, None, None], e[None, :m, None, None]
    ij = b[:m, :m, None, None]
    ia, ja = b[:m, None, :, None], b[None, :m, :, None]
    ib, jb = b[:m, None, None, :], b[None, :m, None, :]
    pair = ei * ej - ij**2
    both = pair * b[None, None] - ja * jb * ei - ia * ib * ej + ij * (ia * jb + ib * ja)

    def own(i: Array, j: Array, diagonal: Array) -> Array:
        return pair * diagonal - j**2 * ei - i**2 * ej + 2 * ij * i * j

    first = own(ia, ja, e[None, None, :, None])
    second = own(ib, jb, e[None, None, None, :])
    return 4 / math.pi**2 * jnp.arcsin(both / jnp.sqrt(first * second)) / jnp.sqrt(pair)
