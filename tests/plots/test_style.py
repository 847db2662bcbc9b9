"""Scales and ranges of axes, which follow the data and what has diverged of them."""

import numpy as np
import pytest

from hdjax import plots
from tests.plots.figures import LINEAR, RUNS, comparison, legend, line, rendered
from tests.trees import changed, codes


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
