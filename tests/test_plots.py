"""Figures, from results made by hand: what is drawn, on which scales, and what is left out."""

import io

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.collections import QuadMesh
from matplotlib.figure import Figure

from hdjax import plots
from hdjax.codes import Code
from tests.trees import changed, codes, made, moments

RUNS = 20
LINEAR = np.linspace(0, 10, 21)
NONE = np.full(RUNS, np.nan)


def comparison(time=LINEAR, decay=0.1, **attrs):
    """Curves exp(-decay t) with multiplicative noise, their limit and predicted spread."""
    rng = np.random.default_rng(0)
    limit = np.exp(-decay * time)
    runs = limit * (1 + 0.1 * rng.standard_normal((RUNS, 1)))
    groups = moments({"risk": runs}) | {
        "limit": {"risk": limit},
        "predicted_std": {"risk": 0.1 * limit},
        "codes": codes(NONE, limit=np.nan),
    }
    return made(groups, time, **{"runs": RUNS, **attrs})


def matrices():
    time, shape = LINEAR, (2, 2)
    values = np.stack([np.cos(time + i + j) for i in range(2) for j in range(2)], -1)
    runs = np.broadcast_to(values.reshape(-1, *shape), (RUNS, len(time), *shape))
    groups = moments({"overlaps": runs}) | {
        "limit": {"overlaps": runs[0]},
        "codes": codes(NONE),
    }
    return made(groups, time, runs=RUNS, statistics=["overlaps"])


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


def scaled():
    dims = np.array([64, 256, 1024])
    errors = dims[:, None] ** -0.5 * np.linspace(0.8, 1.2, RUNS)
    groups = {
        "sup_error": {"risk": errors},
        "sup_error_median": {"risk": np.median(errors, axis=1)},
        "exponent": {"risk": -0.5},
        "exponent_interval": {"risk": [-0.55, -0.45]},
        "codes": codes(np.full(errors.shape, np.nan)),
    }
    return made(groups, [], {"dimension": dims.tolist()}, kind="scaling", runs=RUNS)


def line(ax, label):
    (found,) = [one for one in ax.get_lines() if str(one.get_label()).startswith(label)]
    return found


def legend(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def rendered(ax):
    ax.figure.savefig(io.BytesIO())
    return ax


@pytest.fixture(autouse=True)
def _no_pyplot():
    """Nothing may be left behind in pyplot's state."""
    yield
    assert plt.get_fignums() == []


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


@pytest.mark.parametrize(
    ("time", "decay", "scales"),
    [
        (LINEAR, 0.1, ("linear", "linear")),
        (LINEAR, 1.0, ("linear", "log")),
        (np.array([0, *np.geomspace(0.01, 10, 20)]), 0.1, ("log", "linear")),
        # Recorded times are multiples of 1/d: several of the first may be 0.
        (np.array([0, 0, *np.geomspace(0.01, 10, 20)]), 1.0, ("log", "log")),
        (np.geomspace(1, 10, 20), 0.1, ("linear", "linear")),
    ],
)
def test_scales_follow_the_data(time, decay, scales):
    ax = rendered(plots.plot(comparison(time, decay), "risk"))
    assert (ax.get_xscale(), ax.get_yscale()) == scales


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


def diverging(base, sign=1.0, until=15):
    """Limit and runs grow by `base` from record to record; runs are seen `until` some record."""
    growth = sign * base ** np.arange(len(LINEAR))
    runs = np.tile(np.where(np.arange(len(LINEAR)) < until, growth, np.nan), (RUNS, 1))
    ends = codes(np.full(RUNS, LINEAR[until]), limit=LINEAR[20])
    groups = {"runs": {"risk": runs}, "limit": {"risk": growth}, "codes": ends}
    return changed(comparison(), groups | {"predicted_std": None})


@pytest.mark.parametrize("base", [1e15, 1e2])
def test_divergence_is_followed_for_twelve_decades(base):
    """Up to 1e300: the axes end where the curves have left them."""
    ax = rendered(plots.plot(diverging(base), "risk"))
    left = int(12 / np.log10(base)) + 1
    assert ax.get_yscale() == "log"
    assert 0 < ax.get_ylim()[0] < 1 < ax.get_ylim()[1] < 2e12
    assert ax.get_xlim() == (0, LINEAR[left])
    assert ax.get_title(loc="left").splitlines() == [
        "limit: diverged from t = 10 on",
        "20 of 20 runs diverged from t = 7.5 on",
        "values beyond 1e+12 are not shown",
    ]
    assert legend(ax) == ["single runs", "limit"]
    np.testing.assert_array_equal(line(ax, "single runs").get_ydata()[:15], base ** np.arange(15.0))


def test_what_diverges_to_both_sides_starts_on_a_linear_axis():
    ax = rendered(plots.plot(diverging(1e2, sign=-1.0), "risk"))
    assert ax.get_yscale() == "symlog"
    low, high = ax.get_ylim()
    assert (low, high) == (-1.6e12, 0)
    assert ax.get_xlim()[1] == LINEAR[7]


def test_growth_alone_is_no_divergence():
    """From 1e-6 to 1 and from 1e-11 to 1, as overlaps in high dimension grow."""
    for decay in (-1.4, -2.5):
        ds = comparison(decay=decay)
        ax = rendered(plots.plot(ds, "risk"))
        assert ax.get_xlim() == (0, 10)
        assert ax.get_title(loc="left") == ""
        assert ax.get_ylim()[1] > float(ds["quantile/risk"].max())


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


def test_scaling_has_the_fitted_power():
    ax = rendered(plots.plot(scaled(), "risk"))
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
    (fit,) = [one for one in ax.get_lines() if one.get_linestyle() == "--"]
    x, y = np.log(fit.get_xdata()), np.log(fit.get_ydata())
    np.testing.assert_allclose(np.diff(y) / np.diff(x), -0.5)
    np.testing.assert_allclose(fit.get_ydata(), scaled()["sup_error_median/risk"])
    assert "exponent in [-0.55, -0.45]" in fit.get_label()


def test_scaling_without_a_finite_error_still_draws():
    ds = scaled()
    ds["sup_error/risk"][0], ds["sup_error_median/risk"][0] = np.nan, np.nan
    ds["codes/since"][0], ds["codes/code"][0] = 1.0, Code.DIVERGED
    ax = rendered(plots.plot(ds, "risk"))
    assert ax.get_title(loc="left") == "20 of 60 runs diverged (left out)"


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
