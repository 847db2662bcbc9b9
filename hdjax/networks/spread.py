"""How far repeated trainings agree: the spread between runs over their mean, for users' results.

Predictable progress means that this spread is small (arXiv 2410.09973, figure 1).  Wider networks
also train faster, and curves spread where they fall, so that a comparison at the same step is
unfair: `level` compares networks at the step where each has reached the same cost.
"""

from typing import Any

import numpy as np
import xarray as xr


def relative_spread(
    result: Any, statistic: str = "cost", level: float | None = None
) -> xr.DataArray:
    """Standard deviation between runs over their mean, against the step and the axes of a sweep.

    Args:
        result: the result of `hdjax.simulate`, `compare` or `sweep`.
        statistic: name of the statistic.
        level: None: all records; otherwise the first record whose mean is at or below this value
            alone, NaN where there is none.

    Returns:
        (axes ..., time), or (axes ...) with a level.

    Raises:
        ValueError: the result has no such statistic.

    Example:
        >>> result = hd.simulate(system, [0.0, 1.0], key=jax.random.key(0), runs=8)
        >>> relative_spread(result, "risk").dims
        ('time',)
    """
    if statistic not in result.statistics:
        raise ValueError(f"statistic: {statistic!r}; allowed: {', '.join(result.statistics)}")
    mean = result.mean[statistic]
    spread = result.std[statistic] / mean
    if level is None:
        return spread
    below = mean <= level
    first = below.argmax("time")
    return spread.isel(time=first).where(below.any("time"), np.nan).reset_coords(drop=True)
