"""Figures of sweeps: lines, heat maps, names, and points that are selected."""

import io

import numpy as np
import pytest
from matplotlib.collections import QuadMesh

from hdjax import plots
from tests.plots.figures import RUNS, line, rendered
from tests.trees import changed, codes, made, moments


def swept(names=None, **axes):
    """Risk = product of the axes' values at all times; the last value of an axis may diverge.

    `names` stand for the values of the axes that they are given for.
    """
    shape = tuple(len(values) for values in axes.values())
    grids = np.meshgrid(*axes.values(), indexing="ij")
    level = np.prod(grids, axis=0)
    runs = np.broadcast_to(level[..., None, None], (*shape, RUNS, 2)).copy()
    groups = moments({"risk": runs}, axis=len(shape)) | {
        "limit": {"risk": np.broadcast_to(level[..., None], (*shape, 2))},
        "sup_error": {"risk": 0.5 * runs[..., 0]},
        "codes": codes(np.full((*shape, RUNS), np.nan)),
    }
    recorded = np.broadcast_to([0.0, 1.0], (*shape, 2))
    return made(groups, [0.0, 1.0], axes | (names or {}), recorded, kind="sweep", runs=RUNS)


def test_sweep_over_one_axis_is_a_line():
    ds = swept(rate=[0.1, 1.0, 10.0])
    ax = rendered(plots.plot(ds, "risk"))
    np.testing.assert_allclose(line(ax, "mean of 20 runs").get_ydata(), [0.1, 1, 10])
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
    assert ax.get_ylabel() == "risk at t = 1"
    error = plots.plot(ds, "risk", value="sup_error", time=0.0)
    np.testing.assert_allclose(line(error, "median").get_ydata(), [0.05, 0.5, 5])
    with pytest.raises(ValueError, match="value: 'maen'"):
        plots.plot(ds, "risk", value="maen")
    with pytest.raises(ValueError, match="time: 3"):
        plots.plot(ds, "risk", time=3.0)


def test_sweep_over_two_axes_is_a_heat_map_and_hatches_divergence():
    ds = swept(rate=[1.0, 2.0], noise=[1.0, 3.0, 5.0])
    ds["mean/risk"][1, 2] = np.nan
    ax = rendered(plots.plot(ds, "risk"))
    (mesh,) = [one for one in ax.collections if isinstance(one, QuadMesh)]
    found = mesh.get_array()
    np.testing.assert_allclose(found.filled(-1), [[1, 3, 5], [2, 6, -1]])
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("noise", "rate")
    assert ax.get_title(loc="left") == "hatched: diverged"


@pytest.mark.parametrize("axes", [{"rate": [1, 2, 3]}, {"rate": [1, 2], "noise": [1, 2, 3]}])
def test_a_sweep_leaves_out_what_has_diverged(axes):
    """Though its numbers are finite, at the last point and the last time."""
    ds = swept(**axes)
    top = ds["mean/risk"].isel(time=-1).max()
    curves = {name: ds[f"{name}/risk"] for name in ("runs", "mean", "std", "quantile", "limit")}
    seen = {name: (curve["time"] == 0) | (curve < top) for name, curve in curves.items()}
    ends = {name: {"risk": curve.where(seen[name], 1e300)} for name, curve in curves.items()}
    ds = changed(
        ds,
        {name: {"risk": own["risk"].transpose(*curves[name].dims)} for name, own in ends.items()},
    )
    ax = rendered(plots.plot(ds, "risk"))
    if len(axes) == 1:
        np.testing.assert_array_equal(line(ax, "mean").get_ydata(), [1, 2, np.nan])
        assert ax.get_ylim()[1] < 3
    else:
        (mesh,) = [one for one in ax.collections if isinstance(one, QuadMesh)]
        np.testing.assert_array_equal(mesh.get_array().filled(-1), [[1, 2, 3], [2, 4, -1]])
        assert ax.get_title(loc="left") == "hatched: diverged"


def test_sweep_over_names_has_no_line_between_them():
    ds = swept({"rate": ["small", "large"]}, rate=[1.0, 2.0])
    ax = rendered(plots.plot(ds, "risk"))
    assert line(ax, "mean").get_linestyle() == "None"
    assert [text.get_text() for text in ax.get_xticklabels()] == ["small", "large"]


def test_sweep_over_groups_of_names_has_a_column_of_panels_for_each():
    names = ["ridge: 0.1", "ridge: 0.2", "start: random"]
    ds = swept({"system": names}, system=[1.0, 2.0, 3.0])
    figure = plots.plot_all(ds)
    figure.savefig(io.BytesIO())
    ridge, start = figure.axes
    assert (ridge.get_xlabel(), start.get_xlabel()) == ("ridge", "start")
    assert [text.get_text() for text in ridge.get_xticklabels()] == ["0.1", "0.2"]
    np.testing.assert_array_equal(line(start, "mean").get_ydata(), [3])
    # Names without groups stay on one axis.
    assert len(plots.plot_all(swept({"rate": ["a: b", "c"]}, rate=[1.0, 2.0])).axes) == 1


def test_sweep_axes_are_selected():
    ds = swept(rate=[1.0, 2.0], noise=[1.0, 3.0], scale=[1.0, 7.0])
    with pytest.raises(ValueError, match="at most two"):
        plots.plot(ds, "risk")
    ax = plots.plot(ds, "risk", select={"scale": 7.0, "rate": 2})
    np.testing.assert_allclose(line(ax, "mean").get_ydata(), [14, 42])
    curve = plots.plot(ds, "risk", select={"scale": 7.0, "rate": 2.0, "noise": 3.0}, runs=2)
    np.testing.assert_allclose(line(curve, "mean").get_ydata(), [42, 42])
    with pytest.raises(ValueError, match=r"scale = 7.5; allowed: 1.0, 7.0"):
        plots.plot(ds, "risk", select={"scale": 7.5})
    with pytest.raises(ValueError, match="select: 'sclae'"):
        plots.plot(ds, "risk", select={"sclae": 7.0})
    with pytest.raises(ValueError, match="options: runs; allowed for curves"):
        plots.plot(ds, "risk", select={"scale": 7.0}, runs=2)
