"""Power-law random features, the model of neural scaling laws: the risk against compute.

`power_law_features` makes a `OnePassSGD` of the model, `compute_optimal` computes the envelope of
its risk curves.  Inputs x in R^v have independent entries x_j ~ N(0, j^{-2 alpha}), the target is
<b, x> with b_j = j^{-beta}, and features are a = F^T x in R^d with F_jl ~ N(0, 1/d).  For Gaussian
inputs this is exactly least squares on Gaussian data,

    K = F^T D F,   X* = K^{-1} F^T D b,   label noise sigma^2 = b^T D b - b^T D F X*,

with D the covariance of the inputs: the part of the target that is not linear in the features is
label noise that is independent of them.  Here tr K is O(1), so that a plain step s (without the
factor 1/d) is the learning rate gamma = s d.

Source: E. Paquette, C. Paquette, L. Xiao, J. Pennington, "4+3 phases of compute-optimal neural
scaling laws" (arXiv 2405.15074), for the model; the reduction to least squares is derived here.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from hdjax import precise
from hdjax.checks import checked
from hdjax.registry import Positive, Real, Size
from hdjax.spectra import Spectrum
from hdjax.streaming.losses import LeastSquares
from hdjax.streaming.model import OnePassSGD

__all__ = [
    "compute_optimal",
    "power_law_features",
]


@checked
def power_law_features(
    key: Key[Array, ""],
    features: Size,
    inputs: Size,
    *,
    alpha: Real,
    beta: Real,
    step: Positive,
    **options: Any,
) -> OnePassSGD:
    """One-pass SGD from X_0 = 0 on power-law random features, for one draw of the features.

    Args:
        key: the key with which the features F are drawn.
        features: number d of features.
        inputs: dimension v of the inputs, at least d.
        alpha: the standard deviation of the j-th input is j^-alpha.
        beta: the j-th coefficient of the target is j^-beta.
        step: plain step s, positive; the learning rate gamma is s d.
        **options: further arguments of `OnePassSGD` (optimiser, batch_size, ...).

    Raises:
        ValueError: fewer inputs than features, or a step that is not positive.

    Example:
        >>> system = power_law_features(
        ...     jax.random.key(0), features=20, inputs=80, alpha=1.0, beta=0.7, step=0.1
        ... )
        >>> bool(system.loss.sigma > 0)
        True
    """
    if not 1 <= features <= inputs:
        raise ValueError(f"features: {features}; allowed: 1 to {inputs}, the inputs")
    dtype = jnp.result_type(float)
    j = jnp.arange(1, inputs + 1, dtype=dtype)
    deviation = j ** -jnp.asarray(alpha, dtype)
    target = deviation * j ** -jnp.asarray(beta, dtype)
    draw = jax.random.normal(key, (inputs, features), dtype) / features**0.5
    # The spectrum of K comes from the singular values of D^{1/2} F: forming K would square the
    # condition number.
    left, values, right = jnp.linalg.svd(deviation[:, None] * draw, full_matrices=False)
    expressed = precise.dot(left.T, target)
    missed = target - precise.dot(left, expressed)
    spectrum = Spectrum(
        eigenvalues=values**2,
        weights=jnp.full(features, 1 / features, dtype),
        dimension=jnp.asarray(features, dtype),
        basis=right.T,
        size=features,
    )
    solution = precise.dot(right.T, expressed / values)
    return OnePassSGD(
        LeastSquares(sigma=jnp.linalg.norm(missed)),
        spectrum,
        jnp.asarray(step, dtype) * features,
        jnp.zeros(features, dtype),
        solution,
        **options,
    )


@checked
def compute_optimal(
    dims: Any, ts: Any, risks: Float[np.ndarray, "dimension times"], points: int = 32
) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """The least risk over dimensions at each amount of compute, d x steps = d^2 t.

    The logarithm of each risk curve is interpolated linearly in the logarithm of the compute.
    Amounts of compute at which the best dimension is the smallest or the largest are left out,
    because there the range of dimensions determines the result.

    Args:
        dims: (dimension,) the dimensions d, increasing.
        ts: (times,) the times in units of d steps, increasing; t = 0 is left out.
        risks: (dimension, times) the risks, positive.
        points: number of amounts of compute, spaced geometrically.

    Returns:
        Compute, least risk and best dimension, each (n,), and the exponent p of a straight line
        through the logarithms, risk ~ compute^p.

    Raises:
        ValueError: shapes that disagree, no compute that all dimensions reach, or fewer than two
            amounts of compute at which the best dimension is neither the smallest nor the largest.

    Example:
        >>> dims, ts = np.array([10, 20, 40, 80]), np.geomspace(0.01, 1000, 60)
        >>> risks = 1 / dims[:, None] + 1 / (dims[:, None] * ts)  # best at d = steps
        >>> round(compute_optimal(dims, ts, risks)[3], 1)
        -0.5
    """
    dims, ts, risks = (np.asarray(x, np.float64) for x in (dims, ts, risks))
    if risks.shape != (len(dims), len(ts)):
        raise ValueError(f"risks: shape {risks.shape}; allowed: {(len(dims), len(ts))}")
    ts, risks = ts[ts > 0], risks[:, ts > 0]
    spent = np.log(dims[:, None] ** 2 * ts)
    grid = np.linspace(spent[:, 0].max(), spent[:, -1].min(), points)
    if not grid[0] < grid[-1]:
        raise ValueError(
            f"ts: {ts[0]:.3g} to {ts[-1]:.3g}, with no compute that all dimensions reach; allowed: "
            "a wider range of times"
        )
    curves = np.stack([np.interp(grid, x, np.log(y)) for x, y in zip(spent, risks, strict=True)])
    best = curves.argmin(axis=0)
    inside = (best > 0) & (best < len(dims) - 1)
    if inside.sum() < 2:
        raise ValueError(
            "dims: the best is the smallest or the largest at every compute; allowed: a wider range"
        )
    grid, least = grid[inside], curves.min(axis=0)[inside]
    exponent = np.polyfit(grid, least, 1)[0]
    return np.exp(grid), np.exp(least), dims[best[inside]], float(exponent)
