"""One-pass SGD on projected models: the system `OnePassSGD`, with which users of the family start.

    X_{k+1} = X_k - gamma_k/d (a g^T + tau X_k),   a = mean_c + K_c^{1/2} z,   t = k/d

Each step takes a fresh sample a.  Its gradient g is that of the loss in the m student projections
x = X^T a; the loss also sees the teacher projections x* = X*^T a, the mixture component c and side
parameters theta.  Least squares, generalised linear models, phase retrieval, Gaussian mixtures and
two-layer networks are instances.

Scalings: tr K/d and the squared norms of the columns are O(1), so projections are O(1); the
learning rate gamma is O(1) and the step applied is gamma/d; the unit of time t is d steps.
Sources: the slides "Hitting the High-D(imensional) Notes", slides "Set-up" and "One-pass SGD"
(paper: arXiv 2308.08977); "Spectral alignment of SGD" (arXiv 2310.03010) for mixtures.
"""

import warnings
from collections.abc import Callable, Mapping
from typing import Annotated, Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, PyTree

from hdjax import spectra
from hdjax.checks import Checked, check_leaves, checked, is_concrete
from hdjax.integrate import Integrator
from hdjax.limits import Limit
from hdjax.registry import Bounds, FromFile, In, NonNegative, Positives, Size, Values
from hdjax.schedules import Schedule, ScheduleLike, as_schedule
from hdjax.spectra import Reduction, Spectrum
from hdjax.streaming import accuracy, symmetry
from hdjax.streaming.columns import Columns, GramColumns, LinearColumns, group_gram, reduction_of
from hdjax.streaming.diffusions import CorrectedDiffusion, Homogenised
from hdjax.streaming.expansion import Expansion, start_covariance
from hdjax.streaming.field import GramSummary
from hdjax.streaming.fluctuations import TOLERANCE, bias, fluctuations, many_groups
from hdjax.streaming.limit import BlockState, block_path
from hdjax.streaming.losses import FunctionLoss, Loss
from hdjax.streaming.onepass import OnePass, bounded
from hdjax.streaming.optimisers.linear import LinearMemory, Optimiser
from hdjax.streaming.optimisers.state_rates import StateRate
from hdjax.streaming.optimisers.transformed import as_optimiser
from hdjax.streaming.sampler import GramSampler
from hdjax.streaming.simulate import Direct
from hdjax.streaming.starts import GaussianStart, GramStart, check_blocks, joint_columns
from hdjax.system import Method, NoFluctuationsError, NoMeanCorrectionError, Simulator

# The largest relative error that `compression` may leave in the limit's sums over the spectrum.
_COARSEST = 5e-3


class Mixture(Checked):
    """Gaussian mixture data: a = mean_c + K_c^{1/2} z with probability p_c.

    Args:
        probabilities: (c,) positive, summing to 1.
        means: (d, c) array in the coordinates of the spectrum, a `GaussianStart`, or None for
            means of zero.  The squared norms of the means are O(1).
        eigenvalues: (c, g) eigenvalues of each component's covariance on the groups of the
            system's spectrum (the covariances commute); None: every component has the covariance
            of the spectrum.

    Raises:
        ValueError: probabilities that are not positive or do not sum to 1.

    Example:
        >>> means = jnp.stack([jnp.ones(100), -jnp.ones(100)], axis=1) / 10
        >>> mixture = Mixture(probabilities=[0.5, 0.5], means=means)
    """

    probabilities: Float[Array, " c"]
    means: Any
    eigenvalues: Float[Array, "c g"] | None

    def __init__(
        self,
        probabilities: Positives,
        means: Annotated[GaussianStart | Values | None, In("streaming.means")] = None,
        eigenvalues: Values | None = None,
    ):
        dtype = jnp.result_type(float)
        self.probabilities = jnp.asarray(probabilities, dtype)
        self.means = means
        self.eigenvalues = None if eigenvalues is None else jnp.asarray(eigenvalues, dtype)
        if is_concrete(self.probabilities):
            p = np.asarray(self.probabilities)
            if p.ndim != 1 or not np.all(p > 0) or abs(p.sum() - 1) > 1e-5:
                raise ValueError(f"probabilities: {p}; allowed: positive numbers that sum to 1")


class OnePassSGD(OnePass):
    """One-pass SGD: its simulations at finite d, and its deterministic equivalent as d grows.

    Args:
        loss: a `Loss`, or a function `f(x, teacher, component, noise, theta) -> scalar` without
            label noise (wrap a function with label noise in `FunctionLoss`).
        spectrum: eigenvalues of the covariance K, made by a function of `hdjax.spectra`.
        learning_rate: gamma = O(1); a number, a schedule (a function of t), or a rule that follows
            the state (`Polyak`, `Greedy`).  The step applied is gamma/d.
        start: law of X_0: `GaussianStart`, an array (d, m) or (d,), or `GramStart`.
        target: law of X*: `GaussianStart`, an array (d, s) or (d,), or None for a system without
            teachers (with `GramStart` also None: its blocks contain the teachers).
        mixture: the Gaussian mixture that samples come from; None: N(0, K).
        ridge: tau >= 0; the penalty tau/2 (|X|^2 + |theta|^2).
        batch_size: samples averaged in each step (time stays t = steps/d).
        theta: initial side parameters, a pytree of arrays handed to the loss.
        optimiser: `HeavyBall`, `Averaging`, `Clipped`, `SignSGD`, `Adam`, ..., a transformation of
            Optax (which has no limit), or None: plain SGD.
        compression: a relative error, such as 1e-3.  The limit and its spread are then integrated
            on the smallest number of nodes with which sums over the spectrum have at most this
            error (`hdjax.spectra.reduced`); their cost no longer depends on d. None: the limit
            uses all groups; the spread uses nodes with an error of 1e-3 where groups are many.
        integrator: the solver of the limit and its tolerances; None: those of `Integrator()`.

    Raises:
        ValueError, TypeError: naming the argument, its value and what is allowed.

    Example:
        >>> import hdjax as hd
        >>> system = hd.streaming.OnePassSGD(
        ...     loss=hd.streaming.losses.PhaseRetrieval(),
        ...     spectrum=hd.spectra.identity(100),
        ...     learning_rate=0.03,
        ...     start=hd.streaming.GaussianStart(overlap=0.2),
        ...     target=hd.streaming.GaussianStart(),
        ... )
    """

    methods: ClassVar[tuple[type[Method], ...]] = (
        Direct,
        GramSampler,
        Homogenised,
        CorrectedDiffusion,
    )

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
        loss: Annotated[Loss | Callable, In("streaming.loss")],
        spectrum: Annotated[Spectrum, In("spectrum")],
        learning_rate: Annotated[ScheduleLike | StateRate, In("streaming.rate")],
        start: Annotated[GaussianStart | GramStart | Values, In("streaming.start")],
        target: Annotated[GaussianStart | Values | None, In("streaming.columns")] = None,
        *,
        mixture: Annotated[Mixture, In("streaming.mixture")] | None = None,
        ridge: NonNegative = 0.0,
        batch_size: Size = 1,
        theta: Annotated[PyTree, FromFile(array=True)] = None,
        optimiser: Annotated[
            Optimiser | optax.GradientTransformation | None, In("streaming.optimiser")
        ] = None,
        compression: Annotated[float | int, Bounds(above=0)] | None = None,
        integrator: Annotated[Integrator, In("integrator")] | None = None,
    ):
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
        self.columns = joint_columns(
            start, target, mixture.means, c, spectrum, self.optimiser.memory
        )
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
            raise ValueError(f"compression: {compression}; allowed with mixture.eigenvalues: None")
        # The reduction is made here, once: the cost of each limit must not depend on d.
        self.compressed, self.reduction = compression is not None, None
        if self.compressed or (mixture.eigenvalues is None and many_groups(spectrum, self.layout)):
            self.reduction = reduction_of(self.columns, spectrum, compression or TOLERANCE)
        if self.compressed and self.reduction is None:
            raise ValueError(
                f"compression: {compression}; allowed: an error that fewer nodes than groups can "
                "meet, or None"
            )
        if follows:
            learning_rate.check(self.layout, self.optimiser)
        self.optimiser.check(self)
        self.loss.check(self.layout.students, self.layout.teachers, self.theta)
        self.loss = accuracy.settled(self)
        self.validate()

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
                    f"spectrum: tr K/d = {own}; allowed: {other}, its value when the system was "
                    "made (make a new system for another spectrum)"
                )
        if compared and realised and self.compressed:
            raise ValueError(
                "compression: an error, with a realised start, which has a block for every group "
                "of the spectrum; allowed with start='realised': None"
            )
        doubt = self.optimiser.doubt(self) if compared else None
        if doubt is not None:
            warnings.warn(doubt, stacklevel=3)
        if compared and not realised and is_concrete(self) and symmetry.never_leaves(self):
            warnings.warn(
                "start: an overlap with the target of zero in law, a symmetry that the limit never "
                "leaves, while SGD does; allowed: start='realised' in the comparison, or a start "
                "with an overlap",
                stacklevel=3,
            )

    def review(self, ts: Float[np.ndarray, " times"]) -> None:
        """Warn if the loss's quadrature rule is inaccurate along the limit up to `ts[-1]`."""
        accuracy.review(self, float(ts[-1]))

    def simulator_of(self, method: Method, horizon: Any) -> Simulator:
        """The simulator that `method` makes for this system."""
        return method.simulator(self, horizon)

    def horizon(self, ts: Float[np.ndarray, " times"], method: Any = None) -> None:
        """Return None: a compiled program of this family serves any duration."""
        return None

    @checked
    @eqx.filter_jit
    def limit(
        self,
        ts: Float[Array, " times"],
        start: GramSummary | None = None,
        horizon: None = None,
        save: Callable[[GramSummary], PyTree[Array]] = lambda summary: summary,
    ) -> Limit:
        """The deterministic equivalent at times `ts`, by the ODE of `limit.py`.

        Args:
            ts: (times,) increasing, from 0 on, in units of d steps.
            start: the summary at t = 0, such as that of a run; None: the law of the start.
            horizon: None.
            save: the part of each summary that is kept.
        """
        start = self.start() if start is None else start
        field, initial = self.field_at(start), start.state
        origin = jnp.trace(start.blocks.sum(0))

        def summary(state: BlockState) -> GramSummary:
            return GramSummary(state[0], state[1], start.eigenvalues, self.layout)

        return block_path(
            self.integrator,
            field,
            initial,
            ts,
            save=lambda state: save(summary(state)),
            alive=lambda state: bounded(state, origin),
        )

    @checked
    @eqx.filter_jit
    def fluctuations(
        self,
        ts: Float[Array, " times"],
        statistics: Callable[[GramSummary], dict[str, Array]],
        start: GramSummary | None = None,
        horizon: None = None,
    ) -> dict[str, Array]:
        """Predicted standard deviations of `statistics` over runs at finite d, at times `ts`.

        They come from the linear-noise equation (`fluctuations.py`).  A given `start` has no
        variance of its own; None: the law of the start.
        """
        return fluctuations(self.expansion(start), ts, statistics)

    @checked
    @eqx.filter_jit
    def mean_correction(
        self,
        ts: Float[Array, " times"],
        statistics: Callable[[GramSummary], dict[str, Array]],
        start: GramSummary | None = None,
        horizon: None = None,
    ) -> dict[str, Array]:
        """The bias of `statistics` to order 1/d: their mean over runs minus their limit, at `ts`.

        It comes from the expansion of SGD in 1/sqrt(d) (`fluctuations.py`).  A given `start` has no
        variance; None: the law of the start.

        Raises:
            NoMeanCorrectionError: a covariance that is too large for a matrix, an optimiser without
                a linear memory, or one whose steps are not of order 1/d.

        Example:
            >>> ts = jnp.array([0.0, 1.0])
            >>> shift = system.mean_correction(ts, lambda s: {"risk": system.statistics(s)["risk"]})
        """
        try:
            expansion = self.expansion(start)
        except NoFluctuationsError as error:
            raise NoMeanCorrectionError(str(error)) from error
        return bias(expansion, ts, statistics)

    def expansion(self, start: GramSummary | None = None) -> Expansion:
        """The expansion of SGD in 1/sqrt(d) round the limit, on the nodes of any reduction."""
        if not isinstance(self.optimiser, LinearMemory):
            raise NoFluctuationsError(
                f"fluctuations: {type(self.optimiser).__name__}; allowed: optimisers with a linear "
                "memory (SGD, Momentum, HeavyBall, Dana, Averaging)"
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

    def about(self, horizon: None) -> Mapping[str, str]:
        """Notes for a result: the number of nodes of the limit and the spread, and their error."""
        if self.reduction is None:
            return {}
        nodes, groups = self.reduction.spectrum.eigenvalues, self.spectrum.eigenvalues
        found = (
            f"on {nodes.shape[-1]} nodes for {groups.shape[-1]} groups: sums over the spectrum are "
            f"right to {float(self.reduction.error):.1g}"
        )
        limit = {"limit": f"limit {found}"} if self.compressed else {}
        return limit | {"fluctuations": f"predicted spread {found}"}


def _is_real(leaf: Any) -> bool:
    kinds = (float, np.ndarray, jax.Array)
    return isinstance(leaf, kinds) and jnp.issubdtype(jnp.result_type(leaf), jnp.floating)
