"""Spectral alignment along training: a streaming system whose curvature is measured as it runs.

A run measures blocks of its empirical Hessian and gradient covariance on n = alpha d samples; the
limit predicts the same numbers from its Gram blocks alone (`theory.py`).  Both also have the
statistics of the streaming system, so that the engine compares, sweeps and scales `Alignment` like
any other system.  Source: "Spectral alignment of SGD" (arXiv 2310.03010; its main results, section
2, are on such blocks along training).
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key, PyTree

from hdjax import random
from hdjax.checks import is_concrete
from hdjax.clocks import Clock, Within
from hdjax.curvature.alignment import share_in_means
from hdjax.curvature.blocks import Block, measured, predicted
from hdjax.curvature.classifiers import learned_means
from hdjax.curvature.law import Quadrature, check_system, quadrature, warn_of_kinks
from hdjax.curvature.projected import ProjectedSGD
from hdjax.curvature.train import check_training, training_samples
from hdjax.gaussian import QMC, Rule
from hdjax.limits import Limit, masked
from hdjax.random import Stream
from hdjax.registry import NonNegative, Positive, Real
from hdjax.schedules import Constant
from hdjax.streaming import Direct, GramSummary, OnePassSGD
from hdjax.streaming.losses import MixtureLogistic
from hdjax.streaming.samples import draw_samples
from hdjax.system import Method, Simulator, Watched, Watching, WithoutFluctuations

# A column whose share in the means' span is smaller counts as outside of it.
_INSIDE = 0.5
# The law of training samples is computed for so many times of use, with such a rule for each: it is
# then right to about 1e-3.
_TIMES, _RULE = 17, QMC(8)


class AlignmentSummary(eqx.Module):
    """A summary of the training, and the blocks' statistics where they do not follow from it.

    Attributes:
        gram: the summary of the streaming system.
        measured: statistics of the blocks that a run measured, or that the limit predicts on
            training samples; None: the limit on fresh samples, which follows from `gram`.
    """

    gram: GramSummary
    measured: dict[str, Array] | None


class Alignment(WithoutFluctuations):
    """One-pass SGD on a Gaussian mixture, with statistics of blocks of its curvature.

    Args:
        training: a mixture with means, such as `hdjax.streaming.mixtures.mixture_softmax` or `xor`.
        blocks: the blocks that are measured at every record; none: the training alone.
        alpha: n/d, the number of samples of an empirical matrix per dimension.
        train: whether blocks are measured on the last n samples that training used instead of fresh
            ones.  The limit is then that of training samples (`train.py`), and is NaN before there
            are n of them.
        theta_scale: side parameters start at `training.theta` plus normals of this size, which each
            run draws (compare from realised starts).
        threshold: a mean counts as learned where the classifier's output is beyond this value, on
            the right side.
        rule: quadrature rule of the theory's expectations; None: the default of their dimension.

    Raises:
        ValueError: the system has no means or has teachers, it does not have a block, or a number
            is not allowed.

    Example:
        >>> mixture = hd.streaming.mixtures.mixture_softmax(64, 3, snr=4.0, learning_rate=1.0)
        >>> system = Alignment(mixture, [Block(0, "hessian")], alpha=4.0)
    """

    family: ClassVar[str] = "curvature"
    time_label: ClassVar[str] = OnePassSGD.time_label
    labels: ClassVar[Mapping[str, str]] = {
        **OnePassSGD.labels,
        "in_means": "share of each column in the span of the means",
        "outside_means": "columns outside the span of the means",
        "learned": "means that are learned",
        "success": "all means learned",
    }

    methods: ClassVar[tuple[type[Method], ...]] = (*OnePassSGD.methods, ProjectedSGD)
    no_fluctuations: ClassVar[str] = "no theory here gives the spread of empirical matrices"

    training: OnePassSGD
    alpha: Float[Array, ""]
    theta_scale: Float[Array, ""]
    threshold: Float[Array, ""]
    blocks: tuple[Block, ...] = eqx.field(static=True)
    train: bool = eqx.field(static=True)
    random_theta: bool = eqx.field(static=True)
    rule: Rule | None = eqx.field(static=True)

    def __init__(
        self,
        training: OnePassSGD,
        blocks: Sequence[Block] = (),
        *,
        alpha: Positive = 4.0,
        train: bool = False,
        theta_scale: NonNegative = 0.0,
        threshold: Real = 0.0,
        rule: Rule | None = None,
    ):
        dtype = jnp.result_type(float)
        self.training, self.blocks, self.train, self.rule = training, tuple(blocks), train, rule
        self.alpha, self.threshold = jnp.asarray(alpha, dtype), jnp.asarray(threshold, dtype)
        self.theta_scale = jnp.asarray(theta_scale, dtype)
        self.random_theta = not (is_concrete(theta_scale) and np.all(np.asarray(theta_scale) == 0))
        self.validate()

    def validate(self, *, compared: bool = False, realised: bool = False) -> None:
        self.training.validate(compared=compared, realised=realised)
        check_system(self.training)
        if self.train:
            check_training(self.training)
        m, theta = self.training.layout.students, self.training.theta
        for block in self.blocks:
            if isinstance(block.index, int) and block.index >= m:
                raise ValueError(f"blocks: column {block.index}; allowed: 0 to {m - 1}")
            if block.index == "theta" and theta is None:
                raise ValueError(
                    f"blocks: 'theta' without side parameters; allowed: columns, 0 to {m - 1}"
                )
        names = [block.name for block in self.blocks]
        if len(set(names)) < len(names):
            raise ValueError(f"blocks: {names}; allowed: each block once")
        for name, value, least in (
            ("alpha", self.alpha, np.nextafter(0, 1)),
            ("theta_scale", self.theta_scale, 0.0),
            ("threshold", self.threshold, 0.0),
        ):
            if is_concrete(value) and not np.all(np.isfinite(value) & (np.asarray(value) >= least)):
                rule = "positive" if least else "at least 0"
                raise ValueError(f"{name}: {value}; allowed: finite and {rule}")
        self._check_training()
        if compared and not realised:
            self._warn_of_zero_projections()
        if self.random_theta and theta is None:
            raise ValueError(f"theta_scale: {self.theta_scale} without side parameters; allowed: 0")
        if compared and not realised and self.random_theta:
            raise ValueError(
                f"theta_scale: {self.theta_scale} with the limit of the start's law; allowed: 0, "
                "or a comparison with start='realised', as side parameters are random"
            )

    def _check_training(self) -> None:
        """Raise ValueError on a training that the theory of mixtures does not allow."""
        system = self.training
        layout, d = system.layout, float(system.spectrum.dimension)
        if layout.students + layout.means >= d:
            raise ValueError(
                f"training: {layout.students} columns and {layout.means} means in dimension {d:g}; "
                "allowed: fewer than the dimension"
            )
        warn_of_kinks(self.rule, system.loss.smooth)
        rate = system.learning_rate
        if not (isinstance(rate, Constant) and is_concrete((rate, system.ridge))):
            return
        if np.any(np.asarray(rate.value) * np.asarray(system.ridge) >= d):
            raise ValueError(
                f"learning_rate, ridge: {rate.value}, {system.ridge}; allowed: a product below the "
                f"dimension, {d:g} (the ridge alone would overshoot)"
            )

    def _warn_of_zero_projections(self) -> None:
        """Warn of a start without noise and with zero projections in law: its limit never moves."""
        system, m = self.training, self.training.layout.students
        if not (isinstance(system.loss, MixtureLogistic) and is_concrete(system)):
            return
        if np.any(np.asarray(system.eigenvalues) > 0):
            return
        if not np.any(np.asarray(system.start().overlaps)[:m, m:]):
            warnings.warn(
                "start: projections that are zero in law, without noise; advised: a comparison "
                "with start='realised', or given columns, because kinks have no derivative and "
                "symmetric means no force there, and the limit never leaves its start",
                stacklevel=4,
            )

    def horizon(self, ts: Float[np.ndarray, " times"], method: Any = None) -> int:
        """The number n of samples of an empirical matrix; 0 without blocks."""
        d = float(self.training.spectrum.dimension)
        return max(1, round(float(self.alpha) * d)) if self.blocks else 0

    def simulator_of(self, method: Method, horizon: int | None) -> Simulator:
        """The training's simulator, watched at every record.

        Raises:
            TypeError: blocks with a method that has no columns (`Direct` and `ProjectedSGD` have).
            ValueError: an option of the method that the blocks do not allow.
        """
        if self.random_theta and isinstance(method, ProjectedSGD):
            raise ValueError(f"theta_scale: {self.theta_scale} with ProjectedSGD; allowed: 0")
        if self.blocks and not isinstance(method, Direct | ProjectedSGD):
            raise TypeError(
                f"method: {method!r} with blocks; allowed: Direct(...), ProjectedSGD(...) or None"
            )
        if self.blocks and isinstance(method, Direct) and method.data is not None:
            raise ValueError(
                f"method: data {method.data!r} with blocks; allowed: None, because the blocks' "
                "samples are Gaussian and drawn again"
            )
        inner = method.simulator(self.training, None)
        if self.random_theta:
            inner = RandomTheta(inner, self.theta_scale)
        return AlignmentSimulator(inner=inner, system=self, samples=horizon or 0)

    def start(self) -> AlignmentSummary:
        return AlignmentSummary(self.training.start(), None)

    def limit(
        self,
        ts: Float[Array, " times"],
        start: AlignmentSummary | None = None,
        horizon: int | None = None,
        save: Callable[[AlignmentSummary], PyTree[Array]] = lambda summary: summary,
    ) -> Limit:
        """The limit of the training, with the predicted statistics of the blocks at every time.

        The number of samples (`horizon`) does not enter: n/d is `alpha`.
        """
        first = None if start is None else start.gram
        path = self.training.limit(ts, first)

        def at(t: Array, gram: GramSummary) -> PyTree[Array]:
            if not (self.train and self.blocks):
                return save(AlignmentSummary(gram, None))
            horizon = jnp.maximum(t, self.alpha)
            law = training_samples(
                self.training,
                horizon,
                first,
                window=self.alpha,
                grid=_TIMES,
                rule=self.rule or _RULE,
            )
            # A recorded time k/d may be 1/d below the time that was asked for.
            early = t < self.alpha - 1 / self.training.spectrum.dimension
            found = self._predicted(gram, law.nodes)
            found = {name: jnp.where(early, jnp.nan, x) for name, x in found.items()}
            return save(AlignmentSummary(gram, found))

        # Predictions are computed after the integration, and not within the solver's loop.
        saved = jax.lax.map(lambda parts: at(*parts), (ts, path.values))
        return Limit(masked(saved, path.reached), path.reached, path.code)

    def review(self, ts: Float[np.ndarray, " times"]) -> None:
        """Warn of what is doubtful about the limit of the training at the times `ts`."""
        self.training.review(ts)

    def about(self, horizon: int) -> Mapping[str, str]:
        """What a reader should know of the computation of the training's limit."""
        return self.training.about(None)

    def alive(self, summary: AlignmentSummary) -> Bool[Array, ""]:
        """Whether the training is alive."""
        return self.training.alive(summary.gram)

    def statistics(self, summary: AlignmentSummary) -> dict[str, Array]:
        """The statistics of the training, of its classifier and of each block (`blocks.py`)."""
        gram, m = summary.gram, self.training.layout.students
        own = self.training.statistics(gram)
        shares = share_in_means(gram.overlaps, m)
        own["in_means"] = shares
        own["outside_means"] = (shares < _INSIDE).astype(shares.dtype)
        if isinstance(self.training.loss, MixtureLogistic):
            learned = learned_means(self.training, gram, self.threshold)
            own["learned"] = learned.sum().astype(shares.dtype)
            own["success"] = learned.all().astype(shares.dtype)
        if summary.measured is not None:
            return own | summary.measured
        if not self.blocks:
            return own
        return own | self._predicted(gram, quadrature(self.training, gram.overlaps, self.rule))

    def _predicted(self, gram: GramSummary, nodes: Quadrature) -> dict[str, Array]:
        """The predicted statistics of the blocks, at samples of the law `nodes`."""
        found: dict[str, Array] = {}
        for block in self.blocks:
            found |= predicted(block, self.training, gram, self.alpha, nodes)
        return found


class RandomTheta(Simulator):
    """A streaming simulator whose side parameters start with `scale` times normals added."""

    inner: Simulator
    scale: Float[Array, ""]

    @property
    def clock(self) -> Clock:
        """The clock of the inner simulator."""
        return self.inner.clock

    def init(self, key: Key[Array, ""]) -> Any:
        state = self.inner.init(key)
        theta = _perturbed(random.stream(key, Stream.THETA), state.side.theta, self.scale)
        return eqx.tree_at(lambda state: state.side.theta, state, theta)

    def advance(
        self, state: Any, k0: Int[Array, ""], k1: Int[Array, ""], key: Key[Array, ""]
    ) -> Any:
        return self.inner.advance(state, k0, k1, key)

    def summary(self, state: Any) -> GramSummary:
        return self.inner.summary(state)

    def side_by_side(self) -> int | None:
        return self.inner.side_by_side()


class AlignmentSimulator(Watching):
    """The training's simulator, whose summary also holds the blocks measured on n samples."""

    system: Alignment
    inner: Simulator
    samples: int = eqx.field(static=True)

    @property
    def clock(self) -> Clock:
        """The clock of the training; with `train` it begins at step n, with the n-th sample."""
        if not (self.system.train and self.system.blocks):
            return self.inner.clock
        why = f"when training has used the {self.samples} samples of a matrix (t = alpha)"
        return Within(self.inner.clock, first=self.samples, why=why)

    def summary(self, state: Watched) -> AlignmentSummary:
        gram = self.inner.summary(state.run)
        found: dict[str, Array] = {}
        if self.system.blocks:
            training, run = self.system.training, state.run
            # The columns X come last, after the memories of an optimiser.
            moving = run.moving[:, -training.layout.students :]
            key, first = self._stream(state)
            samples = draw_samples(training, key, first, self.samples, run.frozen, moving.dtype)
            solver = random.stream(state.key, Stream.SOLVER)
            for i, block in enumerate(self.system.blocks):
                own = random.at(solver, i)
                found |= measured(block, training, samples, moving, run.frozen, run.side.theta, own)
        dtype = self.system.alpha.dtype
        return AlignmentSummary(gram, {name: x.astype(dtype) for name, x in found.items()})

    def _stream(self, state: Watched) -> tuple[Key[Array, ""], Int[Array, ""]]:
        """The key and the first tick of the samples of a matrix."""
        if self.system.train:
            return state.key, jnp.maximum(state.tick - self.samples, 0)
        key = random.stream(state.key, Stream.SAMPLES)
        return random.at(key, state.tick), jnp.zeros((), int)

    def side_by_side(self) -> int | None:
        # The matrices of one run occupy a CPU, and most of the memory is theirs.
        if self.system.blocks and jax.default_backend() == "cpu":
            return 1
        return self.inner.side_by_side()


def _perturbed(key: Key[Array, ""], theta: PyTree, scale: Float[Array, ""]) -> PyTree:
    """The side parameters plus `scale` times normals."""
    leaves, tree = jax.tree.flatten(theta)
    moved = [
        leaf
        + scale.astype(leaf.dtype) * jax.random.normal(random.at(key, i), leaf.shape, leaf.dtype)
        for i, leaf in enumerate(leaves)
    ]
    return jax.tree.unflatten(tree, moved)
