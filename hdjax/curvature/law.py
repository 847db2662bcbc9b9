"""The joint law of a block's weight D and of the few coordinates of a sample that D depends on.

In an orthonormal basis of span[X, means], with Gram matrix R^T R, a sample of component a has the
coordinates u = R e_mean + xi/sqrt(snr), xi standard normal.  A triangular R puts the coordinates
that D depends on first (the m projections, or the loss's contrasts).  Expectations run over these
coordinates alone, because u along the others is independent of D.  R may be singular: its zero rows
are directions outside the span.

`theory.py`, `full_theory.py` and `blocks.py` take their expectations from here.
"""

import warnings
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float, PyTree

from hdjax import gaussian, precise
from hdjax.checks import checked, is_concrete
from hdjax.curvature.weights import Kind, small_matrix
from hdjax.gaussian import QMC, GaussHermite, Rule
from hdjax.streaming import OnePassSGD
from hdjax.streaming.losses import ACTIVATIONS, MixtureLogistic, MixtureSoftmax, Perceptron

# Nodes of smaller probability are left out: they do not move a mean, and must not bound D.
_NEGLIGIBLE = 1e-14


class Quadrature(eqx.Module):
    """Nodes for the coordinates of a sample in each component, and the geometry of the span.

    Attributes:
        features: (c, N, f) coordinates u on which the weights D depend.
        rest: (c, q - f) means of the other coordinates.
        probabilities: (c, N) probabilities of the nodes, summing to one over all of them.
        seen: (c, N, m) the projections x = X^T a of the nodes.
        frame: R (q, m + c), coordinates of [X | means].
        noise: 1/snr.
        students: m.
    """

    features: Float[Array, "c nodes f"]
    rest: Float[Array, "c o"]
    probabilities: Float[Array, "c nodes"]
    seen: Float[Array, "c nodes m"]
    frame: Float[Array, "q k"]
    noise: Float[Array, ""]
    students: int = eqx.field(static=True)

    @property
    def means(self) -> Float[Array, "q c"]:
        """Coordinates of the means, in columns."""
        return self.frame[:, self.students :]

    def expect(self, values: Float[Array, "c nodes"]) -> Float[Array, ""]:
        """The expectation of a function that is given by its values at the nodes."""
        return jnp.sum(self.probabilities * values)

    def first(self, values: Float[Array, "c nodes"]) -> Float[Array, " q"]:
        """The expectation E[values u]."""
        w = self.probabilities * values
        own = precise.einsum("cn,cnf->f", w, self.features)
        return jnp.concatenate([own, precise.dot(w.sum(1), self.rest)])

    def moment(self, values: Float[Array, "c nodes"]) -> Float[Array, "q q"]:
        """The expectation E[values u u^T]."""
        w = self.probabilities * values
        total = w.sum(1)
        first = precise.einsum("cn,cnf->cf", w, self.features)
        own = precise.einsum("cn,cnf,cng->fg", w, self.features, self.features)
        cross = precise.dot(first.T, self.rest)
        other = precise.dot(self.rest.T * total[None], self.rest)
        other = other + total.sum() * self.noise * jnp.eye(other.shape[0], dtype=other.dtype)
        return jnp.block([[own, cross], [cross.T, other]])


@checked
def quadrature(
    system: OnePassSGD, gram: Float[Array, "k k"], rule: Rule | None = None
) -> Quadrature:
    """The nodes of fresh samples at a state of a run or of the limit.

    Args:
        system: a mixture with means, without teachers, of isotropic noise.
        gram: Gram matrix of [X | means], `summary.overlaps`.
        rule: quadrature rule of the coordinates that D depends on; None: the default for their
            number.

    Raises:
        ValueError: the system is of another kind, or a concrete `gram` is not positive
            semidefinite.

    Example:
        >>> mixture = hd.streaming.mixtures.mixture_softmax(200, 3, snr=4.0, learning_rate=1.0)
        >>> nodes = quadrature(mixture, mixture.start().overlaps)
    """
    check_system(system)
    _check_gram(gram)
    m, dtype = system.layout.students, gram.dtype
    contrasts = getattr(system.loss, "contrasts", None)
    rotation = np.eye(m)
    if contrasts is not None:
        rotation = np.concatenate([contrasts, np.full((1, m), m**-0.5)])
    f = m if contrasts is None else len(contrasts)
    full = np.eye(gram.shape[0])
    full[:m, :m] = rotation
    turn = jnp.asarray(full, dtype)
    rotated = precise.multi_dot([turn, gram, turn.T])
    upper = gaussian.factor(rotated).T
    frame = precise.dot(upper, turn)
    noise = system.eigenvalues[0, 0]
    rule = rule or system.loss.rule or _default_rule(f, system.loss.smooth)
    warn_of_kinks(rule, system.loss.smooth)
    z, w = rule.nodes(f, dtype)
    z, w = z[w > _NEGLIGIBLE], w[w > _NEGLIGIBLE]
    means = frame[:, m:].T
    normals = jnp.sqrt(noise) * jnp.asarray(z)
    features = means[:, None, :f] + normals[None]
    # The means' projections enter as they are: one that is zero must stay on the kink of a ReLU.
    deviation = precise.multi_dot([normals, upper[:f, :f], turn[:f, :m]])
    seen = gram[m:, None, :m] + deviation[None]
    return Quadrature(
        features,
        means[:, f:],
        system.probabilities[:, None] * jnp.asarray(w)[None],
        seen,
        frame,
        noise,
        m,
    )


def block_weights(
    system: OnePassSGD, nodes: Quadrature, theta: PyTree, index: int, kind: Kind
) -> Float[Array, "c nodes"]:
    """The weight D of the block of one small index (a class, a neuron) at the nodes."""
    return small_weights(system, nodes, theta, kind)[:, :, index, index]


def small_weights(
    system: OnePassSGD, nodes: Quadrature, theta: PyTree, kind: Kind
) -> Float[Array, "c nodes h h"]:
    """The small matrices D of all parameters at the nodes (`weights.py`)."""
    nothing = jnp.zeros(0, nodes.seen.dtype)

    def one(x: Float[Array, " m"], component: Array) -> Float[Array, "h h"]:
        return small_matrix(system.loss, kind, x, nothing, component, nothing, theta)

    components = jnp.arange(nodes.seen.shape[0])
    return jax.vmap(lambda x, c: jax.vmap(lambda x: one(x, c))(x))(nodes.seen, components)


def weight_range(
    system: OnePassSGD,
    weights: Float[Array, "c nodes"],
    theta: PyTree,
    index: int,
    kind: Kind,
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """The infimum of the positive values of a block's weight D, and the supremum of D.

    They end the bulk.  They are taken from the nodes unless they are known to lie in the tails of
    the projections, where no rule has nodes: there the D of softmax and of networks comes near
    zero, and squared gradients come near 1 or theta_i^2 (the slopes of ReLU and softplus have the
    supremum 1).
    """
    loss = system.loss
    low, high = jnp.min(weights, where=weights > 0, initial=jnp.inf), weights.max()
    # Projections without variance have no tails.
    varied = jnp.ptp(weights, axis=1).max() > 1e-9 * jnp.abs(weights).max()
    if isinstance(loss, MixtureSoftmax):
        supremum = jnp.ones_like(high)
    elif (
        isinstance(loss, MixtureLogistic)
        and isinstance(loss.head, Perceptron)
        and loss.head.activation in ACTIVATIONS.values()
        and not isinstance(theta, tuple)
    ):
        reached = loss.head.activation is not ACTIVATIONS["tanh"]
        supremum = jnp.maximum(theta[index] ** 2, high) if reached else high
    else:
        return low, high
    if kind == "hessian":
        supremum = high
    return jnp.where(varied, 0, low), jnp.where(varied, supremum, high)


def _check_gram(gram: Float[Array, "k k"]) -> None:
    """Raise ValueError if a concrete Gram matrix is not positive semidefinite."""
    if not is_concrete(gram):
        return
    values = np.linalg.eigvalsh(np.asarray(gram))
    if not values[0] > -1e-6 * values[-1]:
        raise ValueError(
            f"gram: indefinite, lowest eigenvalue {values[0]:.3g}; allowed: the Gram matrix of "
            "[X | means], positive semidefinite"
        )


def warn_of_kinks(rule: Rule | None, smooth: bool) -> None:
    """Warn of a rule for smooth functions with a loss whose derivative jumps."""
    if isinstance(rule, GaussHermite) and not smooth:
        warnings.warn(
            f"rule: {rule} is off by some 5e-3 where the loss's derivative jumps; advised: None or "
            "QMC(...), which are right to 1e-4",
            stacklevel=4,
        )


def positive_alpha(alpha: Any, dtype: DTypeLike) -> Float[Array, ""]:
    """The ratio alpha = n/d as an array.

    Raises:
        ValueError: a concrete alpha is not positive and finite.
    """
    if is_concrete(alpha) and not np.all((np.asarray(alpha) > 0) & np.isfinite(alpha)):
        raise ValueError(
            f"alpha: {alpha}; allowed: positive and finite (`BlockTheory.population` is for large "
            "alpha)"
        )
    return jnp.asarray(alpha, dtype)


def _default_rule(dim: int, smooth: bool) -> Rule:
    """A rule that gives edges and outliers to 1e-4, with a tenth of the general default's nodes."""
    points = {1: 80, 2: 40, 3: 16}
    return GaussHermite(points[dim]) if smooth and dim in points else QMC(12)


def check_system(system: OnePassSGD) -> None:
    """Raise ValueError unless the theory of `theory.py` covers the system."""
    if system.layout.teachers or not system.layout.means:
        raise ValueError(
            f"system: {system.layout.teachers} teacher and {system.layout.means} mean columns; "
            "allowed: a mixture with means and without teachers"
        )
    if system.eigenvalues.shape[1] != 1:
        raise ValueError(
            f"system: {system.eigenvalues.shape[1]} groups of eigenvalues; allowed: isotropic "
            "noise (`commuting_theory` is for the others)"
        )
