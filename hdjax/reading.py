"""Reading a result's tree: variables by the user's names, times, and parts of a sweep.

The schema of the tree stands in `hdjax.layout`.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from hdjax.codes import Code
from hdjax.layout import COORDINATES, decode, encode


def axes(result: xr.DataTree) -> dict[str, str]:
    """The dimension of each axis of a sweep or scaling."""
    return result.attrs["axes"]


def labels(result: xr.DataTree, axis: str) -> np.ndarray:
    """The values along an axis of a sweep or scaling."""
    dim = axes(result)[axis]
    return next(node.dataset[dim].values for node in result.children.values() if dim in node.dims)


def times(result: xr.DataTree) -> np.ndarray:
    """(times,) the nominal times of the records; empty for a scaling."""
    return _along_time(result, "time")


def recorded_times(result: xr.DataTree) -> np.ndarray:
    """(..., times) the times of the algorithm's clock, after the axes of a sweep."""
    return _along_time(result, "recorded_time")


def _along_time(result: xr.DataTree, name: str) -> np.ndarray:
    found = (node.dataset[name].values for node in result.children.values() if "time" in node.dims)
    return next(found, np.zeros(0))


def has(result: xr.DataTree, group: str, name: str) -> bool:
    """Whether a group has a variable of this name."""
    return group in result.children and encode(name) in result[group].data_vars


def variable(result: xr.DataTree, group: str, name: str) -> xr.DataArray:
    """The variable of a group that holds a statistic, path statistic, probe or code.

    Args:
        result: a result's tree.
        group: the group.
        name: the user's name.

    Raises:
        KeyError: there is no such group, or the group has no variable of this name.
    """
    if not has(result, group, name):
        raise KeyError(f"name: {name!r}; allowed: a variable of the group {group!r}")
    return result[group].to_dataset()[encode(name)]


def ended(result: xr.DataTree) -> np.ndarray:
    """(..., run) the nominal time from which on each run has ended; NaN for runs that did not end.

    The array is empty if the result has no runs.
    """
    if not has(result, "codes", "code"):
        return np.zeros(0)
    code = variable(result, "codes", "code").values
    since = variable(result, "codes", "since").values
    return np.where(np.isin(code, (Code.NOT_RUN, Code.FINE, Code.NOT_FINITE)), np.nan, since)


def dataset(result: xr.DataTree, group: str) -> xr.Dataset:
    """A group as a dataset, in which variables and dimensions have the names that the user gave."""
    found = result[group].to_dataset()
    encoded = {*found.variables, *found.dims}
    plain = {name: decode(str(name)) for name in encoded if decode(str(name)) != name}
    return found.rename(plain) if plain else found


def entries(result: xr.DataTree, values: xr.DataArray) -> list[str]:
    """The dimensions of a variable that count the entries of a vector or matrix."""
    lead = {*COORDINATES, *axes(result).values()}
    return [str(dim) for dim in values.dims if dim not in lead]


def select(result: xr.DataTree, points: Mapping[str, int]) -> xr.DataTree:
    """The part of a sweep in which some axes have one value each; these axes are removed.

    Args:
        result: the tree of a sweep.
        points: the position along each axis that is removed.
    """
    dims = axes(result)
    part = result.isel({dims[axis]: position for axis, position in points.items()})
    part.attrs["axes"] = {axis: dim for axis, dim in dims.items() if axis not in points}
    return part


def relabel(
    result: xr.DataTree, axis: str, positions: list[int], name: str, values: list[Any]
) -> xr.DataTree:
    """The part of a sweep at some points of an axis, with a new name and new labels of the axis.

    Args:
        result: the tree of a sweep.
        axis: the name of the axis.
        positions: the positions of the points that are kept.
        name: the new name of the axis.
        values: the new label of each point that is kept.
    """
    dim = axes(result)[axis]

    def labelled(node: xr.Dataset) -> xr.Dataset:
        return node.assign_coords({dim: values}) if dim in node.dims else node

    part = result.isel({dim: positions}).map_over_datasets(labelled)
    part.attrs = {**result.attrs, "axes": {name: dim}}
    return part
