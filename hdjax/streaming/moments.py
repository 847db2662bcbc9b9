"""Moments of a loss under the law of its projections, by closed forms or by quadrature.

The limit (`field.py`) needs the risk, the mean gradients, H and C = E[g g^T].  With g = grad_x f
and r = (x, x*) ~ N(mean, B), Gaussian integration by parts (Stein's lemma) gives
E[(r - mean) g^T] = B H.  For a smooth loss H = E[grad_r g^T] by autodiff; otherwise
H = L^{-T} E[z g^T] with r = mean + L z.  Directions in which B is singular do not contribute: the
columns of W have no component along them in any eigenspace with lambda > 0.  B is never inverted.

Source: the slides "Hitting the High-D(imensional) Notes", slide "Examples", for the risk as a
Gaussian expectation (paper: arXiv 2308.08977); H is derived here.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from hdjax import gaussian
from hdjax.gaussian import Rule
from hdjax.streaming.losses import ClosedFormLoss, Loss, MomentsLoss
from hdjax.streaming.projections import Moments, Projections


def moments(loss: Loss, law: Projections, component: Any, theta: PyTree) -> Moments:
    """Risk, H, C and mean gradients of `loss` under `law`; H is in the frame of `law`.

    The closed forms of the loss are used if it has them and the law has mean zero; quadrature is
    used otherwise.

    Args:
        loss: any loss.
        law: the law of the projections, of dimension n = m + s.
        component: index of the mixture component, handed to the loss.
        theta: side parameters.

    Raises:
        ValueError: numbers of projections or a theta that the loss does not take.
    """
    loss.check(law.students, law.dim - law.students, theta)
    if isinstance(loss, ClosedFormLoss) and law.mean is None:
        closed = loss.closed_form(law, theta)
        slope = closed.theta_gradient
        if slope is None:
            slope = jax.tree.map(jnp.zeros_like, theta)
        return Moments(closed.risk, closed.gradient, law.frame @ closed.stein, closed.noise, slope)
    if isinstance(loss, MomentsLoss):
        own = loss.moments(law, component, theta)
        if own is not None:
            return own
    return quadrature_moments(loss, law, component, theta)


def mean_over_samples(
    fn: Callable[[Array, Array], PyTree[Array]],
    loss: Loss,
    law: Projections,
    rule: Rule | None = None,
) -> PyTree[Array]:
    """The mean E[fn(z, noise)] over the normals z of the projections and over the label noise.

    `rule` None: the rule of the loss, or the default rule.
    """
    n, total = law.dim, None
    for probability, noise in loss.noise.branches():
        part = gaussian.expectation(
            lambda z, noise=noise: fn(z[:n], noise(z[n:])),
            n + noise.dim,
            rule if rule is not None else loss.rule,
            law.covariance.dtype,
        )
        part = jax.tree.map(lambda x, p=probability: p * x, part)
        total = part if total is None else jax.tree.map(jnp.add, total, part)
    return total


def quadrature_moments(
    loss: Loss, law: Projections, component: Any, theta: PyTree, rule: Rule | None = None
) -> Moments:
    """Risk, H, C and mean gradients of any loss by quadrature; H is in the frame of `law`.

    The quadrature is over the n + k normals of the projections and the label noise.

    Args:
        loss: any loss.
        law: the law of the projections, of dimension n = m + s.
        component: index of the mixture component, handed to the loss.
        theta: side parameters.
        rule: the rule; None: the rule of the loss, or the default rule for n + k variables.
    """

    def integrand(z: Float[Array, " n"], noise: Float[Array, " k"]) -> PyTree[Array]:
        x, teacher = law.at(z)

        def gradient(x: Array, teacher: Array) -> tuple[Array, PyTree]:
            return loss.gradient(x, teacher, component, noise, theta)

        value = loss(x, teacher, component, noise, theta)
        g, theta_gradient = gradient(x, teacher)
        if loss.smooth:
            by_student, by_teacher = jax.jacfwd(lambda *r: gradient(*r)[0], argnums=(0, 1))(
                x, teacher
            )
            stein = jnp.concatenate([by_student.T, by_teacher.T])
        else:
            stein = jnp.outer(z, g)
        return value, g, stein, jnp.outer(g, g), theta_gradient

    value, g, stein, noise, theta_gradient = mean_over_samples(integrand, loss, law, rule)
    by_parts = not loss.smooth
    stein = gaussian.solve_transpose(law.factor, stein) if by_parts else law.frame @ stein
    # H_1 is a mean of Hessians and therefore symmetric: its asymmetry is an error of quadrature.
    m = law.students
    own = (stein[:m] + stein[:m].T) / 2
    stein = jnp.concatenate([own, stein[m:]])
    return Moments(value, g, stein, noise, theta_gradient)
