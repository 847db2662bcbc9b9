"""Figures of predictions: curves with bands, and the spectrum of the data.

A prediction that is not known to hold is drawn in orange and dotted, and its title says so.
"""

import io
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hdjax.forecast.diagnosis import HOLDS

_BLUE, _BLACK, _ORANGE = "#0072B2", "#000000", "#E69F00"
# The standard normal quantile of 95 %.
_Z95 = 1.6449
_PANEL = (4.4, 3.4)


def figure(forecast: Any) -> Figure:
    """A panel for each curve of a `Forecast`, and one of the spectrum."""
    count = len(forecast.curves) + 1
    drawn = Figure(figsize=(_PANEL[0] * count, _PANEL[1]), layout="constrained")
    panels = drawn.subplots(1, count, squeeze=False)[0]
    for curve, ax in zip(forecast.curves.values(), panels, strict=False):
        _curve(curve, ax, forecast.verdict)
        ax.set_xlabel(forecast.time_label)
    eigenvalues, counts = forecast.spectrum
    _spectrum(eigenvalues, counts, panels[-1])
    return drawn


def picture(drawn: Figure, suffix: str) -> bytes:
    """The bytes of a figure as a file of the given format."""
    content = io.BytesIO()
    drawn.savefig(content, format=suffix, dpi=130)
    return content.getvalue()


def _curve(curve: Any, ax: Axes, verdict: str) -> None:
    if curve.runs is not None:
        low, high = np.quantile(curve.runs, (0.05, 0.95), axis=0)
        ax.fill_between(curve.times, low, high, color=_BLUE, alpha=0.2, lw=0, label="5 to 95 %")
        ax.plot(curve.times, curve.runs[:8].T, color=_BLUE, lw=0.4, alpha=0.5)
        label = f"mean of {len(curve.runs)} runs"
        ax.plot(curve.times, curve.mean, color=_BLUE, lw=1.8, label=label)
    colour, style = (_BLACK, "--") if verdict == HOLDS else (_ORANGE, ":")
    label = "prediction" if verdict == HOLDS else f"prediction ({verdict})"
    ax.plot(curve.times, curve.predicted, style, color=colour, lw=1.6, label=label)
    if curve.spread is not None:
        for sign in (-1, 1):
            edge = curve.predicted + sign * _Z95 * curve.spread
            ax.plot(curve.times, edge, style, color=colour, lw=0.8)
    ax.set_title(curve.label, fontsize=10)
    finite = curve.predicted[np.isfinite(curve.predicted)]
    if finite.size and finite.min() > 0 and finite.max() > 20 * finite.min():
        ax.set_yscale("log")
    ax.legend(fontsize=8, frameon=False)


def _spectrum(eigenvalues: np.ndarray, counts: np.ndarray, ax: Axes) -> None:
    positive = (eigenvalues > 1e-12 * eigenvalues.max()) & (counts > 0)
    values, weights = eigenvalues[positive], counts[positive]
    edges = np.geomspace(values.min() * 0.999, values.max() * 1.001, 31)
    ax.hist(values, bins=list(edges), weights=weights, color=_BLUE, alpha=0.6)
    ax.set_xscale("log")
    ax.set_title("spectrum of the features", fontsize=10)
    ax.set_xlabel("eigenvalue")


def choices(tuning: Any) -> Figure:
    """The rates of a `Tuning` against time, and its risks against the size of the batch."""
    drawn = Figure(figsize=(2 * _PANEL[0], _PANEL[1]), layout="constrained")
    left, right = drawn.subplots(1, 2)
    plain = [choice for choice in tuning.choices if choice.momentum == 0]
    batches = [choice for choice in tuning.choices if choice.momentum > 0]
    for choice in plain:
        left.plot(choice.knots, choice.rates, label=choice.name)
    left.set_yscale("log")
    left.set_title("learning rate", fontsize=10)
    left.set_xlabel("epochs")
    left.legend(fontsize=8, frameon=False)
    sizes = [choice.batch for choice in batches]
    right.plot(sizes, [choice.risk for choice in batches], "o-", color=_BLUE, label="with momentum")
    for choice in plain:
        right.axhline(choice.risk, color=_BLACK, lw=0.8, ls=":")
        right.text(1, choice.risk, choice.name, fontsize=7, va="bottom")
    right.set_xscale("log")
    right.set_title("risk at the end against the batch", fontsize=10)
    right.set_xlabel("samples of a batch")
    return drawn
