"""Figures of results, drawn from the tree of a result (`hdjax.layout`).

The functions return Matplotlib's `Axes` or `Figure`, and neither show nor save it.  The colours are
those of Okabe and Ito (2008), which colour-blind readers can tell apart: simulations are blue, the
theory is black and dashed.  Runs that diverged are counted in the title, and drawn only if no run
stayed finite.
"""

import difflib
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hdjax import reading
from hdjax.plots import _curves, _scaling, _sweep
from hdjax.plots._style import PANEL

__all__ = ["plot", "plot_all"]


def plot(result: xr.DataTree, statistic: str, ax: Axes | None = None, **options: Any) -> Axes:
    """Draw one statistic of a result.

    A simulation or comparison is drawn as curves: the band of 5 to 95 % of the runs, some single
    runs, their mean, the limit (or the limits from the realised starts, with their mean) and, where
    theory predicts the spread, the predicted 5 to 95 %.  A scaling is drawn as the error against d
    with the fitted power.  A sweep is drawn as lines over one axis, or as a heat map over two.

    Args:
        result: the tree of a result.
        statistic: the name of the statistic.
        ax: the axes into which to draw; None makes a new figure (`ax.figure`).
        **options: for curves `index` (an entry of a vector or matrix; default: the first entries),
            `runs` (the number of single runs; default: 12), `band` ("quantile" or "std"), `xscale`
            and `yscale` ("linear" or "log"; default: chosen from the data).  For sweeps `value`
            ("mean", "limit", "std" or "sup_error"), `time` (the time of a record; default: the
            last), `select` ({axis: value}; with all axes selected, curves are drawn) and `index`.

    Returns:
        The axes.

    Raises:
        ValueError: an unknown statistic, index, axis or value, or a time without a record.

    Example:
        >>> ax = plot(result.tree, "risk")  # doctest: +SKIP
        >>> ax.figure.savefig("risk.png")  # doctest: +SKIP
    """
    names = result.attrs["statistics"]
    if statistic not in names:
        near = difflib.get_close_matches(statistic, names, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ValueError(f"statistic: {statistic!r}; {hint}allowed: {', '.join(names)}")
    if ax is None:
        ax = Figure(figsize=(1.3 * PANEL[0], 1.3 * PANEL[1]), layout="constrained").subplots()
    draw = {"scaling": _scaling.draw, "sweep": _sweep.draw}.get(result.attrs["kind"], _curves.draw)
    draw(result, statistic, ax, **options)
    return ax


def plot_all(result: xr.DataTree, **options: Any) -> Figure:
    """Draw a figure with a panel for each scalar statistic, or for each one if none is scalar.

    A scaling has panels of the seconds, the memory and the efficiency in addition.  A sweep over
    one axis with labels "group: point" has a column of panels for each group.

    Args:
        result: the tree of a result.
        **options: as for `plot`.

    Example:
        >>> plot_all(result.tree).savefig("figure.png")  # doctest: +SKIP
    """
    names = result.attrs["statistics"]
    chosen = [name for name in names if _is_scalar(result, name)] or names
    groups = _sweep.groups(result)
    if groups:
        return _grouped(groups, chosen, options)
    drawn: list[Callable[..., Any]] = [partial(plot, result, name, **options) for name in chosen]
    if result.attrs["kind"] == "scaling":
        costs = [_scaling.draw_seconds, _scaling.draw_memory]
        costs += [_scaling.draw_efficiency] * ("efficiency" in result.attrs)
        drawn += [partial(draw, result) for draw in costs]
    columns = min(len(drawn), 3 if len(drawn) != 4 else 2)
    rows = math.ceil(len(drawn) / columns)
    size = (PANEL[0] * max(columns, 1.3), PANEL[1] * max(rows, 1.3 if columns == 1 else 1))
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for draw, ax in zip(drawn, panels, strict=False):
        draw(ax=ax)
    for ax in panels[len(drawn) :]:
        ax.remove()
    _share_legend(list(panels[: len(chosen)]))
    return figure


def _grouped(groups: list[xr.DataTree], names: list[str], options: dict[str, Any]) -> Figure:
    """A row of panels for each statistic, a column for each group of points."""
    size = (PANEL[0] * 0.6 * len(groups), PANEL[1] * len(names))
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(len(names), len(groups), squeeze=False, sharex="col", sharey="row")
    for row, name in zip(panels, names, strict=True):
        for column, (ax, group) in enumerate(zip(row, groups, strict=True)):
            plot(group, name, ax, **options)
            if column:
                ax.set_ylabel("")
            if ax is not panels[-1, column]:
                ax.set_xlabel("")
    _share_legend(list(panels.ravel()))
    return figure


def _share_legend(panels: list[Axes]) -> None:
    """Keep only the legend of the first panel, if the legends of all panels are equal."""
    legends = [ax.get_legend() for ax in panels]
    said = [
        [text.get_text() for text in legend.get_texts()] if legend else [] for legend in legends
    ]
    if all(texts == said[0] for texts in said):
        for legend in legends[1:]:
            if legend:
                legend.remove()


def _is_scalar(result: xr.DataTree, name: str) -> bool:
    groups = ("runs", "limit", "sup_error_median")
    group = next(group for group in groups if reading.has(result, group, name))
    return not reading.entries(result, reading.variable(result, group, name))
