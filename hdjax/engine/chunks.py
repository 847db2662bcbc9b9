"""How an experiment is divided: the size of its chunks, and the stops of its runs."""

import math
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Int, PyTree

from hdjax.engine.collected import KEPT_RUNS
from hdjax.engine.memory import device_memory, host_memory
from hdjax.engine.plan import Plan
from hdjax.engine.runs import Running
from hdjax.system import System

# The largest number of runs side by side: more would gain nothing and hide the progress.
_MOST_RUNS = {"cpu": 1024, "other": 16384}
# The share of the device's memory that a chunk may take.
_SHARE = 0.25
# How many times what a run holds the program of a chunk is guessed to take, until it is compiled.
_COPIES = 8
# A long run pauses at this many ticks or more, if they are not closer than `_CLOSEST`.
_PAUSES, _CLOSEST = 256, 4096


class DoesNotFitError(ValueError):
    """The memory of the device has no room for a single run."""


class ChunkSize(NamedTuple):
    """The number of runs and of points of a sweep in a chunk."""

    runs: int
    points: int


def bytes_held(one: PyTree) -> int:
    """The bytes of arrays on a device, of which the shapes are given, such as those of a `Running`.

    Example:
        >>> bytes_held({"a": jax.ShapeDtypeStruct((3, 2), "float32")})
        24
    """

    def share(leaf: Any) -> tuple[int, ...]:
        return leaf.shape if leaf.sharding is None else leaf.sharding.shard_shape(leaf.shape)

    return sum(math.prod(share(x)) * x.dtype.itemsize for x in jax.tree.leaves(one))


def check_memory(system: System, plan: Plan, one: Running) -> None:
    """Check that the device has room for what a run holds before a segment and after it.

    Nothing is allocated or compiled for this.  What the program needs beyond that is known when it
    is compiled (`check_need`).

    Args:
        system: the system.
        plan: its plan.
        one: the shapes of a single run.

    Raises:
        DoesNotFitError: it has not.
    """
    check_need(
        system, plan, 2 * bytes_held(one), device_memory(jax.local_devices()[0]), "at least "
    )


def check_need(system: System, plan: Plan, need: int, memory: int, about: str = "") -> None:
    """Check that a run, which needs some bytes, fits into the memory.

    Raises:
        DoesNotFitError: it does not.
    """
    if need > memory:
        name = type(system.simulator(plan.method, plan.horizon)).__name__
        raise DoesNotFitError(
            f"method: {name} needs {about}{need / 2**30:.3g} GiB for a run; allowed: what the "
            f"device has, {memory / 2**30:.3g} GiB"
        )


def chunk_size(
    plan: Plan, one: Running, *, runs: int, points: int, chunk: int | None, keep: str
) -> ChunkSize:
    """The size of a chunk, as guessed from what a run holds; `fitted` corrects it.

    Args:
        plan: the plan at one of the points.
        one: the shapes of a single run.
        runs: number of runs at each point.
        points: number of points.
        chunk: as for `compare`.
        keep: as for `compare`.

    Raises:
        ValueError: the kept curves do not fit into the memory of the host.
    """
    curves = bytes_held(one.values)
    kept = points * (runs if keep == "runs" else min(runs, KEPT_RUNS))
    if kept * curves > (host := host_memory()):
        raise ValueError(
            f"runs: the curves of {kept} at {len(plan.ticks)} times need "
            f"{kept * curves / 2**30:.3g} GiB; allowed: what the host has, {host / 2**30:.3g} GiB "
            "(or keep='summary')"
        )
    if chunk is not None:
        return ChunkSize(min(runs, chunk), points)
    memory = device_memory(jax.local_devices()[0])
    lanes = min(float(_most()), _SHARE * memory / (_COPIES * bytes_held(one)))
    width = _width(lanes, runs)
    return ChunkSize(width, max(1, min(points, int(lanes / width))))


def fitted(size: ChunkSize, need: int, memory: int, runs: int) -> ChunkSize:
    """The size of a chunk, once the compiler has said what its program takes.

    It is the given one, unless its program takes more than a chunk may take, or a chunk of twice
    as many runs would take less.

    Args:
        size: the size for which the program was compiled.
        need: the bytes that the program takes; 0 if that is not known.
        memory: the bytes that there are.
        runs: number of runs at each point.

    Example:
        >>> fitted(ChunkSize(8, 1), need=100, memory=200, runs=100)
        ChunkSize(runs=4, points=1)
    """
    ratio = _SHARE * memory / need if need else 1
    if 1 <= ratio < 2:
        return size
    return size._replace(runs=_width(min(ratio * size.runs, _most() / size.points), runs))


def _width(lanes: float, runs: int) -> int:
    """The largest number of runs, at most `lanes`, such that all chunks are of equal size.

    With equal sizes the last chunk does not need another compilation.
    """
    width = max(1, int(min(runs, lanes)))
    return -(-runs // -(-runs // width))


def _most() -> int:
    return _MOST_RUNS["cpu" if jax.default_backend() == "cpu" else "other"]


def make_stops(
    ticks: Int[np.ndarray, "points records"],
) -> tuple[Int[np.ndarray, "points stops"], Int[np.ndarray, " stops"]]:
    """The ticks at which runs pause, so that a long run can be saved inside.

    All points have equally many stops: the records, and others that divide long intervals between
    them.

    Args:
        ticks: (points, records) the ticks of the records.

    Returns:
        (points, stops) the ticks, and (stops,) the position of the record at each stop, or -1.

    Example:
        >>> make_stops(np.array([[0, 100]]))
        (array([[  0, 100]]), array([0, 1]))
    """
    lengths = np.diff(ticks, axis=1, prepend=0)
    closest = np.maximum(_CLOSEST, ticks[:, -1:] // _PAUSES)
    pieces = np.maximum(-(-lengths // closest), 1).max(axis=0)
    record = np.repeat(np.arange(len(pieces)), pieces)
    piece = np.arange(len(record)) - np.repeat(np.cumsum(pieces) - pieces, pieces) + 1
    before = (ticks - lengths)[:, record]
    stops = before + lengths[:, record] * piece // pieces[record]
    return stops, np.where(piece == pieces[record], record, -1)
