"""Rates of SGD with momentum and batches, and the best learning rate and momentum.

The mean residual in direction j has the characteristic equation x^2 - Omega_j x + Delta = 0 with
Omega_j = 1 + Delta - gamma zeta lambda_j.  The noise enters the loss through the kernel
K(k) = kappa/n sum_j lambda_j^2 h_j(k)^2 of the discrete Volterra equation, where

    kappa = gamma^2 zeta (1 - zeta),
    sum_k h_j(k)^2 z^k = (1 + Delta z)/((1 - Delta z) [(1 + Delta z)^2 - Omega_j^2 z]).

As k grows, L(k) - L(inf) contracts by the factor max(Lambda, 1/Xi) in a step.  Lambda is the
largest squared modulus of the roots, and 1/Xi is the x > Lambda with (1/x) sum_k K(k) x^-k = 1.
Functions here take the spectrum as `Modes` or as a law (`laws.py`).

Sources: slides "Hitting the High-D(imensional) Notes", frames "Convergence of SGD+M with batches"
(theorem: max(Lambda, 1/Xi)), "Nearly-optimal parameters" and "Large vs Small batch: Convergence";
arXiv 2206.01029.
"""

from typing import Any, NamedTuple

import numpy as np
import scipy

from hdjax.checks import checked
from hdjax.multipass._roots import find_root
from hdjax.multipass.analysis import edges, positive_edges, second, trace
from hdjax.multipass.modes import Modes

__all__ = [
    "Tuned",
    "average_condition_number",
    "best_momentum",
    "best_plain",
    "condition_number",
    "implicit_conditioning_ratio",
    "is_stable",
    "kernel_norm",
    "limit_loss_with_batches",
    "limit_rate",
    "near_optimal",
    "root_rate",
    "saturating_fraction",
]


class Tuned(NamedTuple):
    """A learning rate and a momentum that were chosen, and the rate that they give.

    Attributes:
        learning_rate: gamma.
        momentum: Delta.
        rate: the factor max(Lambda, 1/Xi) by which the loss contracts in a step (`limit_rate`).
    """

    learning_rate: float
    momentum: float
    rate: float


@checked
def condition_number(spectrum: Any) -> float:
    """The condition number kappa = lambda_max/lambda_min of a positive spectrum.

    Args:
        spectrum: `Modes` or a law.

    Raises:
        ValueError: a law with lower edge 0.

    Example:
        >>> round(condition_number(hd.multipass.laws.MarchenkoPastur(0.25)), 6)
        9.0
    """
    low, high = positive_edges(spectrum)
    return high / low


def average_condition_number(spectrum: Any) -> float:
    """The average condition number kappa-bar = (tr A^T A/n)/lambda_min of a positive spectrum.

    Source: slides, frame "Nearly-optimal parameters".

    Args:
        spectrum: `Modes` or a law.

    Raises:
        ValueError: a law with lower edge 0.

    Example:
        >>> average_condition_number(hd.multipass.laws.MarchenkoPastur(0.25))
        1.0
    """
    return trace(spectrum) / positive_edges(spectrum)[0]


def implicit_conditioning_ratio(spectrum: Any) -> float:
    """The implicit conditioning ratio ICR = kappa-bar/sqrt(kappa).

    With batch fractions zeta above about ICR, momentum accelerates SGD to a rate of order
    1/sqrt(kappa).  With smaller fractions, SGD with and without momentum has a rate of order
    zeta/kappa-bar.
    Source: slides, frame "Large vs Small batch: Convergence".

    Args:
        spectrum: `Modes` or a law.

    Raises:
        ValueError: a law with lower edge 0.
    """
    return float(average_condition_number(spectrum) / np.sqrt(condition_number(spectrum)))


def saturating_fraction(spectrum: Any) -> float:
    """The saturating batch fraction ICR/(1 + ICR), beyond which larger batches gain nothing.

    At this batch fraction both terms of the momentum of `near_optimal` are equal.
    Source: slides, frame "Large vs Small batch: Convergence".

    Args:
        spectrum: `Modes` or a law.

    Raises:
        ValueError: a law with lower edge 0.
    """
    ratio = implicit_conditioning_ratio(spectrum)
    return ratio / (1 + ratio)


@checked
def near_optimal(spectrum: Any, batch_fraction: float) -> Tuned:
    """The nearly optimal learning rate and momentum in closed form, with the rate that they give.

        gamma = (1 - sqrt(Delta))^2/(zeta lambda_min),
        Delta = max{(1 - zeta/((1 - zeta) kappa-bar))_+^2, (1 - 1/sqrt(kappa))^2}.

    All roots then have modulus sqrt(Delta), and the theorem names Delta as the rate.  For zeta < 1
    the noise decays more slowly, so that `rate` is 1/Xi > Delta.  `best_momentum` finds better
    parameters.  Source: slides, frame "Nearly-optimal parameters" (theorem, without the positive
    part, which is needed for zeta near 1).

    Args:
        spectrum: `Modes` or a law.
        batch_fraction: zeta in (0, 1].

    Raises:
        ValueError: a fraction out of range, or a law with lower edge 0.

    Example:
        >>> tuned = near_optimal(hd.multipass.laws.MarchenkoPastur(0.5), 0.2)
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


@checked
def kernel_norm(
    spectrum: Any, learning_rate: float, batch_fraction: float, momentum: float
) -> float:
    """The norm |K| = sum_k K(k) of the kernel of the discrete Volterra equation.

        |K| = (1 - zeta)/zeta (1 + Delta)/(1 - Delta) 1/n sum_j lambda_j/(z - lambda_j),
        z = 2 (1 + Delta)/(gamma zeta).

    The loss is bounded if and only if the roots contract and |K| < 1.  The result is infinite where
    the roots do not contract, lambda_max >= z.  Batches without replacement at finite n have
    n/(n - 1) times this norm.

    Args:
        spectrum: `Modes` or a law.
        learning_rate: gamma, which multiplies the sum over the batch.
        batch_fraction: zeta in (0, 1].
        momentum: Delta in [0, 1).

    Example:
        >>> kernel_norm(hd.multipass.laws.MarchenkoPastur(0.5), 0.5, 1.0, 0.3)
        0.0
    """
    if batch_fraction == 1:
        return 0.0
    # From the eigenvalue z on, the mean residual does not contract.
    z = 2 * (1 + momentum) / (learning_rate * batch_fraction)
    if edges(spectrum)[1] >= z:
        return np.inf
    odds = (1 - batch_fraction) / batch_fraction * (1 + momentum) / (1 - momentum)
    return odds * (trace(spectrum) - second(spectrum, z)) / z


@checked
def limit_loss_with_batches(
    modes: Modes, learning_rate: float, batch_fraction: float, momentum: float = 0.0
) -> float:
    """The loss per sample as k grows, with batches and momentum: floor/n/(1 - |K| n/(n - 1)).

    It is infinite where the loss is not bounded (`is_stable`).  `hdjax.multipass.analysis` has
    `limit_loss` for single samples.

    Args:
        modes: the problem in the eigenbasis of A^T A.
        learning_rate: gamma, which multiplies the sum over the batch.
        batch_fraction: zeta in (0, 1].
        momentum: Delta in [0, 1).

    Raises:
        TypeError: something other than `Modes`.
        ValueError: a number out of range.

    Example:
        >>> problem = hd.multipass.gaussian_problem(40, 20, key=jax.random.key(0), noise=0.5)
        >>> modes = hd.multipass.modes.svd_modes(problem)[0]
        >>> small, large = (limit_loss_with_batches(modes, 0.5, zeta, 0.3) for zeta in (0.1, 1.0))
        >>> small > large
        True
    """
    if not isinstance(modes, Modes):
        raise TypeError(f"modes: {type(modes).__name__}; allowed: Modes (system.modes)")
    _check_numbers(learning_rate, batch_fraction, momentum)
    n, loss = float(modes.samples), float(modes.floor) / float(modes.samples)
    norm = kernel_norm(modes, learning_rate, batch_fraction, momentum) * n / max(n - 1, 1)
    return loss / (1 - norm) if norm < 1 else np.inf


@checked
def limit_rate(
    spectrum: Any, learning_rate: float, batch_fraction: float, momentum: float = 0.0
) -> float:
    """The factor max(Lambda, 1/Xi) by which L(k) - L(inf) contracts in a step as k grows.

    A factor above 1 says that the loss grows.  Source: slides, frame "Convergence of SGD+M with
    batches" (theorem).

    Args:
        spectrum: `Modes` or a law.
        learning_rate: gamma > 0.
        batch_fraction: zeta in (0, 1].
        momentum: Delta in [0, 1).

    Raises:
        ValueError: a number out of range.

    Example:
        >>> 0 < limit_rate(hd.multipass.laws.MarchenkoPastur(0.5), 0.5, 0.2, 0.3) < 1
        True
    """
    _check_numbers(learning_rate, batch_fraction, momentum)
    return _rate(spectrum, learning_rate, batch_fraction, momentum)


def root_rate(
    eigenvalues: Any, learning_rate: float, batch_fraction: float, momentum: float
) -> float:
    """The factor Lambda by which the squared mean residual contracts in a step.

    Lambda is the largest squared modulus of the roots of x^2 - Omega_j x + Delta, with Omega_j =
    1 + Delta - gamma zeta lambda_j.

    Args:
        eigenvalues: (p,) lambda_j of A^T A.
        learning_rate: gamma, which multiplies the sum over the batch.
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


@checked
def is_stable(
    modes: Modes, learning_rate: float, batch_fraction: float, momentum: float = 0.0
) -> bool:
    """Whether the loss stays bounded: gamma zeta lambda_max < 2 (1 + Delta) and |K| < 1.

    Args:
        modes: the problem in the eigenbasis of A^T A.
        learning_rate: gamma, which multiplies the sum over the batch.
        batch_fraction: zeta in (0, 1].
        momentum: Delta in [0, 1).

    Example:
        >>> problem = hd.multipass.gaussian_problem(40, 20, key=jax.random.key(0))
        >>> modes = hd.multipass.modes.svd_modes(problem)[0]
        >>> is_stable(modes, 0.5, 0.25), is_stable(modes, 4.0, 0.25)
        (True, False)
    """
    largest = float(modes.eigenvalues.max())
    if largest == 0:
        return True
    if learning_rate * batch_fraction * largest >= 2 * (1 + momentum):
        return False
    return kernel_norm(modes, learning_rate, batch_fraction, momentum) < 1


@checked
def best_momentum(spectrum: Any, batch_fraction: float) -> Tuned:
    """The learning rate and momentum that minimise the rate max(Lambda, 1/Xi) of `limit_rate`.

    The minimum is found by Nelder-Mead from the choice of `near_optimal` and from the rate of plain
    SGD with little and with medium momentum.

    Args:
        spectrum: `Modes` or a law.
        batch_fraction: zeta in (0, 1].

    Raises:
        ValueError: a fraction out of range, or a law with lower edge 0.

    Example:
        >>> law = hd.multipass.laws.MarchenkoPastur(0.5)
        >>> best_momentum(law, 0.2).rate < near_optimal(law, 0.2).rate
        True
    """
    return _minimise(spectrum, batch_fraction, momentum=True)


@checked
def best_plain(spectrum: Any, batch_fraction: float) -> Tuned:
    """The learning rate that minimises the rate of `limit_rate` without momentum.

    Args:
        spectrum: `Modes` or a law.
        batch_fraction: zeta in (0, 1].

    Raises:
        ValueError: a fraction out of range, or a law with lower edge 0.

    Example:
        >>> law = hd.multipass.laws.MarchenkoPastur(0.5)
        >>> best_plain(law, 0.2).rate > best_momentum(law, 0.2).rate
        True
    """
    return _minimise(spectrum, batch_fraction, momentum=False)


def _minimise(spectrum: Any, zeta: float, momentum: bool) -> Tuned:
    """The minimum of the rate over the learning rate, and over the momentum if that is free."""
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
    """The factor max(Lambda, 1/Xi) of `limit_rate`, for numbers that were checked."""
    # |Omega| is convex in lambda, so that the largest root belongs to an edge of the spectrum.
    least = root_rate(edges(spectrum), gamma, zeta, delta)
    if zeta == 1:
        return least

    def excess(x: float) -> float:
        # (x + Delta)^2 - Omega^2 x has one zero in lambda below the spectrum and one above it.
        middle, reach = (1 + delta) / (gamma * zeta), (x + delta) / (gamma * zeta * np.sqrt(x))
        parts = second(spectrum, middle - reach) - second(spectrum, middle + reach)
        strength = (1 - zeta) / zeta * (x + delta) / (x - delta)
        return strength * parts / (2 * reach) - 1

    # The left side of the equation of 1/Xi falls from infinity at Lambda to 0, but near critical
    # damping rounding hides its values close to Lambda: the step from Lambda shrinks until the left
    # side is above one.
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


def _check_numbers(learning_rate: float, batch_fraction: float, momentum: float) -> None:
    _check_fraction(batch_fraction)
    if not (np.isfinite(learning_rate) and learning_rate > 0):
        raise ValueError(f"learning_rate: {learning_rate}; allowed: finite and positive")
    if not 0 <= momentum < 1:
        raise ValueError(f"momentum: {momentum}; allowed: at least 0 and below 1")


def _check_fraction(batch_fraction: float) -> None:
    if not 0 < batch_fraction <= 1:
        raise ValueError(f"batch_fraction: {batch_fraction}; allowed: above 0, at most 1")
