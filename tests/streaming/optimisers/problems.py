"""Least squares in two groups and their risks, which tests of optimisers and learning rates use."""

import jax
import jax.numpy as jnp
import numpy as np

import hdjax as hd
from hdjax.streaming import GramSampler, GramStart, OnePassSGD
from hdjax.streaming.losses import LeastSquares

FINE = hd.Integrator(rtol=1e-9, atol=1e-12)
FINEST = hd.Integrator(rtol=1e-10, atol=1e-13)
LAM = np.array([0.5, 2.0])
TS = (0.0, 0.5, 1.0, 3.0)


def quadratic(d, optimiser, gamma, loss=None, **options):
    """Distances .7 and .3 in two groups, X* = 0: everything is in |X|^2."""
    blocks = np.zeros((2, 2, 2))
    blocks[:, 0, 0] = [0.7, 0.3]
    spectrum = hd.spectra.explicit(LAM, [6 * d // 10, 4 * d // 10])
    loss = LeastSquares(sigma=0.3) if loss is None else loss
    options = {"optimiser": optimiser, "integrator": FINE, **options}
    return OnePassSGD(loss, spectrum, gamma, GramStart(blocks, students=1), **options)


def least_squares(d, optimiser, *, sigma=0.5, gamma=0.6, **options):
    return quadratic(d, optimiser, gamma, LeastSquares(sigma=sigma), **options)


def reference(loss, rate, **options):
    """The system of the reference values: two groups, the target in the blocks."""
    spectrum = hd.spectra.explicit(LAM, [60, 40])
    blocks = np.array([0.6, 0.4])[:, None, None] * np.array([[0.6, 0.15], [0.15, 0.9]])
    start = GramStart(blocks, students=1)
    return OnePassSGD(loss, spectrum, rate, start, integrator=FINEST, **options)


def risks(system, ts=TS):
    return system.limit(jnp.array(ts), save=lambda s: system.statistics(s)["risk"]).values


def check_error_bars(system, statistic):
    """Spread within 6 %, and mean within 4 standard errors of limit and bias, at d = 40.

    Returns the gap of the means from the limit, and the spread of the means.
    """
    runs, ts = 8000, [0.0, 0.5, 1.5]
    plan = {"statistics": [statistic], "method": GramSampler("float64"), "keep": "summary"}
    result = hd.compare(system, ts, key=jax.random.key(4), runs=runs, fluctuations=True, **plan)
    std = result.std[statistic].values[1:]
    np.testing.assert_allclose(std, result.predicted_std[statistic][1:], rtol=0.06)
    gap = (result.mean[statistic].values - result.limit[statistic].values)[1:]
    shift = system.mean_correction(jnp.array(ts), lambda s: {"it": system.statistics(s)[statistic]})
    # What is left is of order 1/d^2.
    assert np.all(np.abs(gap - shift["it"][1:]) < 4 * std / np.sqrt(runs) + 3 / 40**2)
    return gap, std / np.sqrt(runs)
