"""How far repeated trainings agree: the spread between runs over their mean.

Against the step, wider networks are also faster, and their curves spread where they fall: `level`
compares them where they have come as far.
"""

from typing import Any

import numpy as np
import xarray as xr


def relative_spread(
    result: Any, statistic: str = "cost", level: float | None = None
) -> xr.DataArray:
    """Standard deviation between runs over their mean, against the step (and axes of a sweep).

    Args:
        result: of `hdjax.simulate`, `compare` or `sweep`.
        statistic: its name.
        level: only at the first record at which the mean is at or below it, NaN where it never is.

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
