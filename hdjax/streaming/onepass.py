"""`OnePass`, the base class of one-pass SGD that simulators and the limit are written for.

    X_{k+1} = X_k - gamma_k/d (a g^T + tau X_k),   a = mean_c + K_c^{1/2} z,   t = k/d

From a model, an algorithm and the law of the start `OnePass` computes the layout of the columns,
the Gram blocks at the start, the right-hand side of the limit (`field.py`) and the statistics of a
summary.  `OnePassSGD` in `model.py` adds the constructor, the limit and the fluctuations.

Source: the slides "Hitting the High-D(imensional) Notes", slide "Why?" for the statistics (paper:
arXiv 2308.08977).
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PyTree

from hdjax import precise
from hdjax.arrays import all_finite
from hdjax.integrate import Integrator
from hdjax.schedules import Schedule
from hdjax.spectra import Reduction, Spectrum
from hdjax.streaming.columns import Columns
from hdjax.streaming.field import BlockField, GramSummary
from hdjax.streaming.limit import BlockState, Side, velocity
from hdjax.streaming.losses import Loss
from hdjax.streaming.optimisers.linear import Optimiser
from hdjax.streaming.optimisers.state_rates import StateRate
from hdjax.streaming.projections import Layout
from hdjax.system import System

# Where the squared norms exceed this many times their order of magnitude, X = O(1) no longer
# holds; a simulation or a limit then counts as diverged.
_DIVERGED = 1e4


class OnePass(System):
    """A model, an algorithm and the law of its start; `OnePassSGD` describes the attributes."""

    family: ClassVar[str] = "streaming"
    time_label: ClassVar[str] = "t = k/d"
    labels: ClassVar[Mapping[str, str]] = {
        "risk": "risk",
        "distance": "squared distance |X - X*|^2",
        "gradient_norm": "squared gradient norm |grad R|^2",
        "overlaps": "overlaps W^T W",
        "average_risk": "risk of the average",
        "average_distance": "squared distance of the average to X*",
        "learning_rate": "learning rate gamma",
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
        """The kinds and numbers of columns, with the memories of the optimiser."""
        return dataclasses.replace(self.columns.layout, memory=self.optimiser.memory)

    def start(self) -> GramSummary:
        """The summary of the start's law, with Gram blocks on the groups that the limit uses."""
        spectrum, eigenvalues = self.limit_spectrum
        return GramSummary(
            self.blocks(spectrum), self.start_side(spectrum), eigenvalues, self.layout
        )

    def blocks(self, spectrum: Spectrum) -> Float[Array, "g q q"]:
        """Gram blocks of the start's law on `spectrum`: the system's own, or its reduction's."""
        if self.columns.follows_spectrum or spectrum is self.spectrum:
            blocks = self.columns.blocks(spectrum)
        else:
            blocks = self.gathered(self.columns.blocks(self.spectrum))
        return self.extended(self.extended(blocks).mT).mT

    def gathered(self, values: Float[Array, "g *rest"]) -> Float[Array, "p *rest"]:
        """Values of the groups of the spectrum, gathered at the nodes of the reduction."""
        assert self.reduction is not None
        return self.reduction.gather(self.spectrum.eigenvalues, values)

    def extended(self, columns: Float[Array, "*d k"]) -> Float[Array, "*d q"]:
        """Columns [memories | X | X* | means] from those of a start, which may lack memories."""
        if self.columns.layout.memory == self.layout.memory:
            return columns
        return precise.dot(columns, jnp.asarray(self.layout.extension, columns.dtype))

    def start_side(self, spectrum: Spectrum) -> Side:
        """Side parameters, memories and accumulated sums at the start, for groups of `spectrum`."""
        zero = jax.tree.map(jnp.zeros_like, self.theta)
        memory = tuple(self.theta if x.iterate else zero for x in self.optimiser.memory)
        groups = spectrum.eigenvalues.shape[-1]
        accumulated = self.optimiser.accumulator(groups, self.layout.students)
        if isinstance(self.learning_rate, StateRate) and self.learning_rate.accumulates:
            accumulated = jnp.zeros_like(self.ridge)
        return Side(self.theta, memory or None, accumulated)

    def field(self) -> BlockField:
        """The right-hand side of the limit, on the groups that the limit uses."""
        spectrum, eigenvalues = self.limit_spectrum
        return self.field_of(eigenvalues, spectrum.weights)

    def field_on(self, spectrum: Spectrum) -> BlockField:
        """The right-hand side of the limit on the groups of `spectrum`."""
        if spectrum is self.spectrum:
            return self.field_of(self.eigenvalues, spectrum.weights)
        shape = (self.probabilities.shape[0], *spectrum.eigenvalues.shape)
        return self.field_of(jnp.broadcast_to(spectrum.eigenvalues, shape), spectrum.weights)

    def field_at(self, summary: GramSummary) -> BlockField:
        """The right-hand side of the limit on the groups of a summary, of a run or of the limit."""
        spectrum, own = self.limit_spectrum
        if summary.eigenvalues.shape != own.shape:
            spectrum = self.spectrum
        return self.field_of(summary.eigenvalues, spectrum.weights)

    def vector_field(self, t: Float[Array, ""], state: BlockState, args: Any = None) -> BlockState:
        """The time derivative of (blocks, side) in frame coordinates, for a `diffrax.diffeqsolve`.

        Example:
            >>> import diffrax
            >>> term = diffrax.ODETerm(system.vector_field)  # y0 = system.start().state
        """
        return velocity(self.field().coefficients(t, state), state)

    def alive(self, summary: GramSummary) -> Bool[Array, ""]:
        """Whether a summary is finite and its squared norms are at most 10^4 (1 + their start)."""
        return bounded(summary.state, jnp.trace(self.start().blocks.sum(0)))

    def statistics(self, summary: GramSummary) -> dict[str, Array]:
        """Statistics of a summary, by name.

        They are the `risk`, the squared `gradient_norm`, the `overlaps` W^T W of
        W = [X | X* | means] and, for m = s, the squared `distance` |X - X*|^2.  For each memory of
        the optimiser that is an iterate there are its risk and distance, such as `average_risk`.
        If the learning rate follows the state, it is the statistic `learning_rate`.
        """
        statistics = self._statistics(summary)
        if isinstance(self.learning_rate, StateRate):
            field = self.field_at(summary)
            statistics["learning_rate"] = self.learning_rate.rate(field, summary.state)
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
        statistics["gradient_norm"] = precise.einsum(
            "gam,gab,gbm->", direction, summary.blocks, direction
        )
        statistics["overlaps"] = summary.overlaps
        return statistics

    @property
    def limit_spectrum(self) -> tuple[Spectrum, Float[Array, "c g"]]:
        """The spectrum whose groups the limit uses, and each component's eigenvalues on it."""
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

        `layout` gives the kinds and numbers of columns; None: the layout of the system.
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
    """Whether a state is finite, with a trace of its blocks of at most 10^4 (1 + `origin`).

    `origin` is the trace of the blocks at the start.
    """
    return all_finite(state) & (jnp.trace(state[0].sum(0)) <= _DIVERGED * (1 + origin))
