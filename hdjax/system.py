"""The contract between a family of problems and the engine.

A `System` is a model, an algorithm and the law of its start.  It offers two views of the same
experiment:

* a `Simulator`, which runs **one** realisation at finite dimension d, and
* a limit, the deterministic equivalent as d grows,

both of which end in a `Summary` (any pytree of arrays: Gram blocks, overlaps, order parameters).
Statistics are functions of the summary, written once and evaluated on either side.

A new family is a new `System` with its simulators.  Nothing in `hdjax.engine` knows more about it
than what is written here.
"""

import abc
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Bool, Float, Int, Key, PyTree

from hdjax.registry import Bounds, OneOf
from hdjax.times import nominal, rounding

State = PyTree[Array]
Summary = PyTree[Array]
Statistic = Callable[[Any, Summary], PyTree[Array]]


class NoLimitError(TypeError):
    """The system has no deterministic equivalent (or this one is not known)."""


class NoFluctuationsError(TypeError):
    """The system's theory does not predict the spread at finite d."""


class Simulator(eqx.Module):
    """One way to run a system at finite d.

    The clock is an integer tick that belongs to the engine, not to the state.  Every random number
    of a realisation is a function of its key and of a tick, never of the interval that `advance`
    is asked for: two calls over [k0, k1) and [k1, k2) give what one call over [k0, k2) gives.
    """

    @abc.abstractmethod
    def init(self, key: Key[Array, ""]) -> State:
        """Draw the start of one realisation."""

    @abc.abstractmethod
    def advance(
        self, state: State, k0: Int[Array, ""], k1: Int[Array, ""], key: Key[Array, ""]
    ) -> State:
        """Evolve one realisation from tick `k0` to tick `k1` (traced), with the key of `init`."""

    @abc.abstractmethod
    def summary(self, state: State) -> Summary:
        """What the limit also knows, in the limit's dtype."""

    @abc.abstractmethod
    def ticks(self, ts: Float[np.ndarray, " times"]) -> Int[np.ndarray, " times"]:
        """The clock at times `ts`, made on the host in 64 bits.

        Times come in the user's dtype, for whose rounding `steps_at` and `hdjax.times.nominal`
        allow.
        """

    @abc.abstractmethod
    def times(self, ticks: Int[np.ndarray, " times"]) -> Float[np.ndarray, " times"]:
        """The times that were actually recorded: those at which the limit is evaluated."""

    @abc.abstractmethod
    def bytes_per_run(self) -> int:
        """Device memory that one realisation needs, from which the engine sizes its chunks."""

    def side_by_side(self) -> int | None:
        """How many realisations of a chunk to advance together, the others in turn; None: all."""
        return None


class System(eqx.Module):
    """A model, an algorithm and the law of its start (immutable; numbers are array leaves).

    A stacked `System` under `jax.vmap` is a sweep; a gradient through `limit` is the optimisation
    of whatever leaf it is taken with respect to.
    """

    family: ClassVar[str]
    time_label: ClassVar[str]
    labels: ClassVar[Mapping[str, str]] = {}

    @abc.abstractmethod
    def simulator(self, method: Any = None, horizon: Any = None) -> Simulator:
        """The simulator for `method` (an object with its own options; None is the default)."""

    def horizon(self, ts: Float[np.ndarray, " times"], method: Any = None) -> Any:
        """What the compiled program must know of the duration, handed to `simulator`.

        A hashable value, such as a number of steps that fixes shapes; None where one program
        serves any duration.  A system that has one is handed it as `horizon` in `limit` and
        `fluctuations` too.
        """
        return None

    @abc.abstractmethod
    def start(self) -> Summary:
        """The summary of the start as d grows."""

    @abc.abstractmethod
    def statistics(self, summary: Summary) -> dict[str, Array]:
        """The family's own statistics of a summary."""

    def limit(
        self,
        ts: Float[Array, " times"],
        start: Summary | None = None,
        save: Callable[[Summary], PyTree[Array]] = lambda summary: summary,
        **duration: Any,
    ) -> PyTree[Array]:
        """The deterministic equivalent: `save(summary)` at `ts`, stacked along a leading axis.

        Times that were not reached hold infinity after a divergence, and NaN where a solver gave
        up.

        Raises:
            NoLimitError: the system has none.
        """
        raise NoLimitError(f"{type(self).__name__} has no limit: simulate it instead of comparing")

    def fluctuations(
        self,
        ts: Float[Array, " times"],
        statistics: Callable[[Summary], dict[str, Array]],
        start: Summary | None = None,
        **duration: Any,
    ) -> dict[str, Array]:
        """Predicted standard deviations at this d of `statistics(summary)` at `ts`.

        A given `start` is a fixed one (no variance of its own); otherwise the law's variance
        enters.

        Raises:
            NoFluctuationsError: theory does not give it for this system.
        """
        raise NoFluctuationsError(f"{type(self).__name__} predicts no fluctuations")

    def about_fluctuations(self, **duration: Any) -> str:
        """How `fluctuations` come about, where a reader of the result should know."""
        return ""

    def about_limit(self, **duration: Any) -> str:
        """How `limit` comes about, where a reader of the result should know."""
        return ""

    def alive(self, summary: Summary) -> Bool[Array, ""]:
        """Whether a realisation (or the limit) is still a result: False from divergence on."""
        leaves = [leaf for leaf in jax.tree.leaves(summary) if eqx.is_inexact_array(leaf)]
        return jnp.stack([jnp.isfinite(leaf).all() for leaf in leaves]).all()

    def validate(self, *, compared: bool = False, realised: bool = False) -> None:
        """Check concrete leaves again where the engine takes the system.

        `eqx.tree_at` goes round every constructor, so this repeats their checks, and warns of
        what is legal but useless (`compared` with a limit that never leaves its start, say).
        """

    def review(self, ts: Float[np.ndarray, " times"]) -> None:
        """Warn of what is doubtful about the limit at times `ts`, where a limit is asked for."""


def is_concrete(*leaves: Any) -> bool:
    """Whether values can be looked at: False inside jit, vmap and grad."""
    return not any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(leaves))


def check_leaves(name: str, tree: Any, least: float) -> None:
    """Raise ValueError if concrete numbers of a tree are not finite, or below `least`.

    Example:
        >>> check_leaves("ridge", jnp.array(0.5), 0.0)
    """
    for leaf in jax.tree.leaves(tree):
        if not eqx.is_inexact_array(leaf) or not is_concrete(leaf):
            continue
        values = np.asarray(leaf)
        good = np.isfinite(values) & (values >= least)
        if not np.all(good):
            rule = "finite" if least == -np.inf else f"finite and at least {least}"
            raise ValueError(f"{name}: {values[~good].ravel()[0]}; allowed: {rule}")


def check_arguments(constructor: Callable[..., Any], **values: Any) -> None:
    """Raise ValueError where a concrete number or word is not what its annotation allows.

    Args:
        constructor: whose parameters have annotations of `hdjax.registry`.
        **values: its arguments, or some of them; None is not looked at.

    Example:
        >>> from hdjax.registry import Positive
        >>> def ball(radius: Positive): ...
        >>> check_arguments(ball, radius=1.0)
    """
    for name, parameter in inspect.signature(constructor).parameters.items():
        value = values.get(name)
        if value is None or not is_concrete(value):
            continue
        for mark in _marks(parameter.annotation):
            if isinstance(mark, Bounds) and not mark.hold(value):
                raise ValueError(f"{name}: {value}; allowed: {mark}")
            if isinstance(mark, OneOf) and isinstance(value, str) and value not in mark.words:
                raise ValueError(f"{name}: {value!r}; allowed: {', '.join(mark.words)}")


def _marks(annotation: Any) -> Iterator[Any]:
    """What stands beside the type in an `Annotated`, in unions too."""
    for part in get_args(annotation):
        yield part
        yield from _marks(part)


def check_dtype(dtype: str) -> None:
    """Raise ValueError on a precision of runs other than float32 and, where it is on, float64.

    Example:
        >>> check_dtype("float32")
    """
    if dtype not in ("float32", "float64"):
        raise ValueError(f"dtype: {dtype!r}; allowed: 'float32', 'float64'")
    if dtype == "float64" and not jax.config.read("jax_enable_x64"):
        raise ValueError(
            "dtype: 'float64'; allowed after jax.config.update('jax_enable_x64', True)"
        )


def steps_at(ts: Float[np.ndarray, " times"], unit: float | int) -> Int[np.ndarray, " times"]:
    """The clock floor(t unit) of an algorithm with `unit` steps in a unit of time.

    A product within the rounding of the times' dtype of an integer is that integer:
    0.29 * 100 is 28.999999999999996 in float64.

    Args:
        ts: (times,) in the dtype in which they came (`hdjax.times.as_times`).
        unit: steps in a unit of time.

    Example:
        >>> steps_at(np.array([0.29, 0.295]), 100.0).tolist()
        [29, 29]
    """
    steps = nominal(ts) * unit
    nearest = np.round(steps)
    near = np.abs(steps - nearest) <= rounding(ts) * np.abs(steps)
    return np.where(near, nearest, np.floor(steps)).astype(np.int64)


def jacobians(statistics: Callable[[Any], dict[str, Array]], state: Any) -> dict[str, Any]:
    """The derivative of each statistic by itself, in reverse mode.

    Together, one that has none at `state` (0/0, the root of 0) would make those of the others NaN.

    Args:
        statistics: of a state, names to arrays.
        state: a pytree of arrays.

    Example:
        >>> found = jacobians(lambda x: {"root": jnp.sqrt(x), "square": x**2}, jnp.array(0.0))
        >>> float(found["square"])
        0.0
    """
    names = jax.eval_shape(statistics, state)
    return {
        name: jax.jacrev(lambda state, name=name: statistics(state)[name])(state) for name in names
    }


def reached_only(ts: Any, values: Any, diverged: Any = False) -> Any:
    """Values that a solver saved at `ts`; where its own times say that it did not get there, none.

    Args:
        ts: (times,) the solver's own times, infinite where it did not get.
        values: a pytree of arrays with a leading axis of times.
        diverged: whether it stopped since the solution diverged.

    Returns:
        The values; where there is none, infinity after a divergence and NaN if the solver gave up.

    Example:
        >>> reached_only(jnp.array([0.0, jnp.inf]), jnp.ones(2)).tolist()
        [1.0, nan]
    """
    reached = jnp.isfinite(jnp.asarray(ts))
    none = jnp.where(jnp.asarray(diverged), jnp.inf, jnp.nan)

    def mask(values: Array) -> Array:
        blank = none.astype(values.dtype) if eqx.is_inexact_array(values) else none
        return jnp.where(reached.reshape(-1, *[1] * (values.ndim - 1)), values, blank)

    return jax.tree.map(mask, values)
