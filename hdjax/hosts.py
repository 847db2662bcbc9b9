"""Several processes that run one experiment together, on one host or on several.

All processes run the same script, and JAX sees the devices of all of them (`jax.distributed`).
Process 0 reads and writes files and prints.  What depends on a clock, a file or a signal is agreed
upon by the functions below, which all processes call in the same order: otherwise one of them would
wait forever for the others.  With a single process they cost nothing.

A process that ends breaks the connection to the others.  They notice it in the next of these
functions, or because its heartbeats stop, and end too.
"""

import collections
import contextlib
import os
import pickle
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from importlib.util import find_spec
from types import FrameType
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils
from jaxtyping import PyTree

# Seconds without a sign of life after which a process counts as dead.
_DEAD = 30
# Contents are sent in arrays of a power of two of bytes, so that few programs are compiled.
_LEAST = 1024

T = TypeVar("T")


class ProcessLost(ConnectionError):
    """Another process of the experiment has ended."""


def connect(
    coordinator: str | None = None, processes: int | None = None, process_id: int | None = None
) -> None:
    """Connect this process with the others of its launcher, before JAX finds its devices.

    The function calls `jax.distributed.initialize`, which reads the environment of Slurm, Open MPI,
    Kubernetes and TPU pods.  Where no launcher started several processes, nothing happens.

    Args:
        coordinator: "HOST:PORT", where process 0 listens; None: what the launcher says.
        processes: number of processes; None: what the launcher says.  With 1 the process is alone.
        process_id: the number of this process, from 0 on; None: what the launcher says.

    Raises:
        ValueError: the processes cannot be connected.

    Example:
        >>> connect(processes=1)
        >>> jax.process_count()
        1
    """
    given = [name is not None for name in (coordinator, processes, process_id)]
    launcher = _launcher(os.environ)
    if jax.distributed.is_initialized() or processes == 1 or not (any(given) or launcher):
        return
    # Its handler of SIGTERM would take the place of ours.
    jax.config.update("jax_enable_preemption_service", False)
    try:
        jax.distributed.initialize(
            coordinator,
            processes,
            process_id,
            heartbeat_timeout_seconds=_DEAD,
            shutdown_timeout_seconds=_DEAD,
        )
    except (ValueError, TypeError, RuntimeError, KeyError) as error:
        if launcher == "TPU" and not any(given):
            return  # a host with TPUs that belongs to no pod
        found = f" ({launcher})" if launcher else ""
        raise ValueError(
            f"coordinator, processes, process_id: {coordinator}, {processes}, {process_id}{found}: "
            f"{error} Allowed: all three, or none where the launcher gives them; processes=1 for a "
            "process that is alone"
        ) from None
    counts = collections.Counter(device.process_index for device in jax.devices())
    if len(set(counts.values())) > 1:
        told = ", ".join(map(str, counts.values()))
        raise ValueError(f"devices: {told} in the processes; allowed: equally many in each")
    with _standard_output_to_error():
        multihost_utils.sync_global_devices("connect")


def disconnect() -> None:
    """Leave the other processes, when they leave too; without others nothing happens."""
    if jax.distributed.is_initialized():
        jax.distributed.shutdown()


def several() -> bool:
    """Whether several processes run the experiment."""
    return jax.distributed.is_initialized() and jax.process_count() > 1


def is_first() -> bool:
    """Whether this process is the one that reads, writes and prints."""
    return not several() or jax.process_index() == 0


def shared(value: T, source: int = 0) -> T:
    """The value that process `source` has; those of the other processes do not matter.

    Raises:
        ProcessLost: another process has ended.
    """
    if not several():
        return value
    is_source = jax.process_index() == source
    content = pickle.dumps(value) if is_source else b""
    length = _largest(len(content))
    room = np.zeros(max(_LEAST, 1 << (length - 1).bit_length()), np.uint8)
    room[: len(content)] = np.frombuffer(content, np.uint8)
    with _lost():
        room = multihost_utils.broadcast_one_to_all(room, is_source)
    return pickle.loads(np.asarray(room)[:length].tobytes())


def together(work: Callable[[], T]) -> T:
    """The value of `work()` in each process; an error in one process is raised in all of them."""
    if not several():
        return work()
    value, error = None, None
    try:
        value = work()
    except Exception as caught:
        error = caught
    failed = _largest(0 if error is None else 1 + jax.process_index())
    if failed:
        raise shared(error, failed - 1)  # type: ignore[misc]
    return value  # type: ignore[return-value]


def by_first(work: Callable[[], T]) -> T:
    """The value of `work()`, which process 0 alone calls; its error is raised in all processes."""
    return shared(together(lambda: work() if is_first() else None))  # type: ignore[return-value]


def slowest(seconds: float) -> float:
    """The largest of the seconds that the processes took."""
    return _largest(int(1e6 * min(seconds, 1000))) / 1e6 if several() else seconds


def gather(tree: PyTree) -> PyTree:
    """The arrays of a tree as NumPy arrays in every process, wherever their parts are."""

    def fetched(x: Any) -> np.ndarray:
        if not isinstance(x, jax.Array) or x.is_fully_addressable or x.is_fully_replicated:
            return np.asarray(x)
        with _lost():
            return multihost_utils.process_allgather(x, tiled=True)

    return jax.tree.map(fetched, tree)


def check_same(names: Mapping[str, str]) -> None:
    """Check that the processes run one experiment.

    Args:
        names: a name (`hdjax.engine.identity`) of each part of the experiment of this process.

    Raises:
        ValueError: a name is another one in process 0.
    """
    first = shared(names)
    different = [part for part in names if first.get(part) != names[part]]

    def check() -> None:
        if different:
            raise ValueError(
                f"{', '.join(different)}: another one than in process 0; allowed: the same "
                "experiment in all processes"
            )

    together(check)


class Held:
    """Signals that wait until all processes are at the same place (made by `held`)."""

    def __init__(self) -> None:
        self._received: list[int] = []
        self._before: dict[int, Any] = {}

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Receive a signal; a second one is not held."""
        self._received.append(number)
        if len(self._received) > 1:
            self._before[number](number, frame)

    def hold(self) -> None:
        """Hold the signals that have a handler in Python, with several processes."""
        if not several() or threading.current_thread() is not threading.main_thread():
            return
        for number in signal.valid_signals():
            if callable(handler := signal.getsignal(number)) and handler is not signal.SIG_DFL:
                self._before[number] = handler
                signal.signal(number, self)

    def release(self) -> None:
        """Give the signals back to their handlers."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def deliver(self) -> None:
        """Send a signal that came to one process to the handler of each of them."""
        if not several():
            return
        if number := _largest(self._received[0] if self._received else 0):
            self.release()
            signal.raise_signal(number)


@contextlib.contextmanager
def held() -> Iterator[Held]:
    """A block in which signals wait for `Held.deliver`, so that no process leaves the others.

    Within such a block there is one `Held` alone.  With a single process no signal waits.
    """
    outer = signal.getsignal(signal.SIGINT)
    if isinstance(outer, Held):
        yield outer
        return
    inner = Held()
    inner.hold()
    try:
        yield inner
    finally:
        inner.release()


def _launcher(environment: Mapping[str, str]) -> str | None:
    """The launcher that started this process beside others; None if there is none."""
    tasks = {"Slurm": ("SLURM_NTASKS", "SLURM_STEP_NODELIST")}
    tasks["Open MPI"] = ("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK")
    for name, (count, other) in tasks.items():
        if other in environment and int(environment.get(count, 1)) > 1:
            return name
    if "KUBERNETES_SERVICE_HOST" in environment and "JOB_COMPLETION_INDEX" in environment:
        return "Kubernetes"
    asked = environment.get("JAX_PLATFORMS", "")
    return "TPU" if asked in ("", "tpu") and find_spec("libtpu") else None


def _largest(number: int) -> int:
    with _lost():
        return int(multihost_utils.process_allgather(np.int32(number)).max())


@contextlib.contextmanager
def _lost() -> Iterator[None]:
    """A block that talks with the other processes: its errors say that one of them has ended."""
    try:
        yield
    except (ValueError, RuntimeError) as error:
        told = " ".join(str(error).split())[:200]
        raise ProcessLost(f"another process of this experiment has ended ({told})") from error


@contextlib.contextmanager
def _standard_output_to_error() -> Iterator[None]:
    """A block in which standard output is standard error: Gloo prints a line when it connects."""
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
