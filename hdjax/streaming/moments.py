"""Moments of a loss under the law of its projections: closed form, or any loss by quadrature.

With g = grad_x f and r = (x, x*) ~ N(mean, B), Gaussian integration by parts (Stein) gives
E[(r - mean) g^T] = B H.  For a smooth loss H = E[grad_r g^T] by autodiff; otherwise
H = L^{-T} E[z g^T] with r = mean + L z, where directions in which B is singular drop out (their
columns of W vanish under K).  B itself is never inverted.  arXiv 2308.08977, section 3.
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
    """Risk, H, C and mean gradients of `loss` under `law`; H in the frame of `law`.

    Uses the loss's closed form where it has one and the law is centred.

    Raises:
        ValueError: a law of other projections than the loss takes, or a theta that it does not.
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
    """E[fn(z, noise)] over the standard normals of the projections and the law of label noise."""
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
    """The same for any loss, by a rule for the n + k variables of projections and label noise.

    Args:
        loss: any loss.
        law: law of the projections, dimension n = m + s.
        component: index handed to the loss.
        theta: side parameters.
        rule: the rule; None takes the loss's own, else the default for n + k variables.
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
    # H_1 is a mean of Hessians: what quadrature leaves of asymmetry is error.
    m = law.students
    own = (stein[:m] + stein[:m].T) / 2
    stein = jnp.concatenate([own, stein[m:]])
    return Moments(value, g, stein, noise, theta_gradient)
