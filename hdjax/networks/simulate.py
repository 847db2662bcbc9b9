"""The simulator of one training, with the cost on the whole training set at every record.

The state after k steps holds theta_k, and cost and gradient of mini-batch k at theta_k, which step
k + 1 uses.  Batches are a function of the run's key and the step.  `Training` and `LayerAlignment`
run on this simulator.
"""

import functools
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, Key, PyTree

from hdjax import precise, random
from hdjax.arrays import cast
from hdjax.checks import check_dtype
from hdjax.clocks import Steps
from hdjax.random import Stream
from hdjax.registry import Precision, register
from hdjax.system import Method, Simulator, System

# The number of samples that are evaluated at a time: the activations of more leave the cache.
_CHUNK = 512
# Runs that hold at most so many bytes are faster side by side on a CPU.
_SMALL = 2**20


class TrainingSummary(eqx.Module):
    """The summary of a training after k steps, which a Gaussian random function predicts.

    Attributes:
        cost: mean loss on the whole training set.
        batch_cost: mean loss on the mini-batch.
        gradient_norm: squared norm of the mini-batch gradient.
        distance: |theta_k - theta_0|^2.
    """

    cost: Float[Array, ""]
    batch_cost: Float[Array, ""]
    gradient_norm: Float[Array, ""]
    distance: Float[Array, ""]


class TrainingState(eqx.Module):
    """The state of one training after k steps.

    Attributes:
        parameters: theta_k, the floating arrays of the network.
        buffers: arrays of the network that are not trained.
        start: theta_0.
        memory: the state of the optimiser.
        cost: mean loss on mini-batch k at theta_k.
        gradient: gradient of that loss.
    """

    parameters: PyTree[Array]
    buffers: PyTree[Array]
    start: PyTree[Array]
    memory: PyTree
    cost: Float[Array, ""]
    gradient: PyTree[Array]


class Trainable(System):
    """A network, its data and its optimiser; the attributes are those of `Training`."""

    network: eqx.AbstractVar[Callable]
    inputs: eqx.AbstractVar[PyTree[Array]]
    targets: eqx.AbstractVar[PyTree[Array]]
    optimiser: eqx.AbstractVar[Callable]
    loss: eqx.AbstractVar[Callable]
    batch: eqx.AbstractVar[int | None]

    @property
    def samples(self) -> int:
        """The number of samples of the training set."""
        return jax.tree.leaves(self.inputs)[0].shape[0]


@register("networks.method", "direct")
class Direct(Method):
    """The method that runs the training itself.

    Args:
        dtype: "float32" or "float64" (which needs `jax_enable_x64`), of parameters and data.

    Raises:
        ValueError: the dtype is another one, or float64 is not enabled.

    Example:
        >>> method = Direct(dtype="float32")
    """

    dtype: Precision = eqx.field(static=True, default="float32")

    def __check_init__(self) -> None:
        check_dtype(self.dtype)

    def simulator(self, system: Trainable, horizon: Any = None) -> "TrainingSimulator":
        """The simulator of `system`."""
        return TrainingSimulator(system, self.dtype)


def leniently(function: Any) -> Any:
    """The function, traced with lenient rules: networks of users may mix ranks and dtypes."""

    @functools.wraps(function)
    def traced(*args: Any, **kwargs: Any) -> Any:
        with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
            return function(*args, **kwargs)

    return traced


class TrainingSimulator(Simulator):
    """One training; a tick of its clock is a step."""

    system: Trainable
    dtype: str = eqx.field(static=True)

    @property
    def clock(self) -> Steps:
        """The clock of steps, whose records are distinct."""
        return Steps(1, distinct=True)

    @leniently
    def init(self, key: Key[Array, ""]) -> TrainingState:
        own = self.own
        network = cast(own.network(random.stream(key, Stream.START)), self.dtype)
        parameters, rest = eqx.partition(network, eqx.is_inexact_array)
        buffers = eqx.filter(rest, eqx.is_array)
        cost, gradient = self._seen(own, parameters, buffers, self._batch(own, key, 0))
        memory = own.optimiser().init(parameters)
        return TrainingState(parameters, buffers, parameters, memory, cost, gradient)

    @leniently
    def advance(
        self, state: TrainingState, k0: Int[Array, ""], k1: Int[Array, ""], key: Key[Array, ""]
    ) -> TrainingState:
        own = self.own
        optimiser = optax.with_extra_args_support(own.optimiser())

        def step(k: Array, state: TrainingState) -> TrainingState:
            batch = self._batch(own, key, k)
            updates, memory = optimiser.update(
                state.gradient,
                state.memory,
                state.parameters,
                value=state.cost,
                grad=state.gradient,
                value_fn=lambda parameters: self._cost(own, parameters, state.buffers, batch),
            )
            parameters = optax.apply_updates(state.parameters, updates)
            ahead = self._batch(own, key, k + 1)
            cost, gradient = self._seen(own, parameters, state.buffers, ahead)
            moved = TrainingState(parameters, state.buffers, state.start, memory, cost, gradient)
            # An optimiser may return another precision than it was given.
            return jax.tree.map(
                lambda new, old: new.astype(old.dtype) if eqx.is_inexact_array(new) else new,
                moved,
                state,
            )

        return jax.lax.fori_loop(k0, k1, step, state)

    @leniently
    def summary(self, state: TrainingState) -> TrainingSummary:
        own = self.own
        cost = state.cost
        if own.batch is not None:
            everything = own.inputs, own.targets
            cost = self._cost(own, state.parameters, state.buffers, everything)
        moved = jax.tree.map(jnp.subtract, state.parameters, state.start)
        numbers = cost, state.cost, _square(state.gradient), _square(moved)
        dtype = jnp.result_type(float)
        return TrainingSummary(*(number.astype(dtype) for number in numbers))

    def network(self, state: TrainingState) -> PyTree:
        """The network with the parameters theta_k of a state."""
        return self._combined(state.parameters, state.buffers)

    def first(self, state: TrainingState) -> PyTree:
        """The network with the parameters theta_0 that a run started from."""
        return self._combined(state.start, state.buffers)

    def slope(self, state: TrainingState) -> PyTree:
        """The mini-batch gradient of a state, in the structure of the network."""
        return self._combined(state.gradient, state.buffers)

    @leniently
    def _bytes(self) -> int:
        """The bytes on which a step of one run works."""
        state = jax.eval_shape(lambda: self.init(jax.random.key(0)))
        held = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))
        return 2 * held + 2 * min(_CHUNK, self.system.samples) * self._bytes_per_sample()

    def side_by_side(self) -> int | None:
        large = self._bytes() > _SMALL
        return 1 if large and jax.default_backend() == "cpu" else None

    @property
    def own(self) -> Trainable:
        """The system in the precision of the method."""
        return cast(self.system, self.dtype)

    def _batch(self, own: Trainable, key: Key[Array, ""], k: Any) -> PyTree[Array]:
        """Mini-batch k: a slice of the order of its epoch."""
        data = own.inputs, own.targets
        if own.batch is None:
            return data
        epoch, piece = jnp.divmod(jnp.asarray(k, int), own.samples // own.batch)
        orders = random.stream(key, Stream.STEPS)
        order = jax.random.permutation(random.at(orders, epoch), own.samples)
        chosen = jax.lax.dynamic_slice(order, (piece * own.batch,), (own.batch,))
        return jax.tree.map(lambda leaf: leaf[chosen], data)

    def _seen(
        self, own: Trainable, parameters: PyTree, buffers: PyTree, batch: PyTree
    ) -> tuple[Float[Array, ""], PyTree]:
        """The mean loss on a batch, and its gradient."""

        def part(batch: PyTree, weights: Array) -> PyTree:
            return jax.value_and_grad(self._sum(own, buffers, batch, weights))(parameters)

        return _mean(part, batch)

    def _cost(
        self, own: Trainable, parameters: PyTree, buffers: PyTree, batch: PyTree
    ) -> Float[Array, ""]:
        """The mean loss on a batch."""

        def part(batch: PyTree, weights: Array) -> Array:
            return self._sum(own, buffers, batch, weights)(parameters)

        return _mean(part, batch)

    def _sum(
        self, own: Trainable, buffers: PyTree, batch: PyTree, weights: Float[Array, " n"]
    ) -> Callable[[PyTree], Float[Array, ""]]:
        """The weighted sum of the losses on a batch, as a function of the parameters."""

        def total(parameters: PyTree) -> Array:
            network = self._combined(parameters, buffers)
            losses = jax.vmap(own.loss, in_axes=(None, 0, 0))(network, *batch)
            return jnp.vdot(weights.astype(losses.dtype), losses)

        return total

    def _combined(self, parameters: PyTree, buffers: PyTree) -> PyTree:
        # Parts that are not arrays cannot be carried by a loop, and are the same in every network.
        """The network with given parameters and buffers."""
        shapes = eqx.filter_eval_shape(self.system.network, jax.random.key(0))
        rest = eqx.filter(shapes, lambda leaf: not isinstance(leaf, jax.ShapeDtypeStruct))
        return eqx.combine(parameters, buffers, rest)

    @leniently
    def _bytes_per_sample(self) -> int:
        """Bytes of all intermediate results of the loss of one sample."""
        own = self.own
        shapes = eqx.filter_eval_shape(own.network, jax.random.key(0))
        arrays, rest = eqx.partition(shapes, lambda x: isinstance(x, jax.ShapeDtypeStruct))
        sample = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), (own.inputs, own.targets)
        )
        program = jax.make_jaxpr(
            lambda arrays, sample: own.loss(eqx.combine(arrays, rest), *sample)
        )(arrays, sample)
        out = [variable.aval for equation in program.eqns for variable in equation.outvars]
        return sum(aval.size * aval.dtype.itemsize for aval in out)


def _square(tree: PyTree) -> Float[Array, ""]:
    """The squared norm |v|^2 of a pytree of arrays."""
    total = jnp.zeros(())
    for leaf in jax.tree.leaves(tree):
        total = total + precise.vdot(leaf, leaf)
    return total


def _mean(part: Callable[[PyTree, Array], PyTree], data: PyTree[Array]) -> PyTree[Array]:
    """The mean over samples of a quantity that `part(samples, weights)` sums, chunk by chunk."""
    n = jax.tree.leaves(data)[0].shape[0]
    pieces = -(-n // _CHUNK)
    size = -(-n // pieces)
    # Chunks have equal sizes: copies of the first sample, with weight 0, fill the last chunk.
    index = np.arange(pieces * size)
    weights = (index < n).astype(np.float32).reshape(pieces, size)
    index = np.where(index < n, index, 0).reshape(pieces, size)
    if pieces == 1:
        total = part(data, jnp.asarray(weights[0]))
    else:

        def add(total: PyTree, chunk: tuple[Array, Array]) -> tuple[PyTree, None]:
            samples = jax.tree.map(lambda leaf: leaf[chunk[0]], data)
            return jax.tree.map(jnp.add, total, part(samples, chunk[1])), None

        like = jax.eval_shape(
            part, jax.tree.map(lambda leaf: leaf[:size], data), jnp.asarray(weights[0])
        )
        zero = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), like)
        total, _ = jax.lax.scan(add, zero, (jnp.asarray(index), jnp.asarray(weights)))
    return jax.tree.map(lambda leaf: leaf / n, total)
