"""The contract between a family of problems and the engine.

A `System` is a model, an algorithm and the law of its start.  It offers two views of the same
experiment:

* a `Simulator`, made by one of the system's `Method`s, which runs **one** realisation at finite
  dimension d, and
* a limit, the deterministic equivalent as d grows,

both of which end in a `Summary` (any pytree of arrays: Gram blocks, overlaps, order parameters).
Statistics are functions of the summary, written once and evaluated on either side.

A new family is a new `System` with its methods.  Nothing in `hdjax.engine` knows more about it than
what is written here.  A class is abstract or final: no implemented method is overridden.
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

from hdjax.clocks import Clock
from hdjax.limits import Limit
from hdjax.registry import Bounds, OneOf

State = PyTree[Array]
Summary = PyTree[Array]
Statistic = Callable[[Any, Summary], PyTree[Array]]


class NoLimitError(TypeError):
    """The system has no deterministic equivalent (or this one is not known)."""


class NoFluctuationsError(TypeError):
    """The system's theory does not predict the spread at finite d."""


class Simulator(eqx.Module):
    """One way to run a system at finite d.

    The tick of the clock belongs to the engine, not to the state.  Every random number of a
    realisation is a function of its key and of a tick, never of the interval that `advance` is
    asked for: two calls over [k0, k1) and [k1, k2) give what one call over [k0, k2) gives.
    """

    @property
    @abc.abstractmethod
    def clock(self) -> Clock:
        """Which ticks belong to which times (`hdjax.clocks`)."""

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
    def bytes_per_run(self) -> int:
        """Device memory that one realisation needs, from which the engine sizes its chunks."""

    def side_by_side(self) -> int | None:
        """How many realisations of a chunk to advance together, the others in turn; None: all."""
        return None


class Watched(eqx.Module):
    """The state of a `Watching` simulator.

    Attributes:
        run: the state of the simulator that is watched.
        key: the key of the realisation.
        tick: the tick up to which it was advanced.
    """

    run: State
    key: Key[Array, ""]
    tick: Int[Array, ""]


class Watching(Simulator):
    """A simulator that runs another one, and whose summary says what it measured of its state."""

    inner: eqx.AbstractVar[Simulator]

    def init(self, key: Key[Array, ""]) -> Watched:
        """The start of the simulator that is watched."""
        return Watched(self.inner.init(key), key, jnp.zeros((), int))

    def advance(
        self, state: Watched, k0: Int[Array, ""], k1: Int[Array, ""], key: Key[Array, ""]
    ) -> Watched:
        """Advance the simulator that is watched."""
        return Watched(self.inner.advance(state.run, k0, k1, key), key, k1.astype(int))


class Method(eqx.Module):
    """A way to run systems at finite d; its fields are its options.

    A system names the methods that it takes in `System.methods`.
    """

    @abc.abstractmethod
    def simulator(self, system: Any, horizon: Any) -> Simulator:
        """The simulator of `system`.

        Args:
            system: what is run.
            horizon: what the compiled program knows of the duration (`System.horizon`).

        Raises:
            ValueError, TypeError: naming what the method cannot run.
        """


class System(eqx.Module):
    """A model, an algorithm and the law of its start (immutable; numbers are array leaves).

    A stacked `System` under `jax.vmap` is a sweep; a gradient through `limit` is the optimisation
    of whatever leaf it is taken with respect to.

    `PlainSystem` has the usual answers to `horizon`, `simulator_of`, `alive`, `about` and `review`;
    `WithoutLimit` and `WithoutFluctuations` are systems for which there is no such theory.

    Attributes:
        family: name of the family.
        time_label: what t is, for axes.
        labels: what statistics are called on axes, by name.
        methods: the kinds of method that the system takes, first the one that is used where no
            method is given.
    """

    family: ClassVar[str]
    time_label: ClassVar[str]
    labels: ClassVar[Mapping[str, str]] = {}
    methods: ClassVar[tuple[type[Method], ...]]

    def simulator(self, method: Any = None, horizon: Any = None) -> Simulator:
        """How the system is run at finite d (final).

        Args:
            method: one of the system's `methods`; None: the first of them, with its defaults.
            horizon: what `self.horizon` said of the times.

        Raises:
            TypeError: a method of another kind.
            ValueError, TypeError: what the method cannot run.

        Example:
            >>> simulator = system.simulator()
        """
        return self.simulator_of(self.checked(method), horizon)

    def checked(self, method: Any) -> Method:
        """The method, or the default one (final).

        Raises:
            TypeError: a method that is none of the system's.
        """
        chosen = self.methods[0]() if method is None else method
        if not isinstance(chosen, self.methods):
            names = ", ".join(f"{kind.__name__}(...)" for kind in self.methods)
            raise TypeError(
                f"method: {method!r}; allowed with {type(self).__name__}: {names} or None"
            )
        return chosen

    @abc.abstractmethod
    def simulator_of(self, method: Method, horizon: Any) -> Simulator:
        """The simulator that `method`, one of the system's, makes of it."""

    @abc.abstractmethod
    def horizon(self, ts: Float[np.ndarray, " times"], method: Any = None) -> Any:
        """What the compiled program must know of the duration.

        Returns:
            A hashable value, such as a number of steps that fixes shapes; None where one program
            serves any duration.  `simulator`, `limit`, `fluctuations` and `about` are handed it.
        """

    @abc.abstractmethod
    def start(self) -> Summary:
        """The summary of the start as d grows."""

    @abc.abstractmethod
    def statistics(self, summary: Summary) -> dict[str, Array]:
        """The family's own statistics of a summary."""

    @abc.abstractmethod
    def limit(
        self,
        ts: Float[Array, " times"],
        start: Summary | None = None,
        horizon: Any = None,
        save: Callable[[Summary], PyTree[Array]] = lambda summary: summary,
    ) -> Limit:
        """The deterministic equivalent: `save(summary)` at `ts`, stacked along a leading axis.

        Times that a solver did not reach hold NaN, and the result's code says why.

        Raises:
            NoLimitError: the system has none.
        """

    @abc.abstractmethod
    def fluctuations(
        self,
        ts: Float[Array, " times"],
        statistics: Callable[[Summary], dict[str, Array]],
        start: Summary | None = None,
        horizon: Any = None,
    ) -> dict[str, Array]:
        """Predicted standard deviations at this d of `statistics(summary)` at `ts`.

        A given `start` is a fixed one (no variance of its own); otherwise the law's variance
        enters.

        Raises:
            NoFluctuationsError: theory does not give it for this system.
        """

    @abc.abstractmethod
    def alive(self, summary: Summary) -> Bool[Array, ""]:
        """Whether a realisation (or the limit) is still a result: False from divergence on."""

    @abc.abstractmethod
    def validate(self, *, compared: bool = False, realised: bool = False) -> None:
        """Check concrete leaves again where the engine takes the system.

        `eqx.tree_at` goes round every constructor, so this repeats their checks, and warns of
        what is legal but useless (`compared` with a limit that never leaves its start, say).
        """

    @abc.abstractmethod
    def review(self, ts: Float[np.ndarray, " times"]) -> None:
        """Warn of what is doubtful about the limit at times `ts`, where a limit is asked for."""

    @abc.abstractmethod
    def about(self, horizon: Any) -> Mapping[str, str]:
        """What a reader of a result should know of how its parts were computed.

        Returns:
            Sentences by part: "limit", "fluctuations".
        """


class PlainSystem(System):
    """A system of any duration that is alive while it is finite, with nothing to add about it."""

    def simulator_of(self, method: Method, horizon: Any) -> Simulator:
        """The method's own."""
        return method.simulator(self, horizon)

    def horizon(self, ts: Float[np.ndarray, " times"], method: Any = None) -> None:
        """One program serves any duration."""
        return None

    def alive(self, summary: Summary) -> Bool[Array, ""]:
        """Whether all numbers of the summary are finite."""
        return all_finite(summary)

    def review(self, ts: Float[np.ndarray, " times"]) -> None:
        """Nothing is doubtful."""

    def about(self, horizon: Any) -> Mapping[str, str]:
        """Nothing has to be known."""
        return {}


class WithoutLimit(System):
    """A system that has no deterministic equivalent, for the reason that it gives.

    Attributes:
        no_limit: the reason.
    """

    no_limit: ClassVar[str]

    def limit(
        self,
        ts: Float[Array, " times"],
        start: Summary | None = None,
        horizon: Any = None,
        save: Callable[[Summary], PyTree[Array]] = lambda summary: summary,
    ) -> Limit:
        """There is none.

        Raises:
            NoLimitError: always, with the reason.
        """
        raise NoLimitError(f"{type(self).__name__} has no limit: {self.no_limit}")


class WithoutFluctuations(System):
    """A system whose spread at finite d no theory here predicts, for the reason that it gives.

    Attributes:
        no_fluctuations: the reason.
    """

    no_fluctuations: ClassVar[str]

    def fluctuations(
        self,
        ts: Float[Array, " times"],
        statistics: Callable[[Summary], dict[str, Array]],
        start: Summary | None = None,
        horizon: Any = None,
    ) -> dict[str, Array]:
        """None are predicted.

        Raises:
            NoFluctuationsError: always, with the reason.
        """
        raise NoFluctuationsError(
            f"{type(self).__name__} predicts no fluctuations: {self.no_fluctuations}"
        )


def all_finite(tree: PyTree) -> Bool[Array, ""]:
    """Whether all floating numbers of a pytree are finite.

    Example:
        >>> bool(all_finite({"a": jnp.ones(3), "b": jnp.array(jnp.inf)}))
        False
    """
    leaves = [leaf for leaf in jax.tree.leaves(tree) if eqx.is_inexact_array(leaf)]
    return jnp.stack([jnp.isfinite(leaf).all() for leaf in leaves]).all()


def cast(tree: PyTree, dtype: Any) -> PyTree:
    """The tree with its floating arrays in `dtype`; None: as they are.

    Example:
        >>> cast({"a": jnp.ones(3)}, "float32")["a"].dtype
        dtype('float32')
    """
    if dtype is None:
        return tree
    return jax.tree.map(lambda x: x.astype(dtype) if eqx.is_inexact_array(x) else x, tree)


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
