"""The spread of one-pass SGD round its limit at finite d, and the 1/d shift of its means.

With y the stacked Gram blocks and side parameters, sqrt(d) (y_SGD - y) tends to a Gaussian process
(`expansion.py`), whose covariance P gives a statistic phi the standard deviation
sqrt(grad phi^T P grad phi / d).  (Homogenised SGD has the right mean and the wrong spread.)  Where
P is too large for a matrix, the variance of each statistic comes from an adjoint equation.

Extends arXiv 2308.08977; P starts from the covariance of the start's law, or from 0 at a given one.

Where a spectrum has many groups, y holds the blocks on the few nodes of the system's reduction: the
variance of a statistic is a sum over the spectrum as the limit is one.
"""

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from hdjax import gaussian
from hdjax.spectra import Spectrum
from hdjax.streaming import covariance
from hdjax.streaming.adjoint import variances
from hdjax.streaming.expansion import Expansion
from hdjax.streaming.field import GramSummary
from hdjax.streaming.projections import Layout
from hdjax.system import NoFluctuationsError, jacobians

# Blocks of so many entries are taken as they are; with more, on the nodes that leave an error of
# TOLERANCE.
_FEW = 128
TOLERANCE = 1e-3


def many_groups(spectrum: Spectrum, layout: Layout) -> bool:
    """Whether the blocks of all groups are so many that a few nodes stand for them."""
    entries = layout.width * (layout.width + 1) // 2
    return spectrum.eigenvalues.shape[-1] * entries > _FEW


def fluctuations(
    expansion: Expansion,
    ts: Float[Array, " times"],
    statistics: Callable[[GramSummary], dict[str, Array]],
) -> dict[str, Array]:
    """Predicted standard deviations of `statistics` at `ts`; see `System.fluctuations`.

    Derivatives of it are by forward mode.

    Raises:
        NoFluctuationsError: states and statistics that do not fit into memory.
    """

    def along(state: tuple[Array, Array]) -> dict[str, Array]:
        flat, matrix = state

        def variance(gradient: Float[Array, "*shape n"]) -> Array:
            return jnp.einsum("...a,ab,...b->...", gradient, matrix, gradient, precision="highest")

        values = jacobians(lambda flat: expansion.values(statistics, flat), flat)
        return jax.tree.map(variance, values)

    if covariance.fits(expansion):
        found = covariance.integrate(expansion, along, ts)
    else:
        found = variances(expansion, ts, statistics)
    return jax.tree.map(lambda x: gaussian.safe_sqrt(x / expansion.dimension), found)


@runtime_checkable
class Expandable(Protocol):
    """A system with an expansion round its limit."""

    def expansion(self, start: GramSummary | None = None) -> Expansion: ...


@eqx.filter_jit
def bias(
    system: Expandable,
    ts: Float[Array, " times"],
    statistics: Callable[[GramSummary], dict[str, Array]],
    start: GramSummary | None = None,
) -> dict[str, Array]:
    """What the mean of `statistics` over runs has beyond the limit, to order 1/d.

    With E y = y_0 + y_1/d and a step's mean change F/d + G/d^2 at a given state,

        dy_1/dt = J y_1 + F''[P]/2 + G - (J F + dF/dt)/2,

    the last term because steps are not infinitesimal; of a statistic, phi' y_1 + phi''[P]/2.
    Derivatives of it are by forward mode.

    Args:
        system: a `OnePassSGD`.
        ts: (times,) increasing, from 0 on.
        statistics: of a summary, names to arrays.
        start: as in `System.fluctuations`: given, it has no variance of its own.

    Returns:
        The difference at this d (divided by d already) at `ts`.

    Raises:
        NoFluctuationsError: a covariance that is too large for a matrix, or an optimiser whose
            steps are not of order 1/d (`Momentum`).

    Example:
        >>> ts = jnp.array([0.0, 1.0])
        >>> shift = hd.streaming.bias(system, ts, lambda s: {"risk": system.statistics(s)["risk"]})
    """
    expansion = system.expansion(start)
    optimiser = expansion.field.optimiser
    if not optimiser.small_steps:
        raise NoFluctuationsError(
            f"bias: {type(optimiser).__name__} remembers single steps; allowed: optimisers "
            "whose steps are of order 1/d"
        )
    if not covariance.fits(expansion):
        raise NoFluctuationsError(
            f"bias: {expansion.size} numbers in the limit's state, whose covariance enters as a "
            "matrix; allowed: so many that it fits into a processor's cache (fewer groups, or a "
            "larger compression)"
        )

    def values(flat: Array) -> dict[str, Array]:
        return expansion.values(statistics, flat)

    def curvature(fn: Callable[[Array], Any], flat: Array, matrix: Array) -> Any:
        """fn''[P] / 2, as the sum over coordinates a of fn''[e_a, P e_a]."""

        def along(e: Array, column: Array) -> Any:
            def slope(flat: Array) -> Any:
                return jax.jvp(fn, (flat,), (e,))[1]

            return jax.jvp(slope, (flat,), (column,))[1]

        terms = jax.vmap(along)(jnp.eye(flat.size, dtype=flat.dtype), matrix)
        return jax.tree.map(lambda leaf: leaf.sum(0) / 2, terms)

    def push(
        t: Float[Array, ""], flat: Float[Array, " n"], matrix: Float[Array, "n n"]
    ) -> Float[Array, " n"]:
        """Of dy_1/dt, what does not depend on y_1."""
        # (J F + dF/dt) / 2, in one derivative.
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
