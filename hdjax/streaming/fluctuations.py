"""The spread of one-pass SGD round its limit at finite d, and the 1/d bias of its means.

`OnePassSGD.fluctuations` and `OnePassSGD.mean_correction` are computed here.  With y the stacked
Gram blocks and side parameters, sqrt(d) (y_SGD - y) tends to a Gaussian process (`expansion.py`).
If P is its covariance, a statistic phi has the standard deviation sqrt(grad phi^T P grad phi / d).
P at t = 0 is the covariance of the start's law, or 0 for a given start.  If P is too large for a
matrix in memory, an adjoint equation gives the variance of each statistic (`adjoint.py`).

If a spectrum has many groups, y consists of blocks on the few nodes of the system's reduction: the
variance of a statistic, like the limit, depends on the spectrum through sums over it.

The expansion goes beyond arXiv 2308.08977, whose theorems concern the limit.  Homogenised SGD has
the mean of SGD but not its spread.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from hdjax import gaussian, precise
from hdjax.arrays import jacobians
from hdjax.spectra import Spectrum
from hdjax.streaming import covariance
from hdjax.streaming.adjoint import variances
from hdjax.streaming.expansion import Expansion
from hdjax.streaming.field import GramSummary
from hdjax.streaming.projections import Layout
from hdjax.system import NoMeanCorrectionError

# States with at most this number of entries are used on all groups; larger states are used on the
# nodes of a reduction with an error of TOLERANCE.
_FEW = 128
TOLERANCE = 1e-3


def many_groups(spectrum: Spectrum, layout: Layout) -> bool:
    """Whether the blocks have so many entries that the spread is computed on a reduction."""
    entries = layout.width * (layout.width + 1) // 2
    return spectrum.eigenvalues.shape[-1] * entries > _FEW


def fluctuations(
    expansion: Expansion,
    ts: Float[Array, " times"],
    statistics: Callable[[GramSummary], dict[str, Array]],
) -> dict[str, Array]:
    """Predicted standard deviations over runs of `statistics` at `ts`; see `System.fluctuations`.

    JAX differentiates this function in forward mode only.

    Raises:
        NoFluctuationsError: states and statistics that do not fit into memory.
    """

    def along(state: tuple[Array, Array]) -> dict[str, Array]:
        flat, matrix = state

        def variance(gradient: Float[Array, "*shape n"]) -> Array:
            return precise.einsum("...a,ab,...b->...", gradient, matrix, gradient)

        values = jacobians(lambda flat: expansion.values(statistics, flat), flat)
        return jax.tree.map(variance, values)

    if covariance.fits(expansion):
        found = covariance.integrate(expansion, along, ts)
    else:
        found = variances(expansion, ts, statistics)
    return jax.tree.map(lambda x: gaussian.safe_sqrt(x / expansion.dimension), found)


def bias(
    expansion: Expansion,
    ts: Float[Array, " times"],
    statistics: Callable[[GramSummary], dict[str, Array]],
) -> dict[str, Array]:
    """The bias of `statistics` to order 1/d: their mean over runs minus their value in the limit.

    With E y = y_0 + y_1/d, F/d + G/d^2 the mean change of y in one step at a given state, J = dF/dy
    and P the covariance of sqrt(d) (y_SGD - y),

        dy_1/dt = J y_1 + F''[P]/2 + G - (J F + dF/dt)/2.

    The last term is due to steps of finite length 1/d.  The bias of a statistic phi is
    (phi' y_1 + phi''[P]/2)/d.  JAX differentiates this function in forward mode only.

    Returns:
        The bias of each statistic at `ts`, at the d of the system (already divided by d).

    Raises:
        NoMeanCorrectionError: a covariance that is too large for a matrix, an optimiser whose steps
            are not of order 1/d (`Momentum`), or a learning rate that accumulates gradients.
    """
    optimiser = expansion.field.optimiser
    if not optimiser.small_steps:
        raise NoMeanCorrectionError(
            f"mean_correction: {type(optimiser).__name__} remembers single steps; allowed: "
            "optimisers whose steps are of order 1/d (SGD, HeavyBall, Dana, Averaging)"
        )
    if expansion.origin[1].accumulated is not None:
        raise NoMeanCorrectionError(
            f"mean_correction: {type(expansion.field.learning_rate).__name__} accumulates squared "
            "gradients, whose mean is not known to order 1/d; allowed: other learning rates"
        )
    if not covariance.fits(expansion):
        raise NoMeanCorrectionError(
            f"mean_correction: {expansion.size} numbers in the limit's state; allowed: a number "
            "whose square fits into a processor's cache, for the covariance matrix (fewer groups, "
            "or a larger compression)"
        )

    def values(flat: Array) -> dict[str, Array]:
        return expansion.values(statistics, flat)

    def curvature(fn: Callable[[Array], Any], flat: Array, matrix: Array) -> Any:
        """The term fn''[P] / 2, half the sum over coordinates a of fn''[e_a, P e_a]."""

        def along(e: Array, column: Array) -> Any:
            def slope(flat: Array) -> Any:
                return jax.jvp(fn, (flat,), (e,))[1]

            return jax.jvp(slope, (flat,), (column,))[1]

        terms = jax.vmap(along)(jnp.eye(flat.size, dtype=flat.dtype), matrix)
        return jax.tree.map(lambda leaf: leaf.sum(0) / 2, terms)

    def push(
        t: Float[Array, ""], flat: Float[Array, " n"], matrix: Float[Array, "n n"]
    ) -> Float[Array, " n"]:
        """The terms of dy_1/dt that do not depend on y_1."""
        # One directional derivative gives (J F + dF/dt) / 2.
        force = expansion.force(t, flat)
        _, steps = jax.jvp(expansion.force, (t, flat), (jnp.ones_like(t) / 2, force / 2))
        bent = curvature(lambda flat: expansion.force(t, flat), flat, matrix)
        return bent + expansion.second_order(t, flat) - steps

    def save(state: tuple[Array, Array, Array]) -> dict[str, Array]:
        flat, matrix, shift = state
        _, moved = jax.jvp(values, (flat,), (shift,))
        bent = curvature(values, flat, matrix)
        return jax.tree.map(lambda a, b: (a + b) / expansion.dimension, moved, bent)

    return covariance.integrate(expansion, save, ts, push)
