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
    return made(groups, [], {"dimension": dims.tolist()}, kind="scaling", runs=RUNS)


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
