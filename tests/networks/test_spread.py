"""The spread between runs over their mean, of results that are made by hand."""

from types import SimpleNamespace

import numpy as np
import pytest
import xarray as xr

from hdjax import networks

COSTS = [[4.0, 2.0, 1.0], [4.0, 3.0, 3.5]]
SPREAD = [[0.4, 0.1, 0.3], [0.8, 0.3, 0.7]]


def made():
    """Two networks at three steps."""
    axes = {"width": [1.0, 4.0], "time": [0.0, 1.0, 2.0]}
    mean, std = (
        xr.Dataset({"cost": (("width", "time"), values)}, axes) for values in (COSTS, SPREAD)
    )
    return SimpleNamespace(statistics=("cost",), mean=mean, std=std)


def test_spread_of_every_record():
    found = networks.relative_spread(made())
    assert found.dims == ("width", "time")
    np.testing.assert_allclose(found, [[0.1, 0.05, 0.3], [0.2, 0.1, 0.2]], rtol=1e-15)


@pytest.mark.parametrize(
    ("level", "expected"),
    [(5.0, [0.1, 0.2]), (3.0, [0.05, 0.1]), (2.0, [0.05, np.nan]), (0.5, [np.nan, np.nan])],
)
def test_spread_where_a_level_is_first_reached(level, expected):
    """Though the second network comes back above it."""
    found = networks.relative_spread(made(), level=level)
    assert found.dims == ("width",)
    np.testing.assert_allclose(found, expected, rtol=1e-15)


def test_other_statistics_are_refused():
    with pytest.raises(ValueError, match="statistic: 'risk'; allowed: cost"):
        networks.relative_spread(made(), "risk")
