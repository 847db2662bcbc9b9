"""Rates of SGD with momentum and batches, and the best learning rate and momentum.

Per eigenvalue the mean residual has the characteristic equation x^2 - Omega_j x + Delta = 0, and
the noise enters through the kernel K(k) = kappa/n sum_j lambda_j^2 h_j(k)^2 with

    sum_k h(k)^2 z^k = (1 + Delta z)/((1 - Delta z) [(1 + Delta z)^2 - Omega^2 z]).

The loss contracts by max(Lambda, 1/Xi) a step: Lambda the largest squared modulus of those roots,
1/Xi the x > Lambda at which x^-1 times the generating function of K at 1/x is one.  Source:
"Trajectory of Mini-Batch Momentum" (Lee, Cheng, Paquette, Paquette 2022).
"""

from typing import Any, NamedTuple

import numpy as np
import scipy

from hdjax.multipass._roots import find_root
from hdjax.multipass.analysis import edges, positive_edges, second, trace
from hdjax.multipass.modes import Modes


class Tuned(NamedTuple):
    """A learning rate and a momentum, with the rate at which the loss contracts."""

    learning_rate: float
    momentum: float
    rate: float


def condition_number(spectrum: Any) -> float:
    """The ratio kappa = lambda_max/lambda_min of the positive spectrum (`Modes` or a law)."""
    low, high = positive_edges(spectrum)
    return high / low


def average_condition_number(spectrum: Any) -> float:
    """The ratio kappa-bar = (tr A^T A/n)/lambda_min of the positive spectrum."""
    return trace(spectrum) / positive_edges(spectrum)[0]


def implicit_conditioning_ratio(spectrum: Any) -> float:
    """ICR = kappa-bar/sqrt(kappa): how much more samples noise costs than curvature."""
    return float(average_condition_number(spectrum) / np.sqrt(condition_number(spectrum)))


def saturating_fraction(spectrum: Any) -> float:
    """The batch fraction ICR/(1 + ICR) beyond which larger batches gain no further momentum."""
    ratio = implicit_conditioning_ratio(spectrum)
    return ratio / (1 + ratio)


def near_optimal(spectrum: Any, batch_fraction: float) -> Tuned:
    """The closed-form choice of the theorem, with its true rate.

    gamma = (1 - sqrt Delta)^2/(zeta lambda_min) and Delta = max{(1 - zeta/((1 - zeta)
    kappa-bar))_+^2, (1 - 1/sqrt kappa)^2}.  All roots then have modulus sqrt Delta, but for
    zeta < 1 the noise decays more slowly: the rate is 1/Xi > Delta.

    Args:
        spectrum: `Modes` or a law.
        batch_fraction: zeta in (0, 1].

    Raises:
        ValueError: a fraction out of range, a law with lower edge 0.

    Example:
        >>> tuned = near_optimal(hd.multipass.MarchenkoPastur(0.5), 0.2)
        >>> tuned.rate > tuned.momentum
        True
    """
    _check_fraction(batch_fraction)
    low, high = positive_edges(spectrum)
    classic = (1 - np.sqrt(low / high)) ** 2
    if batch_fraction < 1:
        odds = batch_fraction / (1 - batch_fraction)
        noisy = max(1 - odds / average_condition_number(spectrum), 0) ** 2
    else:
        noisy = 0.0
    delta = max(noisy, classic)
    gamma = (1 - np.sqrt(delta)) ** 2 / (batch_fraction * low)
    rate = limit_rate(spectrum, gamma, batch_fraction, delta)
    return Tuned(float(gamma), float(delta), rate)


def kernel_norm(
    spectrum: Any, learning_rate: float, batch_fraction: float, momentum: float
) -> float:
    """|K|, the sum of the kernel: the loss is bounded iff the roots contract and |K| < 1.

    It is infinite where the roots do not contract, gamma zeta lambda_max >= 2 (1 + Delta).  Exact
    batches without replacement have n/(n - 1) times this.

    Example:
        >>> kernel_norm(hd.multipass.MarchenkoPastur(0.5), 0.5, 1.0, 0.3)
        0.0
    """
    if batch_fraction == 1:
        return 0.0
    # The eigenvalue from which on the mean residual does not contract.
    z = 2 * (1 + momentum) / (learning_rate * batch_fraction)
    if edges(spectrum)[1] >= z:
        return np.inf
    odds = (1 - batch_fraction) / batch_fraction * (1 + momentum) / (1 - momentum)
    return odds * (trace(spectrum) - second(spectrum, z)) / z


def limit_rate(
    spectrum: Any, learning_rate: float, batch_fraction: float, momentum: float = 0.0
) -> float:
    """max(Lambda, 1/Xi): the factor by which L(k) - L(inf) contracts in a step as k grows.

    Above 1 the loss grows.

    Args:
        spectrum: `Modes` or a law.
        learning_rate: gamma > 0.
        batch_fraction: zeta in (0, 1].
        momentum: Delta in [0, 1).

    Raises:
        ValueError: numbers out of range.

    Example:
        >>> 0 < limit_rate(hd.multipass.MarchenkoPastur(0.5), 0.5, 0.2, 0.3) < 1
        True
    """
    _check_fraction(batch_fraction)
    if not (np.isfinite(learning_rate) and learning_rate > 0):
        raise ValueError(f"learning_rate: {learning_rate}; allowed: finite and positive")
    if not 0 <= momentum < 1:
        raise ValueError(f"momentum: {momentum}; allowed: at least 0 and below 1")
    return _rate(spectrum, learning_rate, batch_fraction, momentum)


def root_rate(
    eigenvalues: Any, learning_rate: float, batch_fraction: float, momentum: float
) -> float:
    """Lambda, by which the squared mean residual contracts in a step.

    It is the largest squared modulus of the roots of x^2 - Omega_j x + Delta, with Omega_j =
    1 + Delta - gamma zeta lambda_j.

    Args:
        eigenvalues: lambda_j of A^T A.
        learning_rate: gamma, of the sum over the batch.
        batch_fraction: zeta.
        momentum: Delta.

    Example:
        >>> round(root_rate([1.0], learning_rate=0.5, batch_fraction=1.0, momentum=0.0), 2)
        0.25
    """
    omega = 1 + momentum - learning_rate * batch_fraction * np.asarray(eigenvalues)
    discriminant = omega**2 - 4 * momentum
    real = (np.abs(omega) + np.sqrt(np.maximum(discriminant, 0))) ** 2 / 4
    return float(np.where(discriminant > 0, real, momentum).max())


def is_stable(
    modes: Modes, learning_rate: float, batch_fraction: float, momentum: float = 0.0
) -> bool:
    """Whether the loss stays bounded: gamma zeta lambda_max < 2 (1 + Delta) and |K| < 1.

    Example:
        >>> problem = hd.multipass.gaussian_problem(40, 20, key=jax.random.key(0))
        >>> modes = hd.multipass.svd_modes(problem)[0]
        >>> is_stable(modes, 0.5, 0.25), is_stable(modes, 4.0, 0.25)
        (True, False)
    """
    largest = float(modes.eigenvalues.max())
    if largest == 0:
        return True
    if learning_rate * batch_fraction * largest >= 2 * (1 + momentum):
        return False
    return kernel_norm(modes, learning_rate, batch_fraction, momentum) < 1


def best_momentum(spectrum: Any, batch_fraction: float) -> Tuned:
    """The learning rate and momentum that minimise the true rate max(Lambda, 1/Xi).

    Nelder-Mead from the closed-form choice, from plain SGD and from the middle between them.

    Args:
        spectrum: `Modes` or a law.
        batch_fraction: zeta in (0, 1].

    Raises:
        ValueError: a fraction out of range, a law with lower edge 0.

    Example:
        >>> law = hd.multipass.MarchenkoPastur(0.5)
        >>> best_momentum(law, 0.2).rate < near_optimal(law, 0.2).rate
        True
    """
    return _minimise(spectrum, batch_fraction, momentum=True)


def best_plain(spectrum: Any, batch_fraction: float) -> Tuned:
    """The learning rate that minimises the rate without momentum; as `best_momentum`."""
    return _minimise(spectrum, batch_fraction, momentum=False)


def _minimise(spectrum: Any, zeta: float, momentum: bool) -> Tuned:
    _check_fraction(zeta)

    def objective(point: np.ndarray) -> float:
        gamma = np.exp(point[0])
        delta = 1 / (1 + np.exp(-point[1])) if momentum else 0.0
        return _rate(spectrum, gamma, zeta, delta)

    slide = near_optimal(spectrum, zeta)
    plain = min(1 / trace(spectrum), 1 / (zeta * edges(spectrum)[1]))
    starts = [(plain, 0.05), (plain, 0.5), (slide.learning_rate, slide.momentum)]
    best = None
    for gamma, delta in starts if momentum else starts[:1]:
        delta = np.clip(delta, 1e-3, 1 - 1e-9)
        point = [np.log(gamma), np.log(delta / (1 - delta))][: 2 if momentum else 1]
        options = {"xatol": 1e-6, "fatol": 1e-10, "maxiter": 600}
        found = scipy.optimize.minimize(objective, point, method="Nelder-Mead", options=options)
        if best is None or found.fun < best.fun:
            best = found
    assert best is not None
    delta = 1 / (1 + np.exp(-best.x[1])) if momentum else 0.0
    return Tuned(float(np.exp(best.x[0])), float(delta), float(best.fun))


def _rate(spectrum: Any, gamma: float, zeta: float, delta: float) -> float:
    # |Omega| is convex in lambda, so that the largest root belongs to an edge.
    least = root_rate(edges(spectrum), gamma, zeta, delta)
    if zeta == 1:
        return least

    def excess(x: float) -> float:
        # (x + Delta)^2 - Omega^2 x has one zero in lambda below the spectrum and one above it.
        middle, reach = (1 + delta) / (gamma * zeta), (x + delta) / (gamma * zeta * np.sqrt(x))
        parts = second(spectrum, middle - reach) - second(spectrum, middle + reach)
        strength = (1 - zeta) / zeta * (x + delta) / (x - delta)
        return strength * parts / (2 * reach) - 1

    # The left side falls from infinity at Lambda to 0; near critical damping rounding hides that,
    # so the bracket starts as close to Lambda as it can be seen to be above one.
    step = 1e-2
    while step > 1e-15:
        value = excess(least * (1 + step))
        if value > 0:
            break
        step /= 4
    else:
        return least
    high = max(2.0, 2 * least)
    while excess(high) > 0:
        high *= 2
    return find_root(excess, least * (1 + step), high)


def _check_fraction(batch_fraction: float) -> None:
    if not 0 < batch_fraction <= 1:
        raise ValueError(f"batch_fraction: {batch_fraction}; allowed: above 0, at most 1")
