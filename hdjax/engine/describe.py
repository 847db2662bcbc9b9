"""A result as text: what `print(result)` and the command line show."""

import itertools
import json

import numpy as np
import xarray as xr


def describe(data: xr.Dataset) -> str:
    """A readable table: a row for each statistic, dimension of a scaling or point of a sweep.

    Example:
        >>> print(describe(result.data))  # doctest: +SKIP
        compare of streaming: 64 runs, 101 times in [0, 20] (t = k/d)
        statistic  mean (end)  std (end)  limit (end)  sup error
        risk       0.0125      0.0031     0.0121       0.0312
    """
    attrs = data.attrs
    lines = [f"{attrs['kind']} of {attrs['family']}: {attrs['runs']} runs{_where(data)}"]
    if "diverged_at" in data:
        bad = int(np.isfinite(data["diverged_at"].values).sum())
        if bad:
            first = float(np.nanmin(data["diverged_at"].values))
            total = data["diverged_at"].size
            lines.append(f"{bad} of {total} kept runs diverged, the first at t = {first:.4g}")
    lines += _gaps(data)
    rows = {"scaling": _scaling_rows, "sweep": _sweep_rows}.get(attrs["kind"], _curve_rows)(data)
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines += [
        "  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
    if attrs.get("note"):
        lines.append(attrs["note"])
    return "\n".join(lines)


def _gaps(data: xr.Dataset) -> list[str]:
    """Statistics that are not finite in runs which have not ended, or in the limit."""
    lines = []
    for name in json.loads(data.attrs["statistics"]):
        if f"{name}_count" in data and "count" in data:
            bad = data[f"{name}_count"] < data["count"]
        elif f"{name}_limit" in data:
            bad = data[f"{name}_limit"].isnull()
        else:
            continue
        rows = bad.transpose("time", ...).values.reshape(bad.sizes["time"], -1).any(axis=1)
        if rows.any():
            first = data["time"].values[rows.argmax()]
            lines.append(
                f"{name} is not finite at {rows.sum()} of {rows.size} times (left out there), the "
                f"first t = {first:.4g}"
            )
    return lines


def _where(data: xr.Dataset) -> str:
    """The rest of the first line: where the numbers below are taken."""
    kind = data.attrs["kind"]
    if kind == "scaling":
        return " at each d; medians of the sup error"
    times = data["time"].values
    if kind == "sweep":
        return f" at each point; values at t = {times[-1]:.4g}"
    return f", {len(times)} times in [{times[0]:.4g}, {times[-1]:.4g}] ({data.attrs['time_label']})"


def _curve_rows(data: xr.Dataset) -> list[list[str]]:
    rows = [["statistic", "mean (end)", "std (end)", "limit (end)", "sup error"]]
    for name in json.loads(data.attrs["statistics"]):
        ends = [_end(data, name + suffix) for suffix in ("_mean", "_std", "_limit")]
        error = f"{name}_sup_error"
        rows.append([name, *ends, f"{data[error].median():.4g}" if error in data else "-"])
    return rows


def _end(data: xr.Dataset, name: str) -> str:
    """The value at the last time; of realised limits the mean."""
    if name not in data:
        return "-"
    value = data[name].isel(time=-1)
    value = value.mean("run") if "run" in value.dims else value
    return f"{float(value):.5g}" if value.ndim == 0 else f"{value.ndim}-d"


def _scaling_rows(data: xr.Dataset) -> list[list[str]]:
    names = json.loads(data.attrs["statistics"])
    rows = [["d", *names]]
    for i, d in enumerate(data["dimension"].values):
        rows.append([str(d), *[f"{data[f'{n}_median'].values[i]:.4g}" for n in names]])
    rows.append(["exponent", *[f"{data[f'{n}_exponent']:.3f}" for n in names]])
    bounds = [data[f"{n}_exponent_interval"].values for n in names]
    rows.append(["95 % interval", *[f"{low:.3f} to {high:.3f}" for low, high in bounds]])
    return rows


def _sweep_rows(data: xr.Dataset) -> list[list[str]]:
    axes = json.loads(data.attrs["axes"])
    parts = {"_mean": "mean", "_limit": "limit", "_sup_error": "sup error"}
    columns = {}
    for name in json.loads(data.attrs["statistics"]):
        for suffix, title in parts.items():
            if name + suffix not in data:
                continue
            value = data[name + suffix]
            value = value.isel(time=-1) if "time" in value.dims else value
            if "run" in value.dims:
                value = value.median("run") if suffix == "_sup_error" else value.mean("run")
            if set(value.dims) == set(axes):
                columns[f"{name}: {title}"] = value
    rows = [[*axes, *columns]]
    for point in itertools.product(*[range(data.sizes[axis]) for axis in axes]):
        at = dict(zip(axes, point, strict=True))
        labels = [str(data[axis].values[i]) for axis, i in at.items()]
        rows.append(labels + [f"{float(value.isel(at)):.4g}" for value in columns.values()])
    return rows
