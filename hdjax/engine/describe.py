"""A result as text: the tables that `print(result)` and the command line show."""

import itertools
import shutil
import textwrap
from collections.abc import Iterator
from typing import Any

import numpy as np
import xarray as xr

from hdjax import reading, reductions

# The number of entries of a vector or matrix that are shown.
_FEW = 9
# The costs of a scaling that are shown, with the titles of their columns and their units.
_COSTS = (("simulate", "runs (s)", 1), ("limit", "limit (s)", 1), ("memory", "MiB", 2**20))


def describe(result: xr.DataTree) -> str:
    """The text of a result: a headline, warnings, a table, and notes.

    The table has a row for each statistic, for each dimension of a scaling, or for each point of a
    sweep.  A vector or matrix has a row (in a sweep, a column) for each of its first entries.  No
    line is wider than the terminal: columns that do not fit form a further table below.

    Example:
        >>> print(describe(result.tree))  # doctest: +SKIP
        compare of streaming: 64 runs, 101 times in [0, 20] (t = k/d)
        statistic  mean (end)  std (end)  limit (end)  sup error
        risk       0.0125      0.0031     0.0121       0.0312
    """
    attrs = result.attrs
    width = shutil.get_terminal_size().columns
    count = f"{attrs['runs']} runs" if attrs["runs"] else "the limit"
    lines = [f"{attrs['kind']} of {attrs['family']}: {count}{_where(result)}"]
    ends = reading.ended(result)
    if (bad := int(np.isfinite(ends).sum())) > 0:
        first = reductions.skip_nan(np.nanmin, ends, axis=None)
        lines.append(f"{bad} of {ends.size} kept runs diverged, the first at t = {first:.4g}")
    lines += _gaps(result)
    if found := attrs.get("efficiency"):
        pairs = zip(found["devices"], found["efficiency"], strict=True)
        shown = [f"{x:.2f} on {count}" for count, x in pairs]
        lines.append(f"efficiency at the last d, by number of devices: {', '.join(shown)}")
    rows, fixed = {"scaling": _scaling_rows, "sweep": _sweep_rows}.get(attrs["kind"], _curve_rows)(
        result
    )
    notes = attrs["note"].splitlines()
    wrapped = [[wrap for line in part for wrap in _wrap(line, width)] for part in (lines, notes)]
    return "\n".join([*wrapped[0], *_table(rows, fixed, width), *wrapped[1]])


def _wrap(line: str, width: int) -> list[str]:
    return textwrap.wrap(line, width, subsequent_indent="  ", break_on_hyphens=False) or [""]


def _table(rows: list[list[str]], fixed: int, width: int) -> Iterator[str]:
    """The lines of a table; columns that do not fit follow below, after the first `fixed` ones."""

    def widths(cells: list[list[str]]) -> list[int]:
        return [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]

    own = widths(rows)
    if sum(own[:fixed]) + 2 * fixed + max(own[fixed:]) > width:
        most = max((width - 2 * fixed) // (fixed + 1), 1)
        rows = [[c if len(c) <= most else c[: most - 1] + "…" for c in row] for row in rows]
        own = widths(rows)
    blocks: list[list[int]] = []
    used = width
    for column in range(fixed, len(own)):
        if used + 2 + own[column] > width:
            blocks.append(list(range(fixed)))
            used = sum(own[:fixed]) + 2 * (fixed - 1)
        blocks[-1].append(column)
        used += 2 + own[column]
    for block in blocks:
        for row in rows:
            yield "  ".join(row[i].ljust(own[i]) for i in block).rstrip()


def _gaps(result: xr.DataTree) -> Iterator[str]:
    """A line for each statistic that is not finite in a run that has not ended, or in the limit."""
    for name in result.attrs["statistics"]:
        if reading.has(result, "count", name):
            alive = reading.variable(result, "codes", "alive")
            bad = reading.variable(result, "count", name) < alive
        elif reading.has(result, "limit", name):
            bad = reading.variable(result, "limit", name).isnull()
        else:
            continue
        rows = bad.transpose("time", ...).values.reshape(bad.sizes["time"], -1).any(axis=1)
        if rows.any():
            first = reading.times(result)[rows.argmax()]
            yield (
                f"{name} is not finite at {rows.sum()} of {rows.size} times (left out there), the "
                f"first t = {first:.4g}"
            )


def _where(result: xr.DataTree) -> str:
    """The end of the headline: at which times or points the numbers of the table are taken."""
    kind, times = result.attrs["kind"], reading.times(result)
    if kind == "scaling":
        return f" at each d{'; medians of the sup error' if result.attrs['runs'] else ''}"
    if kind == "sweep":
        return f" at each point; values at t = {times[-1]:.4g}"
    label = result.attrs["time_label"]
    return f", {len(times)} times in [{times[0]:.4g}, {times[-1]:.4g}] ({label})"


def _at_end(result: xr.DataTree, group: str, name: str) -> xr.DataArray | None:
    """A statistic of a group at the last time, reduced over the runs; None if there is none."""
    if not reading.has(result, group, name):
        return None
    value = reading.variable(result, group, name)
    value = value.isel(time=-1) if "time" in value.dims else value
    return reductions.over_runs(value, np.nanmedian if group == "sup_error" else np.nanmean)


def _shown(shape: tuple[int, ...]) -> list[tuple[int, ...]]:
    return list(itertools.islice(np.ndindex(*shape), _FEW))


def _text(value: Any, digits: int) -> str:
    return "-" if value is None else f"{value.item():.{digits}g}"


def _curve_rows(result: xr.DataTree) -> tuple[list[list[str]], int]:
    groups, names = ["mean", "std", "limit"], result.attrs["statistics"]
    # Predictions that were asked for; `compare` predicts standard deviations without being asked.
    asked = ["predicted_mean", *["predicted_std"] * (result.attrs["kind"] == "limit")]
    groups += [part for part in asked if any(reading.has(result, part, name) for name in names)]
    titles = [f"{group.replace('_', ' ')} (end)" for group in groups]
    rows = [["statistic", *titles, "sup error"]]
    for name in names:
        ends = [_at_end(result, group, name) for group in groups]
        error = _text(_at_end(result, "sup_error", name), 4)
        shape = next((end.shape for end in ends if end is not None), ())
        if not shape:
            rows.append([name, *[_text(end, 5) for end in ends], error])
            continue
        empty = [""] * len(groups)
        rows.append([f"{name} ({' x '.join(map(str, shape))})", *empty, error])
        for entry in _shown(shape):
            values = [None if end is None else end[entry] for end in ends]
            rows.append([f"  {list(entry)}", *[_text(value, 5) for value in values], ""])
        if (left := int(np.prod(shape)) - _FEW) > 0:
            rows.append([f"  and {left} more", *empty, ""])
    return rows, 1


def _scaling_rows(result: xr.DataTree) -> tuple[list[list[str]], int]:
    names = result.attrs["statistics"]
    medians = [reading.variable(result, "sup_error_median", name).values for name in names]
    slopes = [reading.variable(result, "exponent", name) for name in names]
    bounds = [reading.variable(result, "exponent_interval", name).values for name in names]
    costs = {
        title: np.array(result.attrs["cost"][part]) / unit
        for part, title, unit in _COSTS
        if any(result.attrs["cost"][part])
    }
    powers = [result.attrs["cost_exponent"][part] for part, title, _ in _COSTS if title in costs]
    rows = [["d", *names, *costs]]
    for i, d in enumerate(reading.labels(result, "dimension")):
        measured = [f"{median[i]:.4g}" for median in medians]
        rows.append([str(d), *measured, *[f"{values[i]:.3g}" for values in costs.values()]])
    own = [f"{power[0]:.2f}" for power in powers]
    rows.append(["exponent", *[f"{slope:.3f}" for slope in slopes], *own])
    own = [f"{low:.2f} to {high:.2f}" if np.isfinite(low) else "-" for _, low, high in powers]
    rows.append(["95 % interval", *[f"{low:.3f} to {high:.3f}" for low, high in bounds], *own])
    return rows, 1


def _sweep_rows(result: xr.DataTree) -> tuple[list[list[str]], int]:
    axes = reading.axes(result)
    columns: dict[str, xr.DataArray] = {}
    for name, group in itertools.product(
        result.attrs["statistics"], ("mean", "limit", "sup_error")
    ):
        value = _at_end(result, group, name)
        if value is None:
            continue
        dims = reading.entries(result, value)
        value = value.transpose(*dims, ...)
        for entry in _shown(tuple(value.sizes[dim] for dim in dims)):
            title = f"{name}{list(entry) if entry else ''}: {group.replace('_', ' ')}"
            columns[title] = value[entry] if entry else value
    rows = [[*axes, *columns]]
    values = [reading.labels(result, axis) for axis in axes]
    for point in itertools.product(*[range(len(each)) for each in values]):
        labels = [str(each[i]) for each, i in zip(values, point, strict=True)]
        at = dict(zip(axes.values(), point, strict=True))
        rows.append(labels + [_text(value.isel(at), 4) for value in columns.values()])
    return rows, len(axes)
