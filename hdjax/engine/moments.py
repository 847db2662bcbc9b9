"""Moments over the finite runs, which are computed chunk by chunk on the host, and merged."""

import equinox as eqx
import jax
import numpy as np

from hdjax.engine.ensemble import Curves
from hdjax.engine.plan import Numbers, Values


class Moments(eqx.Module):
    """Moments over the finite runs, for each entry of an array.

    Attributes:
        count: number of finite runs.
        mean: mean over these runs.
        squares: sum over these runs of the squared distance from the mean.
    """

    count: Numbers
    mean: Numbers
    squares: Numbers


class Streamed(eqx.Module):
    """Moments over all runs, which are merged from chunk to chunk.

    Attributes:
        values: the moments of each statistic, over time.
        sup_error: the moments of the sup error of each statistic, as a curve with a single time.
        alive: over time; its count is the number of runs that have not ended.
    """

    values: dict[str, Moments]
    sup_error: dict[str, Moments]
    alive: Moments


def moments_of(runs: Curves, sup_error: Values) -> Streamed:
    """The moments over the runs of a chunk, in 64 bits.

    Args:
        runs: the curves of the runs, as NumPy arrays (points, runs, times, ...).
        sup_error: the sup error of each statistic (points, runs).
    """
    return Streamed(
        {name: _moments(value) for name, value in runs.values.items()},
        {name: _moments(error[..., None]) for name, error in sup_error.items()},
        _moments(np.where(runs.alive, 1.0, np.nan)),
    )


def merge(a: Streamed, b: Streamed) -> Streamed:
    """The moments over the runs of two chunks together."""
    return jax.tree.map(_union, a, b, is_leaf=lambda part: isinstance(part, Moments))


def _moments(values: np.ndarray) -> Moments:
    """The moments over the second axis."""
    wide = values.astype(np.complex128 if np.iscomplexobj(values) else np.float64)
    good = np.isfinite(wide)
    count = good.sum(axis=1).astype(np.float64)
    mean = np.where(good, wide, 0).sum(axis=1) / np.maximum(count, 1)
    squares = (np.abs(np.where(good, wide - mean[:, None], 0)) ** 2).sum(axis=1)
    return Moments(count, mean, squares)


def _union(a: Moments, b: Moments) -> Moments:
    """The moments of the union of two samples, by the formula of Chan, Golub and LeVeque (1979)."""
    count = a.count + b.count
    share = b.count / np.maximum(count, 1)
    delta = b.mean - a.mean
    squares = a.squares + b.squares + np.abs(delta) ** 2 * a.count * share
    return Moments(count, a.mean + share * delta, squares)
