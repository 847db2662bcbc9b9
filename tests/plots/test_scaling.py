"""Figures of scalings, with the power that was fitted."""

import numpy as np

from hdjax import plots
from hdjax.codes import Code
from tests.plots.figures import RUNS, rendered
from tests.trees import codes, made


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
    cost = {"compile": [2.0, 2.5, 2.0], "simulate": [0.1, 0.4, 1.6], "limit": [0.1] * 3}
    cost["memory"] = [2**20, 2**22, 2**24]
    power = {"simulate": (1.0, 0.9, 1.1), "limit": (0.0, 0.0, 0.0), "compile": (np.nan,) * 3}
    power["memory"] = (1.0, np.nan, np.nan)
    own = {"kind": "scaling", "runs": RUNS, "cost": cost, "cost_exponent": power}
    return made(groups, [], {"dimension": dims.tolist()}, **own)


def test_scaling_has_the_fitted_power():
    ax = rendered(plots.plot(scaled(), "risk"))
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
    (fit,) = [one for one in ax.get_lines() if one.get_linestyle() == "--"]
    x, y = np.log(fit.get_xdata()), np.log(fit.get_ydata())
    np.testing.assert_allclose(np.diff(y) / np.diff(x), -0.5)
    np.testing.assert_allclose(fit.get_ydata(), scaled()["sup_error_median/risk"])
    assert "exponent in [-0.55, -0.45]" in fit.get_label()
    (guide,) = [one for one in ax.get_lines() if one.get_linestyle() == ":"]
    x, y = np.log(guide.get_xdata()), np.log(guide.get_ydata())
    np.testing.assert_allclose(np.diff(y) / np.diff(x), -0.5)


def test_time_and_memory_have_panels_of_their_own():
    error, seconds, memory = rendered(plots.plot_all(scaled())).axes
    assert error.get_ylabel().startswith("sup over t")
    told = [text.get_text() for text in seconds.get_legend().get_texts()]
    assert told[0].startswith("runs: ")
    assert told[0].endswith("[0.90, 1.10]")
    assert told[2] == "compilation"
    points = {line.get_linestyle(): line.get_ydata() for line in memory.get_lines()}
    np.testing.assert_allclose(points["None"], [1, 4, 16])
    np.testing.assert_allclose(points["--"], [1, 4, 16])


def test_efficiency_has_a_panel_where_it_was_measured():
    tree = scaled()
    tree.attrs["efficiency"] = {"devices": [1, 4], "seconds": [4.0, 1.25], "efficiency": [1, 0.8]}
    *_, panel = rendered(plots.plot_all(tree)).axes
    ideal, measured = panel.get_lines()
    assert set(ideal.get_ydata()) == {1}
    np.testing.assert_allclose(measured.get_ydata(), [1, 0.8])
    assert panel.get_ylim()[0] == 0


def test_a_scaling_of_the_limit_alone_has_two_panels():
    tree = scaled()
    bare = made({"codes": codes(limit=np.full(3, np.nan))}, [], {"dimension": [64, 256, 1024]})
    bare.attrs = {**tree.attrs, "statistics": [], "runs": 0}
    bare.attrs["cost"] = tree.attrs["cost"] | {"simulate": [0.0] * 3}
    seconds, _ = rendered(plots.plot_all(bare)).axes
    told = [text.get_text() for text in seconds.get_legend().get_texts()]
    assert [text.split(":")[0] for text in told] == ["limit", "compilation"]


def test_scaling_without_a_finite_error_still_draws():
    ds = scaled()
    ds["sup_error/risk"][0], ds["sup_error_median/risk"][0] = np.nan, np.nan
    ds["codes/since"][0], ds["codes/code"][0] = 1.0, Code.DIVERGED
    ax = rendered(plots.plot(ds, "risk"))
    assert ax.get_title(loc="left") == "20 of 60 runs diverged (left out)"
