"""Top spaces of Hessian and gradient covariance, layer by layer, along a training.

    H = 1/n sum_l D^2 f_l,      G = 1/n sum_l (D f_l)(D f_l)^T

on a layer's parameters, f_l the loss of sample l (`hdjax.curvature.NetworkMatrix`).  At every
record, for each layer NAME and each of the two matrices M (`hessian`, `gradient`), with E the space
of the `rank` largest eigenvalues of M, the system `LayerAlignment` has the statistics

    NAME_M_values        the rank + 1 largest eigenvalues
    NAME_M_gap           (smallest eigenvalue of E - next eigenvalue)/next eigenvalue
    NAME_M_parameters    the share |P_E theta|/|theta| of the layer's parameters theta
    NAME_M_distance      the share of theta_k - theta_0 in E (0 at the start)
    NAME_M_step          the share of the mini-batch gradient in E
    NAME_overlap         the overlap |Q_H^T Q_G|^2/rank of the spaces of H and G

Random spaces of that rank would have shares (rank/size)^(1/2) and the overlap rank/size.
Source: "Spectral alignment of SGD" (arXiv 2310.03010, section 2): the trajectory aligns with the
outliers' spaces of both matrices, in each layer.
"""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, Key, PyTree

from hdjax import random
from hdjax.clocks import Clock
from hdjax.curvature import NetworkMatrix, top_space
from hdjax.curvature.alignment import overlap, share
from hdjax.curvature.solvers import TopSpace
from hdjax.networks.model import Training
from hdjax.networks.simulate import TrainingSimulator, TrainingSummary
from hdjax.random import Stream
from hdjax.registry import Size
from hdjax.system import Method, Simulator, Watched, Watching, WithoutFluctuations, WithoutLimit

# The tolerance of residuals, relative to the largest eigenvalue, gives shares and overlaps to about
# 1 %; it is reached within so many restarts, or not at all.
_TOLERANCE, _CYCLES = 1e-3, 12


class LayerSummary(eqx.Module):
    """The summary of a training, and the statistics of its layers' curvature."""

    training: TrainingSummary
    measured: dict[str, Array]


class LayerAlignment(WithoutLimit, WithoutFluctuations):
    """A training, with the top spaces of its layers' Hessians and gradient covariances.

    Args:
        training: the training.
        layers: {name: function from the network to a part of it, or to a tuple of parts}.
        rank: dimensions of the top spaces; with k classes there are about k outliers.
        samples: the matrices are computed on so many of the first samples; None: on all.

    Raises:
        ValueError: there is no layer, the rank is below 1 or too large for a layer, or the number
            of samples is not allowed.

    Example:
        >>> import optax
        >>> data = hd.datasets.digits()
        >>> def network(key):
        ...     return hd.networks.CNN((8, 8), width=0.25, key=key)
        >>> parts = network, hd.networks.cross_entropy, data.inputs, data.classes
        >>> system = LayerAlignment(
        ...     hd.networks.Training(*parts, optax.adam(1e-3), batch=128),
        ...     {"last": lambda network: network.last}, samples=64)
        >>> "last_overlap" in jax.eval_shape(lambda: system.statistics(system.start()))
        True
    """

    family: ClassVar[str] = "networks"
    time_label: ClassVar[str] = Training.time_label
    labels: ClassVar[Mapping[str, str]] = Training.labels
    methods: ClassVar[tuple[type[Method], ...]] = Training.methods
    no_limit: ClassVar[str] = "no theory here gives the curvature of a network; simulate it"
    no_fluctuations: ClassVar[str] = "no theory here gives the curvature of a network"

    training: Training
    layers: tuple[tuple[str, Callable], ...] = eqx.field(static=True)
    rank: Size = eqx.field(static=True)
    samples: Size | None = eqx.field(static=True)

    def __init__(
        self,
        training: Training,
        layers: Mapping[str, Callable],
        *,
        rank: Size = 10,
        samples: Size | None = None,
    ):
        self.training, self.layers = training, tuple(layers.items())
        self.rank, self.samples = rank, samples
        self.validate()

    def validate(self, *, compared: bool = False, realised: bool = False) -> None:
        self.training.validate(compared=compared, realised=realised)
        if not self.layers:
            raise ValueError("layers: none; allowed: at least one layer")
        n = self.training.samples
        if self.samples is not None and not 1 <= self.samples <= n:
            raise ValueError(f"samples: {self.samples}; allowed: None or 1 to {n}")
        network = eqx.filter_eval_shape(self.training.network, jax.random.key(0))
        for name, where in self.layers:
            leaves = [x for x in jax.tree.leaves(where(network)) if hasattr(x, "dtype")]
            size = sum(x.size for x in leaves if jnp.issubdtype(x.dtype, jnp.inexact))
            # One more eigenvalue is computed, and the Lanczos block has two more columns.
            if not 1 <= self.rank <= size - 3:
                raise ValueError(
                    f"rank: {self.rank} with layer {name!r} of {size} parameters; allowed: 1 to "
                    f"{size - 3}"
                )

    def simulator_of(self, method: Method, horizon: None) -> Simulator:
        """The training's simulator, whose layers are measured at every record."""
        inner = self.training.simulator_of(method, horizon)
        assert isinstance(inner, TrainingSimulator)
        return LayerSimulator(inner=inner, system=self)

    def horizon(self, ts: Float[np.ndarray, " times"], method: Any = None) -> None:
        """No horizon: one program serves any duration."""
        return None

    def review(self, ts: Float[np.ndarray, " times"]) -> None:
        """No warning: nothing is doubtful."""

    def about(self, horizon: None) -> Mapping[str, str]:
        """No remark: nothing has to be known."""
        return {}

    def start(self) -> LayerSummary:
        """The summary of one drawn start.

        The law of a network's start is known by drawing alone.
        """
        simulator = self.simulator()
        return simulator.summary(simulator.init(jax.random.key(0)))

    def alive(self, summary: LayerSummary) -> Bool[Array, ""]:
        return self.training.alive(summary.training)

    def statistics(self, summary: LayerSummary) -> dict[str, Array]:
        """The statistics of the training and of its layers."""
        return self.training.statistics(summary.training) | summary.measured


class LayerSimulator(Watching):
    """The simulator of a training, whose summary also holds the curvature of its layers."""

    system: LayerAlignment
    inner: TrainingSimulator

    @property
    def clock(self) -> Clock:
        """The clock of the training."""
        return self.inner.clock

    def summary(self, state: Watched) -> LayerSummary:
        training = self.inner.summary(state.run)
        solver = random.stream(state.key, Stream.SOLVER)
        found: dict[str, Array] = {}
        # As in the training, networks of users may mix ranks and dtypes.
        with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
            for i, (name, where) in enumerate(self.system.layers):
                measured = self._measured(state, where, random.at(solver, i))
                found |= {f"{name}_{key}": value for key, value in measured.items()}
        dtype = training.cost.dtype
        return LayerSummary(training, {key: value.astype(dtype) for key, value in found.items()})

    def _measured(self, state: Watched, where: Callable, key: Key[Array, ""]) -> dict[str, Array]:
        """The statistics of one layer."""
        own = self.inner.own
        run, rank = state.run, self.system.rank
        inputs, targets = jax.tree.map(
            lambda leaf: leaf[: self.system.samples], (own.inputs, own.targets)
        )
        network = self.inner.network(run)
        vectors = {
            "parameters": _flat(where(network)),
            "distance": _flat(where(network)) - _flat(where(self.inner.first(run))),
            "step": _flat(where(self.inner.slope(run))),
        }
        found: dict[str, Array] = {}
        spaces: dict[str, Array] = {}
        for kind in ("hessian", "gradient"):
            matrix = NetworkMatrix(own.loss, network, inputs, targets, kind, where=where)
            start = jnp.stack([vectors["step"], vectors["distance"]], axis=1)
            top = _top(matrix, start, rank + 1, key)
            space = spaces[kind] = top.vectors[:, :rank]
            smallest, following = top.values[rank - 1], top.values[rank]
            found[f"{kind}_values"] = top.values
            found[f"{kind}_gap"] = (smallest - following) / following
            found |= {f"{kind}_{name}": share(v, space) for name, v in vectors.items()}
        found["overlap"] = overlap(spaces["hessian"], spaces["gradient"])
        return found

    def side_by_side(self) -> int | None:
        # The matrices of one run occupy a CPU.
        return 1 if jax.default_backend() == "cpu" else None


def _top(
    matrix: NetworkMatrix, start: Float[Array, "n b"], rank: Size, key: Key[Array, ""]
) -> TopSpace:
    """The top space of a layer's matrix, from a first guess."""
    return top_space(matrix.product, start, rank, key, tolerance=_TOLERANCE, cycles=_CYCLES)


def _flat(part: PyTree) -> Float[Array, " n"]:
    """The floating arrays of a part of the network, as one vector."""
    return ravel_pytree(eqx.filter(part, eqx.is_inexact_array))[0]
