"""One-pass SGD on projected models, as its simulators and its limit see it.

    X_{k+1} = X_k - gamma_k/d (a g^T + tau X_k),   a = mean_c + K_c^{1/2} z,   t = k/d

`OnePass` holds what is computed from a model, an algorithm and the law of the start: which columns
there are, the start's Gram blocks, the right-hand side of the limit (`field.py`) and the
statistics of a summary.  Simulators, limit and fluctuations stand on it; `model.py` binds them.

Source: "Hitting the High-Dimensional Notes" (arXiv 2308.08977).
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PyTree

from hdjax.integrate import Integrator
from hdjax.schedules import Schedule
from hdjax.spectra import Reduction, Spectrum
from hdjax.streaming.columns import Columns
from hdjax.streaming.field import BlockField, GramSummary
from hdjax.streaming.limit import BlockState, Side, velocity
from hdjax.streaming.losses import Loss
from hdjax.streaming.optimisers import Optimiser
from hdjax.streaming.projections import Layout
from hdjax.streaming.state_rates import StateRate
from hdjax.system import System, all_finite

# A statistic that grows beyond this many times its order of magnitude has left the regime in which
# X = O(1); both simulation and limit then count as diverged.
_DIVERGED = 1e4


class OnePass(System):
    """A model, an algorithm and the law of its start; attributes are those of `OnePassSGD`."""

    family: ClassVar[str] = "streaming"
    time_label: ClassVar[str] = "t = k/d"
    labels: ClassVar[Mapping[str, str]] = {
        "risk": "risk",
        "distance": "squared distance |X - X*|^2",
        "gradient_norm": "squared gradient norm |grad R|^2",
        "overlaps": "overlaps W^T W",
        "average_risk": "risk of the average",
        "average_distance": "squared distance of the average to X*",
    }

    loss: eqx.AbstractVar[Loss]
    spectrum: eqx.AbstractVar[Spectrum]
    learning_rate: eqx.AbstractVar[Schedule | StateRate]
    optimiser: eqx.AbstractVar[Optimiser]
    columns: eqx.AbstractVar[Columns]
    probabilities: eqx.AbstractVar[Float[Array, " c"]]
    eigenvalues: eqx.AbstractVar[Float[Array, "c g"]]
    ridge: eqx.AbstractVar[Float[Array, ""]]
    theta: eqx.AbstractVar[PyTree]
    integrator: eqx.AbstractVar[Integrator]
    batch_size: eqx.AbstractVar[int]
    reduction: eqx.AbstractVar[Reduction | None]
    compressed: eqx.AbstractVar[bool]

    @property
    def layout(self) -> Layout:
        """Which columns there are."""
        return dataclasses.replace(self.columns.layout, memory=self.optimiser.memory)

    def start(self) -> GramSummary:
        """Blocks of the start's law, on the groups that the limit uses."""
        spectrum, eigenvalues = self.limit_spectrum
        return GramSummary(
            self.blocks(spectrum), self.start_side(spectrum), eigenvalues, self.layout
        )

    def blocks(self, spectrum: Spectrum) -> Float[Array, "g q q"]:
        """The start law's blocks on the groups of `spectrum`: the system's own, or its nodes."""
        if self.columns.follows_spectrum or spectrum is self.spectrum:
            blocks = self.columns.blocks(spectrum)
        else:
            blocks = self.gathered(self.columns.blocks(self.spectrum))
        return self.extended(self.extended(blocks).mT).mT

    def gathered(self, values: Float[Array, "g *rest"]) -> Float[Array, "p *rest"]:
        """Values of the system's groups, gathered at the nodes of its reduction."""
        assert self.reduction is not None
        return self.reduction.gather(self.spectrum.eigenvalues, values)

    def extended(self, columns: Float[Array, "*d k"]) -> Float[Array, "*d q"]:
        """[X | X* | means] of a start, with the optimiser's memories."""
        extension = jnp.asarray(self.layout.extension, columns.dtype)
        return jnp.dot(columns, extension, precision="highest") if self.layout.memory else columns

    def start_side(self, spectrum: Spectrum) -> Side:
        """What moves beside the columns, at the start; groups are those of `spectrum`."""
        zero = jax.tree.map(jnp.zeros_like, self.theta)
        memory = tuple(self.theta if x.iterate else zero for x in self.optimiser.memory)
        groups = spectrum.eigenvalues.shape[-1]
        accumulated = self.optimiser.accumulator(groups, self.layout.students)
        if isinstance(self.learning_rate, StateRate) and self.learning_rate.accumulates:
            accumulated = jnp.zeros_like(self.ridge)
        return Side(self.theta, memory or None, accumulated)

    def field(self) -> BlockField:
        """The right-hand side of the limit, on the limit's own groups."""
        spectrum, eigenvalues = self.limit_spectrum
        return self.field_of(eigenvalues, spectrum.weights)

    def field_on(self, spectrum: Spectrum) -> BlockField:
        """The right-hand side of the limit on the system's own groups, or on another spectrum's."""
        if spectrum is self.spectrum:
            return self.field_of(self.eigenvalues, spectrum.weights)
        shape = (self.probabilities.shape[0], *spectrum.eigenvalues.shape)
        return self.field_of(jnp.broadcast_to(spectrum.eigenvalues, shape), spectrum.weights)

    def vector_field(self, t: Float[Array, ""], state: BlockState, args: Any = None) -> BlockState:
        """d(blocks, side)/dt in frame coordinates, for the user's own `diffeqsolve`.

        Example:
            >>> import diffrax
            >>> term = diffrax.ODETerm(system.vector_field)  # y0 = system.start().state
        """
        return velocity(self.field().coefficients(t, state), state)

    def alive(self, summary: GramSummary) -> Bool[Array, ""]:
        """Finite, and squared norms within 10^4 of order 1 (beyond, the run has diverged)."""
        return bounded(summary.state, jnp.trace(self.start().blocks.sum(0)))

    def statistics(self, summary: GramSummary) -> dict[str, Array]:
        """Risk, squared gradient norm, overlaps of [X | X* | means] and, for m = s, |X - X*|^2.

        Of iterates that an optimiser remembers, risk and distance too (`average_risk`).
        """
        statistics = self._statistics(summary)
        for i, memory in enumerate(summary.layout.memory):
            if memory.iterate:
                own = self._statistics(summary.at(i))
                for name in ("risk", "distance"):
                    if name in own:
                        statistics[f"{memory.name}_{name}"] = own[name]
        return statistics

    def _statistics(self, summary: GramSummary) -> dict[str, Array]:
        weights = jnp.ones_like(summary.eigenvalues[0])
        field = self.field_of(summary.eigenvalues, weights, summary.layout)
        parts = field.component_moments(summary.state)
        direction = field.direction(parts)
        statistics = {"risk": jnp.dot(self.probabilities, parts.risk)}
        if summary.layout.centred:
            own = slice(summary.layout.first, summary.layout.moving)
            statistics["distance"] = jnp.trace(summary.blocks.sum(0)[own, own])
        statistics["gradient_norm"] = jnp.einsum(
            "gam,gab,gbm->", direction, summary.blocks, direction, precision="highest"
        )
        statistics["overlaps"] = summary.overlaps
        return statistics

    @property
    def limit_spectrum(self) -> tuple[Spectrum, Float[Array, "c g"]]:
        """The groups that the limit uses, with the eigenvalues of each component on them."""
        if not self.compressed or self.reduction is None:
            return self.spectrum, self.eigenvalues
        rule, c = self.reduction.spectrum, self.probabilities.shape[0]
        return rule, jnp.broadcast_to(rule.eigenvalues, (c, *rule.eigenvalues.shape))

    def field_of(
        self,
        eigenvalues: Float[Array, "c g"],
        weights: Float[Array, " g"],
        layout: Layout | None = None,
    ) -> BlockField:
        """The right-hand side of the limit on groups of these eigenvalues and weights.

        `layout` says which columns there are; None: the system's own.
        """
        return BlockField(
            loss=self.loss,
            learning_rate=self.learning_rate,
            optimiser=self.optimiser,
            ridge=self.ridge,
            probabilities=self.probabilities,
            eigenvalues=eigenvalues,
            weights=weights,
            layout=self.layout if layout is None else layout,
            batch_size=self.batch_size,
        )


def bounded(state: BlockState, origin: Float[Array, ""]) -> Bool[Array, ""]:
    """Whether blocks are finite, and their trace within 10^4 of order 1 (`origin` at the start)."""
    return all_finite(state) & (jnp.trace(state[0].sum(0)) <= _DIVERGED * (1 + origin))
