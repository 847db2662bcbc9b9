"""The classifiers that a two-layer network reaches on XOR: fixed points, learned means, success.

At snr = infinity with ReLU and 0 < beta < 1/8, every unit ends at +mu or -mu (v_i > 0), or at +nu
or -nu (v_i < 0), with W_i = |v_i| times that mean.  The units at a mean satisfy

    sum v_i^2 = L = log((1 - 4 beta)/(4 beta)),

and the output there is +L or -L; it is 0 at a mean without units.  The second layer's Hessian then
has one eigenvalue beta (1 - 4 beta) L for each mean with units, so that its rank counts the learned
means.  The signs of the start send every unit to one of four means, equally likely: all four are
taken with probability sum_j (-1)^j C(4, j) (1 - j/4)^K.

`Alignment` reports learned means and success.  Sources: "Spectral alignment of SGD" (arXiv
2310.03010, section 4 for two layers) and "High-dimensional limit theorems for SGD" (arXiv
2206.04030); the closed forms are for the ridge beta of this library's loss.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from hdjax.checks import checked
from hdjax.registry import PositiveFloat, Size
from hdjax.streaming import GramSummary, OnePassSGD
from hdjax.streaming.losses import MixtureLogistic

__all__ = [
    "fixed_point_output",
    "learned_means",
    "softmax_fixed_point",
    "success_probability",
    "taken_means",
]


@checked
def fixed_point_output(ridge: PositiveFloat) -> float:
    """The output L = log((1 - 4 beta)/(4 beta)) at learned means of XOR; 0 for beta >= 1/8.

    Args:
        ridge: beta.

    Raises:
        ValueError: the ridge is not positive.

    Example:
        >>> round(fixed_point_output(0.02), 6)
        2.442347
    """
    if not ridge > 0:
        raise ValueError(f"ridge: {ridge}; allowed: positive")
    return math.log((1 - 4 * ridge) / (4 * ridge)) if ridge < 1 / 8 else 0.0


@checked
def softmax_fixed_point(classes: Size, ridge: PositiveFloat) -> float:
    """The number s > 0 with beta s (e^s + k - 1) = 1, the fixed point of softmax regression.

    The overlaps there are S = s (I - 1 1^T/k), for orthonormal means and snr = infinity.

    Args:
        classes: k.
        ridge: beta.

    Raises:
        ValueError: there are fewer than 2 classes, or the ridge is not positive.

    Example:
        >>> round(softmax_fixed_point(3, 0.05), 10)
        2.049057639
    """
    if classes < 2 or not ridge > 0:
        raise ValueError(f"classes, ridge: {classes}, {ridge}; allowed: 2 or more, and positive")
    low, high = 0.0, max(1.0, math.log(1 + 1 / ridge) + 1)
    for _ in range(100):
        middle = (low + high) / 2
        below = ridge * middle * (math.exp(middle) + classes - 1) < 1
        low, high = (middle, high) if below else (low, middle)
    return (low + high) / 2


@checked
def success_probability(width: Size, means: Size = 4) -> float:
    """The probability that `width` units with independent uniform choices take all `means`.

    Args:
        width: the number of units K.
        means: the number of means.

    Raises:
        ValueError: a number is below 1.

    Example:
        >>> success_probability(4)
        0.09375
    """
    if width < 1 or means < 1:
        raise ValueError(f"width, means: {width}, {means}; allowed: at least 1")
    terms = [(-1) ** j * math.comb(means, j) * (means - j) ** width for j in range(means + 1)]
    return sum(terms) / means**width


@checked
def learned_means(
    system: OnePassSGD, summary: GramSummary, threshold: Float[Array, ""]
) -> Bool[Array, " c"]:
    """Whether each mean is learned: the output there is beyond the threshold, on the right side.

    Args:
        system: a training with a `MixtureLogistic` loss.
        summary: a state of a run or of the limit.
        threshold: tau >= 0; half of `fixed_point_output` tells learned means from others.

    Raises:
        TypeError: the loss is another one.
    """
    m, loss = system.layout.students, system.loss
    if not isinstance(loss, MixtureLogistic):
        raise TypeError(f"system: {type(loss).__name__} loss; allowed: MixtureLogistic")
    head, overlaps = loss.head, summary.overlaps[:m, m:]
    output = jax.vmap(lambda x: head(x, summary.theta), in_axes=1)(overlaps)
    return (2 * jnp.asarray(loss.labels, output.dtype) - 1) * output > threshold


@checked
def taken_means(
    overlaps: Float[np.ndarray, "k c"], theta: Float[np.ndarray, " k"]
) -> Int[np.ndarray, " k"]:
    """The mean that each unit of an XOR network takes by the rule of snr = infinity.

    Args:
        overlaps: (K, 4) inner products of the first layer with [mu, -mu, nu, -nu].
        theta: (K,) second layer.

    Returns:
        (K,) indices into [mu, -mu, nu, -nu].

    Example:
        >>> taken_means(np.array([[0.1, -0.1, 0.3, -0.3]]), np.array([-1.0])).tolist()
        [2]
    """
    first = np.where(theta > 0, 0, 2)
    negative = np.take_along_axis(overlaps, first[:, None], axis=1)[:, 0] < 0
    return first + negative
