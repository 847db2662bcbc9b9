"""Results made by hand."""

import numpy as np
import xarray as xr

from hdjax import layout
from hdjax.codes import Code

LEVELS = [0.05, 0.25, 0.5, 0.75, 0.95]
ATTRIBUTES = {
    "kind": "compare",
    "family": "streaming",
    "statistics": ["risk"],
    "paths": [],
    "probes": [],
    "runs": 3,
    "start": "law",
    "time_label": "t = k/d",
    "config": None,
    "expect": [],
    "versions": {"jax": "0.10.1"},
    "device": "1 x cpu: cpu",
    "seconds": {"compile": 1.5, "simulate": 0.25, "limit": None},
    "memory": {"simulate": 4096, "limit": None},
    "interrupted": 0,
    "note": "",
}


def made(groups, times=(0.0, 0.5), axes=None, recorded=None, labels=None, **attributes):
    """The tree of groups {group: {name: numbers}}; None stands for a group that is not there."""
    arrays = {
        group: {name: np.asarray(values) for name, values in variables.items()}
        for group, variables in groups.items()
        if variables is not None
    }
    times = np.asarray(times, float)
    recorded = times if recorded is None else np.asarray(recorded, float)
    contents = layout.Contents(arrays, times, recorded, ATTRIBUTES | attributes, labels or {})
    return layout.tree(contents, axes, LEVELS)


def moments(runs, axis=0):
    """The groups that follow from runs."""
    return {
        "runs": runs,
        "mean": {name: np.nanmean(values, axis=axis) for name, values in runs.items()},
        "std": {name: np.nanstd(values, axis=axis, ddof=1) for name, values in runs.items()},
        "quantile": {
            # Axes of a sweep are in front of the levels.
            name: np.moveaxis(np.nanquantile(values, LEVELS, axis=axis), 0, axis)
            for name, values in runs.items()
        },
    }


def changed(tree, groups, **attributes):
    """A tree with other numbers or attributes; None for a group that it has no more."""
    other = tree.copy()
    for group, variables in groups.items():
        if variables is None:
            del other[group]
            continue
        node = tree[group].to_dataset()
        parts = {name: node[name].copy(data=np.asarray(own)) for name, own in variables.items()}
        other[group] = xr.DataTree(node.assign(parts))
    other.attrs = {**tree.attrs, **attributes}
    return other


def codes(runs=None, limit=None):
    """The group `codes` of runs and a limit that diverged at these times; NaN: they did not."""
    found = {}
    for prefix, since in (("", runs), ("limit_", limit)):
        if since is not None:
            ended = np.isfinite(since)
            found[f"{prefix}code"] = np.where(ended, int(Code.DIVERGED), int(Code.FINE))
            found[f"{prefix}since"] = np.asarray(since)
    return found
