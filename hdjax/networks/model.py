"""Repeated training of a network from random starts: the system `Training` that users start with.

    theta_{k+1} = theta_k + optimiser(grad L_k(theta_k)),    L_k the mean loss on mini-batch k,

with theta_0 and the order of the samples drawn in each run.  Progress is predictable if the curves
of the runs coincide ("Gradient Span Algorithms Make Predictable Progress in High Dimension", arXiv
2410.09973, figure 1).  Its measure is the spread between runs over their mean, against the step and
the width of the network.  Time is the step k.

A network has no deterministic equivalent of its own.  A Gaussian random function whose kernel was
fitted to the network's curves (`kernel_fit.py`) may stand for it: its limit is then the limit of
the system.
"""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.tree_util import Partial
from jaxtyping import Array, Bool, Float, PyTree

from hdjax.arrays import all_finite
from hdjax.checks import is_concrete
from hdjax.datasets import as_arrays
from hdjax.landscapes import GradientSpan, OrderParameters
from hdjax.limits import Limit
from hdjax.networks.architectures import cross_entropy
from hdjax.networks.kernel_fit import Fitted
from hdjax.networks.simulate import Direct, Trainable, TrainingSummary, leniently
from hdjax.registry import Size
from hdjax.system import Method, NoLimitError, Simulator, WithoutFluctuations


class Training(Trainable, WithoutFluctuations):
    """The training of a network from random starts on given data.

    Args:
        network: function from a key to a network (any pytree, such as an Equinox module, whose
            floating arrays are parameters), which draws the start of a run.  With a module-level
            function, or a `jax.tree_util.Partial`, systems can be stacked.
        loss: `loss(network, x, y) -> scalar`, of one sample.
        inputs: (n, ...) samples: an array, nested lists of numbers, or a pytree of these.
        targets: (n, ...) the samples' targets, in the same forms.
        optimiser: an Optax optimiser, or a `jax.tree_util.Partial` that makes one
            (`Partial(optax.sgd, 0.1)`), whose numbers can be swept over in one program.
        batch: the number of samples of a mini-batch; None: all, which is gradient descent.  Each
            epoch has its own order, and leaves out the samples that do not fill a batch at its end.
        theory: the Gaussian random function whose limit is the system's: the theory of a
            `fit_kernel`, or a `Fitted`; None: the system has no limit.

    Raises:
        ValueError, TypeError: an argument has a value or a type that is not allowed.

    Example:
        >>> import optax
        >>> data = hd.datasets.digits()
        >>> def network(key):
        ...     return hd.networks.MLP(64, [16], key=key)
        >>> parts = network, hd.networks.cross_entropy, data.inputs, data.classes
        >>> system = Training(*parts, optax.adam(1e-3), batch=128)
        >>> result = hd.simulate(system, range(5), key=jax.random.key(0), runs=4)
        >>> result.runs["cost"].sizes["time"]
        5
    """

    family: ClassVar[str] = "networks"
    time_label: ClassVar[str] = "step k"
    methods: ClassVar[tuple[type[Method], ...]] = (Direct,)
    no_fluctuations: ClassVar[str] = "a kernel is fitted to mean curves, and not to their spread"
    labels: ClassVar[Mapping[str, str]] = {
        "cost": "cost on the training set",
        "batch_cost": "cost on the mini-batch",
        "gradient_norm": "squared norm of the mini-batch gradient",
        "distance": "squared distance from the start",
    }

    network: Callable
    inputs: PyTree[Array]
    targets: PyTree[Array]
    optimiser: Callable
    theory: GradientSpan | Fitted | None
    loss: Callable = eqx.field(static=True)
    batch: Size | None = eqx.field(static=True)

    def __init__(
        self,
        network: Callable | type[Any],
        loss: Callable,
        inputs: Any,
        targets: Any,
        optimiser: Callable | optax.GradientTransformation,
        *,
        batch: Size | None = None,
        theory: Any = None,
    ):
        self.network, self.loss = _as_tree(network), loss
        self.inputs = as_arrays("inputs", inputs)
        self.targets = as_arrays("targets", targets)
        if isinstance(optimiser, optax.GradientTransformation):
            optimiser = _Given(optimiser)
        # The optimiser's numbers become leaves: a Python float would be a constant of the program.
        self.optimiser = jax.tree.map(
            lambda x: jnp.asarray(x, jnp.result_type(float)) if isinstance(x, float) else x,
            _as_tree(optimiser),
        )
        self.batch, self.theory = batch, theory
        self.validate()
        self._check_sample()

    def validate(self, *, compared: bool = False, realised: bool = False) -> None:
        leaves = jax.tree.leaves((self.inputs, self.targets))
        counts = {leaf.shape[0] if leaf.ndim else 0 for leaf in leaves}
        if len(counts) != 1 or counts == {0}:
            raise ValueError(
                f"inputs, targets: {sorted(counts)} samples; allowed: equal numbers, 1 or more"
            )
        for name, data in (("inputs", self.inputs), ("targets", self.targets)):
            if is_concrete(data) and not all(np.isfinite(leaf).all() for leaf in _floats(data)):
                raise ValueError(f"{name}: nan or inf; allowed: finite numbers")
        (n,) = counts
        if self.batch is not None and not 1 <= self.batch <= n:
            raise ValueError(f"batch: {self.batch}; allowed: None or 1 to {n}, the samples")
        if self.theory is not None:
            if not isinstance(self.theory, GradientSpan | Fitted):
                raise TypeError(f"theory: {self.theory!r}; allowed: GradientSpan, Fitted or None")
            _unfitted(self.theory).validate(compared=compared)
        if realised:
            raise ValueError(
                "start: 'realised'; allowed: 'law', because a fitted kernel knows no single start"
            )

    @leniently
    def _check_sample(self) -> None:
        """Raise TypeError or ValueError unless network and loss take these samples."""
        inputs, targets = (
            jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), data)
            for data in (self.inputs, self.targets)
        )
        try:
            network = eqx.filter_eval_shape(self.network, jax.random.key(0))
            cost = eqx.filter_eval_shape(self.loss, network, inputs, targets)
        except Exception as error:
            raise TypeError(
                f"network, loss: loss(network(key), x, y) fails for one sample ({error}); allowed: "
                "a function of a key that makes a network, and a loss that takes both"
            ) from error
        if getattr(cost, "shape", None) != () or not jnp.issubdtype(cost.dtype, jnp.floating):
            raise ValueError(f"loss: {cost} for one sample; allowed: a floating scalar")
        if self.loss is cross_entropy and is_concrete(self.targets):
            outputs = eqx.filter_eval_shape(lambda network, x: network(x), network, inputs).shape[0]
            classes = np.asarray(self.targets)
            if classes.min() < 0 or classes.max() >= outputs:
                raise ValueError(
                    f"targets: classes from {classes.min()} to {classes.max()}; allowed: 0 to "
                    f"{outputs - 1}, one for each of the network's outputs"
                )

    def simulator_of(self, method: Method, horizon: Any) -> Simulator:
        """The simulator that the method makes."""
        return method.simulator(self, horizon)

    def horizon(self, ts: Float[np.ndarray, " times"], method: Any = None) -> Any:
        """The horizon of the theory; None without a theory."""
        return None if self.theory is None else _unfitted(self.theory).horizon(ts)

    def alive(self, summary: TrainingSummary) -> Bool[Array, ""]:
        """Whether all numbers of the summary are finite."""
        return all_finite(summary)

    def review(self, ts: Float[np.ndarray, " times"]) -> None:
        """No warning: nothing is doubtful."""

    def about(self, horizon: Any) -> Mapping[str, str]:
        """No remark: nothing has to be known."""
        return {}

    def start(self) -> TrainingSummary:
        """The summary of the theory's start; without a theory, that of one drawn start.

        The law of a network's start is known by drawing alone.
        """
        if self.theory is not None:
            theory = _solved(self.theory)
            return _of_theory(theory, theory.start())
        simulator = self.simulator()
        return simulator.summary(simulator.init(jax.random.key(0)))

    def limit(
        self,
        ts: Float[Array | np.ndarray, " times"],
        start: TrainingSummary | None = None,
        horizon: Any = None,
        save: Callable[[TrainingSummary], PyTree[Array]] = lambda summary: summary,
    ) -> Limit:
        """The limit of the Gaussian random function that stands for the network.

        Raises:
            NoLimitError: the system has no theory.
        """
        if self.theory is None:
            raise NoLimitError(
                "limit: none is known of a network's training; allowed: a simulation alone "
                "(hdjax.simulate, limit = false in a config), or a training with a theory (that of "
                "hdjax.networks.fit_kernel)"
            )
        theory = _solved(self.theory)
        return theory.limit(ts, save=lambda order: save(_of_theory(theory, order)), horizon=horizon)

    def statistics(self, summary: TrainingSummary) -> dict[str, Array]:
        """The costs, and the squared norms of the gradient and of theta_k - theta_0."""
        return {
            "cost": summary.cost,
            "batch_cost": summary.batch_cost,
            "gradient_norm": summary.gradient_norm,
            "distance": summary.distance,
        }


class _Given(eqx.Module):
    """A given Optax optimiser, whose numbers are in its closures and cannot be swept over."""

    optimiser: optax.GradientTransformation = eqx.field(static=True)

    def __call__(self) -> optax.GradientTransformation:
        return self.optimiser


def _floats(data: PyTree[Array]) -> list[np.ndarray]:
    """The floating arrays of a pytree."""
    return [np.asarray(leaf) for leaf in jax.tree.leaves(data) if eqx.is_inexact_array(leaf)]


def _as_tree(fn: Any) -> Any:
    """A function as a pytree."""
    return fn if isinstance(fn, Partial | eqx.Module) else Partial(fn)


def _unfitted(theory: GradientSpan | Fitted) -> GradientSpan:
    """The Gaussian random function of a theory, before any fit."""
    return theory.unfitted if isinstance(theory, Fitted) else theory


def _solved(theory: GradientSpan | Fitted) -> GradientSpan:
    """The Gaussian random function of a theory, after its fit."""
    return theory.fit().theory if isinstance(theory, Fitted) else theory


def _of_theory(theory: GradientSpan, order: OrderParameters) -> TrainingSummary:
    """The summary of a training that the order parameters of its theory stand for."""
    distance = order.norm - 2 * order.points[0] + theory.radius**2
    return TrainingSummary(order.value, order.value, order.gradient_norm, distance)
