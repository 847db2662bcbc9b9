"""Colours, scales, labels and legends that all figures share."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator

# The palette of Okabe and Ito (2008) without yellow, which is faint on white.
BLACK = "#000000"
BLUE = "#0072B2"
VERMILLION = "#D55E00"
GREEN = "#009E73"
PURPLE = "#CC79A7"
ORANGE = "#E69F00"
SKY = "#56B4E9"
CYCLE = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY)

# Width and height in inches of a panel.
PANEL = (4.4, 3.3)
# A quantity that spans more decades than this is drawn on a logarithmic axis.
_DECADES = 1.5
# A curve that has grown by more than this factor has diverged and is cut off there.
_GROWTH = 1e12
# Curves that grow by more than this factor, and are not all positive, get a symmetric logarithmic
# axis.
_STEEP = 1e6
_FONT = {"label": 10, "tick": 9, "legend": 8}


def spans_decades(*values: Any) -> bool:
    """Whether all finite values are positive and spread over more than 1.5 decades."""
    joined = np.concatenate([np.ravel(value) for value in values] or [np.zeros(0)])
    joined = joined[np.isfinite(joined)]
    return bool(
        joined.size and joined.min() > 0 and np.log10(joined.max() / joined.min()) > _DECADES
    )


class Extent:
    """The range of values in which curves that may diverge are drawn.

    Attributes:
        start: the largest magnitude of the curves at the first time at which they are not all 0.
        ceiling: the largest magnitude that is shown.
        curves: (curve, time) the curves, cut off at the ceiling.
        notes: a note for the title if curves were cut off.
    """

    def __init__(self, curves: list[np.ndarray]):
        """Compute the range from one or more `curves` with time along the last axis."""
        rows = np.concatenate([curve.reshape(-1, curve.shape[-1]) for curve in curves])
        self._sizes = np.abs(np.where(np.isfinite(rows), rows, 0.0)).max(axis=0, initial=0.0)
        self.start = float(self._sizes[self._sizes > 0][0]) if self._sizes.any() else 1.0
        self.ceiling = _GROWTH * self.start
        self.curves = np.clip(rows, -self.ceiling, self.ceiling)
        cut = self._sizes.max() > self.ceiling
        self.notes = [f"values beyond {self.ceiling:.0e} are not shown"] if cut else []

    def last(self) -> int:
        """The position of the first record at which all curves have ended or left the range.

        It is the last record if there is no such record, or if no curve is in the range.
        """
        shown = np.isfinite(self.curves).any(axis=0) & (self._sizes <= self.ceiling)
        end = shown.size - 1
        return min(int(np.flatnonzero(shown)[-1]) + 1, end) if shown.any() else end

    def scale(self) -> str:
        """The scale of the axis that suits the curves: "log", "symlog" or "linear"."""
        if spans_decades(self.curves):
            return "log"
        return "symlog" if self._sizes.max() > _STEEP * self.start else "linear"

    def fit(self, ax: Axes, scale: str) -> None:
        """Set the scale of the vertical axis, and its limits on a logarithmic scale."""
        options = {"linthresh": self.start} if scale == "symlog" else {}
        ax.set_yscale(scale, **options)
        values = self.curves[np.isfinite(self.curves)]
        if scale == "symlog":
            ax.set_ylim(min(1.6 * values.min(), 0.0), max(1.6 * values.max(), 0.0))
        positive = values[values > 0]
        if scale == "log" and positive.size:
            ax.set_ylim(positive.min() / 1.6, positive.max() * 1.6)


def is_log_spaced(values: np.ndarray) -> bool:
    """Whether the positive values of a grid of times or parameters grow geometrically."""
    numbers = np.asarray(values, float)
    positive = np.unique(numbers[numbers > 0])
    if numbers.min(initial=0) < 0 or positive.size < 3 or not spans_decades(positive):
        return False
    steps, ratios = np.diff(positive), np.diff(np.log(positive))
    return bool(ratios.std() / ratios.mean() < steps.std() / steps.mean())


def pretty(label: str) -> str:
    """A plain-text label with typographic characters in place of "^2", "^T" and " - "."""
    for plain, printed in (("^2", "²"), ("^T", "ᵀ"), (" - ", " − ")):
        label = label.replace(plain, printed)
    return label


def dress(ax: Axes, xlabel: str, ylabel: str) -> None:
    """Set the labels, the ticks and a faint grid of axes, and hide the upper and right border."""
    ax.set_xlabel(pretty(xlabel), fontsize=_FONT["label"])
    ax.set_ylabel(pretty(ylabel), fontsize=_FONT["label"])
    ax.tick_params(labelsize=_FONT["tick"])
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(True, color="0.92", linewidth=0.8)
    ax.set_axisbelow(True)


def label_few_ticks(axis: Any, values: np.ndarray, logarithmic: bool) -> None:
    """Set ticks at the values, if there are few of them and they are not crowded."""
    places = np.sort(np.log(values) if logarithmic else values)
    room = np.diff(places) / max(np.ptp(places), 1e-300)
    if len(values) <= 8 and room.min(initial=1.0) > 0.07:
        axis.set_ticks(list(values), labels=[f"{value:g}" for value in values])
        axis.set_minor_locator(NullLocator())


def legend(ax: Axes, notes: list[str], styles: dict[str, Any] | None = None) -> None:
    """Draw the legend of the curves and of line styles (in grey), and `notes` above the axes."""
    handles, labels = ax.get_legend_handles_labels()
    for label, style in (styles or {}).items():
        handles.append(Line2D([], [], color="0.4", linestyle=style, linewidth=1.3))
        labels.append(label)
    if handles:
        ax.legend(handles, labels, fontsize=_FONT["legend"], frameon=False)
    if notes:
        ax.set_title("\n".join(notes), loc="left", fontsize=_FONT["legend"], color="0.35")
