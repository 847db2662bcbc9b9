"""Which classifier XOR's two layers reach: fixed points, learned means, and how likely success is.

At snr = infinity with ReLU and 0 < beta < 1/8 every unit ends on +mu or -mu (v_i > 0) or on +nu or
-nu (v_i < 0), W_i = |v_i| times that mean, and the units of every mean that has any satisfy

    sum v_i^2 = L = log((1 - 4 beta)/(4 beta)),    output +L or -L there, 0 at a mean without units.

The second layer's Hessian then has one eigenvalue beta (1 - 4 beta) L for each mean with units: its
rank counts what was learned.  Units choose their means by the signs of their start, four choices
equally likely, so that all four are taken with probability sum_j (-1)^j C(4, j) (1 - j/4)^K.
"Spectral alignment of SGD" (arXiv 2310.03010) and "High-dimensional limit theorems for SGD" (arXiv
2206.04030).
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from hdjax.streaming import GramSummary, MixtureLogistic, OnePassSGD


def fixed_point_output(ridge: float) -> float:
    """L = log((1 - 4 beta)/(4 beta)), the classifier's output at learned means; 0 for beta >= 1/8.

    Raises:
        ValueError: a ridge that is not positive.

    Example:
        >>> round(fixed_point_output(0.02), 6)
        2.442347
    """
    if not ridge > 0:
        raise ValueError(f"ridge: {ridge}; allowed: positive")
    return math.log((1 - 4 * ridge) / (4 * ridge)) if ridge < 1 / 8 else 0.0


def softmax_fixed_point(classes: int, ridge: float) -> float:
    """The s > 0 of beta s (e^s + k - 1) = 1: S = s (I - 1 1^T/k) for orthonormal means, snr = inf.

    Raises:
        ValueError: fewer than 2 classes, a ridge that is not positive.

    Example:
        >>> round(softmax_fixed_point(3, 0.05), 10)
        2.049057639
    """
    if classes < 2 or not ridge > 0:
        raise ValueError(f"classes, ridge: {classes}, {ridge}; allowed: 2 or more, positive")
    low, high = 0.0, max(1.0, math.log(1 + 1 / ridge) + 1)
    for _ in range(100):
        middle = (low + high) / 2
        below = ridge * middle * (math.exp(middle) + classes - 1) < 1
        low, high = (middle, high) if below else (low, middle)
    return (low + high) / 2


def success_probability(width: int, means: int = 4) -> float:
    """That `width` units with independent uniform choices take all `means`.

    Raises:
        ValueError: numbers below 1.

    Example:
        >>> success_probability(4)
        0.09375
    """
    if width < 1 or means < 1:
        raise ValueError(f"width, means: {width}, {means}; allowed: at least 1")
    terms = [(-1) ** j * math.comb(means, j) * (means - j) ** width for j in range(means + 1)]
    return sum(terms) / means**width


def learned_means(
    system: OnePassSGD, summary: GramSummary, threshold: Float[Array, ""]
) -> Bool[Array, " c"]:
    """At which means the classifier's output is beyond the threshold, on the right side.

    Args:
        system: with a `MixtureLogistic` loss.
        summary: a state.
        threshold: tau >= 0; half of `fixed_point_output` tells a learned mean from the others.

    Raises:
        TypeError: another loss.
    """
    m, loss = system.layout.students, system.loss
    if not isinstance(loss, MixtureLogistic):
        raise TypeError(f"system: {type(loss).__name__} loss; allowed: MixtureLogistic")
    head, overlaps = loss.head, summary.overlaps[:m, m:]
    output = jax.vmap(lambda x: head(x, summary.theta), in_axes=1)(overlaps)
    return (2 * jnp.asarray(loss.labels, output.dtype) - 1) * output > threshold


def taken_means(
    overlaps: Float[np.ndarray, "k c"], theta: Float[np.ndarray, " k"]
) -> Int[np.ndarray, " k"]:
    """The mean that each unit of an XOR network takes by the rule of snr = infinity.

    Args:
        overlaps: (K, 4) inner products of the first layer with [mu, -mu, nu, -nu].
        theta: (K,) second layer.

    Example:
        >>> taken_means(np.array([[0.1, -0.1, 0.3, -0.3]]), np.array([-1.0])).tolist()
        [2]
    """
    first = np.where(theta > 0, 0, 2)
    negative = np.take_along_axis(overlaps, first[:, None], axis=1)[:, 0] < 0
    return first + negative
