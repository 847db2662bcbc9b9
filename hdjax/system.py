"""The contract between a family of problems and the engine.

A `System` is a model, an algorithm and the law of its start.  It offers two views of the same
experiment:

* a `Simulator`, made by one of the system's `Method`s, runs **one** realisation at finite
  dimension d, and
* `System.limit` computes the deterministic equivalent as d grows.

Both views give a `Summary` at each time (any pytree of arrays: Gram blocks, overlaps, order
parameters).  Statistics are functions of the summary, written once and evaluated on both views.

A new family is a new `System` with its methods, and `hdjax.engine` uses nothing of a family beyond
the methods of the classes below.  A class is abstract or final: a method that is implemented is
never overridden.
"""

import abc
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array, Bool, Float, Int, Key, PyTree

from hdjax.arrays import all_finite
from hdjax.checks import Checked
from hdjax.clocks import Clock
from hdjax.limits import Limit

State = PyTree[Array]
Summary = PyTree[Array]
Statistic = Callable[[Any, Summary], PyTree[Array]]


class NoLimitError(TypeError):
    """The system has no deterministic equivalent, or none that is known."""


class NoFluctuationsError(TypeError):
    """The theory of the system does not predict the spread at finite d."""


class NoMeanCorrectionError(TypeError):
    """The theory of the system does not predict by how much means differ from the limit."""


class Simulator(eqx.Module):
    """Runs one realisation of a system at finite d, from tick to tick (abstract).

    The engine keeps the current tick; the state does not hold it.  Every random number of a
    realisation is a function of the key and of a tick, never of the interval that is passed to
    `advance`: two calls over [k0, k1) and [k1, k2) give the same state as one call over [k0, k2).
    """

    @property
    @abc.abstractmethod
    def clock(self) -> Clock:
        """The correspondence between ticks and times (`hdjax.clocks`)."""

    @abc.abstractmethod
    def init(self, key: Key[Array, ""]) -> State:
        """Draw the state of one realisation at tick 0, from the key of its run."""

    @abc.abstractmethod
    def advance(
        self, state: State, k0: Int[Array, ""], k1: Int[Array, ""], key: Key[Array, ""]
    ) -> State:
        """Evolve one realisation from tick `k0` to tick `k1`.

        Args:
            state: the state at tick `k0`.
            k0: the first tick, a traced integer.
            k1: the last tick, a traced integer of at least `k0`.
            key: the key of the run, the same as for `init`.
        """

    @abc.abstractmethod
    def summary(self, state: State) -> Summary:
        """The summary of a state: the numbers that the limit computes too, in the limit's dtype."""

    def side_by_side(self) -> int | None:
        """How many realisations of a chunk are advanced together by `vmap`; None: all of them.

        The realisations of a chunk beyond this number are advanced one group after the other.
        """
        return None

    def sharding(self, state: PyTree) -> PyTree[NamedSharding] | None:
        """How one realisation is divided between devices, for each array of its state.

        Args:
            state: the state of one realisation, or its shapes.

        Returns:
            None if a realisation is on a single device, as most are.
        """
        return None


class Watched(eqx.Module):
    """The state of a `Watching` simulator.

    Attributes:
        run: the state of the inner simulator.
        key: the key of the run.
        tick: the tick that the inner simulator has reached.
    """

    run: State
    key: Key[Array, ""]
    tick: Int[Array, ""]


class Watching(Simulator):
    """A simulator that runs an inner simulator and measures its states (abstract).

    A subclass implements `clock` and `summary`.  The summary is a function of a
    `Watched` state: the state of the inner simulator, the key of the run and the tick.

    Attributes:
        inner: the simulator that runs.
    """

    inner: eqx.AbstractVar[Simulator]

    def init(self, key: Key[Array, ""]) -> Watched:
        """Draw the state of the inner simulator at tick 0."""
        return Watched(self.inner.init(key), key, jnp.zeros((), int))

    def advance(
        self, state: Watched, k0: Int[Array, ""], k1: Int[Array, ""], key: Key[Array, ""]
    ) -> Watched:
        """Evolve the inner simulator from tick `k0` to tick `k1`."""
        return Watched(self.inner.advance(state.run, k0, k1, key), key, k1.astype(int))

    def sharding(self, state: PyTree) -> PyTree[NamedSharding] | None:
        """How the state of the inner simulator is divided; key and tick are on all devices."""
        run = self.inner.sharding(state.run)
        if run is None:
            return None
        everywhere = NamedSharding(jax.tree.leaves(run)[0].mesh, PartitionSpec())
        each = jax.tree.map(lambda _: everywhere, state)
        return eqx.tree_at(lambda state: state.run, each, run)


class Method(Checked):
    """A way to run systems at finite d (abstract); the fields of a method are its options.

    `System.methods` lists the classes of methods that can run a system.

    Attributes:
        exact: whether runs have the law of the algorithm at finite d, and not only its limit; means
            beyond the limit are predicted for such methods alone.
    """

    exact: ClassVar[bool] = True

    @abc.abstractmethod
    def simulator(self, system: Any, horizon: Any) -> Simulator:
        """The simulator that runs `system` by this method.

        Args:
            system: the system that is run.
            horizon: the value of `System.horizon` for the times of the experiment.

        Raises:
            ValueError, TypeError: the system has a property that the method cannot simulate; the
                message names it.
        """


class System(Checked):
    """A model, an algorithm and the law of its start (abstract, immutable).

    The numbers of a system are array leaves.  A stacked `System` under `jax.vmap` is therefore a
    sweep, and a gradient through `limit` gives the derivative with respect to any number.

    Most systems inherit `simulator_of`, `horizon`, `alive`, `review` and `about` from
    `PlainSystem`.  A system without a theory of the limit, of the fluctuations or of the mean at
    finite d inherits from `WithoutLimit`, `WithoutFluctuations` or `WithoutMeanCorrection`.

    Attributes:
        family: the name of the family.
        time_label: the label of the axis of times in figures, such as "t = k/d".
        labels: names of statistics for readers, by statistic, for the axes of figures.
        methods: the classes of methods that can run the system; the first one is the default.
    """

    family: ClassVar[str]
    time_label: ClassVar[str]
    labels: ClassVar[Mapping[str, str]] = {}
    methods: ClassVar[tuple[type[Method], ...]]

    def simulator(self, method: Any = None, horizon: Any = None) -> Simulator:
        """The simulator that runs the system at finite d (final).

        Args:
            method: an instance of one of the classes in `methods`; None: the default method.
            horizon: the value of `self.horizon` for the times of the experiment.

        Raises:
            TypeError: a method of another class.
            ValueError, TypeError: the method cannot run this system.

        Example:
            >>> simulator = system.simulator()
        """
        return self.simulator_of(self.checked(method), horizon)

    def checked(self, method: Any) -> Method:
        """The method that is given, or the default one for None (final).

        Raises:
            TypeError: a method whose class is not in `methods`.
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
        """The simulator by `method`, whose class is one of `methods`."""

    @abc.abstractmethod
    def horizon(self, ts: Float[np.ndarray, " times"], method: Any = None) -> Any:
        """What a compiled program must know of the times `ts`, as a static value.

        Args:
            ts: (times,) the times of the records, on the host.
            method: the method of simulation, as for `simulator`.

        Returns:
            A hashable value, such as a number of steps that fixes shapes; None where one program
            serves all times.  The engine passes it to `simulator`, `limit`, `fluctuations` and
            `about`.
        """

    @abc.abstractmethod
    def start(self) -> Summary:
        """The summary of the start in the limit d -> infinity, under the law of the start."""

    @abc.abstractmethod
    def statistics(self, summary: Summary) -> dict[str, Array]:
        """The statistics of the family, by name, from one summary of a run or of the limit."""

    @abc.abstractmethod
    def limit(
        self,
        ts: Float[Array, " times"],
        start: Summary | None = None,
        horizon: Any = None,
        save: Callable[[Summary], PyTree[Array]] = lambda summary: summary,
    ) -> Limit:
        """The deterministic equivalent: `save(summary)` at `ts`, stacked along a leading axis.

        Args:
            ts: (times,) increasing times.
            start: the summary from which the limit starts; None: the law of the start.
            horizon: the value of `self.horizon` for these times.
            save: maps a summary to the arrays that are recorded.

        Returns:
            The values, which are NaN at times that the solver did not reach, and a result code.

        Raises:
            NoLimitError: the system has no limit.
        """

    @abc.abstractmethod
    def fluctuations(
        self,
        ts: Float[Array, " times"],
        statistics: Callable[[Summary], dict[str, Array]],
        start: Summary | None = None,
        horizon: Any = None,
    ) -> dict[str, Array]:
        """Predicted standard deviations of `statistics(summary)` at finite d, at `ts`.

        Args:
            ts: (times,) increasing times.
            statistics: maps a summary to real statistics by name.
            start: the summary of a fixed start, which has no variance; None: a random start, whose
                variance contributes.
            horizon: the value of `self.horizon` for these times.

        Returns:
            For each statistic an array (times, ...); NaN where the theory has no value.

        Raises:
            NoFluctuationsError: the theory does not cover this system.
        """

    @abc.abstractmethod
    def mean_correction(
        self,
        ts: Float[Array, " times"],
        statistics: Callable[[Summary], dict[str, Array]],
        start: Summary | None = None,
        horizon: Any = None,
    ) -> dict[str, Array]:
        """The mean of `statistics(summary)` over runs minus its limit, to order 1/d, at `ts`.

        Args:
            ts: (times,) increasing times.
            statistics: maps a summary to real statistics by name.
            start: the summary of a fixed start; None: a random start.
            horizon: the value of `self.horizon` for these times.

        Returns:
            For each statistic an array (times, ...) at the d of the system (divided by d already).

        Raises:
            NoMeanCorrectionError: the theory does not cover this system.
        """

    @abc.abstractmethod
    def alive(self, summary: Summary) -> Bool[Array, ""]:
        """Whether a run or the limit has not ended: False from its divergence on."""

    @abc.abstractmethod
    def validate(self, *, compared: bool = False, realised: bool = False) -> None:
        """Check the concrete leaves of the system, before the engine uses it.

        `eqx.tree_at` changes leaves without a constructor, so that this method repeats the checks
        of the constructors.  It also warns of experiments that are legal but useless, such as a
        comparison with a limit that never leaves its start.

        Args:
            compared: whether a limit is computed.
            realised: whether the limit starts from the realised starts of the runs.

        Raises:
            ValueError, TypeError: naming the argument, its value and what is allowed.
        """

    @abc.abstractmethod
    def review(self, ts: Float[np.ndarray, " times"]) -> None:
        """Warn if the limit may be inaccurate at times `ts`; called where a limit is computed."""

    @abc.abstractmethod
    def about(self, horizon: Any) -> Mapping[str, str]:
        """Notes for readers of a result about how its limit and its predicted spread were computed.

        Args:
            horizon: the value of `self.horizon` for the times of the experiment.

        Returns:
            A sentence for each of "limit" and "fluctuations", or for neither.
        """


class PlainSystem(System):
    """A system with the usual answers to the questions that most families answer alike (abstract).

    The method makes the simulator, one program serves all times, a run is alive while its summary
    is finite, and there are no warnings and no notes.
    """

    def simulator_of(self, method: Method, horizon: Any) -> Simulator:
        """The simulator of `method`."""
        return method.simulator(self, horizon)

    def horizon(self, ts: Float[np.ndarray, " times"], method: Any = None) -> None:
        """None: one program serves all times."""
        return None

    def alive(self, summary: Summary) -> Bool[Array, ""]:
        """Whether all numbers of the summary are finite."""
        return all_finite(summary)

    def review(self, ts: Float[np.ndarray, " times"]) -> None:
        """No warning."""

    def about(self, horizon: Any) -> Mapping[str, str]:
        """No notes."""
        return {}


class WithoutLimit(System):
    """A system without a deterministic equivalent (abstract).

    Attributes:
        no_limit: the reason, which ends the message.
    """

    no_limit: ClassVar[str]

    def limit(self, *args: Any, **kwargs: Any) -> Limit:
        """Refuse: the system has no limit.

        Raises:
            NoLimitError: always, with the reason.
        """
        raise NoLimitError(f"{type(self).__name__} has no limit: {self.no_limit}")


class WithoutMeanCorrection(System):
    """A system whose means no theory of this package predicts beyond the limit (abstract).

    Attributes:
        no_mean_correction: the reason, which ends the message.
    """

    no_mean_correction: ClassVar[str]

    def mean_correction(self, *args: Any, **kwargs: Any) -> dict[str, Array]:
        """Refuse: means at finite d are not predicted.

        Raises:
            NoMeanCorrectionError: always, with the reason.
        """
        raise NoMeanCorrectionError(
            f"{type(self).__name__} predicts no means beyond the limit: {self.no_mean_correction}"
        )


class WithoutFluctuations(System):
    """A system whose spread at finite d no theory of this package predicts (abstract).

    Its means beyond the limit are not predicted either, because they depend on the covariance of
    the summary.

    Attributes:
        no_fluctuations: the reason, which ends the message.
    """

    no_fluctuations: ClassVar[str]

    def fluctuations(self, *args: Any, **kwargs: Any) -> dict[str, Array]:
        """Refuse: the spread of the system is not predicted.

        Raises:
            NoFluctuationsError: always, with the reason.
        """
        raise NoFluctuationsError(
            f"{type(self).__name__} predicts no fluctuations: {self.no_fluctuations}"
        )

    def mean_correction(self, *args: Any, **kwargs: Any) -> dict[str, Array]:
        """Refuse: means at finite d depend on the covariance, which is not predicted.

        Raises:
            NoMeanCorrectionError: always, with the reason.
        """
        raise NoMeanCorrectionError(
            f"{type(self).__name__} predicts no means beyond the limit: {self.no_fluctuations}"
        )
