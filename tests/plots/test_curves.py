"""Curves of results made by hand: what is drawn, what is named, and what is left out."""

import io

import numpy as np
import pytest
import xarray as xr
from matplotlib.figure import Figure

from hdjax import plots
from tests.plots.figures import LINEAR, NONE, RUNS, comparison, legend, line, matrices, rendered
from tests.trees import changed, codes, made, moments


def test_comparison_draws_runs_mean_limit_and_both_bands():
    ds = comparison()
    ax = rendered(plots.plot(ds, "risk"))
    np.testing.assert_array_equal(line(ax, "mean of 20 runs").get_ydata(), ds["mean/risk"])
    np.testing.assert_array_equal(line(ax, "limit").get_ydata(), ds["limit/risk"])
    upper = line(ax, "predicted").get_ydata()
    np.testing.assert_allclose(upper, ds["limit/risk"] + 1.6449 * ds["predicted_std/risk"])
    (band,) = ax.collections
    edges = band.get_paths()[0].vertices[:, 1]
    assert edges.min() == ds["quantile/risk"].min()
    assert edges.max() == ds["quantile/risk"].max()
    faint = [one for one in ax.get_lines() if (one.get_alpha() or 1) < 0.5]
    assert len(faint) == 12
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("t = k/d", "risk")


def test_a_predicted_mean_is_the_centre_of_the_predicted_band():
    ds = comparison()
    ds["predicted_mean"] = xr.DataTree(1.05 * ds["limit"].to_dataset())
    ax = rendered(plots.plot(ds, "risk"))
    centre = 1.05 * ds["limit/risk"]
    np.testing.assert_allclose(line(ax, "predicted mean").get_ydata(), centre)
    upper = line(ax, "predicted 5").get_ydata()
    np.testing.assert_allclose(upper, centre + 1.6449 * ds["predicted_std/risk"])


def test_few_runs_and_standard_deviations_on_demand():
    ds = comparison()
    ax = plots.plot(ds, "risk", runs=3, band="std")
    assert len([one for one in ax.get_lines() if (one.get_alpha() or 1) < 0.5]) == 3
    edges = ax.collections[0].get_paths()[0].vertices[:, 1]
    np.testing.assert_allclose(edges.max(), (ds["mean/risk"] + ds["std/risk"]).max())
    with pytest.raises(ValueError, match="band: 'wide'"):
        plots.plot(ds, "risk", band="wide")


def test_axes_given_are_used():
    ax = Figure().subplots()
    assert plots.plot(comparison(), "risk", ax) is ax


def test_scales_can_be_given():
    ax = plots.plot(comparison(), "risk", xscale="log", yscale="log")
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")


def test_diverged_runs_are_counted_and_not_drawn():
    ds = comparison()
    runs = ds["runs/risk"].values.copy()
    runs[3, 5:15], runs[3, 15:] = 1e3, np.nan
    at = np.where(np.arange(RUNS) == 3, LINEAR[15], np.nan)
    ds = changed(ds, moments({"risk": runs}) | {"codes": codes(at)})
    ax = rendered(plots.plot(ds, "risk"))
    assert ax.get_title(loc="left") == "1 of 20 runs diverged from t = 7.5 on (not drawn)"
    drawn = np.concatenate([one.get_ydata() for one in ax.get_lines()])
    assert drawn.max() < 2
    good = np.delete(runs, 3, axis=0)
    np.testing.assert_allclose(line(ax, "mean of 19 runs").get_ydata(), good.mean(0))
    assert ax.collections[0].get_paths()[0].vertices[:, 1].max() < 2


def test_nothing_but_the_limit_is_drawn_when_all_runs_diverged():
    ds = comparison()
    none = {"risk": ds["runs/risk"].values * np.nan}
    ds = changed(ds, {"runs": none, "codes": codes(np.full(RUNS, 0.5))})
    ax = rendered(plots.plot(ds, "risk"))
    assert legend(ax) == ["limit", "predicted 5–95 %"]
    assert ax.get_title(loc="left").startswith("20 of 20 runs diverged from t = 0.5")
    assert not ax.collections
    nothing = changed(ds, {"limit": None, "predicted_std": None}, kind="simulate")
    assert not rendered(plots.plot(nothing, "risk")).get_lines()


def test_realised_starts_show_each_limit_and_their_mean():
    runs = comparison()["runs/risk"].values
    limits = 1.1 * runs
    ends = codes(NONE, limit=NONE)
    groups = moments({"risk": runs}) | {"limit": {"risk": limits}, "codes": ends}
    groups["predicted_std"] = {"risk": runs[0]}
    ds = made(groups, LINEAR, runs=RUNS, start="realised")
    ax = rendered(plots.plot(ds, "risk"))
    shown = line(ax, "mean of the runs' own limits").get_ydata()
    np.testing.assert_allclose(shown, limits.mean(0))
    # The prediction is of the spread round each run's own limit: there is no common band.
    assert not any("predicted" in text for text in legend(ax))


def test_summaries_name_all_the_runs_that_their_mean_is_over():
    ds = comparison(runs=100_000, note="single curves from the first 20 runs")
    assert "mean of 100000 runs" in legend(plots.plot(ds, "risk"))


def test_matrices_have_a_line_for_each_entry():
    ds = matrices()
    ax = rendered(plots.plot(ds, "overlaps"))
    assert legend(ax) == ["[0, 0]", "[0, 1]", "[1, 1]", "limit"]
    np.testing.assert_array_equal(line(ax, "[0, 1]").get_ydata(), ds["mean/overlaps"][:, 0, 1])
    one = plots.plot(ds, "overlaps", index=(1, -1))
    assert one.get_ylabel() == "overlaps [1, 1]"
    with pytest.raises(ValueError, match=r"index: \(2, 0\); allowed: an entry of shape \(2, 2\)"):
        plots.plot(ds, "overlaps", index=(2, 0))
    with pytest.raises(ValueError, match="index: 1"):
        plots.plot(ds, "overlaps", index=1)


def test_parts_may_be_missing():
    ds = comparison()
    ends = codes(limit=np.nan)
    groups = {"limit": {"risk": ds["limit/risk"]}, "codes": ends}
    only_limit = made(groups, LINEAR, kind="limit", runs=0)
    assert legend(rendered(plots.plot(only_limit, "risk"))) == ["limit"]
    only_runs = changed(ds, {"limit": None, "predicted_std": None}, kind="simulate")
    assert legend(rendered(plots.plot(only_runs, "risk"))) == [
        "5–95 % of the runs",
        "mean of 20 runs",
    ]


def test_unknown_statistic_names_the_nearest():
    with pytest.raises(ValueError, match="did you mean 'risk'"):
        plots.plot(comparison(), "rsik")


def test_all_has_a_panel_for_each_scalar_statistic():
    risk, overlaps = (tree["runs"].to_dataset() for tree in (comparison(), matrices()))
    runs = {"risk": risk["risk"], "overlaps": overlaps["overlaps"], "loss": risk["risk"]}
    groups = moments(runs) | {"codes": codes(NONE)}
    ds = made(groups, LINEAR, runs=RUNS, statistics=list(runs))
    figure = plots.plot_all(ds)
    figure.savefig(io.BytesIO())
    assert len(figure.axes) == 2
    assert [ax.get_legend() is not None for ax in figure.axes] == [True, False]
    assert len(plots.plot_all(matrices()).axes) == 1
