"""One-pass SGD on projected models: the one system of the streaming family.

    X_{k+1} = X_k - gamma_k/d (a g^T + tau X_k),   a = mean_c + K_c^{1/2} z,   t = k/d

with a fresh sample at each step, g the gradient of the loss in the m student projections
x = X^T a, teacher projections x* = X*^T a, mixture component c and side parameters theta.  Least
squares, generalised linear models, phase retrieval, mixtures and two-layer heads are instances.

Scalings: tr K/d and the columns' squared norms are O(1), so projections are O(1); the learning
rate gamma is O(1) and the step applied is gamma/d; the unit of time t is d steps.
Sources: "Hitting the High-Dimensional Notes" (arXiv 2308.08977); "Spectral alignment of SGD"
(arXiv 2310.03010) for mixtures.
"""

import dataclasses
import warnings
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PyTree

from hdjax import spectra
from hdjax.schedules import Schedule, as_schedule
from hdjax.spectra import Reduction, Spectrum
from hdjax.streaming import accuracy, symmetry
from hdjax.streaming.columns import (
    Columns,
    GramColumns,
    LinearColumns,
    check_blocks,
    group_gram,
    joint_columns,
    reduction_of,
)
from hdjax.streaming.diffusions import CorrectedDiffusion, Homogenised
from hdjax.streaming.expansion import Expansion, start_covariance
from hdjax.streaming.field import BlockField, GramSummary
from hdjax.streaming.fluctuations import TOLERANCE, fluctuations, many_groups
from hdjax.streaming.learning_rates import StateRate
from hdjax.streaming.limit import BlockState, Integrator, Side, velocity
from hdjax.streaming.losses import FunctionLoss, Loss
from hdjax.streaming.optimisers import LinearMemory, Optimiser
from hdjax.streaming.projections import Layout
from hdjax.streaming.sampler import GramSampler
from hdjax.streaming.simulate import Direct
from hdjax.streaming.transformed import as_optimiser
from hdjax.system import NoFluctuationsError, Simulator, System, check_leaves, is_concrete

# A statistic that grows beyond this many times its order of magnitude has left the regime in which
# X = O(1); both simulation and limit then count as diverged.
_DIVERGED = 1e4
# The largest error of the limit's sums over the spectrum that compression may leave.
_COARSEST = 5e-3
_METHODS = (Direct, GramSampler, Homogenised, CorrectedDiffusion)


class Mixture(eqx.Module):
    """Gaussian mixture data: a = mean_c + K_c^{1/2} z with probability p_c.

    Args:
        probabilities: (c,) positive, summing to 1.
        means: (d, c) array in the coordinates of the spectrum, a `GaussianStart`, or None for
            means of zero.  Squared norms are O(1).
        eigenvalues: (c, g) eigenvalues of each component's covariance on the groups of the
            system's spectrum (covariances commute); None: the spectrum's, for all.

    Raises:
        ValueError: probabilities that are not positive or do not sum to 1.

    Example:
        >>> means = jnp.stack([jnp.ones(100), -jnp.ones(100)], axis=1) / 10
        >>> mixture = Mixture(probabilities=[0.5, 0.5], means=means)
    """

    probabilities: Float[Array, " c"]
    means: Any
    eigenvalues: Float[Array, "c g"] | None

    def __init__(self, probabilities: Any, means: Any = None, eigenvalues: Any = None):
        dtype = jnp.result_type(float)
        self.probabilities = jnp.asarray(probabilities, dtype)
        self.means = means
        self.eigenvalues = None if eigenvalues is None else jnp.asarray(eigenvalues, dtype)
        if is_concrete(self.probabilities):
            p = np.asarray(self.probabilities)
            if p.ndim != 1 or not np.all(p > 0) or abs(p.sum() - 1) > 1e-5:
                raise ValueError(f"probabilities: {p}; allowed: positive numbers that sum to 1")


class OnePassSGD(System):
    """One-pass SGD and its deterministic equivalent.

    Args:
        loss: a `Loss`, or a function `f(x, teacher, component, noise, theta) -> scalar` without
            noise (wrap it in `FunctionLoss` for anything else).
        spectrum: eigenvalues of the covariance K, see `hdjax.spectra`.
        learning_rate: gamma = O(1); a number, a schedule (a function of t), or a rule that follows
            the state (`Polyak`, `Greedy`).  The step applied is gamma/d.
        start: law of X_0: `GaussianStart`, an array (d, m) or (d,), or `GramStart`.
        target: law of X*: the same, or None (no teacher; with `GramStart`, it is in the blocks).
        mixture: the mixture that data come from; None: N(0, K).
        ridge: tau >= 0; the penalty tau/2 (|X|^2 + |theta|^2).
        batch_size: samples averaged in each step (time stays t = steps/d).
        theta: initial side parameters, a pytree of arrays handed to the loss.
        optimiser: `HeavyBall`, `Averaging`, `Clipped`, `SignSGD`, `Adam`, ..., a transformation of
            Optax (which has no limit), or None: plain SGD.
        compression: a relative error, such as 1e-3: the limit and its spread are integrated on so
            few nodes that the sums over the spectrum are right to it (`hdjax.spectra.reduced`);
            their cost no longer depends on d. None: all groups for the limit, and an error of
            1e-3 for the spread where there are many.
        integrator: how the limit is integrated.

    Raises:
        ValueError, TypeError: naming the argument, its value and what is allowed.

    Example:
        >>> import hdjax as hd
        >>> system = hd.streaming.OnePassSGD(
        ...     loss=hd.streaming.phase_retrieval,
        ...     spectrum=hd.spectra.identity(100),
        ...     learning_rate=0.03,
        ...     start=hd.streaming.GaussianStart(overlap=0.2),
        ...     target=hd.streaming.GaussianStart(),
        ... )
    """

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

    loss: Loss
    spectrum: Spectrum
    learning_rate: Schedule | StateRate
    optimiser: Optimiser
    columns: Columns
    probabilities: Float[Array, " c"]
    eigenvalues: Float[Array, "c g"]
    ridge: Float[Array, ""]
    theta: PyTree
    integrator: Integrator
    batch_size: int = eqx.field(static=True)
    reduction: Reduction | None
    compressed: bool = eqx.field(static=True)

    def __init__(
        self,
        loss: Any,
        spectrum: Spectrum,
        learning_rate: Any,
        start: Any,
        target: Any = None,
        *,
        mixture: Mixture | None = None,
        ridge: Any = 0.0,
        batch_size: int = 1,
        theta: PyTree = None,
        optimiser: Any = None,
        compression: float | int | None = None,
        integrator: Integrator | None = None,
    ):
        if not isinstance(spectrum, Spectrum):
            raise TypeError(f"spectrum: {spectrum!r}; allowed: a Spectrum of hdjax.spectra")
        if batch_size < 1:
            raise ValueError(f"batch_size: {batch_size}; allowed: at least 1")
        if compression is not None and not 0 < compression <= _COARSEST:
            raise ValueError(
                f"compression: {compression}; allowed: None, or a relative error above 0 and up to "
                f"{_COARSEST}, from which the number of nodes follows"
            )
        mixture = Mixture([1.0]) if mixture is None else mixture
        dtype = jnp.result_type(float)

        def cast(tree: Any) -> Any:
            return jax.tree.map(lambda x: jnp.asarray(x, dtype) if _is_real(x) else x, tree)

        self.loss = cast(loss if isinstance(loss, Loss) else FunctionLoss(loss))
        self.spectrum = spectrum
        follows = isinstance(learning_rate, StateRate)
        self.learning_rate = cast(learning_rate if follows else as_schedule(learning_rate))
        self.optimiser = cast(as_optimiser(optimiser))
        self.probabilities = mixture.probabilities
        c, g = self.probabilities.shape[0], spectrum.eigenvalues.shape[-1]
        self.columns = joint_columns(start, target, mixture.means, c, spectrum)
        eigenvalues = spectrum.eigenvalues if mixture.eigenvalues is None else mixture.eigenvalues
        if mixture.eigenvalues is not None and eigenvalues.shape != (c, g):
            raise ValueError(
                f"mixture.eigenvalues: shape {eigenvalues.shape}; allowed: {(c, g)}, components "
                "by groups of the spectrum"
            )
        self.eigenvalues = jnp.broadcast_to(eigenvalues, (c, g))
        self.ridge = jnp.asarray(ridge, dtype)
        self.theta = cast(theta)
        self.batch_size = int(batch_size)
        self.integrator = Integrator() if integrator is None else integrator
        if compression is not None and mixture.eigenvalues is not None:
            raise ValueError("compression: allowed with eigenvalues for each component: None")
        # Made once: the limit's cost must not depend on d.
        self.compressed, self.reduction = compression is not None, None
        if self.compressed or (mixture.eigenvalues is None and many_groups(spectrum, self.layout)):
            self.reduction = reduction_of(self.columns, spectrum, compression or TOLERANCE)
        if self.compressed and self.reduction is None:
            raise ValueError(
                f"compression: {compression}; allowed: an error that fewer nodes can meet, or None"
            )
        if follows:
            learning_rate.check(self.layout, self.optimiser)
        self.optimiser.check(self)
        self.loss.check(self.layout.students, self.layout.teachers, self.theta)
        self.loss = accuracy.settled(self)
        self.validate()

    @property
    def layout(self) -> Layout:
        """Which columns there are."""
        return dataclasses.replace(self.columns.layout, memory=self.optimiser.memory)

    def validate(self, *, compared: bool = False, realised: bool = False) -> None:
        spectra.validate(self.spectrum)
        for name, value, least in (
            ("learning_rate", self.learning_rate, 0.0),
            ("optimiser", self.optimiser, -np.inf),
            ("ridge", self.ridge, 0.0),
            ("mixture.eigenvalues", self.eigenvalues, 0.0),
            ("theta", self.theta, -np.inf),
            ("loss", self.loss, -np.inf),
        ):
            check_leaves(name, value, least)
        if isinstance(self.columns, GramColumns):
            check_blocks(self.columns.gram)
        accuracy.check(self)
        reduction = self.reduction
        if reduction is not None and is_concrete(reduction, self.spectrum):
            own, other = np.asarray(self.spectrum.trace), np.asarray(reduction.spectrum.trace)
            if np.any(np.abs(own - other) > 1e-4 * own):
                raise ValueError(
                    f"spectrum: tr K/d = {own}, and {other} when the system was made; allowed: the "
                    "same (make a new system for another spectrum)"
                )
        if compared and realised and self.compressed:
            raise ValueError(
                "compression: a realised start has a block for every group of the spectrum; "
                "allowed with start='realised': None"
            )
        doubt = self.optimiser.doubt(self) if compared else None
        if doubt is not None:
            warnings.warn(doubt, stacklevel=3)
        if compared and not realised and is_concrete(self) and symmetry.never_leaves(self):
            warnings.warn(
                "start: its overlap with the target is zero in law and the limit never leaves that "
                "symmetry, while SGD does; compare with start='realised', or give an overlap",
                stacklevel=3,
            )

    def review(self, ts: Float[np.ndarray, " times"]) -> None:
        """Warn of expectations that are not accurate along the limit."""
        accuracy.review(self, float(ts[-1]))

    def simulator(self, method: Any = None, horizon: Any = None) -> Simulator:
        """Direct SGD in R^d (`Direct`, the default), its law on Gram blocks, or a diffusion."""
        method = Direct() if method is None else method
        if not isinstance(method, _METHODS):
            names = ", ".join(f"{kind.__name__}(...)" for kind in _METHODS)
            raise TypeError(f"method: {method!r}; allowed: {names} or None")
        if not isinstance(method, Direct) and not isinstance(self.optimiser, LinearMemory):
            raise TypeError(
                f"method: {method!r} with {self.optimiser!r}; allowed: Direct(...), which alone "
                "has the gradient's coordinates"
            )
        return method.simulator(self)

    def start(self) -> GramSummary:
        """Blocks of the start's law, on the groups that the limit uses."""
        spectrum, eigenvalues = self._limit_spectrum()
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
        spectrum, eigenvalues = self._limit_spectrum()
        return self._field(eigenvalues, spectrum.weights)

    def field_on(self, spectrum: Spectrum) -> BlockField:
        """The right-hand side of the limit on the system's own groups, or on another spectrum's."""
        if spectrum is self.spectrum:
            return self._field(self.eigenvalues, spectrum.weights)
        shape = (self.probabilities.shape[0], *spectrum.eigenvalues.shape)
        return self._field(jnp.broadcast_to(spectrum.eigenvalues, shape), spectrum.weights)

    def vector_field(self, t: Float[Array, ""], state: BlockState, args: Any = None) -> BlockState:
        """d(blocks, side)/dt in frame coordinates, for the user's own `diffeqsolve`.

        Example:
            >>> import diffrax
            >>> term = diffrax.ODETerm(system.vector_field)  # y0 = system.start().state
        """
        return velocity(self.field().coefficients(t, state), state)

    @eqx.filter_jit
    def limit(
        self,
        ts: Float[Array, " times"],
        start: GramSummary | None = None,
        save: Callable[[GramSummary], PyTree[Array]] = lambda summary: summary,
    ) -> PyTree[Array]:
        """The deterministic equivalent at `ts` (increasing, from 0 on), in units of d steps."""
        if start is None:
            start, field = self.start(), self.field()
        else:
            spectrum, own = self._limit_spectrum()
            if start.eigenvalues.shape != own.shape:
                spectrum = self.spectrum
            field = self._field(start.eigenvalues, spectrum.weights)
        initial = start.state
        origin = jnp.trace(start.blocks.sum(0))

        def summary(state: BlockState) -> GramSummary:
            return GramSummary(state[0], state[1], start.eigenvalues, self.layout)

        return self.integrator(
            field,
            initial,
            ts,
            save=lambda state: save(summary(state)),
            alive=lambda state: _bounded(state, origin),
        )

    @eqx.filter_jit
    def fluctuations(
        self,
        ts: Float[Array, " times"],
        statistics: Callable[[GramSummary], dict[str, Array]],
        start: GramSummary | None = None,
    ) -> dict[str, Array]:
        """Predicted standard deviations by the linear-noise equation (`fluctuations.py`)."""
        return fluctuations(self.expansion(start), ts, statistics)

    def expansion(self, start: GramSummary | None = None) -> Expansion:
        """The expansion round the limit, on the nodes of the reduction where there is one."""
        if not isinstance(self.optimiser, LinearMemory):
            raise NoFluctuationsError(
                f"fluctuations: {type(self.optimiser).__name__}; known for optimisers with a "
                "linear memory"
            )
        spectrum = self.spectrum if self.reduction is None else self.reduction.spectrum
        if start is None:
            state, gram = (self.blocks(spectrum), self.start_side(spectrum)), None
            if isinstance(self.columns, LinearColumns) and self.columns.given is not None:
                gram = group_gram(self.columns.given, self.spectrum)
                gram = gram if spectrum is self.spectrum else self.gathered(gram)
            extension = jnp.asarray(self.layout.extension, state[0].dtype)
            law = start_covariance(self.columns, spectrum.weights, gram, extension)
        else:
            (blocks, side), law = start.state, None
            if blocks.shape[0] != spectrum.eigenvalues.shape[-1]:
                blocks = self.gathered(blocks)
            state = blocks, side
        return Expansion(self.field_on(spectrum), state, law, spectrum.dimension, self.integrator)

    def about_fluctuations(self, **duration: Any) -> str:
        """On how many nodes they are computed, and the error that these leave."""
        return self._about("predicted spread")

    def about_limit(self, **duration: Any) -> str:
        """The same of the limit, if it is compressed."""
        return self._about("limit") if self.compressed else ""

    def _about(self, what: str) -> str:
        if self.reduction is None:
            return ""
        nodes, groups = self.reduction.spectrum.eigenvalues, self.spectrum.eigenvalues
        return (
            f"{what} on {nodes.shape[-1]} nodes for {groups.shape[-1]} groups: sums over the "
            f"spectrum are right to {float(self.reduction.error):.1g}"
        )

    def alive(self, summary: GramSummary) -> Bool[Array, ""]:
        """Finite, and squared norms within 10^4 of order 1 (beyond, the run has diverged)."""
        return _bounded(summary.state, jnp.trace(self.start().blocks.sum(0)))

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
        field = self._field(summary.eigenvalues, weights, summary.layout)
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

    def _limit_spectrum(self) -> tuple[Spectrum, Float[Array, "c g"]]:
        if not self.compressed or self.reduction is None:
            return self.spectrum, self.eigenvalues
        rule, c = self.reduction.spectrum, self.probabilities.shape[0]
        return rule, jnp.broadcast_to(rule.eigenvalues, (c, *rule.eigenvalues.shape))

    def _field(
        self, eigenvalues: Array, weights: Array, layout: Layout | None = None
    ) -> BlockField:
        return BlockField(
            self.loss,
            self.learning_rate,
            self.optimiser,
            self.ridge,
            self.probabilities,
            eigenvalues,
            weights,
            self.layout if layout is None else layout,
            self.batch_size,
        )


def _bounded(state: BlockState, origin: Float[Array, ""]) -> Bool[Array, ""]:
    leaves = [leaf for leaf in jax.tree.leaves(state) if eqx.is_inexact_array(leaf)]
    finite = jnp.stack([jnp.isfinite(leaf).all() for leaf in leaves]).all()
    return finite & (jnp.trace(state[0].sum(0)) <= _DIVERGED * (1 + origin))


def _is_real(leaf: Any) -> bool:
    kinds = (float, np.ndarray, jax.Array)
    return isinstance(leaf, kinds) and jnp.issubdtype(jnp.result_type(leaf), jnp.floating)
