"""Reductions that step over gaps."""

import numpy as np

from hdjax import reductions


def test_reductions_step_over_gaps():
    values = np.array([[1.0, np.nan, np.inf], [3.0, np.nan, 1.0], [np.nan, np.nan, 2.0]])
    np.testing.assert_array_equal(reductions.skip_nan(np.nanmean, values), [2, np.nan, np.inf])
    np.testing.assert_array_equal(reductions.skip_nan(np.nanmedian, values), [2, np.nan, 2])
    np.testing.assert_array_equal(reductions.skip_nan(np.nanstd, values[:, :2]), [1, np.nan])
    np.testing.assert_array_equal(reductions.skip_nan(np.nanstd, values[2:], ddof=1), [np.nan] * 3)
    ends = reductions.skip_nan(np.nanquantile, values[:, :2], q=[0.0, 1.0])
    np.testing.assert_array_equal(ends, [[1, np.nan], [3, np.nan]])
    turned = reductions.skip_nan(np.nanmedian, values[:, :1] * (1 + 2j))
    np.testing.assert_array_equal(turned, [2 + 4j])
    assert reductions.skip_nan(np.nanmin, values, axis=None) == 1
