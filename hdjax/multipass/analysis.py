"""Stability, rates and the phase transition of multi-pass SGD at a constant learning rate.

Let K be the kernel of the Volterra equation (`limit.py`).  The loss stays bounded if and only if
|K|_1 = gamma/gamma_max is below 1.  The Malthusian exponent lambda* < lambda_min is the root of

    gamma/2n sum_j m_j lambda_j^2/(lambda_j - lambda*) = 1,

and L(t) - L(inf) falls like exp(-2 gamma lambda* t).  For a continuous law the sum is finite at
lambda_min, and for learning rates below gamma_* there is no root: the loss then falls like
t^-3/2 exp(-2 gamma lambda_min t).  Functions here take the spectrum as `Modes` or as a law
(`laws.py`).

Sources: slides "Hitting the High-D(imensional) Notes", frame "Phase transition stepsize" (gamma_*
and the theorem on both rates); arXiv 2102.04396.
"""

from typing import Any

import numpy as np

from hdjax.checks import checked
from hdjax.multipass._roots import find_root
from hdjax.multipass.laws import MarchenkoPastur, SpectralLaw
from hdjax.multipass.modes import Modes
from hdjax.registry import Slot, declare, register
from hdjax.schedules.base import Multiple

__all__ = [
    "limit_loss",
    "malthusian_exponent",
    "max_learning_rate",
    "power_exponent",
    "transition_learning_rate",
]

declare("multipass.rate", Slot(number="constant", includes=("schedule",)))


@checked
def max_learning_rate(spectrum: Any) -> float:
    """The largest stable learning rate gamma_max = 2 n/tr A^T A, from which on the loss grows.

    Args:
        spectrum: the `Modes` of a problem, or a law.

    Example:
        >>> max_learning_rate(MarchenkoPastur(0.5, variance=2.0))
        2.0
    """
    return 2 / trace(spectrum)


@register("multipass.rate", "stable")
class Stable(Multiple):
    """The learning rate of a config, as a multiple of the largest stable one, `max_learning_rate`.

    Args:
        factor: the learning rate as a multiple of the largest stable one; below 1 the loss stays
            bounded.

    Example:
        >>> float(Stable(0.5).factor)
        0.5
    """


@checked
def limit_loss(modes: Modes, learning_rate: float) -> float:
    """The loss per sample as t grows: floor/n/(1 - gamma/gamma_max), infinite from gamma_max on.

    Args:
        modes: the problem in the eigenbasis of A^T A.
        learning_rate: gamma, constant.

    Example:
        >>> modes = hd.multipass.modes.Modes(*[jnp.ones(1)] * 3, jnp.zeros(1), jnp.array(3.0),
        ...                            jnp.array(2.0), {})
        >>> limit_loss(modes, 1.0)
        2.0
    """
    share = learning_rate / max_learning_rate(modes)
    loss = float(modes.floor) / float(modes.samples)
    return loss / (1 - share) if share < 1 else np.inf


@checked
def transition_learning_rate(law: Any) -> float:
    """The learning rate gamma_* of the phase transition of the rate.

        gamma_* = [r/2 int x^2/(x - lambda_min) dmu(x)]^-1

    Up to gamma_* the exponent of the loss is lambda_min, above it lambda*(gamma) < lambda_min.  For
    Marchenko-Pastur it is 2/(v sqrt(r) (1 - sqrt(r) + r)).  Source: slides, frame "Phase transition
    stepsize"; arXiv 2102.04396.

    Args:
        law: a continuous law.

    Raises:
        TypeError: eigenvalues or modes.  For finitely many eigenvalues the sum diverges at
            lambda_min, and `malthusian_exponent` is the exponent at any learning rate.

    Example:
        >>> round(transition_learning_rate(MarchenkoPastur(0.5, variance=2.0)), 10)
        1.7836116249
    """
    if not isinstance(law, SpectralLaw):
        raise TypeError(
            f"law: {type(law).__name__}; allowed: MarchenkoPastur, SampleCovariance (gamma_* "
            "belongs to a continuous law; malthusian_exponent serves eigenvalues)"
        )
    if isinstance(law, MarchenkoPastur):
        root = np.sqrt(law.ratio)
        return float(2 / (law.variance * root * (1 - root + law.ratio)))
    return 2 / (law.ratio * law.second(law.edges[0]))


@checked
def malthusian_exponent(spectrum: Any, learning_rate: float) -> float:
    """The Malthusian exponent lambda*: L(t) - L(inf) falls like exp(-2 gamma lambda* t).

    For a law and learning rates up to gamma_* it is lambda_min.  Above gamma_max it is negative:
    the loss grows.  Source: slides, frame "Phase transition stepsize"; arXiv 2102.04396.

    Args:
        spectrum: the `Modes` of a problem, or a law.
        learning_rate: gamma > 0, constant.

    Raises:
        ValueError: a rate that is not positive, or a spectrum without positive eigenvalues.

    Example:
        >>> law = MarchenkoPastur(0.5, variance=2.0)
        >>> round(malthusian_exponent(law, (transition_learning_rate(law) + 2) / 2), 10)
        0.1010676315
    """
    if not (np.isfinite(learning_rate) and learning_rate > 0):
        raise ValueError(f"learning_rate: {learning_rate}; allowed: finite and positive")
    if isinstance(spectrum, MarchenkoPastur):
        return _marchenko_pastur_exponent(spectrum, learning_rate)
    if isinstance(spectrum, SpectralLaw):
        least = spectrum.edges[0]
        if learning_rate <= transition_learning_rate(spectrum):
            return least

        def excess(z: float) -> float:
            return learning_rate * spectrum.ratio / 2 * spectrum.second(z) - 1

        return find_root(excess, _bracket(excess, spectrum.mean), least)
    eigenvalues, shares = measure(spectrum)
    least = eigenvalues.min()
    own = shares[eigenvalues == least].sum()
    others = eigenvalues > least

    def scaled(gap: float) -> float:
        """The left side less 1, times the distance to the pole at lambda_min: a finite number."""
        z = least - gap
        rest = shares[others] * eigenvalues[others] ** 2 / (eigenvalues[others] - z)
        return learning_rate / 2 * (own * least**2 + gap * rest.sum()) - gap

    high = eigenvalues.mean()
    while scaled(high) > 0:
        high *= 4
    return least - find_root(scaled, 0.0, high)


@checked
def power_exponent(law: Any, learning_rate: float) -> float:
    """The power p of t in L(t) - L(inf) ~ t^p exp(-2 gamma lambda* t).

    For laws whose density begins like a square root, p is -3/2 below gamma_*, -1/2 at gamma_* and
    0 above.  Source: slides, frame "Phase transition stepsize"; arXiv 2102.04396.

    Args:
        law: a continuous law of a ratio r != 1.
        learning_rate: gamma > 0, constant.

    Raises:
        TypeError: eigenvalues instead of a law.
        ValueError: r = 1, where lambda_min = 0 and powers depend on the labels.

    Example:
        >>> power_exponent(MarchenkoPastur(0.5), 0.5)
        -1.5
    """
    critical = transition_learning_rate(law)
    positive_edges(law)
    if np.isclose(learning_rate, critical, rtol=1e-12):
        return -0.5
    return -1.5 if learning_rate < critical else 0.0


def trace(spectrum: Any) -> float:
    """The mean squared norm of a row, tr A^T A/n, of modes or of a law."""
    if isinstance(spectrum, SpectralLaw):
        return spectrum.ratio * spectrum.mean
    eigenvalues, shares = measure(spectrum)
    return float(shares @ eigenvalues)


def second(spectrum: Any, z: float) -> float:
    """The sum 1/n sum_j m_j lambda_j^2/(lambda_j - z) of modes or of a law.

    Args:
        spectrum: `Modes` or a law.
        z: a real number outside of the spectrum.
    """
    if isinstance(spectrum, SpectralLaw):
        return spectrum.ratio * spectrum.second(z)
    eigenvalues, shares = measure(spectrum)
    return float(np.sum(shares * eigenvalues**2 / (eigenvalues - z)))


def edges(spectrum: Any) -> tuple[float, float]:
    """The least and the largest point of the positive spectrum of modes or of a law."""
    if isinstance(spectrum, SpectralLaw):
        return spectrum.edges
    eigenvalues, _ = measure(spectrum)
    return float(eigenvalues.min()), float(eigenvalues.max())


def positive_edges(spectrum: Any) -> tuple[float, float]:
    """The least and the largest point of the positive spectrum, where the least is positive.

    Raises:
        ValueError: a law of r = 1, whose lower edge is 0.
    """
    if isinstance(spectrum, SpectralLaw) and spectrum.ratio == 1:
        raise ValueError(
            "spectrum: a law of ratio 1, whose lower edge is 0; allowed: a ratio other than 1"
        )
    return edges(spectrum)


def measure(spectrum: Any) -> tuple[np.ndarray, np.ndarray]:
    """The positive eigenvalues lambda_j of modes, and their multiplicities m_j/n.

    Raises:
        TypeError: `spectrum` is no `Modes`.
        ValueError: there is no positive eigenvalue.
    """
    if not isinstance(spectrum, Modes):
        raise TypeError(
            f"spectrum: {type(spectrum).__name__}; allowed: Modes, MarchenkoPastur, "
            "SampleCovariance"
        )
    eigenvalues = np.asarray(spectrum.eigenvalues, float)
    shares = np.asarray(spectrum.multiplicities, float) / float(spectrum.samples)
    kept = (eigenvalues > 0) & (shares > 0)
    if not kept.any():
        raise ValueError("spectrum: no positive eigenvalue; allowed: at least one")
    return eigenvalues[kept], shares[kept]


def _marchenko_pastur_exponent(law: MarchenkoPastur, learning_rate: float) -> float:
    """The Malthusian exponent of a Marchenko-Pastur law in closed form."""
    r, v = law.ratio, law.variance
    if learning_rate <= transition_learning_rate(law):
        return law.edges[0]
    c = 2 / (learning_rate * v * r)
    return float(v * (c - 1) * (1 + r + np.sqrt((1 + r) ** 2 - 4 * r * c)) / (2 * c))


def _bracket(excess: Any, scale: float) -> float:
    """A z < 0 at which `excess` is not positive: the lower end of a bracket of the root."""
    z = -scale
    while excess(z) > 0:
        z *= 4
    return z
